//! Random weights as they are in a file, and their way to the GPU.

use gptoss_gguf::numbers::Encoding;
use gptoss_gguf::{CodeOrder, WeightType};
use gptoss_kernels::Gpu;
use gptoss_kernels::repack::{Destination, Repack};
use gptoss_kernels::weights::Matrix;
use half::{bf16, f16};

use super::random::Random;

/// `rows × columns` weights in `format`, of a size that makes a dot product with normal values about 1. Scales differ
/// from block to block and are of either sign where the format has a sign, and every code appears, also −128 and the
/// negative zero.
pub fn file_bytes(random: &mut Random, format: WeightType, rows: usize, columns: usize) -> Vec<u8> {
    let deviation = 1.0 / (columns as f64).sqrt();
    let count = rows * columns;
    match format {
        WeightType::F32 => random.normals(count, deviation).iter().flat_map(|v| v.to_le_bytes()).collect(),
        WeightType::F16 => {
            random.normals(count, deviation).iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
        }
        WeightType::Bf16 => {
            random.normals(count, deviation).iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
        }
        _ => {
            let blocks = count / format.block_weights() as usize;
            (0..blocks).flat_map(|_| block(random, format, deviation)).collect()
        }
    }
}

/// One block of a quantised format: random bytes, with scales of the right size put in.
fn block(random: &mut Random, format: WeightType, deviation: f64) -> Vec<u8> {
    let mut bytes = random.bytes(format.block_bytes() as usize);
    let (codes, numbers) = (format.random_codes(), format.numbers());
    let scale = &numbers[0];
    if scale.encoding == Encoding::E8m0 {
        let exponent = 126.0 + (deviation / codes.rms).log2().round() + random.below(3) as f64;
        bytes[scale.at] = exponent as u8;
        return bytes;
    }
    let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
    let factor = sign * (0.5 + random.unit()) * deviation / codes.rms;
    let mut put = |at: usize, value: f64| bytes[at..at + 2].copy_from_slice(&f16::from_f64(value).to_le_bytes());
    put(scale.at, factor);
    if let (Some(mean), Some(minimum)) = (codes.minimum, numbers.get(1)) {
        put(minimum.at, factor * mean * (0.8 + 0.4 * random.unit()));
    }
    bytes
}

/// Puts file rows on the GPU as the loader would: in pieces, through a staging buffer.
pub struct Uploader<'a> {
    gpu: &'a Gpu,
    repack: Repack,
}

impl<'a> Uploader<'a> {
    pub fn new(gpu: &'a Gpu, formats: &[WeightType]) -> Self {
        Self { gpu, repack: Repack::new(gpu, formats, 1 << 20) }
    }

    pub fn gpu(&self) -> &'a Gpu {
        self.gpu
    }

    /// Writes rows where `destination` says, repacking formats that are repacked.
    pub fn rows(&self, bytes: &[u8], destination: &Destination<'_>) {
        let row_bytes = destination.planes.file_row_bytes() as usize;
        let mut first_row = destination.first_row;
        if destination.planes.format.is_quantised() {
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
    pub fn matrix(&self, format: WeightType, rows: usize, columns: usize, bytes: &[u8]) -> Result<Matrix, String> {
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
                    codes: CodeOrder::Halves,
                },
            );
            rest = later;
        }
        Ok(matrix)
    }
}
