// Q4_K after repacking: 256 weights have 128 bytes of nibbles in eight vec4<u32>, and four words of scales. Two vectors
// hold a run of 32 weights in their low nibbles and the next run in their high ones. `block` counts runs.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let at = row * (blocks_per_row / 8u) + block / 8u;
    let s = block & 7u;
    let scale = k_scale(scales_base + 4u * at, s);
    let shift = (s & 1u) * 4u;
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let packed = codes[codes_base + 8u * at + (s & 6u) + i];
        weights[4u * i] = vec4<f32>(four_nibbles(packed.x, shift)) * scale.x - scale.y;
        weights[4u * i + 1u] = vec4<f32>(four_nibbles(packed.y, shift)) * scale.x - scale.y;
        weights[4u * i + 2u] = vec4<f32>(four_nibbles(packed.z, shift)) * scale.x - scale.y;
        weights[4u * i + 3u] = vec4<f32>(four_nibbles(packed.w, shift)) * scale.x - scale.y;
    }
    return weights;
}
