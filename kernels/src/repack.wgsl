// Splits blocks as they are in the file into aligned planes: codes, and scales (weights.rs says why). Both keep their
// bytes and their order, save for files that order 4-bit codes otherwise than ggml; only their places change. What differs
// from format to format are the constants below.
//
// One thread per BLOCKS_PER_THREAD blocks of a row, whose scales are whole words: every word has one writer. Rows may
// be spread out on the way (gate and up rows of an expert interleave: first_row 0 or 1, row_step 2).
//
// raw: the file's bytes from the start of a row; planes: see the files in weights/.

struct Params {
    rows: u32,
    // As the file counts blocks.
    file_blocks_per_row: u32,
    first_row: u32,
    row_step: u32,
    // First word of the codes and of the scales in `planes`.
    codes_base: u32,
    scales_base: u32,
    // 1: byte j of 16 holds the 4-bit codes of weights 2j and 2j + 1, and is to hold those of j and j + 16.
    neighbours: u32,
    padding: u32,
}

// In bytes, of one block of the file.
override BLOCK_BYTES: u32;
override CODES_AT: u32;
override SCALES_AT: u32;
override SCALE_BYTES: u32;
override BLOCKS_PER_THREAD: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> raw: array<u32>;
@group(0) @binding(2) var<storage, read_write> planes: array<u32>;

// Copies words from any byte offset. Reads one word beyond the last that is needed when the offset is aligned.
fn copy_words(raw_at: u32, words: u32, to: u32) {
    let first = raw_at / 4u;
    let shift = (raw_at % 4u) * 8u;
    var word = raw[first];
    for (var i = 0u; i < words; i++) {
        let next = raw[first + i + 1u];
        // In two steps: a shift by 32 is not one by 0.
        planes[to + i] = (word >> shift) | ((next << (31u - shift)) << 1u);
        word = next;
    }
}

// Four 4-bit codes, each in the low half of a byte.
fn one_to_a_byte(four: u32) -> u32 {
    return (four & 0xfu) | ((four & 0xf0u) << 4u) | ((four & 0xf00u) << 8u) | ((four & 0xf000u) << 12u);
}

// From neighbouring weights in a byte to ggml's order, in place.
fn to_halves(at: u32) {
    let first = array<u32, 2>(planes[at], planes[at + 1u]);
    let second = array<u32, 2>(planes[at + 2u], planes[at + 3u]);
    for (var word = 0u; word < 4u; word++) {
        let shift = (word % 2u) * 16u;
        planes[at + word] = one_to_a_byte(first[word / 2u] >> shift) | (one_to_a_byte(second[word / 2u] >> shift) << 4u);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let threads_per_row = (params.file_blocks_per_row + BLOCKS_PER_THREAD - 1u) / BLOCKS_PER_THREAD;
    let row = id.x / threads_per_row;
    if (row >= params.rows) {
        return;
    }
    let first_block = (id.x % threads_per_row) * BLOCKS_PER_THREAD;
    let blocks = min(BLOCKS_PER_THREAD, params.file_blocks_per_row - first_block);
    let target_row = params.first_row + row * params.row_step;
    let raw_at = (row * params.file_blocks_per_row + first_block) * BLOCK_BYTES;

    let code_words = (BLOCK_BYTES - SCALE_BYTES) / 4u;
    let codes_to = params.codes_base + (target_row * params.file_blocks_per_row + first_block) * code_words;
    for (var block = 0u; block < blocks; block++) {
        copy_words(raw_at + block * BLOCK_BYTES + CODES_AT, code_words, codes_to + block * code_words);
        if (params.neighbours != 0u) {
            to_halves(codes_to + block * code_words);
        }
    }

    // Scales are gathered in steps of one byte or, where all sizes are even, of two: neither crosses a word of `raw`.
    let step = 2u - SCALE_BYTES % 2u;
    let words_per_row = (params.file_blocks_per_row * SCALE_BYTES + 3u) / 4u;
    let scales_to = params.scales_base + target_row * words_per_row + first_block * SCALE_BYTES / 4u;
    for (var word = 0u; word < (blocks * SCALE_BYTES + 3u) / 4u; word++) {
        var packed = 0u;
        for (var byte = 0u; byte < 4u; byte += step) {
            let at = word * 4u + byte;
            let block = at / SCALE_BYTES;
            if (block < blocks) {
                let part_at = raw_at + block * BLOCK_BYTES + SCALES_AT + at % SCALE_BYTES;
                let part = raw[part_at / 4u] >> (8u * (part_at % 4u));
                packed |= (part & (0xffffu >> (16u - 8u * step))) << (8u * byte);
            }
        }
        planes[scales_to + word] = packed;
    }
}
