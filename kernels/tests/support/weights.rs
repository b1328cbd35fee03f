//! Random weights as they are in a file, and their way to the GPU.

use gptoss_kernels::format::Format;
use gptoss_kernels::repack::{Destination, Repack};
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{Gpu, GpuBuffer};
use half::{bf16, f16};

use super::random::Random;

/// `rows × columns` weights in `format`, of a size that makes a dot product with normal values about 1. Scales differ
/// from block to block, and every code appears, also −128 and the negative zero.
pub fn file_bytes(random: &mut Random, format: Format, rows: usize, columns: usize) -> Vec<u8> {
    let deviation = 1.0 / (columns as f64).sqrt();
    let blocks = rows * columns / 32;
    match format {
        Format::F32 => random.normals(blocks * 32, deviation).iter().flat_map(|v| v.to_le_bytes()).collect(),
        Format::F16 => random
            .normals(blocks * 32, deviation)
            .iter()
            .flat_map(|&v| f16::from_f32(v).to_le_bytes())
            .collect(),
        Format::Bf16 => random
            .normals(blocks * 32, deviation)
            .iter()
            .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
            .collect(),
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

/// Writes file rows where `destination` says, repacking them as the loader would.
pub fn upload_rows(gpu: &Gpu, repack: &Repack, bytes: &[u8], destination: &Destination<'_>) {
    let row_bytes = destination.planes.file_row_bytes() as usize;
    if destination.planes.format.is_repacked() {
        gpu.write(repack.staging(), 0, bytes);
        repack.submit(gpu, (bytes.len() / row_bytes) as u64, destination);
        return;
    }
    for (row, bytes) in (0u64..).zip(bytes.chunks_exact(row_bytes)) {
        let target = destination.first_row + row * destination.row_step;
        gpu.write(destination.buffer, destination.planes_offset_bytes + target * row_bytes as u64, bytes);
    }
}

/// A whole matrix on the GPU, in its shards.
pub fn upload(gpu: &Gpu, format: Format, rows: usize, columns: usize, bytes: &[u8]) -> Result<Matrix, String> {
    let matrix =
        Matrix::allocate(gpu, "weights", format, rows as u64, columns as u64).map_err(|error| error.to_string())?;
    let repack = Repack::new(gpu, bytes.len() as u64);
    let mut rest = bytes;
    for shard in &matrix.shards {
        let (here, later) = rest.split_at((shard.layout.rows * shard.layout.file_row_bytes()) as usize);
        upload_rows(gpu, &repack, here, &whole(&shard.buffer, shard.layout));
        rest = later;
    }
    Ok(matrix)
}

/// All rows of `planes`, from the start of `buffer`.
pub fn whole(buffer: &GpuBuffer, planes: gptoss_kernels::weights::PlaneLayout) -> Destination<'_> {
    Destination { buffer, planes_offset_bytes: 0, planes, first_row: 0, row_step: 1 }
}
