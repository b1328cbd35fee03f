// Splits MXFP4 blocks as they are in the file (17 bytes: E8M0 exponent, 16 bytes of codes) into aligned planes.
//
// One thread per scale word, that is per four blocks of a row, so that every word has one writer.
// raw: the file's bytes from the start of a row; planes: see weights/mxfp4.wgsl.

const BLOCK_BYTES = 17u;
const BLOCKS_PER_SCALE_WORD = 4u;

fn repack_block(at: u32, codes_at: u32) -> u32 {
    for (var i = 0u; i < 4u; i++) {
        planes[codes_at + i] = raw_word(at + 1u + 4u * i);
    }
    return raw_word(at) & 0xffu;
}

fn codes_words_per_block() -> u32 {
    return 4u;
}

fn scale_shift(index: u32) -> u32 {
    return index * 8u;
}
