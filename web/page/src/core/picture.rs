//! What is drawn at a moment: shares, levels and glows, without colours and places. It has nothing that was not told.

use gptoss_protocol::Attention;

use crate::state::State;
use crate::state::inside::{Expert, Head, Inside, Place};

use super::Cell;
use super::geometry::Shape;
use super::strip::Strip;
use super::words;

/// How long something that happened glows, as the phosphor of a tube does.
pub const GLOW_MS: f64 = 600.0;

/// The most lines that a front of several tokens is drawn with.
pub const MOST_STRANDS: u32 = 7;

/// Steps of a norm that differ by less are the same: of the whole way from the smallest norm to the largest.
const LEAST_BEND: f32 = 0.01;

/// The most cells that a line leads to from one read.
const MOST_CELLS_OF_READ: usize = 3;

/// Tells the time by the clock of whoever tells the events: it goes on from the newest one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EventClock {
    newest: (u64, f64),
    seen_ms: f64,
}

impl EventClock {
    /// What that clock shows when the page's own one shows `now_ms`.
    pub fn event_ms(&mut self, inside: &Inside, now_ms: f64) -> f64 {
        let newest = (inside.revision, inside.at_ms);
        if newest != self.newest {
            (self.newest, self.seen_ms) = (newest, now_ms);
        }
        inside.at_ms + (now_ms - self.seen_ms).max(0.0)
    }
}

/// What a cell shows first of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Not on the GPU, and it never was.
    #[default]
    Absent,
    /// Its bytes are on their way.
    Awaited,
    /// On the GPU.
    Resident,
    /// The last batch chose it.
    Chosen,
    /// A batch waits for it.
    Missed,
    /// It gave up its slot.
    Evicted,
}

/// One cell as it is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CellLook {
    /// What it shows first of all.
    pub level: Level,
    /// Share of its bytes that are here.
    pub fill: f32,
    /// How much this answer used it: from 0, not at all, to 1, most of all. Equal steps stand for equal ratios.
    pub heat: f32,
    /// Routing weight compared with the largest one of its layer, if the last batch chose it; else 0.
    pub weight: f32,
    /// What is left of the glow of its last use: from 1 down to 0.
    pub glow: f32,
    /// What is left of the glow of its arrival: from 1 down to 0.
    pub arrival: f32,
}

/// A read that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReadHead {
    /// Where it begins, as a share of the file.
    pub from: f64,
    /// Where it ends, as a share of the file.
    pub to: f64,
    /// The first experts that it brings bytes of.
    pub cells: [Option<Cell>; MOST_CELLS_OF_READ],
    /// Whether a batch waits for one of them.
    pub is_missed: bool,
}

/// The way of the last batch through the layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thread {
    /// Layers that it has passed, as far as that is known.
    pub layers_done: u32,
    /// Whether anything was told of it.
    pub is_known: bool,
    /// Lines side by side: 1 for a token, more for the front of a prompt.
    pub strands: u32,
    /// What stands at its beginning: the token's text, or how much of the prompt was read.
    pub text: String,
    /// What is left of the glow of the last step: from 1 down to 0.
    pub glow: f32,
}

/// The KV cache of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KvLook {
    /// Whether it holds a window that slides, and not all positions.
    pub is_sliding: bool,
    /// Share that is filled.
    pub fill: f32,
}

/// Everything that is drawn, see the [module](self). It is updated in place, so that drawing does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Layers and experts.
    pub shape: Shape,
    /// Cells, layer by layer.
    pub cells: Vec<CellLook>,
    /// The file.
    pub strip: Strip,
    /// Reads that are under way.
    pub reads: Vec<ReadHead>,
    /// The way of the last batch.
    pub thread: Thread,
    /// KV cache of each layer.
    pub kv: Vec<KvLook>,
    /// Norm of the residual stream at the embedding and after each layer, from 0 for the smallest to 1 for the largest;
    /// equal steps stand for equal ratios. Empty if it was not told.
    pub norms: Vec<f32>,
    /// By how much more than the mean layer each layer changed that norm, compared with the one that differs most: from
    /// -1 to 1.
    pub bends: Vec<f32>,
    /// The miss that is named, and what is said of it.
    pub miss: Option<(Cell, String)>,
    /// Whether time alone changes anything of this.
    pub moving: bool,
    strip_of: Option<(u64, f64, usize)>,
}

impl Picture {
    /// Works out the picture at a moment by the clock of the events, with the file in so many parts. With reduced
    /// motion nothing glows.
    pub fn update(&mut self, state: &State, event_ms: f64, reduced_motion: bool, bins: usize) {
        let inside = &state.inside;
        self.shape = Shape { layers: inside.layers, experts: inside.experts };
        let glow = |at_ms: f64| if reduced_motion { 0.0 } else { glow(at_ms, event_ms) };
        self.update_cells(inside, glow);
        let strip_of = Some((inside.revision, inside.at_ms, bins));
        if self.strip_of != strip_of {
            self.strip.update(inside, bins);
            self.strip_of = strip_of;
        }
        self.update_reads(inside);
        self.update_thread(state, glow(inside.head_at_ms));
        self.kv.clear();
        self.kv.extend((0..inside.layers).map(|layer| kv_of(state, layer)));
        self.update_norms(inside);
        let miss = inside.newest_open_miss();
        self.miss = miss.map(|cell| (cell, words::miss(inside, cell)));
        let glows = |cell: &CellLook| cell.glow > 0.0 || cell.arrival > 0.0;
        self.moving = self.thread.glow > 0.0 || self.cells.iter().any(glows);
    }

    /// One cell of the picture.
    pub fn cell(&self, cell: Cell) -> Option<&CellLook> {
        (cell.expert < self.shape.experts)
            .then(|| self.cells.get((cell.layer * self.shape.experts + cell.expert) as usize))
            .flatten()
    }

    fn update_cells(&mut self, inside: &Inside, glow: impl Fn(f64) -> f32) {
        let most_uses = inside.cells.iter().map(|expert| expert.uses).max().unwrap_or(0);
        let heat_scale = (1.0 + most_uses as f32).ln().max(f32::MIN_POSITIVE);
        self.cells.clear();
        for layer in 0..inside.layers {
            let experts = inside.layer(layer);
            let chosen = experts.iter().filter(|expert| inside.is_chosen(expert));
            let most_weight = chosen.fold(0.0, |most: f32, expert| most.max(expert.weight));
            for (expert, number) in experts.iter().zip(0..) {
                let is_chosen = inside.is_chosen(expert);
                self.cells.push(CellLook {
                    level: level(expert, is_chosen),
                    fill: fill(inside, expert, Cell { layer, expert: number }),
                    heat: (1.0 + expert.uses as f32).ln() / heat_scale,
                    weight: if is_chosen && most_weight > 0.0 { expert.weight / most_weight } else { 0.0 },
                    glow: if expert.uses > 0 { glow(expert.used_at_ms) } else { 0.0 },
                    arrival: if expert.place == Place::Resident { glow(expert.moved_at_ms) } else { 0.0 },
                });
            }
        }
    }

    fn update_reads(&mut self, inside: &Inside) {
        self.reads.clear();
        let Some(map) = inside.map.as_ref().filter(|map| map.file_bytes > 0) else { return };
        let share = |byte: u64| (byte as f64 / map.file_bytes as f64).clamp(0.0, 1.0);
        for read in &inside.under_way {
            let (begin, end) = (read.offset_bytes, read.offset_bytes.saturating_add(read.bytes));
            let mut head = ReadHead { from: share(begin), to: share(end), ..ReadHead::default() };
            let (mut at, mut known) = (begin, 0);
            while known < head.cells.len() && at < end {
                let Some(index) = inside.tensor_at(at) else { break };
                let tensor = &map.tensors[index];
                let Some(cell) = inside.expert_at(at) else {
                    // What every token needs has no cell; experts may come after it.
                    at = tensor.offset_bytes + tensor.bytes;
                    continue;
                };
                head.cells[known] = Some(cell);
                known += 1;
                head.is_missed |= inside.expert(cell).is_some_and(Expert::is_missed);
                let slice_bytes = (tensor.bytes / u64::from(inside.experts.max(1))).max(1);
                at = tensor.offset_bytes + (u64::from(cell.expert) + 1) * slice_bytes;
            }
            self.reads.push(head);
        }
    }

    fn update_thread(&mut self, state: &State, glow: f32) {
        let inside = &state.inside;
        let (layers_done, is_known) = match inside.head {
            Head::Start => (0, false),
            Head::AtLayer(layer) => (layer.min(inside.layers_run), true),
            Head::End => (inside.layers_run, true),
        };
        let glow = if is_known { glow } else { 0.0 };
        let strands = inside.batch_tokens.clamp(1, MOST_STRANDS);
        let text = words::newest_token(state);
        self.thread = Thread { layers_done, is_known, strands, text, glow };
    }

    fn update_norms(&mut self, inside: &Inside) {
        self.norms.clear();
        self.bends.clear();
        let Some(residual) = &inside.norms else { return };
        let logarithms = || residual.norms.iter().map(|norm| norm.max(f32::MIN_POSITIVE).ln());
        let (least, most) = logarithms().fold((f32::MAX, f32::MIN), |(least, most), x| (least.min(x), most.max(x)));
        let scale = (most - least).max(f32::EPSILON);
        self.norms.extend(logarithms().map(|x| (x - least) / scale));
        let steps = || self.norms.windows(2).map(|pair| pair[1] - pair[0]);
        let mean = steps().sum::<f32>() / steps().len().max(1) as f32;
        let largest = steps().fold(LEAST_BEND, |largest, step| largest.max((step - mean).abs()));
        self.bends.extend(steps().map(|step| (step - mean) / largest));
    }
}

/// Whether a layer's attention slides over a window. Recordings that do not say are of gpt-oss, where every other one does, from
/// the first on.
pub fn slides(state: &State, layer: u32) -> bool {
    if state.experiment.as_ref().is_some_and(|options| options.attention == Attention::Dense) {
        return false;
    }
    let told = state.model.as_ref().and_then(|model| model.sliding.get(layer as usize).copied());
    told.unwrap_or(layer.is_multiple_of(2))
}

/// Positions that the KV cache of a layer holds, and how many it has room for; `None` before that was told.
pub fn kv_positions(state: &State, layer: u32) -> Option<(u32, u32)> {
    let kv = state.kv?;
    let window = state.model.as_ref()?.window_tokens;
    if slides(state, layer) && window > 0 {
        return Some((kv.used_tokens.min(window), window.min(kv.capacity_tokens.max(1))));
    }
    Some((kv.used_tokens, kv.capacity_tokens))
}

fn kv_of(state: &State, layer: u32) -> KvLook {
    let fill = kv_positions(state, layer).map_or(0.0, |(used, room)| used as f32 / room.max(1) as f32);
    KvLook { is_sliding: slides(state, layer), fill: fill.min(1.0) }
}

fn level(expert: &Expert, is_chosen: bool) -> Level {
    match expert.place {
        _ if expert.is_missed() => Level::Missed,
        _ if is_chosen => Level::Chosen,
        Place::Absent => Level::Absent,
        Place::Awaited => Level::Awaited,
        Place::Resident => Level::Resident,
        Place::Evicted => Level::Evicted,
    }
}

fn fill(inside: &Inside, expert: &Expert, cell: Cell) -> f32 {
    if expert.place == Place::Resident {
        return 1.0;
    }
    let all = inside.expert_bytes(cell.layer);
    if all == 0 { 0.0 } else { inside.arrived_bytes(cell) as f32 / all as f32 }
}

/// What is left at a moment of the glow of something that happened before.
fn glow(at_ms: f64, event_ms: f64) -> f32 {
    let left = 1.0 - (event_ms - at_ms).max(0.0) / GLOW_MS;
    // Fast at first, as a phosphor decays.
    (left.max(0.0) * left.max(0.0)) as f32
}

#[cfg(test)]
mod tests;
