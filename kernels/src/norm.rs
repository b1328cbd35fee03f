//! RMSNorm, split in two (`norm.wgsl`): kernels that write the residual stream write it times the norm's weight, too,
//! with sums of squares behind it; kernels that read that multiply their products by what the sums make. The buffer is
//! read by vec4: its size is a multiple of 16 bytes, or its end cannot be read.

/// Where a kernel finds the sums of squares behind its activations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Normed {
    /// Index of the first sum, in values from the start of the buffer.
    pub squares_first: u32,
    /// Sums that a token has; 0 uses the activations as they are.
    pub squares: u32,
    /// ε of the norm.
    pub epsilon: f32,
}

/// Columns of a token for which [`crate::experts::combine`] gives one sum.
pub const COMBINED_COLUMNS: u32 = 64;

/// How many sums [`crate::experts::combine`] gives for each token of this many columns.
pub const fn combined_squares(columns: u32) -> u32 {
    columns.div_ceil(COMBINED_COLUMNS)
}
