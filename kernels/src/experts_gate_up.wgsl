// h[p, r] = swiglu(W_gate[e, r] · s x[t] + b_gate[e, r],  W_up[e, r] · s x[t] + b_up[e, r])   for pair p = (token t, choice k)
//
// s is 1, or what norm.wgsl makes of x[t].
// x [tokens, columns] F32, h [tokens · k, rows] F32; e is the pair's expert, found in a slot of this arena through the
// page table. Gate and up rows are interleaved in the slot: row 2r is gate r, row 2r + 1 is up r. Pairs whose expert is
// missing or in another arena are left alone. Sums in F32; geometry as in matmul.wgsl.
// Error as in matmul.wgsl, times the slope of SwiGLU, up to 8; see experts_down.wgsl for the bound of both together.
// load_block comes from the weights file prepended to this one, swiglu from swiglu.wgsl. Where gate and up differ in format,
// experts_down.wgsl takes this one's place.

struct Params {
    rows: u32,
    blocks_per_row: u32,
    experts: u32,
    experts_per_token: u32,
    layer: u32,
    // This arena holds slots first_slot .. first_slot + slots of the layer.
    first_slot: u32,
    slots: u32,
    // Of one slot, in vec4 of the arena; and where its codes (vec4) and scales (words) start.
    slot_stride: u32,
    codes_base: u32,
    scales_base: u32,
    padding_0: u32,
    // Where the sums of squares begin in x, and how many of them a token has; 0: x is multiplied as it is (norm.wgsl).
    squares_first: u32,
    squares: u32,
    epsilon: f32,
    padding_1: u32,
    padding_2: u32,
}

struct Route {
    expert: u32,
    weight: f32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
// The same arena, by words.
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
// [experts, rows] of gate, then of up, then [experts, columns] of down.
@group(0) @binding(5) var<storage, read> biases: array<f32>;
@group(0) @binding(6) var<storage, read_write> h: array<f32>;
// [layers, tokens, k].
@group(0) @binding(7) var<storage, read> routes: array<Route>;
@group(0) @binding(8) var<storage, read> page_table: array<u32>;
@group(0) @binding(9) var<storage, read> status: array<u32>;

const LANES = 64u;
override LANES_PER_ROW: u32 = 8u;
var<workgroup> partial: array<vec2<f32>, LANES>;
var<workgroup> shares: array<f32, LANES>;

fn dot_block(row: u32, block: u32, slot: u32, x_at: u32) -> f32 {
    let w = load_block(
        slot * params.slot_stride + params.codes_base,
        slot * params.slot_stride * 4u + params.scales_base,
        params.blocks_per_row,
        row,
        block,
    );
    return dot(w[0], x[x_at]) + dot(w[1], x[x_at + 1u]) + dot(w[2], x[x_at + 2u]) + dot(w[3], x[x_at + 3u])
        + dot(w[4], x[x_at + 4u]) + dot(w[5], x[x_at + 5u]) + dot(w[6], x[x_at + 6u]) + dot(w[7], x[x_at + 7u]);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (status[STATUS_HALT_LAYER] <= params.layer) {
        return;
    }
    let pair = group.y;
    let expert = routes[params.layer * step.tokens * params.experts_per_token + pair].expert;
    // A miss wraps to a huge slot, which no arena holds.
    let slot = page_table[params.layer * params.experts + expert] - params.first_slot;
    if (slot >= params.slots) {
        return;
    }
    let token = pair / params.experts_per_token;
    let rows_here = LANES / LANES_PER_ROW;
    let row = group.x * rows_here + lane / LANES_PER_ROW;
    var sums = vec2<f32>(0.0);
    if (row < params.rows) {
        for (var block = lane % LANES_PER_ROW; block < params.blocks_per_row; block += LANES_PER_ROW) {
            let x_at = (token * params.blocks_per_row + block) * 8u;
            sums.x += dot_block(2u * row, block, slot, x_at);
            sums.y += dot_block(2u * row + 1u, block, slot, x_at);
        }
    }
    if (LANES_PER_ROW == 1u) {
        write(pair, expert, row, sums * scale_alone(token));
        return;
    }
    partial[lane] = sums;
    shares[lane] = share_of_squares(token, lane);
    workgroupBarrier();

    if (lane < rows_here) {
        var both = vec2<f32>(0.0);
        for (var i = 0u; i < LANES_PER_ROW; i++) {
            both += partial[lane * LANES_PER_ROW + i];
        }
        write(pair, expert, group.x * rows_here + lane, both * scale_of_shares(0u));
    }
}

fn write(pair: u32, expert: u32, row: u32, products: vec2<f32>) {
    if (row >= params.rows) {
        return;
    }
    let bias_at = expert * params.rows + row;
    let both = products + vec2<f32>(biases[bias_at], biases[params.experts * params.rows + bias_at]);
    h[pair * params.rows + row] = swiglu(both.x, both.y);
}
