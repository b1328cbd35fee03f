// Q4_1 after repacking: 16 bytes of nibbles per block in one vec4<u32>, f16 scale and f16 minimum in a word.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let at = row * blocks_per_row + block;
    let word = scales[scales_base + at];
    let scale = f16_value(word & 0xffffu);
    let minimum = f16_value(word >> 16u);
    var codes_of_block = nibbles(codes[codes_base + at]);
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        weights[i] = vec4<f32>(codes_of_block[i]) * scale + minimum;
    }
    return weights;
}
