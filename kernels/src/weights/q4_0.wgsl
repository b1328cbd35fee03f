// Q4_0 after repacking: 16 bytes of nibbles per block in one vec4<u32>, f16 scales two to a word, rows padded to whole
// words.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let word = scales[scales_base + row * ((blocks_per_row + 1u) / 2u) + block / 2u];
    let scale = f16_value((word >> ((block & 1u) * 16u)) & 0xffffu);
    var codes_of_block = nibbles(codes[codes_base + row * blocks_per_row + block]);
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        weights[i] = (vec4<f32>(codes_of_block[i]) - 8.0) * scale;
    }
    return weights;
}
