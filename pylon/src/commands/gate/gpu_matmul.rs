//! Gate C: GPU compute. A real matrix of the file, multiplied on the GPU by the kernel that the engine uses, against
//! the scalar reference, which decodes the file's blocks on its own and sums in F64.

use std::rc::Rc;

use gptoss_engine::open_gpu;
use gptoss_gguf::{CodeOrder, TensorInfo, WeightType};
use gptoss_kernels::matmul::{self, Buffers, Target};
use gptoss_kernels::norm::Normed;
use gptoss_kernels::repack::{Destination, Repack};
use gptoss_kernels::weights::{Matrix, Shard};
use gptoss_kernels::{Gpu, GpuBuffer, GpuOptions, Kernels, Operation, Status, Step, launch};
use gptoss_model::{Quiet, ops};

use super::Common;
use super::report::{Comparison, Report};
use crate::error::CliError;
use crate::gguf_file::GgufFile;
use crate::progress;

pub const TITLE: &str = "GPU compute: a real matrix times a vector, on the GPU and by the scalar reference";

/// How many bytes are read, uploaded and computed by the reference at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// GPU compute: a real matrix times a vector, on the GPU and by the scalar reference
///
/// The GPU side is the engine's own path: rows are repacked on the GPU and multiplied by its kernel in F32. The
/// expectation decodes the blocks as they are in the file and sums in F64. The error is relative: ‖gpu − expected‖ /
/// ‖expected‖. A second comparison, with the vector moved by one place, has to fail: it shows that the first one can.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pylon gate c models/nano/gpt-oss-nano.gguf --tensor blk.0.ffn_gate_exps.weight --rows 512")]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// The matrix; of experts all rows one after the other
    #[arg(long, value_name = "NAME", default_value = "output.weight")]
    tensor: String,
    /// Take only the first N rows; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows: u64,
    /// Take only the first N columns, in whole blocks; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 0)]
    columns: u64,
    /// Largest relative error that passes
    #[arg(long, value_name = "X", default_value_t = 1e-5)]
    tolerance: f64,
}

/// The part of the tensor that is multiplied.
struct Part<'a> {
    file: &'a GgufFile,
    tensor: &'a TensorInfo,
    format: WeightType,
    rows: u64,
    columns: u64,
}

pub fn check(args: &Args, report: &mut Report) -> Result<(), CliError> {
    let file = GgufFile::open_model(&args.common.path)?;
    let part = part(args, &file)?;
    let gpu = pollster::block_on(open_gpu(&GpuOptions::default(), &Quiet))?;
    let adapter = gpu.adapter();
    report.fact("adapter", format!("{} ({})", adapter.name, adapter.backend));
    report.fact("tensor", format!("{}, {} {:?}", part.tensor.name, part.format.name(), part.tensor.shape));
    report.fact("multiplied", format!("{} rows of {} columns", part.rows, part.columns));

    let x = input(part.columns);
    let mut moved = x.clone();
    moved.rotate_right(1);
    let shape = [part.rows];
    let against = "the scalar reference: blocks decoded from the file, sums in F64";
    let mut same = Comparison::new("y = W x on the GPU", against, &shape, args.tolerance);
    let mut other =
        Comparison::new("y = W x′ on the GPU, x′ moved by one place", against, &shape, args.tolerance).must_differ();

    let (y, y_moved) = pollster::block_on(on_gpu(&gpu, &part, [&x, &moved], report))?;
    let bar = progress::bytes("reference", part.rows * part.file_row_bytes());
    part.for_each_piece(0, part.rows, |first_row, bytes| {
        let expected = ops::matmul::reference(&part.format.decode(bytes), &x, &[], part.columns as usize);
        let here = first_row as usize..first_row as usize + expected.len();
        same.difference.add(&y[here.clone()], &expected);
        other.difference.add(&y_moved[here], &expected);
        bar.inc(bytes.len() as u64);
        Ok(())
    })?;
    bar.finish_and_clear();
    report.compare(same);
    report.compare(other);
    Ok(())
}

fn part<'a>(args: &Args, file: &'a GgufFile) -> Result<Part<'a>, CliError> {
    let wrong = |what: &str, got: String, expected: String| CliError::Argument { what: what.into(), got, expected };
    let tensor = file.tensor(&args.tensor)?;
    let format = WeightType::of(tensor.kind).filter(|_| tensor.shape.len() > 1).ok_or_else(|| {
        let expected = format!("a matrix of one of these types: {}", WeightType::supported_names());
        wrong("--tensor", format!("{} of type {} and shape {:?}", tensor.name, tensor.kind, tensor.shape), expected)
    })?;
    let (all_columns, all_rows) = (tensor.shape[0], tensor.shape[1..].iter().product::<u64>());
    let taken = |flag, given, all, unit: u64| match given {
        0 => Ok(all),
        _ if given <= all && given % unit == 0 => Ok(given),
        _ => Err(wrong(flag, given.to_string(), format!("at most {all}, the tensor's, and a multiple of {unit}"))),
    };
    let columns = taken("--columns", args.columns, all_columns, format.block_weights())?;
    if columns % format.block_weights() != 0 {
        let expected = format!("a matrix whose rows are whole runs of {} weights", format.block_weights());
        return Err(wrong("--tensor", format!("{} with rows of {columns}", tensor.name), expected));
    }
    Ok(Part { file, tensor, format, rows: taken("--rows", args.rows, all_rows, 1)?, columns })
}

/// A fixed vector, neither constant nor periodic in the length of a block, between −1 and 1.
fn input(columns: u64) -> Vec<f32> {
    (0..columns).map(|k| ((k as f64 + 1.0) * 0.618_033_988_75).fract() as f32 * 2.0 - 1.0).collect()
}

impl Part<'_> {
    fn file_row_bytes(&self) -> u64 {
        self.columns / self.format.block_weights() * self.format.block_bytes()
    }

    /// Visits `rows` rows from `first` on in pieces of whole rows, without the columns that are left out.
    fn for_each_piece(
        &self,
        first: u64,
        rows: u64,
        mut use_rows: impl FnMut(u64, &[u8]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let stride = self.tensor.shape[0] / self.format.block_weights() * self.format.block_bytes();
        let taken = self.file_row_bytes() as usize;
        let rows_per_piece = (PIECE_BYTES / stride).max(1);
        let mut row = first;
        while row < first + rows {
            let count = rows_per_piece.min(first + rows - row);
            let mut bytes = self.file.read(self.tensor.offset + row * stride, count * stride)?;
            if taken < stride as usize {
                bytes = bytes.chunks_exact(stride as usize).flat_map(|row| &row[..taken]).copied().collect();
            }
            use_rows(row, &bytes)?;
            row += count;
        }
        Ok(())
    }

    /// Puts the rows of one shard on the GPU, as the loader does.
    fn upload(&self, gpu: &Gpu, repack: &Repack, shard: &Shard<Rc<GpuBuffer>>) -> Result<(), CliError> {
        let row_bytes = self.file_row_bytes();
        self.for_each_piece(shard.first_row, shard.layout.rows, |row, bytes| {
            let first_row = row - shard.first_row;
            if !self.format.is_quantised() {
                gpu.write(&shard.buffer, first_row * row_bytes, bytes);
                return Ok(());
            }
            gpu.write(repack.staging(), 0, bytes);
            let planes = shard.layout;
            let destination = Destination {
                buffer: &shard.buffer,
                planes_offset_bytes: 0,
                planes,
                first_row,
                row_step: 1,
                codes: CodeOrder::Halves,
            };
            repack.submit(gpu, bytes.len() as u64 / row_bytes, &destination);
            // Waiting bounds the copies that the queue holds.
            Ok(pollster::block_on(gpu.finished())?)
        })
    }
}

/// Computes both products of the matrix on the GPU, in as many shards as its limits make necessary.
async fn on_gpu(
    gpu: &Gpu,
    part: &Part<'_>,
    inputs: [&[f32]; 2],
    report: &mut Report,
) -> Result<(Vec<f32>, Vec<f32>), CliError> {
    let label = &part.tensor.name;
    let planned = part.rows * part.file_row_bytes();
    let matrix = gpu
        .probe_memory(label, planned, || Matrix::allocate(gpu, label, part.format, part.rows, part.columns))
        .await??;
    report.fact("shards on the GPU", matrix.shards.len());
    let repack = Repack::new(gpu, &[part.format], PIECE_BYTES.max(part.file_row_bytes()));
    for shard in &matrix.shards {
        part.upload(gpu, &repack, shard)?;
    }
    let kernels = Kernels::compile(gpu, [Operation::Matmul(part.format)]);
    let step = Step { tokens: 1, head_first: 0, head_tokens: 0, stamp: 1 };
    let step_buffer = gpu.uniform("step", &step);
    let status = gpu.storage_from("status", &[Status::running()]);
    let mut results = Vec::new();
    for input in inputs {
        let (x, y) = (gpu.storage_from("x", input), gpu.storage("y", part.rows * 4));
        let buffers = Buffers { step: &step_buffer, x: &x, bias: None, y: &y, status: &status };
        let target =
            Target { y_first: 0, y_stride: part.rows as u32, layer: 0, head: false, normed: Normed::default() };
        let call = |shard: &Shard<_>| kernels.bind(gpu, &matmul::call(shard, &buffers, target));
        let launches: Vec<_> = matrix.by_ref().shards.iter().map(call).collect();
        let mut encoder = gpu.encoder("gate c");
        launch::record(gpu, &mut encoder, &step, &launches);
        gpu.submit(encoder);
        results.push(bytemuck::pod_collect_to_vec::<u8, f32>(&gpu.read(&y, 0, part.rows * 4).await?));
    }
    let [first, second] = <[Vec<f32>; 2]>::try_from(results).expect("one result for each of two inputs");
    Ok((first, second))
}
