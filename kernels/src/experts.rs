//! The chosen experts: `x += Σ_k weight_k · (W_down · swiglu(W_gate x + b_gate, W_up x + b_up) + b_down)`.
//!
//! Three kernels. Results of the (token, choice) pairs stay apart until they are combined in the order of the choices,
//! so that the sum is the same whichever experts were resident when.
//!
//! An expert's weights lie in one *slot*: gate and up rows interleaved, then the down rows, each as codes and scales.
//! Slots lie in *arenas*, buffers no larger than a binding may be. Biases are small and always resident.

use std::rc::Rc;

use bytemuck::{Pod, Zeroable};

use crate::error::GpuError;
use crate::format::Format;
use crate::gpu::{Access, Gpu, GpuBuffer, Limits};
use crate::launch::{Extent, Kernel, Launch};
use crate::sources;
use crate::weights::{BINDING_ALIGNMENT, PlaneLayout};

/// SwiGLU of gpt-oss: gate clamped from above, up on both sides.
pub const SWIGLU_LIMIT: f64 = 7.0;
pub const SWIGLU_ALPHA: f64 = 1.702;

/// Where one expert's planes lie in its slot, in bytes from the slot's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLayout {
    /// 2 · ff rows of `hidden` columns: gate r is row 2r, up r is row 2r + 1.
    pub gate_up: PlaneLayout,
    /// `hidden` rows of `ff` columns.
    pub down: PlaneLayout,
    pub down_offset_bytes: u64,
    /// A slot's size, padded so that the next one is aligned.
    pub slot_bytes: u64,
}

impl SlotLayout {
    pub fn new(gate_up: Format, down: Format, hidden: u64, ff: u64) -> Self {
        let gate_up = PlaneLayout::new(gate_up, 2 * ff, hidden);
        let down = PlaneLayout::new(down, hidden, ff);
        let down_offset_bytes = gate_up.total_bytes().next_multiple_of(BINDING_ALIGNMENT);
        let slot_bytes = (down_offset_bytes + down.total_bytes()).next_multiple_of(BINDING_ALIGNMENT);
        Self { gate_up, down, down_offset_bytes, slot_bytes }
    }

    /// Slots that fit one arena.
    pub fn slots_per_arena(&self, limits: &Limits) -> Result<u32, GpuError> {
        match limits.max_binding_bytes.min(limits.max_buffer_bytes) / self.slot_bytes {
            0 => Err(GpuError::Limit {
                limit: "maxStorageBufferBindingSize",
                needed: self.slot_bytes,
                granted: limits.max_binding_bytes,
            }),
            slots => Ok(slots.min(u64::from(u32::MAX)) as u32),
        }
    }
}

/// A run of a layer's slots in one buffer.
pub struct Arena {
    /// Shared with the uploads that are under way.
    pub buffer: Rc<GpuBuffer>,
    pub first_slot: u32,
    pub slots: u32,
}

/// Which expert block this is, for both kernels. `layer` indexes the page table.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub layer: u32,
    pub hidden: u32,
    pub ff: u32,
    pub experts: u32,
    pub experts_per_token: u32,
}

/// Mirrors `Params` in `experts_gate_up.wgsl` and `experts_down.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub rows: u32,
    pub blocks_per_row: u32,
    pub experts: u32,
    pub experts_per_token: u32,
    pub layer: u32,
    pub first_slot: u32,
    pub slots: u32,
    pub slot_stride: u32,
    pub codes_base: u32,
    pub scales_base: u32,
    /// First of the biases: of gate, or of down.
    pub bias_base: u32,
    pub padding: u32,
}

/// Mirrors `Params` in `experts_combine.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CombineParams {
    pub columns: u32,
    pub experts_per_token: u32,
    pub layer: u32,
    pub padding: u32,
}

pub const ACCESSES: [Access; 10] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
    Access::Read,
    Access::Read,
];
pub const COMBINE_ACCESSES: [Access; 6] =
    [Access::Uniform, Access::Uniform, Access::Read, Access::Read, Access::ReadWrite, Access::ReadWrite];

/// The compiled kernels.
pub struct Experts {
    formats: (Format, Format),
    gate_up: Kernel,
    down: Kernel,
    combine: Kernel,
}

/// Buffers of one layer: `x` is normalised [tokens, hidden]; `h` [tokens · k, ff]; `y` [tokens · k, hidden]; `residual`
/// [tokens, hidden]; all F32. `biases`: [experts, ff] of gate, [experts, ff] of up, [experts, hidden] of down.
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub x: &'a GpuBuffer,
    pub biases: &'a GpuBuffer,
    pub h: &'a GpuBuffer,
    pub y: &'a GpuBuffer,
    pub residual: &'a GpuBuffer,
    pub routes: &'a GpuBuffer,
    pub page_table: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

impl Experts {
    pub fn new(gpu: &Gpu, gate_up: Format, down: Format) -> Self {
        Self {
            formats: (gate_up, down),
            gate_up: Kernel::by_rows(gpu, "experts_gate_up", &sources::experts_gate_up(gate_up), &ACCESSES),
            down: Kernel::by_rows(gpu, "experts_down", &sources::experts_down(down), &ACCESSES),
            combine: Kernel::new(gpu, "experts_combine", &sources::experts_combine(), &COMBINE_ACCESSES),
        }
    }

    /// Of gate and up, and of down.
    pub fn formats(&self) -> (Format, Format) {
        self.formats
    }

    /// Gate and up of the experts in `arena`.
    pub fn launch_gate_up(
        &self,
        gpu: &Gpu,
        arena: &Arena,
        slot: &SlotLayout,
        buffers: &Buffers<'_>,
        shape: Shape,
    ) -> Launch {
        let params = Params {
            rows: shape.ff,
            codes_base: 0,
            scales_base: (slot.gate_up.scales_offset_bytes() / 4) as u32,
            ..params(arena, slot, &slot.gate_up, shape)
        };
        launch(&self.gate_up, gpu, arena, buffers, params, buffers.x, buffers.h)
    }

    /// Down of the experts in `arena`.
    pub fn launch_down(
        &self,
        gpu: &Gpu,
        arena: &Arena,
        slot: &SlotLayout,
        buffers: &Buffers<'_>,
        shape: Shape,
    ) -> Launch {
        let params = Params {
            rows: shape.hidden,
            codes_base: (slot.down_offset_bytes / 16) as u32,
            scales_base: ((slot.down_offset_bytes + slot.down.scales_offset_bytes()) / 4) as u32,
            bias_base: 2 * shape.experts * shape.ff,
            ..params(arena, slot, &slot.down, shape)
        };
        launch(&self.down, gpu, arena, buffers, params, buffers.h, buffers.y)
    }

    /// Adds the weighted results to the residual.
    pub fn launch_combine(&self, gpu: &Gpu, buffers: &Buffers<'_>, shape: Shape) -> Launch {
        let uniform = gpu.uniform(
            "experts_combine",
            &CombineParams {
                columns: shape.hidden,
                experts_per_token: shape.experts_per_token,
                layer: shape.layer,
                padding: 0,
            },
        );
        self.combine
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    buffers.y.whole(),
                    buffers.routes.whole(),
                    buffers.residual.whole(),
                    buffers.status.whole(),
                ],
                Extent::Threads { items: shape.hidden, threads: 64 },
                Extent::ONE,
            )
            .keep(uniform)
    }
}

fn params(arena: &Arena, slot: &SlotLayout, planes: &PlaneLayout, shape: Shape) -> Params {
    Params {
        rows: 0,
        blocks_per_row: planes.blocks_per_row as u32,
        experts: shape.experts,
        experts_per_token: shape.experts_per_token,
        layer: shape.layer,
        first_slot: arena.first_slot,
        slots: arena.slots,
        slot_stride: (slot.slot_bytes / 16) as u32,
        codes_base: 0,
        scales_base: 0,
        bias_base: 0,
        padding: 0,
    }
}

fn launch(
    kernel: &Kernel,
    gpu: &Gpu,
    arena: &Arena,
    buffers: &Buffers<'_>,
    params: Params,
    input: &GpuBuffer,
    output: &GpuBuffer,
) -> Launch {
    let uniform = gpu.uniform("experts", &params);
    kernel
        .launch(
            gpu,
            &[
                buffers.step.whole(),
                uniform.whole(),
                arena.buffer.whole(),
                arena.buffer.whole(),
                input.whole(),
                buffers.biases.whole(),
                output.whole(),
                buffers.routes.whole(),
                buffers.page_table.whole(),
                buffers.status.whole(),
            ],
            Extent::Fixed(params.rows.div_ceil(gpu.rows_per_group())),
            Extent::Tokens { per_group: 1, times: params.experts_per_token },
        )
        .keep(uniform)
}

/// The specification of the activation. What is not finite stays so, also where a clamp would make 7 of it.
pub fn swiglu_reference(gate: f64, up: f64) -> f64 {
    if !gate.is_finite() || !up.is_finite() {
        return f64::NAN;
    }
    let gate = gate.min(SWIGLU_LIMIT);
    let up = up.clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT);
    gate / (1.0 + (-SWIGLU_ALPHA * gate).exp()) * (up + 1.0)
}

/// One expert's weights, decoded: gate, up [ff, hidden], down [hidden, ff], biases [ff], [ff], [hidden].
#[derive(Clone, Copy, Debug)]
pub struct ExpertWeights<'a> {
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub down: &'a [f32],
    pub gate_bias: &'a [f32],
    pub up_bias: &'a [f32],
    pub down_bias: &'a [f32],
}

/// The specification of one expert for one token, without the routing weight: `x` [hidden] → [hidden].
pub fn reference(x: &[f32], expert: &ExpertWeights<'_>) -> Vec<f64> {
    let project = |matrix: &[f32], bias: &[f32], input: &[f64]| -> Vec<f64> {
        let dot = |row: &[f32]| row.iter().zip(input).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
        matrix.chunks_exact(input.len()).zip(bias).map(|(row, &bias)| dot(row) + f64::from(bias)).collect()
    };
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let gate = project(expert.gate, expert.gate_bias, &x);
    let up = project(expert.up, expert.up_bias, &x);
    let h: Vec<f64> = gate.iter().zip(&up).map(|(&gate, &up)| swiglu_reference(gate, up)).collect();
    project(expert.down, expert.down_bias, &h)
}
