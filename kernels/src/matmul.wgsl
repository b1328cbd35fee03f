// Products by workgroups that exchange their sums in memory: one barrier, or none with a lane to a row. See matmul_parts.wgsl,
// which is prepended to this one.

// Sums of squares, by token of the group and lane.
var<workgroup> shares: array<f32, 512>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (status[STATUS_HALT_LAYER] < params.layer) {
        return;
    }
    let is_head = (params.flags & HEAD) != 0u;
    let tokens = select(step.tokens, step.head_tokens, is_head);
    let source = select(0u, step.head_first, is_head);
    let first_token = group.y * TOKENS_PER_GROUP;
    let rows_here = LANES / LANES_PER_ROW;
    let row = group.x * rows_here + lane / LANES_PER_ROW;
    let last_token = tokens - 1u;
    multiply(row, lane, source + first_token, source + last_token);
    if (LANES_PER_ROW == 1u) {
        for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
            write(first_token + i, tokens, row, sums[i] * scale_alone(source + min(first_token + i, last_token)));
        }
        return;
    }
    for (var i = 0u; i < TOKENS_PER_GROUP; i++) {
        partial[i * LANES + lane] = sums[i];
        shares[i * LANES + lane] = share_of_squares(source + min(first_token + i, last_token), lane);
    }
    workgroupBarrier();

    for (var out = lane; out < rows_here * TOKENS_PER_GROUP; out += LANES) {
        let i = out / rows_here;
        let sum = row_sum(i, out % rows_here) * scale_of_shares(i * LANES);
        write(first_token + i, tokens, group.x * rows_here + out % rows_here, sum);
    }
}
