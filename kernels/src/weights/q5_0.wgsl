// Q5_0 after repacking: 16 bytes of nibbles per block in one vec4<u32>; f16 scale and 32 high bits, six bytes a block,
// so that two blocks share three words; rows padded to whole words.

fn load_block(codes_base: u32, scales_base: u32, blocks_per_row: u32, row: u32, block: u32) -> array<vec4<f32>, 8> {
    let at = scales_base + row * ((blocks_per_row * 3u + 1u) / 2u) + block * 3u / 2u;
    // The six bytes of an even block start a word, those of an odd one end it.
    let first = scales[at];
    let second = scales[at + 1u];
    let is_odd = (block & 1u) != 0u;
    let scale = f16_value(select(first & 0xffffu, first >> 16u, is_odd));
    let high = select((first >> 16u) | (second << 16u), second, is_odd);
    var codes_of_block = nibbles(codes[codes_base + row * blocks_per_row + block]);
    var weights: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        weights[i] = (vec4<f32>(codes_of_block[i] | fifth_bits(high, i)) - 16.0) * scale;
    }
    return weights;
}
