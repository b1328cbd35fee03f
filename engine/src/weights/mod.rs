//! The model's weights on the GPU: allocation from the plan, and which bytes of the file go where.

use std::ops::Range;
use std::rc::Rc;

use gptoss_gguf::CodeOrder;
use gptoss_kernels::experts::{Arena, ExpertRows, SlotLayout, SlotRows};
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{Gpu, GpuBuffer, GpuError};

use crate::inventory::{ExpertTensor, Inventory, LayerTensors, MatrixTensor, PlainTensor};
use crate::pieces::{self, Piece, Target};
use crate::plan::{MemoryPlan, merge_same_format};

/// A matrix with its bias, writing from column `y_first` of the output row on.
pub struct Projection {
    pub matrix: Matrix,
    pub bias: Rc<GpuBuffer>,
    pub y_first: u32,
}

/// The weights of one layer.
pub struct LayerWeights {
    pub attn_norm: Rc<GpuBuffer>,
    /// One projection when query, key and value share a format, else three.
    pub qkv: Vec<Projection>,
    pub attn_output: Projection,
    pub sinks: Rc<GpuBuffer>,
    pub post_attention_norm: Rc<GpuBuffer>,
    pub router: Rc<GpuBuffer>,
    pub router_bias: Rc<GpuBuffer>,
    /// Gate, up and down biases of all experts, one after the other.
    pub expert_biases: Rc<GpuBuffer>,
    pub slot: SlotLayout,
    pub arenas: Vec<Arena>,
}

/// All weights that live on the GPU.
pub struct Weights {
    pub layers: Vec<LayerWeights>,
    pub output_norm: Rc<GpuBuffer>,
    pub output: Matrix,
    piece_bytes: u64,
}

impl Weights {
    /// Makes every buffer, empty.
    pub fn allocate(gpu: &Gpu, inventory: &Inventory, plan: &MemoryPlan) -> Result<Self, GpuError> {
        let layers = inventory
            .layers
            .iter()
            .zip(plan.slot_layouts.iter().zip(&plan.arenas))
            .map(|(layer, (slot, arenas))| allocate_layer(gpu, layer, slot, arenas))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            layers,
            output_norm: plain(gpu, &inventory.output_norm),
            output: matrix(gpu, &inventory.output)?,
            piece_bytes: plan.piece_bytes,
        })
    }

    /// Every piece that is loaded before the first token: all dense weights, the embedding, and the experts if all of
    /// them are resident.
    pub fn pieces(&self, inventory: &Inventory, all_experts: bool) -> Vec<Piece> {
        let mut all = pieces::host(&inventory.token_embd, self.piece_bytes);
        all.push(pieces::plain(&inventory.output_norm, &self.output_norm, 0));
        all.extend(pieces::dense(&inventory.output, &self.output, 0, self.piece_bytes));
        for (weights, tensors) in self.layers.iter().zip(&inventory.layers) {
            self.layer_pieces(weights, tensors, all_experts, &mut all);
        }
        all
    }

    fn layer_pieces(&self, weights: &LayerWeights, tensors: &LayerTensors, all_experts: bool, all: &mut Vec<Piece>) {
        let piece_bytes = self.piece_bytes;
        all.push(pieces::plain(&tensors.attn_norm, &weights.attn_norm, 0));
        let mut first_row = 0;
        for (index, (tensor, bias)) in tensors.qkv.iter().zip(&tensors.qkv_bias).enumerate() {
            if weights.qkv.len() == 1 {
                all.extend(pieces::dense(tensor, &weights.qkv[0].matrix, first_row, piece_bytes));
                all.push(pieces::plain(bias, &weights.qkv[0].bias, first_row * 4));
                first_row += tensor.rows;
            } else {
                all.extend(pieces::dense(tensor, &weights.qkv[index].matrix, 0, piece_bytes));
                all.push(pieces::plain(bias, &weights.qkv[index].bias, 0));
            }
        }
        all.extend(pieces::dense(&tensors.attn_output, &weights.attn_output.matrix, 0, piece_bytes));
        all.push(pieces::plain(&tensors.attn_output_bias, &weights.attn_output.bias, 0));
        all.push(pieces::plain(&tensors.attn_sinks, &weights.sinks, 0));
        all.push(pieces::plain(&tensors.post_attention_norm, &weights.post_attention_norm, 0));
        all.push(pieces::plain(&tensors.router, &weights.router, 0));
        all.push(pieces::plain(&tensors.router_bias, &weights.router_bias, 0));
        let mut bias_offset = 0;
        for bias in &tensors.exps_bias {
            all.push(pieces::plain(bias, &weights.expert_biases, bias_offset));
            bias_offset += bias.f32_bytes();
        }
        if all_experts {
            for expert_tensor in tensors.expert_tensors() {
                let tensor = expert_tensor.tensor;
                let mut tensor_pieces: Vec<Piece> = (0..tensor.experts as u32)
                    .flat_map(|expert| self.pieces_of(weights, &expert_tensor, expert, expert))
                    .collect();
                pieces::complete(&mut tensor_pieces, tensor);
                all.extend(tensor_pieces);
            }
        }
    }

    /// The pieces that bring one expert into a slot.
    pub fn expert_pieces(&self, layer: usize, tensors: &LayerTensors, expert: u32, slot: u32) -> Vec<Piece> {
        let weights = &self.layers[layer];
        tensors.expert_tensors().iter().flat_map(|tensor| self.pieces_of(weights, tensor, expert, slot)).collect()
    }

    /// One tensor's share of an expert.
    fn pieces_of(&self, weights: &LayerWeights, experts: &ExpertTensor<'_>, expert: u32, slot: u32) -> Vec<Piece> {
        let tensor = experts.tensor;
        let of_part = |(part, rows): &(ExpertRows, Range<u64>)| {
            let target = Self::target(weights, *part, tensor.codes, slot);
            pieces::expert(tensor, expert, rows, &target, self.piece_bytes)
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

/// `arenas`: slots of each.
fn allocate_layer(
    gpu: &Gpu,
    layer: &LayerTensors,
    slot: &SlotLayout,
    arenas: &[u32],
) -> Result<LayerWeights, GpuError> {
    let merged = merge_same_format(&layer.qkv);
    let one = merged.len() == 1;
    let mut y_first = 0;
    let qkv = merged
        .iter()
        .map(|tensor| {
            let projection = Projection {
                matrix: matrix(gpu, tensor)?,
                bias: Rc::new(gpu.storage(if one { "qkv bias" } else { "bias" }, tensor.rows * 4)),
                y_first,
            };
            y_first += tensor.rows as u32;
            Ok(projection)
        })
        .collect::<Result<_, GpuError>>()?;
    let mut first_slot = 0;
    let arenas = arenas
        .iter()
        .map(|&slots| {
            let buffer = Rc::new(gpu.storage("expert arena", u64::from(slots) * slot.slot_bytes));
            let arena = Arena { buffer, first_slot, slots };
            first_slot += slots;
            arena
        })
        .collect();
    Ok(LayerWeights {
        attn_norm: plain(gpu, &layer.attn_norm),
        qkv,
        attn_output: Projection {
            matrix: matrix(gpu, &layer.attn_output)?,
            bias: plain(gpu, &layer.attn_output_bias),
            y_first: 0,
        },
        sinks: plain(gpu, &layer.attn_sinks),
        post_attention_norm: plain(gpu, &layer.post_attention_norm),
        router: plain(gpu, &layer.router),
        router_bias: plain(gpu, &layer.router_bias),
        expert_biases: Rc::new(gpu.storage("expert biases", layer.exps_bias.iter().map(PlainTensor::f32_bytes).sum())),
        slot: *slot,
        arenas,
    })
}

fn plain(gpu: &Gpu, tensor: &PlainTensor) -> Rc<GpuBuffer> {
    Rc::new(gpu.storage(&tensor.name, tensor.f32_bytes()))
}

fn matrix(gpu: &Gpu, tensor: &MatrixTensor) -> Result<Matrix, GpuError> {
    Matrix::allocate(gpu, &tensor.name, tensor.format, tensor.rows, tensor.columns)
}
