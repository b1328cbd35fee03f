//! What is known about numbers in an answer that are not finite.

use std::fmt;

use gptoss_kernels::{NotFinite, Place, Status, Step};

use crate::error::EngineError;

/// Where NaN or an infinity came up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonFinite {
    /// In a layer, while `tokens` tokens from `first_position` on went through it.
    Layer { found: NotFinite, first_position: u32, tokens: u32 },
    /// In the logits after the token at `position`, in `count` of them, with all layers sound.
    Logits { count: u32, position: u32 },
}

impl NonFinite {
    /// Looks for them in a row of logits.
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

/// Refuses a batch in which an activation was not finite.
pub(crate) fn require_finite(status: &Status, step: &Step) -> Result<(), EngineError> {
    let (first_position, tokens) = (step.first_position, step.tokens);
    match status.not_finite() {
        None => Ok(()),
        Some(found) => Err(EngineError::NonFinite(NonFinite::Layer { found, first_position, tokens })),
    }
}

/// Refuses logits, [rows, vocabulary] from `first_position` on, in which a row is not finite.
pub fn require_finite_rows(logits: &[f32], vocabulary: u32, first_position: u32) -> Result<(), EngineError> {
    let mut rows = logits.chunks_exact(vocabulary as usize).zip(first_position..);
    match rows.find_map(|(row, position)| NonFinite::in_logits(row, position)) {
        None => Ok(()),
        Some(found) => Err(EngineError::NonFinite(found)),
    }
}
