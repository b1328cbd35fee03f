// Splits Q8_0 blocks as they are in the file (34 bytes: f16 scale, 32 signed bytes) into aligned planes.
//
// One thread per scale word, that is per two blocks of a row, so that every word has one writer.
// raw: the file's bytes from the start of a row; planes: see weights/q8_0.wgsl.

const BLOCK_BYTES = 34u;
const BLOCKS_PER_SCALE_WORD = 2u;

fn repack_block(at: u32, codes_at: u32) -> u32 {
    for (var i = 0u; i < 8u; i++) {
        planes[codes_at + i] = raw_word(at + 2u + 4u * i);
    }
    return raw_word(at) & 0xffffu;
}

fn codes_words_per_block() -> u32 {
    return 8u;
}

fn scale_shift(index: u32) -> u32 {
    return index * 16u;
}
