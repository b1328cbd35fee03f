//! Matrix times activations, in every format. Weights are such that results are about 1; the error is that of F32 sums
//! over K / 8 products a lane (all K, with one lane to a row), and grows with the size of the terms, not of the result:
//! hence an absolute bound.

use gptoss_gguf::WeightType;
use gptoss_kernels::matmul::{self, Buffers, Target};
use gptoss_kernels::norm::Normed;
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{Gpu, GpuOptions, Kernels, Operation, Step, matmul_residual};
use gptoss_model::ops;

use crate::not_finite;
use crate::support::bench::{Bench, SENTINEL, batch};
use crate::support::compare::{Difference, Tolerance, bits, compare, equal};
use crate::support::normed::{EPSILON, normed, squares, weighted, with_squares};
use crate::support::random::Random;
use crate::support::report::Report;
use crate::support::seam::{self, gpu_test, sized};
use crate::support::weights::{Uploader, file_bytes};

const TOLERANCE: Tolerance = Tolerance::new(3e-6, 1e-6);

/// Where results go: the simplest, or everything that a launch can be asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Into {
    Plain,
    Bias,
    /// Added to the values that are there, with a bias.
    Residual,
    /// A part of longer rows of `y`, as q, k and v share one buffer.
    Part,
    /// Only for the tokens whose logits are wanted: fewer than the batch has, and not the first ones.
    Head,
    /// The product of a normalised `x`, with a bias.
    Normed,
    /// The last token of a batch, normalised.
    NormedHead,
}

#[derive(Debug)]
struct Row {
    rows: usize,
    columns: usize,
    tokens: usize,
    into: Into,
}

const fn row(rows: usize, columns: usize, tokens: usize, into: Into) -> Row {
    Row { rows, columns, tokens, into }
}

/// What the rows of one format share.
struct Device<'a> {
    gpu: &'a Gpu,
    format: WeightType,
    kernels: Kernels,
    uploader: Uploader<'a>,
}

impl<'a> Device<'a> {
    fn new(gpu: &'a Gpu, format: WeightType) -> Self {
        let kernels = Kernels::compile(gpu, [Operation::Matmul(format), Operation::MatmulResidual(format)]);
        Self { gpu, format, kernels, uploader: Uploader::new(gpu, &[format]) }
    }
}

/// Rows for the formats of the original files: an odd number of blocks, rows that do not fill a workgroup, tokens that
/// do not fill a group.
const FULL: [Row; 11] = [
    row(5, 96, 1, Into::Plain),
    row(37, 64, 3, Into::Bias),
    row(130, 192, 8, Into::Part),
    row(21, 192, 11, Into::Normed),
    row(67, 288, 9, Into::NormedHead),
    row(1, 32, 9, Into::Residual),
    row(17, 288, 64, Into::Head),
    row(sized(64, 16), 2880, 1, Into::Residual),
    row(sized(64, 16), 2880, 9, Into::Bias),
    row(sized(64, 16), 4096, 3, Into::Residual),
    row(sized(24, 8), 4096, 64, Into::Part),
];

/// The same questions in short, for blocks of 32 weights and of 256.
const SMALL_BLOCKS: [Row; 5] = [
    row(5, 96, 1, Into::Plain),
    row(37, 160, 9, Into::Bias),
    row(19, 96, 1, Into::Normed),
    row(17, 288, 5, Into::Head),
    row(sized(64, 16), 2880, 3, Into::Residual),
];
const LARGE_BLOCKS: [Row; 5] = [
    row(5, 256, 1, Into::Plain),
    row(37, 768, 9, Into::Bias),
    row(19, 512, 1, Into::Normed),
    row(17, 1280, 5, Into::Head),
    row(sized(64, 16), 4096, 3, Into::Residual),
];

fn table(format: WeightType) -> &'static [Row] {
    match format {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 | WeightType::Q8_0 | WeightType::Mxfp4 => &FULL,
        other if other.block_weights() == 256 => &LARGE_BLOCKS,
        _ => &SMALL_BLOCKS,
    }
}

/// gpt-oss-20b's dense matrices: K and V whole, a strip of the output matrix.
const REAL_Q8_0: [Row; 5] = [
    row(512, 2880, 1, Into::Part),
    row(sized(512, 64), 2880, 1, Into::Normed),
    row(sized(512, 64), 2880, 3, Into::Part),
    row(sized(2880, 64), 4096, 1, Into::Residual),
    row(sized(5120, 512), 2880, 1, Into::Head),
];

async fn check(device: &Device<'_>, row: &Row, seed: u64, shards: usize) -> Result<Difference, String> {
    let &Device { gpu, format, ref kernels, ref uploader } = device;
    let mut random = Random::new(seed);
    let bytes = file_bytes(&mut random, format, row.rows, row.columns);
    let matrix = uploader.matrix(format, row.rows, row.columns, &bytes)?;
    if matrix.shards.len() < shards {
        return Err(format!("{} shards, but this row is there to test at least {shards}", matrix.shards.len()));
    }
    if row.into == Into::Residual {
        return check_residual(device, row, &matrix, &bytes, random).await;
    }
    let (head_first, head_tokens) = match row.into {
        Into::Head => (row.tokens / 2, row.tokens.div_ceil(2)),
        Into::NormedHead => (row.tokens - 1, 1),
        _ => (0, 0),
    };
    let is_head = head_tokens > 0;
    let tokens = if is_head { head_tokens } else { row.tokens };
    let x = random.normals(row.tokens * row.columns, 1.0);
    let bias = if matches!(row.into, Into::Plain | Into::Head | Into::NormedHead) {
        Vec::new()
    } else {
        random.normals(row.rows, 1.0)
    };
    let norm = random.normals(row.columns, 1.0);
    let (y_first, y_stride) = if row.into == Into::Part { (11, row.rows + 30) } else { (0, row.rows) };
    // One row more than is written, to see that nothing is.
    let before = random.normals((tokens + 1) * y_stride, 1.0);

    let head = Step { head_first: head_first as u32, head_tokens: head_tokens as u32, ..batch(row.tokens) };
    let bench = Bench::new(gpu, head);
    let is_normed = matches!(row.into, Into::Normed | Into::NormedHead);
    let x_buffer = gpu.storage_from("x", &if is_normed { with_squares(&x, &norm) } else { x.clone() });
    let y = gpu.storage_from("y", &before);
    let bias_buffer = (!bias.is_empty()).then(|| gpu.storage_from("bias", &bias));
    let buffers = Buffers {
        step: &bench.step_buffer,
        x: &x_buffer,
        bias: bias_buffer.as_ref(),
        y: &y,
        status: &bench.status_buffer,
    };
    let target = Target {
        y_first: y_first as u32,
        y_stride: y_stride as u32,
        layer: 2,
        head: is_head,
        normed: if is_normed { normed(row.tokens, row.columns) } else { Normed::default() },
    };
    let calls: Vec<_> = matrix.by_ref().shards.iter().map(|it| matmul::call(it, &buffers, target)).collect();
    bench.run_with(kernels, &calls);

    let x = if is_normed { ops::rms_norm::reference(&x, &norm, f64::from(EPSILON)) } else { x };
    let x = &x[head_first * row.columns..][..tokens * row.columns];
    let products = ops::matmul::reference(&format.decode(&bytes), x, &bias, row.columns);
    let mut want = before.clone();
    for (token, products) in products.chunks_exact(row.rows).enumerate() {
        want[token * y_stride + y_first..][..row.rows].copy_from_slice(products);
    }
    compare("y", &bench.read(&y).await?, &want, TOLERANCE)
}

/// Checks products added to a residual stream whose columns are the matrix's rows, with the first half of the norm that
/// follows.
async fn check_residual(
    device: &Device<'_>,
    row: &Row,
    matrix: &Matrix,
    bytes: &[u8],
    mut random: Random,
) -> Result<Difference, String> {
    let &Device { gpu, format, ref kernels, .. } = device;
    let x = random.normals(row.tokens * row.columns, 1.0);
    let vectors = random.normals(2 * row.rows, 1.0);
    let (bias, norm) = vectors.split_at(row.rows);
    // One row more than is written, to see that nothing is.
    let before = random.normals((row.tokens + 1) * row.rows, 1.0);
    let bench = Bench::new(gpu, batch(row.tokens));
    let squares = matmul_residual::squares(matrix, gpu.rows_per_group()) as usize;
    let squares_first = row.tokens * row.rows;
    let activations = bench.output(squares_first + row.tokens * squares + 1);
    let buffers = matmul_residual::Buffers {
        step: &bench.step_buffer,
        x: &gpu.storage_from("x", &x),
        vectors: &gpu.storage_from("bias, norm", &vectors),
        residual: &gpu.storage_from("residual", &before),
        normed: &activations,
        status: &bench.status_buffer,
    };
    let rows_per_group = gpu.rows_per_group();
    let calls = matmul_residual::calls(&matrix.by_ref(), &buffers, 2, squares_first as u32, rows_per_group);
    bench.run_with(kernels, &calls);

    let products = ops::matmul::reference(&format.decode(bytes), &x, bias, row.columns);
    let mut want = before.clone();
    want.iter_mut().zip(&products).for_each(|(want, product)| *want += product);
    let got: Vec<f32> = bench.read(buffers.residual).await?;
    let added = compare("residual", &got, &want, TOLERANCE)?;
    let after: Vec<f32> = bench.read(&activations).await?;
    // The squares are computed from what the kernel itself wrote.
    let got = &got[..squares_first];
    let halves = compare("normed", &after[..squares_first], &weighted(got, norm), Tolerance::new(0.0, 1e-7))?;
    // Each sum is of the rows of one workgroup; a shard begins a new one.
    let mut sums = Vec::new();
    for token in got.chunks_exact(row.rows) {
        for shard in &matrix.shards {
            let rows = &token[shard.first_row as usize..][..shard.layout.rows as usize];
            sums.extend(self::squares(rows, rows.len(), rows_per_group as usize));
        }
    }
    let end = squares_first + sums.len();
    if after[end..] != [SENTINEL] {
        return Err("something was written behind the sums of squares".to_owned());
    }
    let sums = compare("squares", &after[squares_first..end], &sums, Tolerance::new(0.0, 1e-6))?;
    Ok(added.max(halves).max(sums))
}

gpu_test! {
    async fn matmul_of_every_format_is_the_reference() {
        let mut report = Report::new("matmul");
        for lanes in seam::GEOMETRIES {
            let options = GpuOptions { lanes_per_row: Some(lanes), ..GpuOptions::default() };
            for gpu in seam::open_tiers(&options, Operation::Matmul(WeightType::Q8_0)).await {
                every_format(&gpu, lanes, &mut report).await;
            }
        }
        report.finish();
    }
}

async fn every_format(gpu: &Gpu, lanes: u32, report: &mut Report) {
    let tier = gpu.tier();
    let mut run = async |device: &Device<'_>, row: &Row, seed: u64| {
        let outcome = check(device, row, seed, 1).await;
        report.row(&format!("{:?} {row:?}, {lanes} lanes to a row, {tier}, seed {seed}", device.format), outcome);
    };
    // The browser's software adapter takes a second to compile a kernel, and runs them with a lane to a row: with eight
    // lanes the formats of the original files are enough there.
    let is_original = |format: &WeightType| matches!(format, WeightType::Q8_0 | WeightType::Mxfp4);
    let formats = WeightType::ALL.into_iter().filter(|it| sized(true, lanes == 1) || is_original(it));
    for format in formats {
        let device = Device::new(gpu, format);
        for (seed, row) in (1..).zip(table(format)) {
            run(&device, row, seed).await;
        }
    }
    let device = Device::new(gpu, WeightType::Q8_0);
    for (seed, row) in (100..).zip(&REAL_Q8_0) {
        run(&device, row, seed).await;
    }
}

gpu_test! {
    /// Every weight on its own, where a product with many would round it away; scales that are not finite; and, bindings
    /// being 4 KiB, matrices in several shards, the last of them shorter. One test, since the browser's software adapter
    /// takes seconds to compile the kernels of a format.
    async fn every_format_is_decoded_exactly_and_in_shards_the_reference() {
        let options = GpuOptions { max_binding_bytes: Some(4096), ..GpuOptions::default() };
        let gpu = seam::open(&options).await;
        let mut report = Report::new("decoding and sharded matmul");
        for format in WeightType::ALL {
            let device = Device::new(&gpu, format);
            let bytes = file_bytes(&mut Random::new(400), format, 8, format.block_weights() as usize);
            report.row(&format!("{format:?}, one-hot vectors"), identity(&device, &bytes).await);
            if format.is_quantised() {
                not_finite::scales_are_passed_on(&device.uploader, &device.kernels, format).await;
            }
            let columns = |columns: u64| columns.next_multiple_of(format.block_weights()) as usize;
            let rows = [row(171, columns(96), 1, Into::Residual), row(97, columns(192), 9, Into::Part)];
            for (seed, row) in (200..).zip(&rows) {
                report.row(&format!("{format:?} {row:?}, seed {seed}"), check(&device, row, seed, 3).await);
            }
        }
        report.finish();
    }
}

gpu_test! {
    /// Scales that F16 and E8M0 can hold but quantisers seldom write: subnormal, zero, negative, largest.
    async fn unusual_scales_are_decoded_exactly() {
        let gpu = seam::open(&GpuOptions::default()).await;
        let mut report = Report::new("scales");
        let device = Device::new(&gpu, WeightType::Q8_0);
        for scale in [0u16, 1, 0x3ff, 0x400, 0x7bff, 0x8001, 0xac00, 0xfbff] {
            let codes: Vec<u8> = (0..=255).collect();
            let bytes: Vec<u8> = codes.chunks(32).flat_map(|codes| [&scale.to_le_bytes(), codes].concat()).collect();
            report.row(&format!("Q8_0 scale bits {scale:#06x}"), identity(&device, &bytes).await);
        }
        let device = Device::new(&gpu, WeightType::Mxfp4);
        // Exponents below 2 are subnormal F32 values, which GPUs may take for zero.
        for exponent in [2u8, 3, 126, 127, 128, 200, 252] {
            // Byte j holds code j and its complement, then the other way round.
            let codes = [0..16u8, 0..16].map(|codes| codes.map(|j| j | (15 - j) << 4));
            let [up, down] = codes.map(|codes| codes.collect::<Vec<u8>>());
            let down: Vec<u8> = down.into_iter().rev().collect();
            let bytes = [&[exponent], up.as_slice(), &[exponent], &down].concat();
            report.row(&format!("MXFP4 exponent {exponent}"), identity(&device, &bytes).await);
        }
        report.finish();
    }
}

/// Multiplies one-hot vectors with these blocks, each a row: every result is one weight, to the bit.
async fn identity(device: &Device<'_>, bytes: &[u8]) -> Result<Difference, String> {
    let &Device { gpu, format, ref kernels, ref uploader } = device;
    let columns = format.block_weights() as usize;
    let rows = bytes.len() / format.block_bytes() as usize;
    let matrix = uploader.matrix(format, rows, columns, bytes)?;
    let mut x = vec![0.0f32; columns * columns];
    for column in 0..columns {
        x[column * columns + column] = 1.0;
    }
    let [shard] = &matrix.shards[..] else { return Err(format!("{} shards, expected one", matrix.shards.len())) };
    let bench = Bench::new(gpu, batch(columns));
    let (x, y) = (gpu.storage_from("x", &x), bench.output(columns * rows));
    let buffers = Buffers { step: &bench.step_buffer, x: &x, bias: None, y: &y, status: &bench.status_buffer };
    let target = Target { y_first: 0, y_stride: rows as u32, layer: 0, head: false, normed: Normed::default() };
    bench.run_with(kernels, &[matmul::call(&shard.by_ref(), &buffers, target)]);
    let y: Vec<f32> = bench.read(&y).await?;
    let weights = format.decode(bytes);
    // y is [column, row]. A sum of products with 0 turns −0 into +0.
    let want: Vec<f32> = (0..y.len()).map(|at| weights[at % rows * columns + at / rows] + 0.0).collect();
    equal("weights", &bits(&y), &bits(&want))?;
    Ok(Difference::default())
}
