//! Values that are not finite: how they stay visible, and where they are looked for.
//!
//! A NaN or an infinity in an activation makes every token after it worthless, and many steps would hide it: the clamps
//! of SwiGLU and maxima make ordinary numbers of it, an infinite mean square makes zeros of a row, a weight of softmax
//! that is zero forgets it. So **every operation makes values that are not finite of values that are not finite**, in
//! its scalar reference and in its kernels, and in each layer three places are looked at ([`Place`]): between two of
//! them nothing can vanish. After the last layer the logits are looked at.
//!
//! One such value may pass: the router's bias of an expert may be −∞, which keeps the expert from being chosen.

use std::fmt;

use crate::error::EngineError;

/// What was checked for NaN and infinities. The discriminants are the `FOUND_*` constants of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Place {
    /// Queries, keys and values. Also catches faults of the residual stream before the layer, and of the layer's norm.
    Projections = 0,
    /// Keys or values are finite, but larger than the cache's format can hold.
    Cache = 1,
    /// The router's logits. Also catches faults of attention, its output and the norm after it, and a router that
    /// leaves fewer experts than a token needs.
    Router = 2,
    /// The residual stream after the experts.
    Experts = 3,
}

/// The first place where a value that is not finite was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// Index of the layer.
    pub layer: u32,
    /// The place in the layer.
    pub place: Place,
}

/// Where NaN or an infinity first appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonFinite {
    /// In a layer, while `tokens` tokens from `first_position` on went through it.
    Layer {
        /// Layer, and place in it.
        found: NotFinite,
        /// Position of the first token of the batch.
        first_position: u32,
        /// Number of positions that the batch spans.
        tokens: u32,
    },
    /// In `count` logits after the token at `position`, with all layers sound.
    Logits {
        /// How many of the logits are not finite.
        count: u32,
        /// Position of the token before them.
        position: u32,
    },
}

impl NonFinite {
    /// Checks a row of logits.
    pub fn in_logits(logits: &[f32], position: u32) -> Option<Self> {
        let count = logits.iter().filter(|logit| !logit.is_finite()).count() as u32;
        (count > 0).then_some(Self::Logits { count, position })
    }

    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Layer { found: NotFinite { place: Place::Cache, .. }, .. } => {
                "Keep keys and values in F32: `--kv f32` on the command line, `kv=f32` in the page's address."
            }
            _ => {
                "Check the file with `pylon gguf verify`. If it is sound, a driver or this program is at fault: please report it with the event log."
            }
        }
    }
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Layer { found: NotFinite { layer, place }, first_position, tokens } => {
                match place {
                    Place::Projections => write!(f, "queries, keys or values of layer {layer} are not finite")?,
                    Place::Cache => write!(
                        f,
                        "keys or values of layer {layer} are not finite in an F16 cache, which holds numbers up to 65504"
                    )?,
                    Place::Router => {
                        write!(f, "the attention or the router of layer {layer} gives numbers that are not finite")?;
                    }
                    Place::Experts => write!(f, "the experts of layer {layer} give numbers that are not finite")?,
                }
                match tokens {
                    0 | 1 => write!(f, " (position {first_position})")?,
                    _ => write!(f, " (positions {first_position} to {})", first_position + tokens - 1)?,
                }
            }
            Self::Logits { count, position } => write!(f, "{count} logits are not finite (position {position})")?,
        }
        f.write_str("; the answer cannot be trusted")
    }
}

/// Refuses logits, [rows, vocabulary] from `first_position` on, if a row is not finite.
pub fn require_finite_rows(logits: &[f32], vocabulary: u32, first_position: u32) -> Result<(), EngineError> {
    let mut rows = logits.chunks_exact(vocabulary as usize).zip(first_position..);
    match rows.find_map(|(row, position)| NonFinite::in_logits(row, position)) {
        None => Ok(()),
        Some(found) => Err(EngineError::NonFinite(found)),
    }
}
