// As matmul.wgsl, without a barrier: the eight lanes of a row exchange their sums by shuffles, and each of them writes the
// tokens that are its own. Needs subgroups of at least 8 lanes, in which neighbouring lanes of a workgroup are neighbours.
// params, write and its bindings come from matmul_parts.wgsl, prepended to this one. The sums are added in another order than
// there: tested to the same bounds.

const ROW_LANES = 8u;

fn across_row(value: f32) -> f32 {
    var sum = value;
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    sum += subgroupShuffleXor(sum, 4u);
    return sum;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (status[STATUS_HALT_LAYER] < params.layer) {
        return;
    }
    let is_head = (params.flags & HEAD) != 0u;
    let tokens = select(step.tokens, step.head_tokens, is_head);
    let source = select(0u, step.head_first, is_head);
    let first_token = group.y * TOKENS_PER_GROUP;
    let row = group.x * (LANES / ROW_LANES) + lane / ROW_LANES;
    let of_row = lane % ROW_LANES;
    let last_token = tokens - 1u;
    multiply(row, lane, source + first_token, source + last_token);
    for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
        let sum = across_row(sums[i]);
        var scale = 1.0;
        if (params.squares > 0u) {
            var share = 0.0;
            for (var run = of_row; run < params.squares; run += ROW_LANES) {
                share += squares_of(source + min(first_token + i, last_token), run);
            }
            scale = inverse_root(across_row(share), params.blocks_per_row * 32u, params.epsilon);
        }
        if (of_row == i) {
            write(first_token + i, tokens, row, sum * scale);
        }
    }
}
