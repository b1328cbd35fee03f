//! Weight matrices on the GPU: layout, size, and sharding to the granted binding limit.

use std::rc::Rc;

use gptoss_gguf::WeightType;
use gptoss_gguf::weight_type::RUN_WEIGHTS;
use gptoss_model::GpuError;

use crate::gpu::{Gpu, GpuBuffer, Limits};

/// Alignment of a storage binding's offset that every WebGPU device accepts.
pub const BINDING_ALIGNMENT: u64 = 256;

/// Where the planes of `rows × columns` weights lie: codes from 0, scales from a multiple of 256.
///
/// The codes of a block are 16, 32, 128, 160 or 208 bytes in the quantised formats: whole `vec4<u32>`, so that a kernel
/// loads them aligned, which blocks of 17 to 210 bytes as they are in the file would not allow. What is left over, 1 to
/// 16 bytes a block, is in a plane of its own, row by row, each row padded to whole words: a word belongs to one row.
/// The bytes of both are those of the file, in the file's order. That costs at most three bytes a row, and nothing for
/// most formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneLayout {
    /// Format of the weights.
    pub format: WeightType,
    /// Number of rows.
    pub rows: u64,
    /// Runs of [`RUN_WEIGHTS`] weights in a row, which kernels count in. A block of the K formats is eight of them.
    pub blocks_per_row: u64,
}

impl PlaneLayout {
    /// The layout of `rows × columns` weights. `columns` must be a multiple of the format's block, which the loader
    /// checks before.
    pub fn new(format: WeightType, rows: u64, columns: u64) -> Self {
        assert_eq!(columns % format.block_weights(), 0, "{columns} columns are not whole blocks of {}", format.name());
        Self { format, rows, blocks_per_row: columns / RUN_WEIGHTS as u64 }
    }

    /// Blocks in a row as the file counts them.
    pub fn file_blocks_per_row(&self) -> u64 {
        self.blocks_per_row * RUN_WEIGHTS as u64 / self.format.block_weights()
    }

    /// Bytes of one row in the file.
    pub fn file_row_bytes(&self) -> u64 {
        self.file_blocks_per_row() * self.format.block_bytes()
    }

    /// Bytes of one row of codes.
    pub fn codes_row_bytes(&self) -> u64 {
        self.file_blocks_per_row() * self.format.code_bytes()
    }

    /// Words of one row of scales.
    pub fn scales_row_words(&self) -> u64 {
        self.format.scale_words(self.file_blocks_per_row())
    }

    /// Length of all codes, in bytes.
    pub fn codes_bytes(&self) -> u64 {
        self.rows * self.codes_row_bytes()
    }

    /// Where the scales begin, in bytes from the beginning of the codes.
    pub fn scales_offset_bytes(&self) -> u64 {
        self.codes_bytes().next_multiple_of(BINDING_ALIGNMENT)
    }

    /// Length of all scales, in bytes.
    pub fn scales_bytes(&self) -> u64 {
        self.rows * self.scales_row_words() * 4
    }

    /// Length of both planes with the padding between them, in bytes.
    pub fn total_bytes(&self) -> u64 {
        match self.scales_bytes() {
            0 => self.codes_bytes(),
            scales => self.scales_offset_bytes() + scales,
        }
    }

    /// How many rows fit one binding.
    pub fn rows_that_fit(&self, limits: &Limits) -> u64 {
        let row = self.codes_row_bytes() + self.scales_row_words() * 4;
        limits.max_binding_bytes.min(limits.max_buffer_bytes).saturating_sub(BINDING_ALIGNMENT) / row
    }
}

/// A run of rows in one buffer.
#[derive(Clone, Debug)]
pub struct Shard<B> {
    /// The buffer, or what stands for it.
    pub buffer: B,
    /// Layout of the planes in it.
    pub layout: PlaneLayout,
    /// Index of its first row in the whole matrix.
    pub first_row: u64,
}

/// A matrix of weights, in as many shards as the binding limit makes necessary. `B` is a buffer, shared with uploads
/// under way, or stands for one that is not allocated yet.
#[derive(Clone, Debug)]
pub struct Matrix<B = Rc<GpuBuffer>> {
    /// All shards, in the order of rows.
    pub shards: Vec<Shard<B>>,
    /// Number of rows, of all shards together.
    pub rows: u64,
    /// Weights in a row.
    pub columns: u64,
    /// Format of the weights.
    pub format: WeightType,
}

/// Number of rows of each shard of a matrix.
pub fn shard_rows(layout: &PlaneLayout, limits: &Limits) -> Result<Vec<u64>, GpuError> {
    let fit = layout.rows_that_fit(limits);
    if fit == 0 {
        return Err(GpuError::Limit {
            limit: "maxStorageBufferBindingSize",
            needed: PlaneLayout { rows: 1, ..*layout }.total_bytes() + BINDING_ALIGNMENT,
            granted: limits.max_binding_bytes,
        });
    }
    let count = layout.rows.div_ceil(fit).max(1);
    let even = layout.rows.div_ceil(count);
    Ok((0..count).map(|shard| even.min(layout.rows - shard * even)).collect())
}

impl<B> Matrix<B> {
    /// Cuts a matrix into shards that fit `limits`; `buffer` makes a buffer of the given size for each.
    ///
    /// # Errors
    /// A row that no binding can hold.
    pub fn sharded<E: From<GpuError>>(
        (format, rows, columns): (WeightType, u64, u64),
        limits: &Limits,
        mut buffer: impl FnMut(u64) -> Result<B, E>,
    ) -> Result<Self, E> {
        let whole = PlaneLayout::new(format, rows, columns);
        let mut shards = Vec::new();
        let mut first_row = 0;
        for shard_rows in shard_rows(&whole, limits)? {
            let layout = PlaneLayout { rows: shard_rows, ..whole };
            shards.push(Shard { buffer: buffer(layout.total_bytes())?, layout, first_row });
            first_row += shard_rows;
        }
        Ok(Self { shards, rows, columns, format })
    }

    /// The same matrix with other buffers.
    pub fn map<C>(&self, buffer: impl Fn(&B) -> C) -> Matrix<C> {
        let shard = |shard: &Shard<B>| Shard {
            buffer: buffer(&shard.buffer),
            layout: shard.layout,
            first_row: shard.first_row,
        };
        let Self { ref shards, rows, columns, format } = *self;
        Matrix { shards: shards.iter().map(shard).collect(), rows, columns, format }
    }

    /// The shard that has a row of the matrix.
    pub fn shard_of(&self, row: u64) -> &Shard<B> {
        self.shards
            .iter()
            .find(|shard| (shard.first_row..shard.first_row + shard.layout.rows).contains(&row))
            .expect("shards cover all rows of their matrix")
    }
}

impl Matrix {
    /// Allocates the shards; their contents come later, through [`crate::repack`].
    ///
    /// # Errors
    /// A row that no binding of the device can hold.
    pub fn allocate(gpu: &Gpu, label: &str, format: WeightType, rows: u64, columns: u64) -> Result<Self, GpuError> {
        let buffer = |bytes| Ok::<_, GpuError>(Rc::new(gpu.storage(label, bytes)));
        Self::sharded((format, rows, columns), &gpu.limits(), buffer)
    }

    /// The same matrix with borrowed buffers.
    pub fn by_ref(&self) -> Matrix<&GpuBuffer> {
        Matrix {
            shards: self.shards.iter().map(Shard::by_ref).collect(),
            rows: self.rows,
            columns: self.columns,
            format: self.format,
        }
    }
}

impl Shard<Rc<GpuBuffer>> {
    /// The same shard with a borrowed buffer.
    pub fn by_ref(&self) -> Shard<&GpuBuffer> {
        Shard { buffer: &*self.buffer, layout: self.layout, first_row: self.first_row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_binding_bytes: u64) -> Limits {
        Limits {
            max_buffer_bytes: 2 * max_binding_bytes,
            max_binding_bytes,
            max_workgroup_storage_bytes: 16384,
            max_workgroups_per_dimension: 65535,
            rows_per_group: 8,
        }
    }

    #[test]
    fn the_20b_output_matrix_is_sharded_at_default_limits_and_loses_no_row() {
        let layout = PlaneLayout::new(WeightType::Q8_0, 201_088, 2880);
        let rows = shard_rows(&layout, &limits(128 << 20)).expect("a row fits");
        assert_eq!(rows.iter().sum::<u64>(), 201_088);
        assert_eq!(rows.len(), 5, "587 MiB over 128 MiB bindings");
        for &shard in &rows {
            assert!(PlaneLayout { rows: shard, ..layout }.total_bytes() <= 128 << 20);
        }
        assert_eq!(shard_rows(&layout, &limits(1 << 30)).expect("fits"), [201_088]);
    }

    #[test]
    fn repacking_does_not_grow_20b_weights() {
        let dense = PlaneLayout::new(WeightType::Q8_0, 4096, 2880);
        assert_eq!(dense.total_bytes(), 4096 * dense.file_row_bytes());
        let expert = PlaneLayout::new(WeightType::Mxfp4, 2 * 2880, 2880);
        let growth = expert.total_bytes() as f64 / (5760 * expert.file_row_bytes()) as f64;
        assert!(growth < 1.0015, "padding a row's 90 scales to 92 costs at most 0.14 %, got {growth}");
    }

    /// Rows are padded if they have an odd number of blocks.
    #[test]
    fn no_format_grows_by_more_than_three_bytes_a_row() {
        for format in WeightType::ALL {
            for blocks in [1, 2, 3, 5, 90, 128] {
                let planes = PlaneLayout::new(format, 7, blocks * format.block_weights());
                let planes_bytes = planes.codes_bytes() + planes.scales_bytes();
                let file_bytes = 7 * planes.file_row_bytes();
                assert!((file_bytes..=file_bytes + 7 * 3).contains(&planes_bytes), "{format:?}, {blocks} blocks a row");
                assert_eq!(format.code_bytes() % 16, 0, "{format:?}: codes are loaded by vec4");
            }
        }
    }

    #[test]
    fn a_row_that_does_not_fit_is_an_error_with_the_numbers() {
        let layout = PlaneLayout::new(WeightType::F32, 3, 4096);
        let error = shard_rows(&layout, &limits(4096)).expect_err("16 KiB rows in 4 KiB bindings");
        assert!(matches!(error, GpuError::Limit { needed, granted: 4096, .. } if needed >= 16384));
    }
}
