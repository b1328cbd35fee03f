// y[p, r] = W_down[e, r] · h[p] + b_down[e, r]   for pair p = (token t, choice k); the routing weight comes later.
//
// h (called x below) [tokens · k, 32 · blocks_per_row] F32, y [tokens · k, rows] F32. Slots, arenas and pairs as in experts_gate_up.wgsl.
// Measured over both products, with h up to 56 and y about 10: at most 1.6e-5 with 8 lanes to a row and 2.3e-5 with 1;
// tested to 3e-5 + 2e-6 · |y|.
//
// Gate and up of different formats have a launch of this kernel each, in place of experts_gate_up.wgsl: gate leaves
// W_gate[e, r] · x[t] + b_gate[e, r] in h, and up makes swiglu of that and its own product. They read the token's row
// instead of the pair's, and their `y` is h. The sums are those of experts_gate_up.wgsl, bit for bit.
// load_block comes from the weights file prepended to this one, swiglu from swiglu.wgsl.

struct Params {
    rows: u32,
    blocks_per_row: u32,
    experts: u32,
    experts_per_token: u32,
    layer: u32,
    first_slot: u32,
    slots: u32,
    slot_stride: u32,
    codes_base: u32,
    scales_base: u32,
    // Where the biases of this matrix start.
    bias_base: u32,
    // Of gate and up: as in experts_gate_up.wgsl. Down has none.
    squares_first: u32,
    squares: u32,
    epsilon: f32,
    padding_0: u32,
    padding_1: u32,
}

struct Route {
    expert: u32,
    weight: f32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> biases: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
// [layers, tokens, k].
@group(0) @binding(7) var<storage, read> routes: array<Route>;
@group(0) @binding(8) var<storage, read> page_table: array<u32>;
@group(0) @binding(9) var<storage, read> status: array<u32>;

const LANES = 64u;
override LANES_PER_ROW: u32 = 8u;
// Which of an expert's matrices this is; gate is 1.
const DOWN = 0u;
const UP = 2u;
override MATRIX: u32 = 0u;
var<workgroup> partial: array<f32, LANES>;
var<workgroup> shares: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (status[STATUS_HALT_LAYER] <= params.layer) {
        return;
    }
    let pair = group.y;
    let expert = routes[params.layer * step.tokens * params.experts_per_token + pair].expert;
    let slot = page_table[params.layer * params.experts + expert] - params.first_slot;
    if (slot >= params.slots) {
        return;
    }
    let rows_here = LANES / LANES_PER_ROW;
    let row = group.x * rows_here + lane / LANES_PER_ROW;
    let input = select(pair / params.experts_per_token, pair, MATRIX == DOWN);
    var sum = 0.0;
    if (row < params.rows) {
        for (var block = lane % LANES_PER_ROW; block < params.blocks_per_row; block += LANES_PER_ROW) {
            let w = load_block(
                slot * params.slot_stride + params.codes_base,
                slot * params.slot_stride * 4u + params.scales_base,
                params.blocks_per_row,
                row,
                block,
            );
            let at = (input * params.blocks_per_row + block) * 8u;
            sum += dot(w[0], x[at]) + dot(w[1], x[at + 1u]) + dot(w[2], x[at + 2u]) + dot(w[3], x[at + 3u])
                + dot(w[4], x[at + 4u]) + dot(w[5], x[at + 5u]) + dot(w[6], x[at + 6u]) + dot(w[7], x[at + 7u]);
        }
    }
    if (LANES_PER_ROW == 1u) {
        write(pair, expert, row, sum * scale_alone(input));
        return;
    }
    partial[lane] = sum;
    shares[lane] = share_of_squares(input, lane);
    workgroupBarrier();

    if (lane < rows_here) {
        var total = 0.0;
        for (var i = 0u; i < LANES_PER_ROW; i++) {
            total += partial[lane * LANES_PER_ROW + i];
        }
        write(pair, expert, group.x * rows_here + lane, total * scale_of_shares(0u));
    }
}

fn write(pair: u32, expert: u32, row: u32, product: f32) {
    if (row >= params.rows) {
        return;
    }
    let at = pair * params.rows + row;
    let sum = product + biases[params.bias_base + expert * params.rows + row];
    if (MATRIX == UP) {
        y[at] = swiglu(y[at], sum);
    } else {
        y[at] = sum;
    }
}
