// Q8_0 after repacking: 32 signed bytes per block in two vec4<u32>, f16 scales two to a word, rows padded to whole words.

const CODE_VECTORS_PER_BLOCK = 2u;

fn scale_words_per_row(blocks_per_row: u32) -> u32 {
    return (blocks_per_row + 1u) / 2u;
}

fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(word << 24u, word << 16u, word << 8u, word)) >> vec4<u32>(24u));
}

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let word = scales[scales_base + row * scale_words_per_row(blocks_per_row) + block / 2u];
    let scale = f16_value((word >> ((block & 1u) * 16u)) & 0xffffu);
    let at = codes_base + (row * blocks_per_row + block) * CODE_VECTORS_PER_BLOCK;
    let low = codes[at];
    let high = codes[at + 1u];
    return array<vec4<f32>, 8>(
        signed_bytes(low.x) * scale,
        signed_bytes(low.y) * scale,
        signed_bytes(low.z) * scale,
        signed_bytes(low.w) * scale,
        signed_bytes(high.x) * scale,
        signed_bytes(high.y) * scale,
        signed_bytes(high.z) * scale,
        signed_bytes(high.w) * scale,
    );
}
