// y[t, first + r] = Σ_k W[r, k] · x[t, k] + bias[r]            (or += when `residual`)
//
// W [rows, 32 · blocks_per_row] in the format of the weights file prepended to this one, x [tokens, columns] F32,
// bias [rows] F32, y [tokens, y_stride] F32. Activations and sums are F32.
//
// A workgroup of 64 takes 8 rows, 8 lanes to a row; neighbouring lanes take neighbouring blocks, so a row is read in
// runs of 8 blocks. A block is decoded once for all TOKENS_PER_GROUP tokens. One barrier. K = 2880 is 90 blocks: 12 rounds
// of 8 lanes, 94 % busy. On software adapters a barrier costs more than the arithmetic: there LANES_PER_ROW is 1, a lane
// takes a whole row, and no barrier is reached.
//
// The error is that of F32 sums over K / LANES_PER_ROW products a lane; it grows with the products, not with their sum.
// Measured with results about 1 and K up to 4096: at most 9.6e-7 with 8 lanes to a row and 2.0e-6 with 1; tested to
// 3e-6 + 1e-6 · |y|. Weights are decoded exactly.

struct Params {
    rows: u32,
    blocks_per_row: u32,
    // Where the rows start in a row of y, and how long a row of y is.
    y_first: u32,
    y_stride: u32,
    // First of this shard's biases, and first word of its scales. Codes start at 0.
    bias_first: u32,
    scales_base: u32,
    layer: u32,
    flags: u32,
}

const HAS_BIAS = 1u;
const RESIDUAL = 2u;
const HEAD = 4u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read> status: array<u32>;

override TOKENS_PER_GROUP: u32 = 1u;
override LANES_PER_ROW: u32 = 8u;
const MAX_TOKENS_PER_GROUP = 8u;
const LANES = 64u;
var<workgroup> partial: array<f32, 512>; // LANES · MAX_TOKENS_PER_GROUP

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (status[STATUS_HALT_LAYER] < params.layer) {
        return;
    }
    let tokens = select(step.tokens, step.head_tokens, (params.flags & HEAD) != 0u);
    let first_token = group.y * TOKENS_PER_GROUP;
    let rows_here = LANES / LANES_PER_ROW;
    let row = group.x * rows_here + lane / LANES_PER_ROW;

    var sums: array<f32, MAX_TOKENS_PER_GROUP>;
    for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
        sums[i] = 0.0;
    }
    if (row < params.rows) {
        for (var block = lane % LANES_PER_ROW; block < params.blocks_per_row; block += LANES_PER_ROW) {
            let w = load_block(0u, params.scales_base, params.blocks_per_row, row, block);
            for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
                // A batch that does not fill the group repeats its last token; the result is not written.
                let at = (min(first_token + i, tokens - 1u) * params.blocks_per_row + block) * 8u;
                sums[i] += dot(w[0], x[at]) + dot(w[1], x[at + 1u]) + dot(w[2], x[at + 2u]) + dot(w[3], x[at + 3u])
                    + dot(w[4], x[at + 4u]) + dot(w[5], x[at + 5u]) + dot(w[6], x[at + 6u]) + dot(w[7], x[at + 7u]);
            }
        }
    }
    if (LANES_PER_ROW == 1u) {
        for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
            write(first_token + i, tokens, row, sums[i]);
        }
        return;
    }
    for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
        partial[i * LANES + lane] = sums[i];
    }
    workgroupBarrier();

    for (var out = lane; out < rows_here * TOKENS_PER_GROUP; out += LANES) {
        let start = (out / rows_here) * LANES + (out % rows_here) * LANES_PER_ROW;
        var sum = 0.0;
        for (var i = 0u; i < LANES_PER_ROW; i++) {
            sum += partial[start + i];
        }
        write(first_token + out / rows_here, tokens, group.x * rows_here + out % rows_here, sum);
    }
}

fn write(token: u32, tokens: u32, row: u32, product: f32) {
    if (token >= tokens || row >= params.rows) {
        return;
    }
    var sum = product;
    if ((params.flags & HAS_BIAS) != 0u) {
        sum += bias[params.bias_first + row];
    }
    let at = token * params.y_stride + params.y_first + row;
    if ((params.flags & RESIDUAL) != 0u) {
        sum += y[at];
    }
    y[at] = sum;
}
