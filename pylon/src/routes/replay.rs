//! A replay: the engine's own slots, fed with recorded routes.

use std::collections::BTreeSet;
use std::fmt;

use gptoss_engine::LayerSlots;
use serde::Serialize;

use super::{Batch, Trace};

/// Which expert gives way if no slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The expert that was used least recently: what the engine does.
    Recent,
    /// The expert that the fewest batches used.
    Often,
    /// The expert that is needed again last, which only a replay can know: no policy reads less.
    Farthest,
}

impl Policy {
    pub const ALL: [Self; 3] = [Self::Recent, Self::Often, Self::Farthest];
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Recent => "recent",
            Self::Often => "often",
            Self::Farthest => "farthest",
        })
    }
}

/// Settings of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Slots of each layer.
    pub slots: u32,
    pub policy: Policy,
    /// Whether experts that are likely in the next layer are read together with those that a layer misses.
    pub guesses: bool,
    /// Largest number of rows in a batch: longer recorded batches are cut.
    pub batch_rows: u32,
}

/// Results, over all batches or over those of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    pub tokens: u64,
    /// Chosen experts that were resident; each counts once per layer and batch.
    pub hits: u64,
    /// Chosen experts that were not resident, counted in the same way.
    pub misses: u64,
    /// Experts that were read, including those that were guessed.
    pub reads: u64,
    /// Layers that had to wait for experts.
    pub round_trips: u64,
}

impl Figures {
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }

    pub fn per_token(&self, count: u64) -> f64 {
        count as f64 / self.tokens.max(1) as f64
    }

    fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens - other.tokens,
            hits: self.hits - other.hits,
            misses: self.misses - other.misses,
            reads: self.reads - other.reads,
            round_trips: self.round_trips - other.round_trips,
        }
    }
}

/// Replays a trace; results over all batches, and over those of one token, as in an answer.
pub fn replay(trace: &Trace, setting: Setting) -> (Figures, Figures) {
    let batches: Vec<Batch> = trace.batches.iter().flat_map(|batch| cut(trace, batch, setting.batch_rows)).collect();
    let mut pager = Pager::new(trace, setting, &batches);
    let mut of_decode = Figures::default();
    for (number, batch) in (0..).zip(&batches) {
        let before = pager.figures;
        pager.batch(number, batch);
        let rows = batch.chosen[0].len() as u64 / u64::from(trace.header.experts_per_token);
        pager.figures.tokens += rows;
        if rows == 1 {
            let of_batch = pager.figures.minus(before);
            of_decode.tokens += of_batch.tokens;
            of_decode.hits += of_batch.hits;
            of_decode.misses += of_batch.misses;
            of_decode.reads += of_batch.reads;
            of_decode.round_trips += of_batch.round_trips;
        }
    }
    (pager.figures, of_decode)
}

/// Cuts a batch into parts of at most `rows` rows.
fn cut(trace: &Trace, batch: &Batch, rows: u32) -> Vec<Batch> {
    let routes = (rows * trace.header.experts_per_token) as usize;
    let part = |all: &[u32], part: usize| all.chunks(routes).nth(part).unwrap_or_default().to_vec();
    (0..batch.chosen[0].len().div_ceil(routes))
        .map(|number| Batch {
            chosen: batch.chosen.iter().map(|all| part(all, number)).collect(),
            likely_next: batch.likely_next.iter().map(|all| part(all, number)).collect(),
        })
        .collect()
}

struct Layer {
    slots: LayerSlots,
    /// For each expert, the batch that used it last, counted from 1.
    last_use: Vec<u64>,
    /// For each expert, how many batches used it.
    uses: Vec<u64>,
    /// For each expert, the batches that still need it, the last one first.
    needed_by: Vec<Vec<u64>>,
}

struct Pager {
    setting: Setting,
    layers: Vec<Layer>,
    figures: Figures,
}

impl Pager {
    fn new(trace: &Trace, setting: Setting, batches: &[Batch]) -> Self {
        let experts = trace.header.experts as usize;
        let layer = |layer: usize| {
            let mut needed_by = vec![Vec::new(); experts];
            for (number, batch) in batches.iter().enumerate().rev() {
                for expert in distinct(&batch.chosen[layer]) {
                    needed_by[expert as usize].push(number as u64);
                }
            }
            let slots = LayerSlots::new(trace.header.experts, setting.slots);
            Layer { slots, last_use: vec![0; experts], uses: vec![0; experts], needed_by }
        };
        let layers = (0..trace.header.layers as usize).map(layer).collect();
        Self { setting, layers, figures: Figures::default() }
    }

    fn batch(&mut self, number: u64, batch: &Batch) {
        for (index, chosen) in batch.chosen.iter().enumerate() {
            let needed = distinct(chosen);
            let layer = &mut self.layers[index];
            for expert in &needed {
                layer.last_use[*expert as usize] = number + 1;
                layer.uses[*expert as usize] += 1;
                let over = layer.needed_by[*expert as usize].pop();
                debug_assert_eq!(over, Some(number));
            }
            let (here, missing): (Vec<u32>, Vec<u32>) =
                needed.iter().partition(|expert| layer.slots.resident_slot(**expert).is_some());
            self.figures.hits += here.len() as u64;
            self.figures.misses += missing.len() as u64;
            if missing.is_empty() {
                continue;
            }
            self.figures.round_trips += 1;
            // Like the engine, reads all at once if they fit beside the resident ones, otherwise in turns.
            if here.len() + missing.len() <= self.setting.slots as usize {
                self.read(index, &missing, &here);
            } else {
                for turn in missing.chunks(self.setting.slots as usize) {
                    self.read(index, turn, &[]);
                }
            }
            if self.setting.guesses && index + 1 < self.layers.len() {
                let next = &self.layers[index + 1].slots;
                let likely = distinct(&batch.likely_next[index]);
                let (here, absent): (Vec<u32>, Vec<u32>) =
                    likely.iter().partition(|expert| next.resident_slot(**expert).is_some());
                let room = self.setting.slots as usize - here.len();
                self.read(index + 1, &absent[..absent.len().min(room)], &here);
            }
        }
    }

    /// Gives slots to experts; those of `keep` stay.
    fn read(&mut self, layer: usize, experts: &[u32], keep: &[u32]) {
        self.figures.reads += experts.len() as u64;
        let Layer { slots, last_use, uses, needed_by } = &mut self.layers[layer];
        slots.pin(keep);
        for &expert in experts {
            let claim = slots.claim(expert, |resident| match self.setting.policy {
                Policy::Recent => last_use[resident as usize],
                Policy::Often => uses[resident as usize],
                Policy::Farthest => needed_by[resident as usize].last().map_or(0, |next| u64::MAX - next),
            });
            claim.expect("no more are read than there are slots beside those that stay");
        }
        for &expert in experts {
            slots.arrived(expert);
        }
    }
}

/// The experts, each once, in ascending order.
fn distinct(experts: &[u32]) -> BTreeSet<u32> {
    experts.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::super::Header;
    use super::*;

    fn trace(layers: &[&[&[u32]]]) -> Trace {
        let header = Header { model: "m".into(), layers: 1, experts: 6, experts_per_token: 2, expert_bytes: 10 };
        let batch = |batch: &&[&[u32]]| Batch { chosen: vec![batch.concat()], likely_next: vec![Vec::new()] };
        Trace { header, batches: layers.iter().map(batch).collect() }
    }

    fn setting(policy: Policy, slots: u32) -> Setting {
        Setting { slots, policy, guesses: false, batch_rows: 64 }
    }

    /// The expected numbers were counted by hand: 0 1 | 2 3 | 0 1 | 4 5 | 0 1 with four slots.
    #[test]
    fn policies_differ_where_they_must() {
        let trace = trace(&[&[&[0, 1]], &[&[2, 3]], &[&[0, 1]], &[&[4, 5]], &[&[2, 3]]]);
        let misses = |policy| replay(&trace, setting(policy, 4)).0.misses;
        // 4 and 5 push out 2 and 3, which were used before 0 and 1, and are needed next.
        assert_eq!(misses(Policy::Recent), 8);
        assert_eq!(misses(Policy::Often), 8);
        assert_eq!(misses(Policy::Farthest), 6);
        let (all, decode) = replay(&trace, setting(Policy::Recent, 6));
        assert_eq!((all.misses, all.hits, all.round_trips, all.reads), (6, 4, 3, 6), "everything fits");
        assert_eq!(all, decode, "every batch is one token");
    }

    /// A batch needs more than there is room for: each expert is read once, in turns.
    #[test]
    fn a_batch_counts_each_expert_once() {
        let trace = trace(&[&[&[0, 1], &[1, 2], &[3, 4]]]);
        let (all, decode) = replay(&trace, setting(Policy::Recent, 2));
        assert_eq!((all.tokens, all.misses, all.reads, all.round_trips), (3, 5, 5, 1));
        assert_eq!(decode, Figures::default());
        let cut = replay(&trace, Setting { batch_rows: 1, ..setting(Policy::Recent, 2) }).0;
        assert_eq!((cut.tokens, cut.misses, cut.hits, cut.round_trips), (3, 5, 1, 3));
    }

    /// An expert that was guessed right causes no round trip in the next layer.
    #[test]
    fn guesses_save_round_trips() {
        let header = Header { model: "m".into(), layers: 2, experts: 6, experts_per_token: 2, expert_bytes: 10 };
        let batch = |chosen: [[u32; 2]; 2], likely: [u32; 2]| Batch {
            chosen: chosen.map(|it| it.to_vec()).to_vec(),
            likely_next: vec![likely.to_vec(), Vec::new()],
        };
        let batches = vec![batch([[0, 1], [2, 3]], [2, 3]), batch([[4, 5], [0, 1]], [0, 5])];
        let trace = Trace { header, batches };
        let without = replay(&trace, setting(Policy::Recent, 4)).0;
        assert_eq!((without.round_trips, without.reads), (4, 8));
        let with = replay(&trace, Setting { guesses: true, ..setting(Policy::Recent, 4) }).0;
        assert_eq!((with.round_trips, with.reads), (3, 9), "one guess of four was wrong");
    }
}
