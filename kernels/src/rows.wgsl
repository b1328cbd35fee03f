// Prepended to the kernels that read the rows buffer, which declare it as `rows`, an array of words. What is in it:
// step.rs.

// A row of the batch: words, and what is at which of them.
const ROW_WORDS = 4u;
const ROW_POSITION = 0u;
const ROW_TABLE = 1u;
const ROW_INVERSE_TEMPERATURE = 2u;

// Positions of a block of the KV cache.
const BLOCK_TOKENS = 64u;

fn row_position(token: u32) -> u32 {
    return rows[token * ROW_WORDS + ROW_POSITION];
}

fn row_inverse_temperature(token: u32) -> f32 {
    return bitcast<f32>(rows[token * ROW_WORDS + ROW_INVERSE_TEMPERATURE]);
}

// The block that holds a position of the token's sequence, by the table that begins at word `table_first` of its
// tables.
fn block_of(token: u32, table_first: u32, position: u32) -> u32 {
    return rows[rows[token * ROW_WORDS + ROW_TABLE] + table_first + position / BLOCK_TOKENS];
}
