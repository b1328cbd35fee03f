//! Values that are not finite: how they stay visible, and where they are looked for.
//!
//! A NaN or an infinity in an activation makes every token after it worthless, and many steps would hide it: the clamps of
//! SwiGLU and maxima make ordinary numbers of it, an infinite mean square makes zeros of a row, a weight of softmax that is
//! zero forgets it. So **every operation makes values that are not finite of values that are not finite**, in its scalar
//! reference and in its kernel, and in each layer three kernels look ([`Place`]): between two of them nothing can vanish.
//! After the last layer the logits are looked at ([`crate::sample`]).
//! What is looked for is the exponent in the bits, since WGSL lets a device assume that floats are finite.
//!
//! One such value may pass: the router's bias of an expert may be −∞, which keeps the expert from being chosen.

/// What was looked at. The discriminants are the `FOUND_*` constants in `not_finite.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Place {
    /// Queries, keys and values: also what was wrong with the residual stream before the layer, or with the layer's norm.
    Projections = 0,
    /// Keys or values are finite, but larger than the cache's format can hold.
    Cache = 1,
    /// The router's logits: also what went wrong in attention, in its output or in the norm after it. Or the router leaves
    /// fewer experts than a token needs.
    Router = 2,
    /// The residual stream after the experts.
    Experts = 3,
}

/// Places of one layer: `PLACES` in `not_finite.wgsl`.
pub const PLACES: u32 = 4;

/// Where a value that is not finite was found first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    pub layer: u32,
    pub place: Place,
}

impl NotFinite {
    /// [`crate::Status::first_not_finite`] while nothing was found: `NOT_FOUND` in `not_finite.wgsl`.
    pub const NONE: u32 = u32::MAX;

    /// From the status word: layer · [`PLACES`] + place.
    pub fn from_code(code: u32) -> Option<Self> {
        let place = match code % PLACES {
            0 => Place::Projections,
            1 => Place::Cache,
            2 => Place::Router,
            _ => Place::Experts,
        };
        (code != Self::NONE).then_some(Self { layer: code / PLACES, place })
    }

    /// What [`NotFinite::from_code`] reads.
    pub fn code(self) -> u32 {
        self.layer * PLACES + self.place as u32
    }
}
