// BF16 as it is in the file: the upper half of an F32, two to a word, low half first. There are no scales.

fn pair(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    var weights: array<vec4<f32>, 8>;
    let at = codes_base + (row * blocks_per_row + block) * 4u;
    for (var i = 0u; i < 4u; i++) {
        let packed = codes[at + i];
        weights[2u * i] = vec4<f32>(pair(packed.x), pair(packed.y));
        weights[2u * i + 1u] = vec4<f32>(pair(packed.z), pair(packed.w));
    }
    return weights;
}
