//! The model's weights on the GPU: which bytes of the file go where.

mod dense;

use std::ops::Range;
use std::rc::Rc;

use gptoss_gguf::CodeOrder;
use gptoss_kernels::GpuBuffer;
use gptoss_kernels::experts::{Arena, SlotLayout, SlotRows};
use gptoss_kernels::weights::Matrix;
use gptoss_model::ops::experts::ExpertRows;
use gptoss_model::{ExpertTensor, Inventory, LayerTensors};
use gptoss_protocol::ExpertPlace;

pub use self::dense::{DenseLayer, MatrixParts, Weight};
use crate::pieces::{self, Piece, Target};
use crate::plan::MemoryPlan;
use crate::recipe::{BufferId, Filled, LayerBuffers, Recipe};

/// The dense weights of a layer on the GPU.
pub type GpuLayer = DenseLayer<Matrix, Rc<GpuBuffer>>;

/// The weights of one layer.
pub struct LayerWeights {
    pub dense: GpuLayer,
    pub slot: SlotLayout,
    pub arenas: Vec<Arena<Rc<GpuBuffer>>>,
}

/// All weights that live on the GPU.
pub struct Weights {
    pub layers: Vec<LayerWeights>,
    pub output_norm: Rc<GpuBuffer>,
    pub output: Matrix,
    piece_bytes: u64,
}

impl Weights {
    /// The weights in the buffers of a recipe.
    pub fn of(recipe: &Recipe, buffers: &Filled, plan: &MemoryPlan) -> Self {
        let buffer = |id: &BufferId| Rc::clone(&buffers[*id]);
        let arena = |arena: &Arena<BufferId>| Arena {
            buffer: buffer(&arena.buffer),
            first_slot: arena.first_slot,
            slots: arena.slots,
        };
        let layer = |layer: &LayerBuffers| LayerWeights {
            dense: layer.dense.map(|matrix| matrix.map(buffer), buffer),
            slot: layer.slot,
            arenas: layer.arenas.iter().map(arena).collect(),
        };
        Self {
            layers: recipe.layers.iter().map(|recipe| layer(&recipe.buffers)).collect(),
            output_norm: buffer(&recipe.output_norm),
            output: recipe.output.map(buffer),
            piece_bytes: plan.piece_bytes,
        }
    }

    /// Largest piece, in bytes.
    pub fn piece_bytes(&self) -> u64 {
        self.piece_bytes
    }

    /// The pieces to load before the first token: all dense weights, the embedding, and the experts if all of them are
    /// resident.
    pub fn pieces(&self, inventory: &Inventory, all_experts: bool) -> Vec<Piece> {
        let mut all = pieces::host(&inventory.token_embd, self.piece_bytes);
        all.push(pieces::plain(&inventory.output_norm, &self.output_norm, 0));
        all.extend(pieces::dense(&inventory.output, &self.output, 0, self.piece_bytes));
        for (layer, (weights, tensors)) in self.layers.iter().zip(&inventory.layers).enumerate() {
            self.layer_pieces((layer, weights), tensors, all_experts, &mut all);
        }
        all
    }

    fn layer_pieces(
        &self,
        (layer, weights): (usize, &LayerWeights),
        tensors: &LayerTensors,
        all_experts: bool,
        all: &mut Vec<Piece>,
    ) {
        let file = DenseLayer::of(tensors);
        for pair in file.weights().zip(weights.dense.weights()) {
            match pair {
                (Weight::Matrix(parts), Weight::Matrix(matrix)) => {
                    let mut first_row = 0;
                    for tensor in &parts.tensors {
                        all.extend(pieces::dense(tensor, matrix, first_row, self.piece_bytes));
                        first_row += tensor.rows;
                    }
                }
                (Weight::Values(parts), Weight::Values(buffer)) => {
                    let mut offset_bytes = 0;
                    for tensor in &parts.tensors {
                        all.push(pieces::plain(tensor, buffer, offset_bytes));
                        offset_bytes += tensor.f32_bytes();
                    }
                }
                _ => unreachable!("both list the weights of a layer in the same order"),
            }
        }
        if all_experts {
            for expert_tensor in tensors.expert_tensors() {
                let tensor = expert_tensor.tensor;
                let mut tensor_pieces: Vec<Piece> = (0..tensor.experts as u32)
                    .flat_map(|expert| self.pieces_of((layer, weights), &expert_tensor, expert, expert))
                    .collect();
                pieces::complete(&mut tensor_pieces, tensor);
                all.extend(tensor_pieces);
            }
        }
    }

    /// The pieces that bring one expert into a slot.
    pub fn expert_pieces(&self, layer: usize, tensors: &LayerTensors, expert: u32, slot: u32) -> Vec<Piece> {
        let weights = (layer, &self.layers[layer]);
        tensors.expert_tensors().iter().flat_map(|tensor| self.pieces_of(weights, tensor, expert, slot)).collect()
    }

    /// The pieces of one tensor for an expert.
    fn pieces_of(
        &self,
        (layer, weights): (usize, &LayerWeights),
        experts: &ExpertTensor<'_>,
        expert: u32,
        slot: u32,
    ) -> Vec<Piece> {
        let tensor = experts.tensor;
        let place = ExpertPlace { layer: layer as u32, expert };
        let of_part = |(part, rows): &(ExpertRows, Range<u64>)| {
            let target = Self::target(weights, *part, tensor.codes, slot);
            pieces::expert(tensor, place, rows, &target, self.piece_bytes)
        };
        experts.parts.iter().flat_map(of_part).collect()
    }

    /// Where rows of an expert go in a slot.
    fn target(weights: &LayerWeights, part: ExpertRows, codes: CodeOrder, slot: u32) -> Target {
        let arena = weights
            .arenas
            .iter()
            .find(|arena| (arena.first_slot..arena.first_slot + arena.slots).contains(&slot))
            .expect("arenas cover all slots of their layer");
        let start = u64::from(slot - arena.first_slot) * weights.slot.slot_bytes;
        let SlotRows { offset_bytes, planes, first_row, row_step } = weights.slot.place(part);
        Target {
            buffer: Rc::clone(&arena.buffer),
            planes_offset_bytes: start + offset_bytes,
            planes,
            first_row,
            row_step,
            codes,
        }
    }
}
