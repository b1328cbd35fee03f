//! What goes on inside the model, as a fold over the events that tell of it: where its bytes are, which experts are on
//! the GPU, and which of them the last tokens chose. What is never told (routes, norms, attention) stays empty.

use std::collections::VecDeque;
use std::ops::Range;

use gptoss_protocol::{
    AttentionRow, Event, ExpertMoves, ExpertPlace, FailureKind, FileMap, FileRange, Residual, Routes, Stage,
    StageStatus, TokenInfo,
};
use serde::{Deserialize, Serialize};

mod expert;
mod ranges;

pub use self::expert::{Expert, Place};
pub use self::ranges::Ranges;

/// How many of the last tokens are held: their routes, their texts and their rows of attention.
pub const RECENT_TOKENS: usize = 64;

/// The most weights of attention that are held, of all rows together: a token of a long conversation looks at all of
/// it.
const MOST_WEIGHTS: usize = 1 << 16;

/// A tensor that holds the experts of a layer, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertTensor {
    /// Layer whose experts it has.
    pub layer: u32,
    /// Number of the tensor in [`FileMap::tensors`].
    pub tensor: u32,
    /// First byte in the file of the first expert.
    pub offset_bytes: u64,
    /// Bytes of one expert.
    pub slice_bytes: u64,
}

impl ExpertTensor {
    /// The bytes of the file that are one expert's.
    pub fn slice(&self, expert: u32) -> Range<u64> {
        let begin = self.offset_bytes + u64::from(expert) * self.slice_bytes;
        begin..begin + self.slice_bytes
    }
}

/// The experts that one token chose, with the weights it gave them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRoutes {
    /// Position of the token in its sequence.
    pub position: u32,
    /// Layer, expert and weight; in ascending order.
    pub chosen: Vec<(u16, u16, f32)>,
}

/// A token of the answer as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidToken {
    /// Position among the tokens of the answer, from 0 on.
    pub index: u32,
    /// What it says; the name of a token that says nothing.
    pub text: String,
}

/// How far the last submission that is known of has come through the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// Nothing was told since the answer began, or there is none.
    #[default]
    Start,
    /// It waits for experts of this layer.
    AtLayer(u32),
    /// It came out at the other end.
    End,
}

/// Everything that is known of the inside of the model that is loaded, or being loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inside {
    /// Layers of the model; 0 until they are known.
    pub layers: u32,
    /// Layers that run.
    pub layers_run: u32,
    /// Experts of each layer.
    pub experts: u32,
    /// Where the tensors are in the file.
    pub map: Option<FileMap>,
    /// The tensors of experts, in ascending order of layers.
    pub expert_tensors: Vec<ExpertTensor>,
    /// Bytes of the file that were read and are in use or on their way there: those of evicted experts are not.
    pub arrived: Ranges,
    /// Reads that are under way.
    pub under_way: Vec<FileRange>,
    /// Whether each tensor of the map is complete where it belongs.
    pub complete: Vec<bool>,
    /// Whether all of the file is mapped, and computed with where it lies: then "resident" is there and not on a GPU.
    #[serde(default)]
    pub is_mapped: bool,
    /// Every expert, layer by layer: see [`Inside::expert`].
    pub cells: Vec<Expert>,
    /// Misses since the load.
    pub misses: u32,
    /// Routes of the last batch; `None` before they are told, and when a new answer begins.
    pub batch: Option<Routes>,
    /// Routes of the last tokens that were alone in their batch, newest last.
    pub recent: VecDeque<TokenRoutes>,
    /// The last tokens of the answer, newest last.
    pub said: VecDeque<SaidToken>,
    /// Norms of the residual stream of the newest token.
    pub norms: Option<Residual>,
    /// What one head looked at, newest token last.
    pub attention: VecDeque<AttentionRow>,
    /// Newest position of the sequence that went through the model.
    pub position: Option<u32>,
    /// Tokens of the prompt; `None` until it is encoded.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the last batch of the prompt; 1 while an answer is written.
    pub batch_tokens: u32,
    /// Batches of this answer whose routes were told.
    pub batches: u32,
    /// How far the last submission has come.
    pub head: Head,
    /// When that was told, by the clock of the teller.
    pub head_at_ms: f64,
    /// When the newest event was told that changed anything here, by the clock of its teller.
    pub at_ms: f64,
    /// Counts the events that changed anything here.
    pub revision: u64,
    prefill_tokens: u32,
}

impl Inside {
    /// Takes in an event of the host.
    pub(crate) fn apply(&mut self, event: &Event, at_ms: f64) {
        match event {
            Event::Model(model) => {
                *self = Self { revision: self.revision, ..Self::default() };
                (self.layers, self.layers_run, self.experts) = (model.layers, model.layers_run, model.experts);
                self.cells = vec![Expert::default(); model.layers as usize * model.experts as usize];
            }
            Event::FileMap(map) => self.apply_map(map),
            Event::Tensor { name, .. } => self.apply_tensor(name, at_ms),
            Event::Mapped { bytes } => {
                self.is_mapped = true;
                self.arrived.insert(0..*bytes);
                self.complete.fill(true);
                self.cells.iter_mut().for_each(|cell| cell.arrives(at_ms));
            }
            Event::Reads(reads) => {
                self.under_way.clone_from(&reads.under_way);
                reads.arrived.iter().for_each(|range| self.arrived.insert(to_range(range)));
            }
            Event::ExpertMoves(moves) => self.apply_moves(moves, at_ms),
            Event::Routes(routes) => self.apply_routes(routes, at_ms),
            Event::Residual(residual) => {
                self.position = Some(residual.position);
                self.norms = Some(residual.clone());
            }
            Event::Attention(row) => self.apply_attention(row),
            Event::Stage { stage: Stage::PromptEncode, status: StageStatus::Started, .. } => self.answer_begins(),
            Event::PromptEncoded { tokens, .. } => self.prompt_tokens = Some(*tokens),
            Event::Prefill { done_tokens, reused_tokens, .. } => {
                let before = self.prefill_tokens.max(*reused_tokens);
                self.batch_tokens = done_tokens.saturating_sub(before).max(1);
                self.prefill_tokens = *done_tokens;
                self.position = done_tokens.checked_sub(1);
                let head = if done_tokens == reused_tokens { Head::Start } else { Head::End };
                (self.head, self.head_at_ms) = (head, at_ms);
            }
            Event::Missing(missing) => (self.head, self.head_at_ms) = (Head::AtLayer(missing.layer), at_ms),
            Event::Token(token) => self.apply_token(token, at_ms),
            Event::Kv { used_tokens, .. } => self.position = used_tokens.checked_sub(1).or(self.position),
            // The header of a model that takes the place of another is read before the other goes: the map is the new
            // one's.
            Event::Recovering { .. } | Event::Unloaded => self.forget_places(),
            Event::Finished { .. } | Event::Stopped { .. } => self.work_ends(),
            Event::Failed { failure, .. } => {
                self.work_ends();
                if failure.kind == FailureKind::DeviceLost {
                    self.forget_places();
                }
            }
            _ => return,
        }
        self.at_ms = at_ms;
        self.revision += 1;
    }

    /// The engine ended, and with it all that it read and had on the GPU.
    pub(crate) fn engine_ended(&mut self) {
        self.forget_places();
        self.revision += 1;
    }

    /// What is known of one expert; `None` for a place that the model does not have.
    pub fn expert(&self, place: ExpertPlace) -> Option<&Expert> {
        self.cells.get(self.index(place)?)
    }

    /// Whether the bytes of the header are here: they are what the map was read from.
    pub fn has_header(&self) -> bool {
        self.map.is_some()
    }

    /// Where experts are that can be computed with.
    pub fn place_name(&self) -> &'static str {
        if self.is_mapped { "in the mapped file" } else { "on the GPU" }
    }

    /// Experts of one layer that are on the GPU, or mapped.
    pub fn resident_in(&self, layer: u32) -> usize {
        self.layer(layer).iter().filter(|expert| expert.place == Place::Resident).count()
    }

    /// Experts that are on the GPU, or mapped, of all layers together.
    pub fn resident(&self) -> usize {
        self.cells.iter().filter(|expert| expert.place == Place::Resident).count()
    }

    /// The experts of one layer; empty for a layer that the model does not have.
    pub fn layer(&self, layer: u32) -> &[Expert] {
        let (begin, len) = (layer as usize * self.experts as usize, self.experts as usize);
        self.cells.get(begin..begin + len).unwrap_or(&[])
    }

    /// The tensors that hold the experts of one layer.
    pub fn tensors_of_layer(&self, layer: u32) -> &[ExpertTensor] {
        let begin = self.expert_tensors.partition_point(|tensor| tensor.layer < layer);
        let end = self.expert_tensors.partition_point(|tensor| tensor.layer <= layer);
        &self.expert_tensors[begin..end]
    }

    /// Bytes in the file of one expert, all its parts together.
    pub fn expert_bytes(&self, layer: u32) -> u64 {
        self.tensors_of_layer(layer).iter().map(|tensor| tensor.slice_bytes).sum()
    }

    /// Those of an expert's bytes that are here.
    pub fn arrived_bytes(&self, place: ExpertPlace) -> u64 {
        let tensors = self.tensors_of_layer(place.layer);
        match self.expert(place) {
            Some(expert) if expert.place == Place::Resident => self.expert_bytes(place.layer),
            _ => tensors.iter().map(|tensor| self.arrived.covered(tensor.slice(place.expert))).sum(),
        }
    }

    /// Number in the map of the tensor that a byte of the file belongs to.
    pub fn tensor_at(&self, offset_bytes: u64) -> Option<usize> {
        let tensors = &self.map.as_ref()?.tensors;
        let index = tensors.partition_point(|tensor| tensor.offset_bytes <= offset_bytes).checked_sub(1)?;
        (offset_bytes - tensors[index].offset_bytes < tensors[index].bytes).then_some(index)
    }

    /// The expert that a byte of the file belongs to.
    pub fn expert_at(&self, offset_bytes: u64) -> Option<ExpertPlace> {
        let index = self.tensor_at(offset_bytes)? as u32;
        let tensor = self.expert_tensors.iter().find(|tensor| tensor.tensor == index && tensor.slice_bytes > 0)?;
        let expert = (offset_bytes - tensor.offset_bytes) / tensor.slice_bytes;
        (expert < u64::from(self.experts)).then_some(ExpertPlace { layer: tensor.layer, expert: expert as u32 })
    }

    /// Text of the token at a position of the sequence, where it is one of the last of the answer.
    pub fn text_at(&self, position: u32) -> Option<&str> {
        let index = position.checked_sub(self.prompt_tokens?)?;
        self.said.iter().rev().find(|said| said.index == index).map(|said| said.text.as_str())
    }

    /// Whether the last batch whose routes were told chose an expert.
    pub fn is_chosen(&self, expert: &Expert) -> bool {
        self.batches > 0 && expert.last_batch == self.batches
    }

    /// What the token at a position chose, where it is one of the last that were told.
    pub fn routes_at(&self, position: u32) -> Option<&TokenRoutes> {
        self.recent.iter().rev().find(|routes| routes.position == position)
    }

    /// The miss that a batch waits for, the newest of them.
    pub fn newest_open_miss(&self) -> Option<ExpertPlace> {
        let open = self.cells.iter().enumerate().filter(|(_, expert)| expert.is_missed());
        let (index, _) = open.max_by_key(|(_, expert)| expert.miss)?;
        let experts = self.experts.max(1) as usize;
        Some(ExpertPlace { layer: (index / experts) as u32, expert: (index % experts) as u32 })
    }

    fn index(&self, place: ExpertPlace) -> Option<usize> {
        let inside = place.layer < self.layers && place.expert < self.experts;
        inside.then(|| place.layer as usize * self.experts as usize + place.expert as usize)
    }

    fn apply_map(&mut self, map: &FileMap) {
        let experts = u64::from(self.experts.max(1));
        let of_experts = map.tensors.iter().zip(0..).filter_map(|(tensor, index)| {
            let (layer, offset_bytes) = (tensor.experts_of_layer?, tensor.offset_bytes);
            Some(ExpertTensor { layer, tensor: index, offset_bytes, slice_bytes: tensor.bytes / experts })
        });
        self.expert_tensors = of_experts.collect();
        self.expert_tensors.sort_by_key(|tensor| (tensor.layer, tensor.offset_bytes));
        self.complete = vec![false; map.tensors.len()];
        self.map = Some(map.clone());
    }

    /// Engines that have all experts on the GPU from the start need not tell of each.
    fn apply_tensor(&mut self, name: &str, at_ms: f64) {
        let Some(map) = &self.map else { return };
        let Some(index) = map.tensors.iter().position(|tensor| tensor.name == name) else { return };
        self.complete[index] = true;
        let Some(layer) = map.tensors[index].experts_of_layer else { return };
        if self.tensors_of_layer(layer).iter().all(|tensor| self.complete[tensor.tensor as usize]) {
            for expert in 0..self.experts {
                self.change(ExpertPlace { layer, expert }, |cell| cell.arrives(at_ms));
            }
        }
    }

    fn apply_moves(&mut self, moves: &ExpertMoves, at_ms: f64) {
        for &place in &moves.evicted {
            self.change(place, |cell| cell.leaves(at_ms));
            for tensor in 0..self.expert_tensors.len() {
                let tensor = self.expert_tensors[tensor];
                if tensor.layer == place.layer {
                    self.arrived.remove(tensor.slice(place.expert));
                }
            }
        }
        for &place in &moves.missed {
            self.misses += 1;
            let number = self.misses;
            self.change(place, |cell| cell.is_missed_by_batch(number, at_ms));
        }
        moves.awaited.iter().for_each(|&place| self.change(place, |cell| cell.is_awaited(at_ms)));
        moves.arrived.iter().for_each(|&place| self.change(place, |cell| cell.arrives(at_ms)));
    }

    fn apply_routes(&mut self, routes: &Routes, at_ms: f64) {
        let tokens = routes.tokens.max(1) as f32;
        self.batches += 1;
        let batch = self.batches;
        for (routes_of_layer, layer) in routes.layers.iter().zip(0..) {
            for route in routes_of_layer {
                let used = |cell: &mut Expert| {
                    cell.uses = cell.uses.saturating_add(route.tokens);
                    (cell.last_position, cell.weight) = (Some(routes.position), route.weight / tokens);
                    (cell.used_at_ms, cell.last_batch) = (at_ms, batch);
                };
                self.change(ExpertPlace { layer, expert: route.expert }, used);
            }
        }
        if routes.tokens == 1 {
            let of_layer = |(routes, layer): (&Vec<_>, u16)| {
                let compact = |route: &gptoss_protocol::Route| (layer, route.expert as u16, route.weight);
                routes.iter().map(compact).collect::<Vec<_>>()
            };
            let chosen = routes.layers.iter().zip(0..).flat_map(of_layer).collect();
            push_recent(&mut self.recent, TokenRoutes { position: routes.position, chosen });
        }
        (self.batch_tokens, self.position) = (routes.tokens, Some(routes.position));
        (self.head, self.head_at_ms) = (Head::End, at_ms);
        self.batch = Some(routes.clone());
    }

    fn apply_attention(&mut self, row: &AttentionRow) {
        // Rows of another head, or of what was there before a sequence went back, are no part of the picture.
        self.attention.retain(|old| old.head == row.head && old.position < row.position);
        push_recent(&mut self.attention, row.clone());
        let mut weights: usize = self.attention.iter().map(|row| row.weights.len()).sum();
        while weights > MOST_WEIGHTS && self.attention.len() > 1 {
            weights -= self.attention.pop_front().map_or(0, |row| row.weights.len());
        }
        self.position = Some(row.position);
    }

    fn apply_token(&mut self, token: &TokenInfo, at_ms: f64) {
        let named = || token.top.iter().find(|top| top.id == token.id).map(|top| top.text.clone());
        let text = if token.text.is_empty() { named().unwrap_or_default() } else { token.text.clone() };
        push_recent(&mut self.said, SaidToken { index: token.index, text });
        (self.head, self.head_at_ms) = (Head::End, at_ms);
        if token.index > 0 {
            self.batch_tokens = 1;
        }
    }

    fn answer_begins(&mut self) {
        self.cells.iter_mut().for_each(Expert::forget_uses);
        (self.batch, self.norms, self.prompt_tokens, self.position) = (None, None, None, None);
        self.recent.clear();
        self.said.clear();
        self.attention.clear();
        (self.head, self.batch_tokens, self.prefill_tokens, self.batches) = (Head::Start, 0, 0, 0);
    }

    /// No batch waits for anything any more, and what was read for one is told anew if it is still read.
    fn work_ends(&mut self) {
        self.cells.iter_mut().for_each(Expert::is_waited_for_no_more);
        self.under_way.clear();
        if matches!(self.head, Head::AtLayer(_)) {
            self.head = Head::Start;
        }
    }

    fn forget_places(&mut self) {
        self.is_mapped = false;
        self.cells.iter_mut().for_each(Expert::forget_place);
        self.complete.fill(false);
        self.arrived.clear();
        self.under_way.clear();
    }

    fn change(&mut self, place: ExpertPlace, change: impl FnOnce(&mut Expert)) {
        if let Some(index) = self.index(place) {
            change(&mut self.cells[index]);
        }
    }
}

fn to_range(range: &FileRange) -> Range<u64> {
    range.offset_bytes..range.offset_bytes.saturating_add(range.bytes)
}

fn push_recent<T>(recent: &mut VecDeque<T>, new: T) {
    while recent.len() >= RECENT_TOKENS {
        recent.pop_front();
    }
    recent.push_back(new);
}

#[cfg(test)]
mod tests;
