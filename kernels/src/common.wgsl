// Prepended to every kernel. Mirrors step.rs; a test compares the two by reflection.

struct Step {
    tokens: u32,
    head_first: u32,
    head_tokens: u32,
    stamp: u32,
}

// Indices into the status words (Status in step.rs).
const STATUS_HALT_LAYER = 0u;
const STATUS_HITS = 1u;
const STATUS_MISSES = 2u;
const STATUS_MISSED = 3u;
// Where a value that is not finite was found first: not_finite.wgsl.
const STATUS_FIRST_NOT_FINITE = 7u;

// By the bits of the exponent: a device may assume that no float is NaN or infinite.
fn is_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}
