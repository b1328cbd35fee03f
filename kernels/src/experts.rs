//! The chosen experts: `x += Σ_k weight_k · (W_down · swiglu(W_gate x + b_gate, W_up x + b_up) + b_down)`.
//!
//! Three kernels, or four where gate and up differ in format. Results of the (token, choice) pairs stay apart until they are combined in the order of the choices,
//! so that the sum is the same whichever experts were resident when.
//!
//! An expert's weights lie in one *slot*: gate and up rows interleaved (where they have one format), then the down rows, each
//! as codes and scales.
//! Slots lie in *arenas*, buffers no larger than a binding may be. Biases are small and always resident.

use std::rc::Rc;

use bytemuck::{Pod, Zeroable};
use gptoss_model::GpuError;
use gptoss_model::ops::experts::{ExpertFormats, ExpertRows};

use crate::gpu::{Access, Gpu, GpuBuffer, Limits};
use crate::launch::{Extent, Kernel, Launch};
use crate::sources;
use crate::weights::{BINDING_ALIGNMENT, PlaneLayout};

/// Where rows of an expert go in its slot: row r becomes row `first_row + r · row_step` of planes that begin at
/// `offset_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRows {
    pub offset_bytes: u64,
    pub planes: PlaneLayout,
    pub first_row: u64,
    pub row_step: u64,
}

impl SlotRows {
    const fn whole(offset_bytes: u64, planes: PlaneLayout) -> Self {
        Self { offset_bytes, planes, first_row: 0, row_step: 1 }
    }

    /// One past the last byte.
    fn end_bytes(&self) -> u64 {
        self.offset_bytes + self.planes.total_bytes()
    }
}

/// Where one expert's planes lie in its slot, in bytes from the slot's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLayout {
    /// `ff` rows of `hidden` columns. Of one format, gate and up are 2 · ff rows in one run of planes: gate r is row 2r, up
    /// r is row 2r + 1. Of different ones, each has planes of its own.
    pub gate: SlotRows,
    pub up: SlotRows,
    /// `hidden` rows of `ff` columns.
    pub down: SlotRows,
    /// A slot's size, padded so that the next one is aligned.
    pub slot_bytes: u64,
}

impl SlotLayout {
    pub fn new(formats: ExpertFormats, hidden: u64, ff: u64) -> Self {
        let after = |rows: &SlotRows| rows.end_bytes().next_multiple_of(BINDING_ALIGNMENT);
        let (gate, up) = if formats.interleave() {
            let both = SlotRows { row_step: 2, ..SlotRows::whole(0, PlaneLayout::new(formats.gate, 2 * ff, hidden)) };
            (both, SlotRows { first_row: 1, ..both })
        } else {
            let gate = SlotRows::whole(0, PlaneLayout::new(formats.gate, ff, hidden));
            (gate, SlotRows::whole(after(&gate), PlaneLayout::new(formats.up, ff, hidden)))
        };
        let down = SlotRows::whole(after(&up), PlaneLayout::new(formats.down, hidden, ff));
        Self { gate, up, down, slot_bytes: after(&down) }
    }

    pub fn formats(&self) -> ExpertFormats {
        let [gate, up, down] = [self.gate, self.up, self.down].map(|rows| rows.planes.format);
        ExpertFormats { gate, up, down }
    }

    /// Where these rows go.
    ///
    /// # Panics
    /// For gate and up rows that alternate in a tensor, and so have one format, but not here.
    pub fn place(&self, rows: ExpertRows) -> SlotRows {
        match rows {
            ExpertRows::Gate => self.gate,
            ExpertRows::Up => self.up,
            ExpertRows::Down => self.down,
            ExpertRows::GateAndUp => {
                assert!(self.formats().interleave(), "rows of one tensor have one format");
                SlotRows { row_step: 1, ..self.gate }
            }
        }
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
    formats: ExpertFormats,
    gate_up: GateUp,
    down: Kernel,
    combine: Kernel,
}

/// Both at once where they have one format, else one after the other: `h` holds what gate gives until up comes.
enum GateUp {
    Together(Kernel),
    Apart { gate: Kernel, up: Kernel },
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
    pub fn new(gpu: &Gpu, formats: ExpertFormats) -> Self {
        let one = |name, format, matrix: u32| {
            let source = sources::experts_down(format);
            Kernel::by_rows_with(gpu, name, &source, &ACCESSES, Some(("MATRIX", matrix)))
        };
        let gate_up = if formats.interleave() {
            let source = sources::experts_gate_up(formats.gate);
            GateUp::Together(Kernel::by_rows(gpu, "experts_gate_up", &source, &ACCESSES))
        } else {
            GateUp::Apart { gate: one("experts_gate", formats.gate, 1), up: one("experts_up", formats.up, 2) }
        };
        Self {
            formats,
            gate_up,
            down: one("experts_down", formats.down, 0),
            combine: Kernel::new(gpu, "experts_combine", &sources::experts_combine(), &COMBINE_ACCESSES),
        }
    }

    pub fn formats(&self) -> ExpertFormats {
        self.formats
    }

    /// Gate and up of the experts in `arena`: as many launches as [`launches_of_gate_up`] says.
    pub fn launch_gate_up(
        &self,
        gpu: &Gpu,
        arena: &Arena,
        slot: &SlotLayout,
        buffers: &Buffers<'_>,
        shape: Shape,
    ) -> Vec<Launch> {
        let half = |kernel: &Kernel, rows: &SlotRows, bias_base: u32| {
            let params = Params { rows: shape.ff, bias_base, ..params(arena, slot, rows, shape) };
            launch(kernel, gpu, arena, buffers, params, buffers.x, buffers.h)
        };
        match &self.gate_up {
            // It finds the biases of up behind those of gate.
            GateUp::Together(kernel) => vec![half(kernel, &slot.gate, 0)],
            GateUp::Apart { gate, up } => {
                vec![half(gate, &slot.gate, 0), half(up, &slot.up, shape.experts * shape.ff)]
            }
        }
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
        let bias_base = 2 * shape.experts * shape.ff;
        let params = Params { rows: shape.hidden, bias_base, ..params(arena, slot, &slot.down, shape) };
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

/// Launches for gate and up of one arena.
pub fn launches_of_gate_up(formats: ExpertFormats) -> usize {
    if formats.interleave() { 1 } else { 2 }
}

fn params(arena: &Arena, slot: &SlotLayout, rows: &SlotRows, shape: Shape) -> Params {
    let planes = &rows.planes;
    Params {
        rows: 0,
        blocks_per_row: planes.blocks_per_row as u32,
        experts: shape.experts,
        experts_per_token: shape.experts_per_token,
        layer: shape.layer,
        first_slot: arena.first_slot,
        slots: arena.slots,
        slot_stride: (slot.slot_bytes / 16) as u32,
        codes_base: (rows.offset_bytes / 16) as u32,
        scales_base: ((rows.offset_bytes + planes.scales_offset_bytes()) / 4) as u32,
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
