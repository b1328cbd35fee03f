// F32 as it is in the file: a block of 32 weights is eight vectors. There are no scales.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    var weights: array<vec4<f32>, 8>;
    let at = codes_base + (row * blocks_per_row + block) * 8u;
    for (var i = 0u; i < 8u; i++) {
        weights[i] = bitcast<vec4<f32>>(codes[at + i]);
    }
    return weights;
}
