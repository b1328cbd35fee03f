// F16 as it is in the file: a block of 32 weights is four vectors of packed pairs. There are no scales.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    var weights: array<vec4<f32>, 8>;
    let at = codes_base + (row * blocks_per_row + block) * 4u;
    for (var i = 0u; i < 4u; i++) {
        let packed = codes[at + i];
        weights[2u * i] = vec4<f32>(unpack2x16float(packed.x), unpack2x16float(packed.y));
        weights[2u * i + 1u] = vec4<f32>(unpack2x16float(packed.z), unpack2x16float(packed.w));
    }
    return weights;
}
