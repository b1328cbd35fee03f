// Rows of weights times the activations of up to 8 tokens: what matmul.wgsl and matmul_residual.wgsl share.
//
// W [rows, 32 · blocks_per_row] in the format of the weights file prepended to this one, x [tokens, columns] F32. Sums are F32.
//
// A workgroup of 64 takes 8 rows, 8 lanes to a row; neighbouring lanes take neighbouring blocks, so a row is read in
// runs of 8 blocks. A block is decoded once for all TOKENS_PER_GROUP tokens. K = 2880 is 90 blocks: 12 rounds
// of 8 lanes, 94 % busy. On software adapters a barrier costs more than the arithmetic: there LANES_PER_ROW is 1, and a lane
// takes a whole row.
//
// The error is that of F32 sums over K / LANES_PER_ROW products a lane; it grows with the products, not with their sum.
// Measured with results about 1 and K up to 4096: at most 9.6e-7 with 8 lanes to a row and 2.0e-6 with 1; tested to
// 3e-6 + 1e-6 · |y|. Weights are decoded exactly.

override TOKENS_PER_GROUP: u32 = 1u;
override LANES_PER_ROW: u32 = 8u;
const MAX_TOKENS_PER_GROUP = 8u;
const LANES = 64u;
var<workgroup> partial: array<f32, 512>; // LANES · MAX_TOKENS_PER_GROUP
// Of this lane: its part of the row, by token.
var<private> sums: array<f32, MAX_TOKENS_PER_GROUP>;

// A batch that does not fill the group repeats its last token; the result is not written.
fn multiply(row: u32, lane: u32, first_token: u32, last_token: u32) {
    for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
        sums[i] = 0.0;
    }
    if (row >= params.rows) {
        return;
    }
    for (var block = lane % LANES_PER_ROW; block < params.blocks_per_row; block += LANES_PER_ROW) {
        let w = load_block(0u, params.scales_base, params.blocks_per_row, row, block);
        for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
            let at = (min(first_token + i, last_token) * params.blocks_per_row + block) * 8u;
            sums[i] += dot(w[0], x[at]) + dot(w[1], x[at + 1u]) + dot(w[2], x[at + 2u]) + dot(w[3], x[at + 3u])
                + dot(w[4], x[at + 4u]) + dot(w[5], x[at + 5u]) + dot(w[6], x[at + 6u]) + dot(w[7], x[at + 7u]);
        }
    }
}

// The sum of the group's row `row` for its token `i`, once all lanes left theirs in `partial`.
fn row_sum(i: u32, row: u32) -> f32 {
    let start = i * LANES + row * LANES_PER_ROW;
    var sum = 0.0;
    for (var lane = 0u; lane < LANES_PER_ROW; lane++) {
        sum += partial[start + lane];
    }
    return sum;
}
