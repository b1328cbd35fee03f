// Body of the repack kernels; the format's file is prepended. Rows may be spread out on the way (gate and up rows of an
// expert interleave: first_row 0 or 1, row_step 2).

struct Params {
    rows: u32,
    blocks_per_row: u32,
    first_row: u32,
    row_step: u32,
    // First word of the codes and of the scales in `planes`.
    codes_base: u32,
    scales_base: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> raw: array<u32>;
@group(0) @binding(2) var<storage, read_write> planes: array<u32>;

// Four bytes from any byte offset.
fn raw_word(offset_bytes: u32) -> u32 {
    let word = offset_bytes / 4u;
    let shift = (offset_bytes % 4u) * 8u;
    if (shift == 0u) {
        return raw[word];
    }
    return (raw[word] >> shift) | (raw[word + 1u] << (32u - shift));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let words_per_row = (params.blocks_per_row + BLOCKS_PER_SCALE_WORD - 1u) / BLOCKS_PER_SCALE_WORD;
    let row = id.x / words_per_row;
    if (row >= params.rows) {
        return;
    }
    let word = id.x % words_per_row;
    let target_row = params.first_row + row * params.row_step;
    var packed_scales = 0u;
    for (var i = 0u; i < BLOCKS_PER_SCALE_WORD; i++) {
        let block = word * BLOCKS_PER_SCALE_WORD + i;
        if (block < params.blocks_per_row) {
            let scale = repack_block(
                (row * params.blocks_per_row + block) * BLOCK_BYTES,
                params.codes_base + (target_row * params.blocks_per_row + block) * codes_words_per_block(),
            );
            packed_scales |= scale << scale_shift(i);
        }
    }
    planes[params.scales_base + target_row * words_per_row + word] = packed_scales;
}
