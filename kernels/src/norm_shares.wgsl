// What the norm makes of a token, where lanes exchange in memory.

// All of a token, by one lane.
fn scale_alone(token: u32) -> f32 {
    if (params.squares == 0u) {
        return 1.0;
    }
    var sum = 0.0;
    for (var run = 0u; run < params.squares; run++) {
        sum += squares_of(token, run);
    }
    return inverse_root(sum, params.blocks_per_row * 32u, params.epsilon);
}

// One lane's share of a token's.
fn share_of_squares(token: u32, lane: u32) -> f32 {
    var sum = 0.0;
    for (var run = lane; run < params.squares; run += LANES) {
        sum += squares_of(token, run);
    }
    return sum;
}

// All lanes' shares, which begin at `first`.
fn scale_of_shares(first: u32) -> f32 {
    if (params.squares == 0u) {
        return 1.0;
    }
    var sum = 0.0;
    for (var lane = 0u; lane < LANES; lane++) {
        sum += shares[first + lane];
    }
    return inverse_root(sum, params.blocks_per_row * 32u, params.epsilon);
}
