// Q5_K after repacking: 256 weights have two vec4<u32> of high bits, eight of nibbles as in Q4_K, and four words of
// scales. Byte l of the high bits holds those of weight l of all eight runs, run s in bit s. `block` counts runs.

fn fifth(word: u32, s: u32) -> vec4<u32> {
    return ((vec4<u32>(word >> s) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(1u)) << vec4<u32>(4u);
}

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let at = row * (blocks_per_row / 8u) + block / 8u;
    let s = block & 7u;
    let scale = k_scale(scales_base + 4u * at, s);
    let shift = (s & 1u) * 4u;
    let codes_at = codes_base + 10u * at;
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let high = codes[codes_at + i];
        let packed = codes[codes_at + 2u + (s & 6u) + i];
        weights[4u * i] = vec4<f32>(four_nibbles(packed.x, shift) | fifth(high.x, s)) * scale.x - scale.y;
        weights[4u * i + 1u] = vec4<f32>(four_nibbles(packed.y, shift) | fifth(high.y, s)) * scale.x - scale.y;
        weights[4u * i + 2u] = vec4<f32>(four_nibbles(packed.z, shift) | fifth(high.z, s)) * scale.x - scale.y;
        weights[4u * i + 3u] = vec4<f32>(four_nibbles(packed.w, shift) | fifth(high.w, s)) * scale.x - scale.y;
    }
    return weights;
}
