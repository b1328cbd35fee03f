//! Random weights as they are in a file, and their way to the GPU.

use gptoss_kernels::Gpu;
use gptoss_kernels::format::{CodeOrder, Format};
use gptoss_kernels::repack::{Destination, Repack};
use gptoss_kernels::weights::Matrix;
use half::{bf16, f16};

use super::random::Random;

/// `rows × columns` weights in `format`, of a size that makes a dot product with normal values about 1. Scales differ
/// from block to block and are of either sign where the format has a sign, and every code appears, also −128 and the
/// negative zero.
pub fn file_bytes(random: &mut Random, format: Format, rows: usize, columns: usize) -> Vec<u8> {
    let deviation = 1.0 / (columns as f64).sqrt();
    let count = rows * columns;
    match format {
        Format::F32 => random.normals(count, deviation).iter().flat_map(|v| v.to_le_bytes()).collect(),
        Format::F16 => random.normals(count, deviation).iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        Format::Bf16 => {
            random.normals(count, deviation).iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
        }
        _ => {
            let blocks = count / format.block_weights() as usize;
            (0..blocks).flat_map(|_| block(random, format, deviation)).collect()
        }
    }
}

/// One block of a quantised format: random bytes, with scales of the right size put in.
fn block(random: &mut Random, format: Format, deviation: f64) -> Vec<u8> {
    let mut bytes = random.bytes(format.block_bytes() as usize);
    // Standard deviation of a weight when the scale is 1; where the minimum is; and the minimum that is the codes' mean.
    let (of_codes, scale_at, minimum) = match format {
        Format::F32 | Format::F16 | Format::Bf16 => unreachable!("has no blocks"),
        Format::Mxfp4 => {
            // Codes have a standard deviation of about 2.7.
            let exponent = 126.0 + (deviation / 2.7).log2().round() + random.below(3) as f64;
            bytes[0] = exponent as u8;
            return bytes;
        }
        Format::Q8_0 => (74.0, 0, None),
        Format::Q4_0 => (4.6, 0, None),
        Format::Q4_1 => (4.6, 0, Some(-7.5)),
        Format::Q5_0 => (9.2, 0, None),
        Format::Q5_1 => (9.2, 0, Some(-15.5)),
        Format::Iq4Nl => (70.0, 0, None),
        // Scales and minima of 0 to 63, apart from each other.
        Format::Q4K => (250.0, 0, Some(7.5)),
        Format::Q5K => (500.0, 0, Some(15.5)),
        Format::Q6K => (74.0 * 18.5, 208, None),
    };
    let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
    let scale = sign * (0.5 + random.unit()) * deviation / of_codes;
    let mut put = |at: usize, value: f64| bytes[at..at + 2].copy_from_slice(&f16::from_f64(value).to_le_bytes());
    put(scale_at, scale);
    if let Some(mean) = minimum {
        put(2, scale * mean * (0.8 + 0.4 * random.unit()));
    }
    bytes
}

/// Puts file rows on the GPU as the loader would: in pieces, through a staging buffer.
pub struct Uploader<'a> {
    gpu: &'a Gpu,
    repack: Repack,
}

impl<'a> Uploader<'a> {
    pub fn new(gpu: &'a Gpu, formats: &[Format]) -> Self {
        Self { gpu, repack: Repack::new(gpu, formats, 1 << 20) }
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
                    codes: CodeOrder::Halves,
                },
            );
            rest = later;
        }
        Ok(matrix)
    }
}
