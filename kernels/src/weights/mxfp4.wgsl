// MXFP4 after repacking: 16 bytes of codes per block in one vec4<u32> (byte j holds weight j in its low nibble and weight
// j + 16 in its high one), E8M0 exponents four to a word, rows padded to whole words.

fn scale_words_per_row(blocks_per_row: u32) -> u32 {
    return (blocks_per_row + 3u) / 4u;
}

// Half of 2^(exponent − 127): the magnitudes below are doubled. Exponents 0 and 1 give subnormals, which a GPU may take
// for zero: at most 12 · 2^−127 is lost. 255 is NaN.
fn e8m0_half(exponent: u32) -> f32 {
    let number = select((exponent - 1u) << 23u, 0x00200000u << (exponent & 1u), exponent < 2u);
    return bitcast<f32>(select(number, 0x7fc00000u, exponent == 255u));
}

// The low nibbles of four bytes. Doubled E2M1 magnitudes 0 1 2 3 4 6 8 12 fit one nibble each.
fn e2m1_doubled(nibbles: vec4<u32>) -> vec4<f32> {
    let magnitude = vec4<f32>((vec4<u32>(0xc8643210u) >> ((nibbles & vec4<u32>(7u)) * 4u)) & vec4<u32>(15u));
    return select(magnitude, -magnitude, (nibbles & vec4<u32>(8u)) != vec4<u32>(0u));
}

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let word = scales[scales_base + row * scale_words_per_row(blocks_per_row) + block / 4u];
    let scale = e8m0_half((word >> ((block & 3u) * 8u)) & 0xffu);
    let packed = codes[codes_base + row * blocks_per_row + block];
    let bytes = vec4<u32>(0u, 8u, 16u, 24u);
    let nibbles = vec4<u32>(4u, 12u, 20u, 28u);
    return array<vec4<f32>, 8>(
        e2m1_doubled(vec4<u32>(packed.x) >> bytes) * scale,
        e2m1_doubled(vec4<u32>(packed.y) >> bytes) * scale,
        e2m1_doubled(vec4<u32>(packed.z) >> bytes) * scale,
        e2m1_doubled(vec4<u32>(packed.w) >> bytes) * scale,
        e2m1_doubled(vec4<u32>(packed.x) >> nibbles) * scale,
        e2m1_doubled(vec4<u32>(packed.y) >> nibbles) * scale,
        e2m1_doubled(vec4<u32>(packed.z) >> nibbles) * scale,
        e2m1_doubled(vec4<u32>(packed.w) >> nibbles) * scale,
    );
}
