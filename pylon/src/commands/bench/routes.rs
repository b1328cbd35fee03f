//! `pylon bench --replay-trace`: what slots, policies and guesses would have made of recorded routes.

use std::fmt;
use std::path::Path;

use gptoss_engine::DEFAULT_BATCH_TOKENS;
use gptoss_protocol::units::bytes;
use serde::Serialize;

use crate::error::CliError;
use crate::routes::{Figures, Header, Policy, Setting, Trace, replay};

/// How many numbers of slots are tried at most, from those that a token needs up to all experts.
const MOST_SLOTS_TRIED: u32 = 8;

/// The results of all settings.
#[derive(Debug, Serialize)]
pub struct Replays {
    #[serde(flatten)]
    header: Header,
    batches: usize,
    tried: Vec<Tried>,
}

#[derive(Debug, Serialize)]
struct Tried {
    #[serde(flatten)]
    setting: Setting,
    /// Figures over all batches.
    all: Figures,
    /// Figures over batches of one token, as in an answer.
    decode: Figures,
    hit_rate: f64,
    reads_per_token: f64,
    bytes_per_token: f64,
    round_trips_per_token: f64,
}

impl Replays {
    /// Replays a recording under every setting.
    ///
    /// # Errors
    /// The file is no trace.
    pub fn of(path: &Path) -> Result<Self, CliError> {
        let trace = Trace::read(path)?;
        let mut tried = Vec::new();
        for slots in slots_tried(&trace.header) {
            for policy in Policy::ALL {
                for guesses in [false, true] {
                    let setting = Setting { slots, policy, guesses, batch_rows: DEFAULT_BATCH_TOKENS };
                    let (all, decode) = replay(&trace, setting);
                    let reads_per_token = decode.per_token(decode.reads);
                    tried.push(Tried {
                        setting,
                        all,
                        decode,
                        hit_rate: decode.hit_rate(),
                        reads_per_token,
                        bytes_per_token: reads_per_token * trace.header.expert_bytes as f64,
                        round_trips_per_token: decode.per_token(decode.round_trips),
                    });
                }
            }
        }
        Ok(Self { batches: trace.batches.len(), header: trace.header, tried })
    }
}

/// Numbers of slots, evenly from the fewest that work to all but one.
fn slots_tried(header: &Header) -> Vec<u32> {
    let (least, most) = (header.experts_per_token, header.experts);
    let step = (most - least).div_ceil(MOST_SLOTS_TRIED - 1).max(1);
    (least..most).step_by(step as usize).chain([most]).collect()
}

impl fmt::Display for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {} batches, decode per token", self.header, self.batches)?;
        writeln!(f, "slots  policy    guesses  hits     experts read  bytes read  round trips")?;
        for Tried { setting, hit_rate, reads_per_token, bytes_per_token, round_trips_per_token, .. } in &self.tried {
            let guesses = if setting.guesses { "next" } else { "none" };
            writeln!(
                f,
                "{:>5}  {:<8}  {guesses:<7}  {:>5.1} %  {reads_per_token:>12.2}  {:>10}  {round_trips_per_token:>11.2}",
                setting.slots,
                setting.policy,
                hit_rate * 100.0,
                bytes(bytes_per_token.round() as u64),
            )?;
        }
        Ok(())
    }
}
