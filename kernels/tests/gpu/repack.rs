//! From file blocks to planes: bit for bit, whatever the pieces, and nothing but the rows it was given.

use gptoss_gguf::{CodeOrder, WeightType};
use gptoss_kernels::repack::{self, Destination, Repack};
use gptoss_kernels::weights::PlaneLayout;
use gptoss_kernels::{Gpu, GpuOptions};

use crate::support::bench::{Bench, batch};
use crate::support::compare::{Difference, equal};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test};

const UNTOUCHED: u8 = 0xa5;

#[derive(Debug)]
struct Row {
    /// Rows of each piece; together they are the rows of the tensor.
    pieces: &'static [usize],
    /// Blocks in a row, as the file counts them.
    blocks_per_row: usize,
    /// Tensor row r becomes row `first_row + r · row_step` of `plane_rows`.
    first_row: usize,
    row_step: usize,
    plane_rows: usize,
    planes_offset_bytes: usize,
}

const fn row(
    pieces: &'static [usize],
    blocks_per_row: usize,
    (first_row, row_step, plane_rows): (usize, usize, usize),
    planes_offset_bytes: usize,
) -> Row {
    Row { pieces, blocks_per_row, first_row, row_step, plane_rows, planes_offset_bytes }
}

const TABLE: [Row; 12] = [
    row(&[1], 1, (0, 1, 1), 0),
    row(&[5], 2, (0, 1, 5), 0),
    row(&[7], 3, (0, 1, 7), 0),
    row(&[64], 5, (0, 1, 64), 256),
    row(&[3], 90, (0, 1, 3), 0),
    // Rows at an offset, with others left alone on both sides.
    row(&[4], 3, (2, 1, 9), 512),
    // Gate, then up, of one expert: every other row.
    row(&[7], 3, (0, 2, 14), 0),
    row(&[7], 3, (1, 2, 14), 768),
    row(&[2, 2], 90, (1, 2, 8), 256),
    // Pieces that end at odd rows: the next starts at another alignment of the file's bytes.
    row(&[1, 2, 1, 3], 3, (0, 1, 7), 0),
    row(&[3, 5, 9], 7, (1, 2, 34), 256),
    row(&[1, 100, 28], 4, (0, 1, 129), 0),
];

async fn check(gpu: &Gpu, format: WeightType, codes: CodeOrder, row: &Row, seed: u64) -> Result<Difference, String> {
    let mut random = Random::new(seed);
    let columns = row.blocks_per_row as u64 * format.block_weights();
    let planes = PlaneLayout::new(format, row.plane_rows as u64, columns);
    let row_bytes = planes.file_row_bytes() as usize;
    let tensor = random.bytes(row.pieces.iter().sum::<usize>() * row_bytes);
    let buffer_bytes = row.planes_offset_bytes + planes.total_bytes() as usize + 64;
    let buffer = gpu.storage_from("planes", &vec![UNTOUCHED; buffer_bytes]);

    let largest = row.pieces.iter().max().ok_or("no pieces")? * row_bytes;
    let repack = Repack::new(gpu, &[format], largest as u64);
    let mut first_row = row.first_row;
    let mut rest = tensor.as_slice();
    for &rows in row.pieces {
        let (piece, later) = rest.split_at(rows * row_bytes);
        gpu.write(repack.staging(), 0, piece);
        let destination = Destination {
            buffer: &buffer,
            planes_offset_bytes: row.planes_offset_bytes as u64,
            planes,
            first_row: first_row as u64,
            row_step: row.row_step as u64,
            codes,
        };
        repack.submit(gpu, rows as u64, &destination);
        first_row += rows * row.row_step;
        rest = later;
    }

    // The specification knows whole planes: give it every row on its own and put it in its place.
    let mut want = vec![UNTOUCHED; buffer_bytes];
    let single = PlaneLayout { rows: 1, ..planes };
    let mut tensor = tensor;
    codes.to_halves(&mut tensor);
    for (index, bytes) in tensor.chunks_exact(row_bytes).enumerate() {
        let (codes, scales) = repack::reference(bytes, &single);
        let scales: &[u8] = bytemuck::cast_slice(&scales);
        let target = row.first_row + index * row.row_step;
        let scales_at = row.planes_offset_bytes + planes.scales_offset_bytes() as usize + target * scales.len();
        want[row.planes_offset_bytes + target * codes.len()..][..codes.len()].copy_from_slice(&codes);
        want[scales_at..][..scales.len()].copy_from_slice(scales);
    }
    let got: Vec<u8> = Bench::new(gpu, batch(1)).read(&buffer).await?;
    equal("planes", &got[..buffer_bytes], &want)?;
    Ok(Difference::default())
}

gpu_test! {
    async fn repacking_is_the_reference_bit_for_bit() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let mut report = Report::new("repack");
        for format in WeightType::ALL.into_iter().filter(|format| format.is_quantised()) {
            // The formats of the original files are asked everything, the others every second question.
            let step = if matches!(format, WeightType::Q8_0 | WeightType::Mxfp4) { 1 } else { 2 };
            for (seed, row) in (300..).zip(&TABLE).step_by(step) {
                let outcome = check(&gpu, format, CodeOrder::Halves, row, seed).await;
                report.row(&format!("{format:?} {row:?}, seed {seed}"), outcome);
            }
        }
        for (seed, row) in (400..).zip(&TABLE) {
            let outcome = check(&gpu, WeightType::Mxfp4, CodeOrder::Neighbours, row, seed).await;
            report.row(&format!("MXFP4 with neighbouring codes, {row:?}, seed {seed}"), outcome);
        }
        report.finish();
    }
}
