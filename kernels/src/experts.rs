//! The chosen experts: `x += Σ_k weight_k · (W_down · swiglu(W_gate x + b_gate, W_up x + b_up) + b_down)`.
//!
//! Three kernels, or four where gate and up differ in format. Results of the (token, choice) pairs stay apart until
//! they are combined in the order of the choices, so that the sum is the same whichever experts were resident when.
//!
//! An expert's weights lie in one *slot*: gate and up rows interleaved (where they have one format), then the down
//! rows, each as codes and scales. Slots lie in *arenas*, buffers no larger than a binding may be. Biases are small and
//! always resident.

use bytemuck::{Pod, Zeroable};
use gptoss_gguf::WeightType;
use gptoss_model::GpuError;
use gptoss_model::ops::experts::{ExpertFormats, ExpertRows};

use crate::gpu::{Access, Limits};
use crate::launch::{Call, Extent};
use crate::norm::{Normed, combined_squares};
use crate::operation::{Geometry, Operation, Variant};
use crate::sources;
use crate::weights::{BINDING_ALIGNMENT, PlaneLayout};

/// Where the rows of one matrix of an expert are in its slot: row r becomes row `first_row + r · row_step` of planes
/// that begin at `offset_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRows {
    /// First byte of the planes, from the beginning of the slot; a multiple of 256.
    pub offset_bytes: u64,
    /// Layout of the planes.
    pub planes: PlaneLayout,
    /// Row of the planes that row 0 becomes.
    pub first_row: u64,
    /// Distance between neighbouring rows: 2 where gate and up interleave, otherwise 1.
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

/// Layout of an expert's weights in its slot. Offsets are in bytes from the slot's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLayout {
    /// Gate: `ff` rows of `hidden` columns. Gate and up of one format are 2 · ff rows in one run of planes, gate r in
    /// row 2r and up r in row 2r + 1; of different formats, each has planes of its own.
    pub gate: SlotRows,
    /// Up: `ff` rows of `hidden` columns, see `gate`.
    pub up: SlotRows,
    /// Down: `hidden` rows of `ff` columns.
    pub down: SlotRows,
    /// Size of a slot, padded so that the next one is aligned.
    pub slot_bytes: u64,
}

impl SlotLayout {
    /// The layout for experts of this shape: `hidden` columns of the residual stream, width `ff`.
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

    /// Formats of the matrices.
    pub fn formats(&self) -> ExpertFormats {
        let [gate, up, down] = [self.gate, self.up, self.down].map(|rows| rows.planes.format);
        ExpertFormats { gate, up, down }
    }

    /// Where rows of an expert tensor go.
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

    /// How many slots fit one arena.
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
#[derive(Clone, Debug)]
pub struct Arena<B> {
    /// The buffer, or what stands for it.
    pub buffer: B,
    /// Number of its first slot in the layer.
    pub first_slot: u32,
    /// How many slots it has.
    pub slots: u32,
}

impl Arena<std::rc::Rc<crate::GpuBuffer>> {
    /// The same arena with a borrowed buffer.
    pub fn by_ref(&self) -> Arena<&crate::GpuBuffer> {
        Arena { buffer: &*self.buffer, first_slot: self.first_slot, slots: self.slots }
    }
}

/// Shape of a layer's expert block, for all its kernels.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Index of the layer, also in the page table.
    pub layer: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of one expert.
    pub ff: u32,
    /// Experts of the layer.
    pub experts: u32,
    /// Experts that each token chooses.
    pub experts_per_token: u32,
    /// Sums of squares with which the norm scales the tokens.
    pub normed: Normed,
}

/// Uniform parameters of a product. Mirrors `Params` in `experts_gate_up.wgsl` and `experts_down.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Rows of the matrix.
    pub rows: u32,
    /// Runs of 32 weights in a row.
    pub blocks_per_row: u32,
    /// Experts of the layer.
    pub experts: u32,
    /// Experts that each token chooses.
    pub experts_per_token: u32,
    /// Index of the layer.
    pub layer: u32,
    /// First slot in this arena.
    pub first_slot: u32,
    /// Number of slots in this arena.
    pub slots: u32,
    /// Distance between slots, in `vec4<u32>`.
    pub slot_stride: u32,
    /// First code of the matrix in its slot, in `vec4<u32>`.
    pub codes_base: u32,
    /// First scale of the matrix in its slot, in words.
    pub scales_base: u32,
    /// Index of the first bias: of gate, or of down.
    pub bias_base: u32,
    /// Index of the first sum of squares in `x`; used by gate and up alone.
    pub squares_first: u32,
    /// Sums of squares that a token has; 0 multiplies `x` as it is.
    pub squares: u32,
    /// ε of the norm.
    pub epsilon: f32,
    /// Unused; uniform structs are whole 16-byte units.
    pub padding: [u32; 2],
}

/// Uniform parameters of the sum. Mirrors `Params` in `experts_combine.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CombineParams {
    /// Width of the residual stream.
    pub columns: u32,
    /// Experts that each token chooses.
    pub experts_per_token: u32,
    /// Index of the layer.
    pub layer: u32,
    /// Index of the first sum of squares in `x`.
    pub squares_first: u32,
}

/// Access to each binding of a product, in order: the step, the parameters, the arena twice, and the operands.
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
/// Access to each binding of the sum, in order.
pub const COMBINE_ACCESSES: [Access; 8] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
    Access::ReadWrite,
    Access::ReadWrite,
];

/// Value of `MATRIX` in `experts_down.wgsl` that selects down.
pub(crate) const DOWN: u32 = 0;
pub(crate) const GATE: u32 = 1;
pub(crate) const UP: u32 = 2;

/// The kernels that compute gate and up at once.
pub(crate) fn gate_up_variants(format: WeightType, geometry: Geometry) -> Vec<Variant> {
    vec![Variant::baseline(sources::experts_gate_up(format)).with("LANES_PER_ROW", geometry.lanes_per_row)]
}

/// The kernels of one matrix. `h` holds the results of gate until up is computed.
pub(crate) fn matrix_variants(format: WeightType, matrix: u32, geometry: Geometry) -> Vec<Variant> {
    let kernel = Variant::baseline(sources::experts_down(format));
    vec![kernel.with("MATRIX", matrix).with("LANES_PER_ROW", geometry.lanes_per_row)]
}

pub(crate) fn combine_variants() -> Vec<Variant> {
    vec![Variant::baseline(sources::experts_combine())]
}

/// The operations that compute experts of these formats.
pub fn operations(formats: ExpertFormats) -> Vec<Operation> {
    let mut operations = gate_up_operations(formats);
    operations.extend([Operation::ExpertsDown(formats.down), Operation::ExpertsCombine]);
    operations
}

/// One operation for gate and up if they have the same format, otherwise one for each.
fn gate_up_operations(formats: ExpertFormats) -> Vec<Operation> {
    if formats.interleave() {
        vec![Operation::ExpertsGateUp(formats.gate)]
    } else {
        vec![Operation::ExpertsGate(formats.gate), Operation::ExpertsUp(formats.up)]
    }
}

/// Buffers of one layer: `x` [tokens, hidden] with the sums of squares of its norm behind it, `h` [tokens · k, ff], `y`
/// [tokens · k, hidden] and `residual` [tokens, hidden], all F32. `biases`: [experts, ff] of gate, [experts, ff] of up,
/// [experts, hidden] of down.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<B> {
    /// The batch, a [`crate::Step`].
    pub step: B,
    /// Input, and after [`combine`] the input of the next layer.
    pub x: B,
    /// Biases of all experts.
    pub biases: B,
    /// Activations of the chosen experts.
    pub h: B,
    /// Results of the chosen experts, without the routing weights.
    pub y: B,
    /// Residual stream.
    pub residual: B,
    /// Weight of the norm after this layer, `[hidden]`.
    pub norm: B,
    /// Chosen experts of each token, [layers, tokens, k] of [`Route`](gptoss_model::ops::router::Route).
    pub routes: B,
    /// Slot of each expert, [layers, experts] of u32; [`MISS`](crate::router::MISS) for an absent one.
    pub page_table: B,
    /// State of the batch, a [`crate::Status`].
    pub status: B,
}

/// Computes gate and up of the experts in `arena`, in one call or two.
pub fn gate_up<B: Clone>(arena: &Arena<B>, slot: &SlotLayout, buffers: &Buffers<B>, shape: Shape) -> Vec<Call<B>> {
    // If both are computed at once, the biases of up follow those of gate.
    let halves = [(&slot.gate, 0), (&slot.up, shape.experts * shape.ff)];
    gate_up_operations(slot.formats())
        .into_iter()
        .zip(halves)
        .map(|(operation, (rows, bias_base))| {
            let Normed { squares_first, squares, epsilon } = shape.normed;
            let normed = Params { squares_first, squares, epsilon, ..params(arena, slot, rows, shape) };
            let params = Params { rows: shape.ff, bias_base, ..normed };
            product(operation, arena, buffers, params, [&buffers.x, &buffers.h])
        })
        .collect()
}

/// Computes down of the experts in `arena`.
pub fn down<B: Clone>(arena: &Arena<B>, slot: &SlotLayout, buffers: &Buffers<B>, shape: Shape) -> Call<B> {
    let bias_base = 2 * shape.experts * shape.ff;
    let params = Params { rows: shape.hidden, bias_base, ..params(arena, slot, &slot.down, shape) };
    product(Operation::ExpertsDown(slot.formats().down), arena, buffers, params, [&buffers.h, &buffers.y])
}

/// Adds the weighted results to the residual stream, and writes the first half of the next norm into `x`. Without
/// experts per token, nothing is added.
pub fn combine<B: Clone>(buffers: &Buffers<B>, shape: Shape) -> Call<B> {
    let Buffers { step, y, residual, norm, x, routes, status, .. } = buffers.clone();
    let params = CombineParams {
        columns: shape.hidden,
        experts_per_token: shape.experts_per_token,
        layer: shape.layer,
        squares_first: shape.normed.squares_first,
    };
    let grid = (Extent::Fixed(combined_squares(shape.hidden)), Extent::EACH_TOKEN);
    Call::new(Operation::ExpertsCombine, &params, [step, y, routes, residual, norm, x, status], grid)
}

fn params<B>(arena: &Arena<B>, slot: &SlotLayout, rows: &SlotRows, shape: Shape) -> Params {
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
        squares_first: 0,
        squares: 0,
        epsilon: 0.0,
        padding: [0; 2],
    }
}

/// One call that multiplies a matrix of the chosen experts, or gate and up.
fn product<B: Clone>(
    operation: Operation,
    arena: &Arena<B>,
    buffers: &Buffers<B>,
    params: Params,
    [input, output]: [&B; 2],
) -> Call<B> {
    let Buffers { step, biases, routes, page_table, status, .. } = buffers.clone();
    let (codes, scales) = (arena.buffer.clone(), arena.buffer.clone());
    let all = [step, codes, scales, input.clone(), biases, output.clone(), routes, page_table, status];
    let pairs = Extent::Tokens { per_group: 1, times: params.experts_per_token };
    Call::new(operation, &params, all, (Extent::Rows(params.rows), pairs))
}
