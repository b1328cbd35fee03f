// x[t, r] += Σ_k W[r, k] · a[t, k] + bias[r], and the next norm's first half: normed[t, r] = x[t, r] · weight[r], Σ x[t, r]²
//
// a [tokens, inputs] F32 (here called x, as in products.wgsl), residual [tokens, columns] F32, normed as norm.wgsl says, with
// one sum for each workgroup; vectors holds bias and then weight, [columns] each. Geometry and error: products.wgsl. Two
// barriers, or one with a lane to a row.

struct Params {
    rows: u32,
    blocks_per_row: u32,
    scales_base: u32,
    layer: u32,
    // Width of the residual stream, and the column at which the rows of this shard begin.
    columns: u32,
    first_row: u32,
    // Where the sums of squares begin in normed, how many of them a token has, and which is the first of this shard.
    squares_first: u32,
    squares: u32,
    first_square: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> vectors: array<f32>;
@group(0) @binding(6) var<storage, read_write> residual: array<f32>;
@group(0) @binding(7) var<storage, read_write> normed: array<f32>;
@group(0) @binding(8) var<storage, read> status: array<u32>;

// By token of the group and row of the group.
var<workgroup> squared: array<f32, 512>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (status[STATUS_HALT_LAYER] < params.layer) {
        return;
    }
    let first_token = group.y * TOKENS_PER_GROUP;
    let rows_here = LANES / LANES_PER_ROW;
    multiply(group.x * rows_here + lane / LANES_PER_ROW, lane, first_token, step.tokens - 1u);
    if (LANES_PER_ROW == 1u) {
        for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
            squared[i * LANES + lane] = write(first_token + i, group.x * LANES + lane, sums[i]);
        }
    } else {
        for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
            partial[i * LANES + lane] = sums[i];
        }
        workgroupBarrier();
        for (var out = lane; out < rows_here * TOKENS_PER_GROUP; out += LANES) {
            let i = out / rows_here;
            let row = out % rows_here;
            squared[i * LANES + row] = write(first_token + i, group.x * rows_here + row, row_sum(i, row));
        }
    }
    workgroupBarrier();
    if (lane < TOKENS_PER_GROUP && first_token + lane < step.tokens) {
        var sum = 0.0;
        for (var row = 0u; row < rows_here; row++) {
            sum += squared[lane * LANES + row];
        }
        let token = first_token + lane;
        normed[params.squares_first + token * params.squares + params.first_square + group.x] = sum;
    }
}

// The square of what was written.
fn write(token: u32, row: u32, product: f32) -> f32 {
    if (token >= step.tokens || row >= params.rows) {
        return 0.0;
    }
    let column = params.first_row + row;
    let at = token * params.columns + column;
    let sum = product + vectors[column] + residual[at];
    residual[at] = sum;
    normed[at] = sum * vectors[params.columns + column];
    return sum * sum;
}
