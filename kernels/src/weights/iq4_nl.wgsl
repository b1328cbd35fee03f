// IQ4_NL after repacking: as Q4_0, but a nibble stands for one of the 16 values of iq4_values.wgsl.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let word = scales[scales_base + row * ((blocks_per_row + 1u) / 2u) + block / 2u];
    let scale = f16_value((word >> ((block & 1u) * 16u)) & 0xffffu);
    var codes_of_block = nibbles(codes[codes_base + row * blocks_per_row + block]);
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        weights[i] = value_of(codes_of_block[i]) * scale;
    }
    return weights;
}
