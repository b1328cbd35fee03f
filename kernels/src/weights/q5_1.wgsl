// Q5_1 after repacking: 16 bytes of nibbles per block in one vec4<u32>; a word of f16 scale and f16 minimum, and one of
// high bits.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let at = row * blocks_per_row + block;
    let word = scales[scales_base + 2u * at];
    let high = scales[scales_base + 2u * at + 1u];
    let scale = f16_value(word & 0xffffu);
    let minimum = f16_value(word >> 16u);
    var codes_of_block = nibbles(codes[codes_base + at]);
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        weights[i] = vec4<f32>(codes_of_block[i] | fifth_bits(high, i)) * scale + minimum;
    }
    return weights;
}
