// Scale and minimum of run `s` of a Q4_K or Q5_K block, whose f16 d and dmin and 12 bytes of six-bit numbers are the
// four words from `at` on. Runs 0 to 3 have a byte each for scale and minimum; runs 4 to 7 share one for the low four
// bits of both, and have the upper two bits on top of the bytes of the others.
fn k_scale(at: u32, s: u32) -> vec2<f32> {
    let word = scales[at];
    let shift = (s & 3u) * 8u;
    let scale_byte = (scales[at + 1u] >> shift) & 0xffu;
    let minimum_byte = (scales[at + 2u] >> shift) & 0xffu;
    let low = (scales[at + 3u] >> shift) & 0xffu;
    let is_late = s >= 4u;
    let scale = select(scale_byte & 63u, (low & 15u) | ((scale_byte >> 6u) << 4u), is_late);
    let minimum = select(minimum_byte & 63u, (low >> 4u) | ((minimum_byte >> 6u) << 4u), is_late);
    return vec2<f32>(f16_value(word & 0xffffu) * f32(scale), f16_value(word >> 16u) * f32(minimum));
}

// Nibbles of four bytes: the low ones with a shift of 0, the high ones with 4.
fn four_nibbles(word: u32, shift: u32) -> vec4<u32> {
    return (vec4<u32>(word >> shift) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
}

