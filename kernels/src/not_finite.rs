//! How the GPU says where a value was not finite. What is looked at, and why it is enough: [`gptoss_model::Place`].
//! What is looked for is the exponent in the bits, since WGSL lets a device assume that floats are finite.

use gptoss_model::{NotFinite, Place};

/// Places of one layer: `PLACES` in `not_finite.wgsl`.
pub const PLACES: u32 = 4;

/// [`crate::Status::first_not_finite`] while nothing was found: `NOT_FOUND` in `not_finite.wgsl`.
pub const NONE: u32 = u32::MAX;

/// Decodes the status word: layer · [`PLACES`] + place.
pub fn from_code(code: u32) -> Option<NotFinite> {
    let place = match code % PLACES {
        0 => Place::Projections,
        1 => Place::Cache,
        2 => Place::Router,
        _ => Place::Experts,
    };
    (code != NONE).then_some(NotFinite { layer: code / PLACES, place })
}

/// Encodes the status word that [`from_code`] reads.
pub fn code(found: NotFinite) -> u32 {
    found.layer * PLACES + found.place as u32
}
