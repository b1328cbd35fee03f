// Q3_K after repacking: 256 weights have two vec4<u32> of high bits and four of low bit pairs. Byte l of the high bits
// holds those of weight l of all eight runs of 32 weights, run s in bit s. Runs 0 to 3 share the first 32 bytes of bit
// pairs, runs 4 to 7 the others. `block` counts runs.
//
// The 14 bytes of scales, which scale_halves.wgsl reads, are 16 six-bit numbers, each for 16 weights, and f16 d. Byte j
// of the first eight has the low four bits of scale j and, above them, of scale j + 8; byte j of the next four has the
// upper two bits of scales j, j + 4, j + 8 and j + 12.

fn three_bits(low: u32, high: u32) -> vec4<f32> {
    let bytes = vec4<u32>(0u, 8u, 16u, 24u);
    let upper = ((vec4<u32>(high) >> bytes) & vec4<u32>(1u)) << vec4<u32>(2u);
    return vec4<f32>(((vec4<u32>(low) >> bytes) & vec4<u32>(3u)) | upper) - 4.0;
}

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let file_blocks_per_row = blocks_per_row / 8u;
    let file_block = block / 8u;
    let s = block & 7u;
    // The two scales of this run have neighbouring bytes, and so one half of a word each for low and upper bits.
    let low_bits = scale_half(scales_base, file_blocks_per_row, row, file_block, s & 3u) >> ((s >> 2u) * 4u);
    let upper_bits = scale_half(scales_base, file_blocks_per_row, row, file_block, 4u + (s & 1u)) >> ((s >> 1u) * 2u);
    let d = f16_value(scale_half(scales_base, file_blocks_per_row, row, file_block, 6u));
    let low_four = vec2<u32>(low_bits, low_bits >> 8u) & vec2<u32>(15u);
    let upper_two = vec2<u32>(upper_bits, upper_bits >> 8u) & vec2<u32>(3u);
    let scale = d * (vec2<f32>(low_four | (upper_two << vec2<u32>(4u))) - 32.0);
    let high_at = codes_base + 6u * (row * file_blocks_per_row + file_block);
    let low_at = high_at + 2u + (s >> 2u) * 2u;
    let high_shift = vec4<u32>(s);
    let low_shift = vec4<u32>((s & 3u) * 2u);
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let low = codes[low_at + i] >> low_shift;
        let high = codes[high_at + i] >> high_shift;
        weights[4u * i] = three_bits(low.x, high.x) * scale[i];
        weights[4u * i + 1u] = three_bits(low.y, high.y) * scale[i];
        weights[4u * i + 2u] = three_bits(low.z, high.z) * scale[i];
        weights[4u * i + 3u] = three_bits(low.w, high.w) * scale[i];
    }
    return weights;
}
