// Q3_K and IQ3_S keep 14 bytes of a file block of 256 weights with the scales, so that every other block starts in the
// middle of a word. They are read as seven halves of words; rows are padded to whole words. This is half `i`.
fn scale_half(scales_base: u32, file_blocks_per_row: u32, row: u32, file_block: u32, i: u32) -> u32 {
    let at = 7u * file_block + i;
    let word = scales[scales_base + row * ((7u * file_blocks_per_row + 1u) / 2u) + at / 2u];
    return (word >> ((at & 1u) * 16u)) & 0xffffu;
}

