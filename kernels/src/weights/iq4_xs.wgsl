// IQ4_XS after repacking: 256 weights have 128 bytes of nibbles in eight vec4<u32>, each a run of 32 weights as in
// IQ4_NL, and two words of scales: f16 d with the upper two bits of eight six-bit scales above it, then their low four
// bits. `block` counts runs. Nibbles are taken apart by nibbles.wgsl, and iq4_values.wgsl says what they stand for.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let at = row * (blocks_per_row / 8u) + block / 8u;
    let s = block & 7u;
    let word = scales[scales_base + 2u * at];
    let low = (scales[scales_base + 2u * at + 1u] >> (4u * s)) & 15u;
    let high = (word >> (16u + 2u * s)) & 3u;
    let scale = f16_value(word & 0xffffu) * (f32(low | (high << 4u)) - 32.0);
    var codes_of_block = nibbles(codes[codes_base + 8u * at + s]);
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        weights[i] = value_of(codes_of_block[i]) * scale;
    }
    return weights;
}
