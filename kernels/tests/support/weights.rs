//! Random weights as they are in a file, and their way to the GPU.

use gptoss_kernels::Gpu;
use gptoss_kernels::format::Format;
use gptoss_kernels::repack::{Destination, Repack};
use gptoss_kernels::weights::Matrix;
use half::{bf16, f16};

use super::random::Random;

/// `rows × columns` weights in `format`, of a size that makes a dot product with normal values about 1. Scales differ
/// from block to block, and every code appears, also −128 and the negative zero.
pub fn file_bytes(random: &mut Random, format: Format, rows: usize, columns: usize) -> Vec<u8> {
    let deviation = 1.0 / (columns as f64).sqrt();
    let blocks = rows * columns / 32;
    match format {
        Format::F32 => random.normals(blocks * 32, deviation).iter().flat_map(|v| v.to_le_bytes()).collect(),
        Format::F16 => {
            random.normals(blocks * 32, deviation).iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
        }
        Format::Bf16 => {
            random.normals(blocks * 32, deviation).iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
        }
        Format::Q8_0 => (0..blocks)
            .flat_map(|_| {
                // Codes have a standard deviation of 74.
                let scale = f16::from_f64((0.5 + random.unit()) * deviation / 74.0);
                [scale.to_le_bytes().to_vec(), random.bytes(32)].concat()
            })
            .collect(),
        Format::Mxfp4 => (0..blocks)
            .flat_map(|_| {
                // Codes have a standard deviation of about 2.7.
                let exponent = 126.0 + (deviation / 2.7).log2().round() + random.below(3) as f64;
                [vec![exponent as u8], random.bytes(16)].concat()
            })
            .collect(),
    }
}

/// Puts file rows on the GPU as the loader would: in pieces, through a staging buffer.
pub struct Uploader<'a> {
    gpu: &'a Gpu,
    repack: Repack,
}

impl<'a> Uploader<'a> {
    pub fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, repack: Repack::new(gpu, 1 << 20) }
    }

    /// Writes rows where `destination` says, repacking formats that are repacked.
    pub fn rows(&self, bytes: &[u8], destination: &Destination<'_>) {
        let row_bytes = destination.planes.file_row_bytes() as usize;
        let mut first_row = destination.first_row;
        if destination.planes.format.is_repacked() {
            let rows_per_piece = self.repack.piece_bytes() as usize / row_bytes;
            for piece in bytes.chunks(rows_per_piece * row_bytes) {
                let rows = (piece.len() / row_bytes) as u64;
                self.gpu.write(self.repack.staging(), 0, piece);
                self.repack.submit(self.gpu, rows, &Destination { first_row, ..*destination });
                first_row += rows * destination.row_step;
            }
            return;
        }
        for row in bytes.chunks_exact(row_bytes) {
            let at = destination.planes_offset_bytes + first_row * row_bytes as u64;
            self.gpu.write(destination.buffer, at, row);
            first_row += destination.row_step;
        }
    }

    /// A whole matrix, in its shards.
    pub fn matrix(&self, format: Format, rows: usize, columns: usize, bytes: &[u8]) -> Result<Matrix, String> {
        let matrix = Matrix::allocate(self.gpu, "weights", format, rows as u64, columns as u64)
            .map_err(|error| error.to_string())?;
        let mut rest = bytes;
        for shard in &matrix.shards {
            let (here, later) = rest.split_at((shard.layout.rows * shard.layout.file_row_bytes()) as usize);
            self.rows(
                here,
                &Destination {
                    buffer: &shard.buffer,
                    planes_offset_bytes: 0,
                    planes: shard.layout,
                    first_row: 0,
                    row_step: 1,
                },
            );
            rest = later;
        }
        Ok(matrix)
    }
}
