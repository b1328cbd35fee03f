// Q6_K after repacking: 256 weights have eight vec4<u32> of low nibbles, four of high bit pairs and one of 16 signed
// scales, each for 16 weights; f16 d two to a word, rows padded to whole words. `block` counts runs of 32 weights: of
// each half of four runs, runs 0 and 2 share the first 32 bytes of nibbles, runs 1 and 3 the next, and all share 32
// bytes of bit pairs.

fn six_bits(low: u32, high: u32) -> vec4<f32> {
    let bytes = vec4<u32>(0u, 8u, 16u, 24u);
    let upper = ((vec4<u32>(high) >> bytes) & vec4<u32>(3u)) << vec4<u32>(4u);
    return vec4<f32>(((vec4<u32>(low) >> bytes) & vec4<u32>(15u)) | upper) - 32.0;
}

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let file_blocks_per_row = blocks_per_row / 8u;
    let file_block = block / 8u;
    let s = block & 7u;
    let r = s & 3u;
    let word = scales[scales_base + row * ((file_blocks_per_row + 1u) / 2u) + file_block / 2u];
    let d = f16_value((word >> ((file_block & 1u) * 16u)) & 0xffffu);
    let at = codes_base + 13u * (row * file_blocks_per_row + file_block);
    // The two scales of this run are neighbours, two runs to a word.
    let pair = codes[at + 12u][s / 2u] >> ((s & 1u) * 16u);
    let scale = d * vec2<f32>(vec2<i32>(vec2<u32>(pair << 24u, pair << 16u)) >> vec2<u32>(24u));
    let low_at = at + (s & 4u) + 2u * (r & 1u);
    let high_at = at + 8u + (s & 4u) / 2u;
    let low_shift = vec4<u32>((r >> 1u) * 4u);
    let high_shift = vec4<u32>(r * 2u);
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let low = codes[low_at + i] >> low_shift;
        let high = codes[high_at + i] >> high_shift;
        weights[4u * i] = six_bits(low.x, high.x) * scale[i];
        weights[4u * i + 1u] = six_bits(low.y, high.y) * scale[i];
        weights[4u * i + 2u] = six_bits(low.z, high.z) * scale[i];
        weights[4u * i + 3u] = six_bits(low.w, high.w) * scale[i];
    }
    return weights;
}
