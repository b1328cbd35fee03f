//! Gate C: GPU compute. Rows of a real tensor, multiplied on the GPU by the kernel that the engine uses, against the
//! scalar reference, which decodes the file's blocks on its own and sums in F64.

mod choose;
mod multiply;

use gptoss_gguf::{CodeOrder, TensorInfo, WeightType};
use gptoss_kernels::Gpu;
use gptoss_kernels::weights::Shard;
use gptoss_model::{AwaitPoint, Host, check_cancelled, milliseconds_since, ops, until_stopped};
use gptoss_protocol::{Event, GateProgress, GateStep, SliceFigures, Tier};
use sha2::{Digest, Sha256};
use web_time::Instant;

use self::multiply::{OnGpu, Product};
use crate::determinism::hex;
use crate::error::GateError;
use crate::file::GatedFile;
use crate::report::{Comparison, Report};

pub use self::choose::{described, weights_of};

/// What the gate is about.
pub const TITLE: &str = "GPU compute: a real matrix times a vector, on the GPU and by the scalar reference";

/// Largest relative error that passes unless somebody says otherwise. Rounding to F32 gives a sum of 4096 terms a relative
/// error of about 2⁻²⁴ · √4096 = 3.8e-6, and the longest rows of gpt-oss have as many; a wrong weight gives far more.
pub const USUAL_TOLERANCE: f64 = 1e-5;

/// How many bytes are read, uploaded and computed by the reference at a time; a slice has about as many unless somebody
/// says otherwise.
pub const PIECE_BYTES: u64 = 8 << 20;

/// Weights that the reference holds decoded at a time: 16 MiB of F32.
const DECODED_WEIGHTS: u64 = 4 << 20;

/// The part of a tensor that is multiplied.
pub struct Slice<'a> {
    /// The tensor.
    pub tensor: &'a TensorInfo,
    /// Type of its weights.
    pub format: WeightType,
    /// Order of the codes in its MXFP4 blocks.
    pub codes: CodeOrder,
    /// Expert that all rows are of; `None` where the tensor has none, or rows of several are taken.
    pub expert: Option<u32>,
    /// First row, of all experts one after the other.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
    /// Columns, from the first on.
    pub columns: u64,
    /// Largest relative error that passes.
    pub tolerance: f64,
    /// What the SHA-256 of the fetched range has to be, in small hex digits.
    pub sha256: Option<String>,
}

/// What sees the bytes of a slice as they come: number of the first block in the tensor, and whole blocks.
pub type Onlooker<'a> = &'a mut dyn FnMut(u64, &[u8]);

impl Slice<'_> {
    /// Length of a whole row in the file.
    fn stride_bytes(&self) -> u64 {
        self.tensor.shape[0] / self.format.block_weights() * self.format.block_bytes()
    }

    /// Length of the part of a row that is multiplied.
    pub fn row_bytes(&self) -> u64 {
        self.columns / self.format.block_weights() * self.format.block_bytes()
    }

    /// Length of the range that is fetched: whole rows, so that it is one range.
    pub fn fetched_bytes(&self) -> u64 {
        self.rows * self.stride_bytes()
    }

    fn offset_bytes(&self) -> u64 {
        self.tensor.offset + self.first_row * self.stride_bytes()
    }

    /// Decodes rows and multiplies them in F64, a bounded number at a time.
    fn reference(&self, bytes: &[u8], x: &[f32], expected: &mut Vec<f32>) {
        let rows_at_once = (DECODED_WEIGHTS / self.columns).max(1);
        for rows in bytes.chunks((rows_at_once * self.row_bytes()) as usize) {
            let weights = match self.codes {
                CodeOrder::Halves => self.format.decode(rows),
                CodeOrder::Neighbours => {
                    let mut blocks = rows.to_vec();
                    self.codes.to_halves(&mut blocks);
                    self.format.decode(&blocks)
                }
            };
            expected.extend(ops::matmul::reference(&weights, x, &[], self.columns as usize));
        }
    }
}

/// A fixed vector, neither constant nor periodic in the length of a block, between −1 and 1.
fn input(columns: u64) -> Vec<f32> {
    (0..columns).map(|k| ((k as f64 + 1.0) * 0.618_033_988_75).fract() as f32 * 2.0 - 1.0).collect()
}

/// Times and bytes while a slice is on its way.
struct Way<'a> {
    tensor: &'a str,
    begin: Instant,
    needed_bytes: u64,
    fetched_bytes: u64,
    sha256: Sha256,
    fetch_ms: f64,
    upload_ms: f64,
    reference_ms: f64,
    expected: Vec<f32>,
}

impl<'a> Way<'a> {
    fn new(slice: &Slice<'a>) -> Self {
        Self {
            tensor: &slice.tensor.name,
            begin: Instant::now(),
            needed_bytes: slice.fetched_bytes(),
            fetched_bytes: 0,
            sha256: Sha256::new(),
            fetch_ms: 0.0,
            upload_ms: 0.0,
            reference_ms: 0.0,
            expected: Vec::new(),
        }
    }

    fn tell(&self, step: GateStep, host: &dyn Host) {
        host.emit(Event::GateProgress(GateProgress {
            tensor: self.tensor.to_owned(),
            step,
            fetched_bytes: self.fetched_bytes,
            needed_bytes: self.needed_bytes,
            elapsed_ms: milliseconds_since(self.begin),
        }));
    }

    /// Reads the rows of one shard piece by piece, and takes each to the GPU, to the reference and to whoever looks on.
    async fn of_shard(
        &mut self,
        file: &GatedFile<'_>,
        slice: &Slice<'_>,
        gpu: &OnGpu<'_>,
        shard: usize,
        x: &[f32],
        host: &dyn Host,
        onlooker: Onlooker<'_>,
    ) -> Result<(), GateError> {
        let stride = slice.stride_bytes();
        let rows_per_piece = (PIECE_BYTES / stride).max(1);
        let Shard { first_row, layout, .. } = *gpu.shard(shard);
        let mut row = first_row;
        while row < first_row + layout.rows {
            let count = rows_per_piece.min(first_row + layout.rows - row);
            self.tell(GateStep::Fetch, host);
            let begin = Instant::now();
            let reading = file.source.read(slice.offset_bytes() + row * stride, count * stride);
            let read = until_stopped(host, AwaitPoint::Weights, reading).await??;
            let mut bytes = read.to_vec(0..read.len());
            self.fetch_ms += milliseconds_since(begin);
            self.fetched_bytes += bytes.len() as u64;
            self.sha256.update(&bytes);
            onlooker((slice.first_row + row) * (stride / slice.format.block_bytes()), &bytes);
            let taken = slice.row_bytes() as usize;
            if taken < stride as usize {
                bytes = bytes.chunks_exact(stride as usize).flat_map(|row| &row[..taken]).copied().collect();
            }

            self.tell(GateStep::Upload, host);
            let begin = Instant::now();
            gpu.upload(shard, row, &bytes, slice.codes);
            // Waiting bounds the copies that the queue holds.
            until_stopped(host, AwaitPoint::Uploads, gpu.gpu.finished()).await??;
            self.upload_ms += milliseconds_since(begin);

            self.tell(GateStep::Reference, host);
            let begin = Instant::now();
            slice.reference(&bytes, x, &mut self.expected);
            self.reference_ms += milliseconds_since(begin);
            check_cancelled(host)?;
            row += count;
        }
        Ok(())
    }
}

/// Whose kernels multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// Those that the device would use.
    Own,
    /// Those of each tier that the device has, with mean and place of the difference in the report.
    Each,
}

/// Takes a slice from the file to the GPU and back, with the kernels of `tiers`, and compares what comes with
/// scalar arithmetic. What is different is in the report; `onlooker` sees the bytes.
///
/// # Errors
/// Reading failed, the GPU refused or was lost, and STOP.
pub async fn check(
    file: &GatedFile<'_>,
    slice: &Slice<'_>,
    gpu: &Gpu,
    tiers: Tiers,
    report: &mut Report,
    host: &dyn Host,
    onlooker: Onlooker<'_>,
) -> Result<SliceFigures, GateError> {
    let adapter = gpu.adapter();
    report.fact("adapter", format!("{} ({})", adapter.name, adapter.backend));
    report.fact("tensor", format!("{}, {} {:?}", slice.tensor.name, slice.format.name(), slice.tensor.shape));
    report.fact("multiplied", format!("{} rows of {} columns", slice.rows, slice.columns));

    let x = input(slice.columns);
    let mut moved = x.clone();
    moved.rotate_right(1);
    let on_gpu = OnGpu::allocate(gpu, slice, host).await?;
    report.fact("shards on the GPU", on_gpu.shards());

    let requests_before = file.source.requests();
    let mut way = Way::new(slice);
    for shard in 0..on_gpu.shards() {
        way.of_shard(file, slice, &on_gpu, shard, &x, host, onlooker).await?;
    }
    let requests = file.source.requests() - requests_before;
    let sha256 = hex(way.sha256.clone());
    if let Some(expected) = &slice.sha256 {
        let found = if *expected == sha256 { sha256.clone() } else { format!("{sha256}; expected {expected}") };
        report.check("sha256 of the range", *expected == sha256, found);
    }

    let mut figures = Vec::new();
    for tier in Tier::ALL.into_iter().filter(|&tier| match tiers {
        Tiers::Own => tier == gpu.tier(),
        Tiers::Each => tier <= gpu.tier(),
    }) {
        if let Some(same_as) = figures.iter().find_map(|done| on_gpu.same_kernels(slice.format, tier, done)) {
            figures.push(multiply::not_again(tier, same_as));
            continue;
        }
        way.tell(GateStep::Multiply, host);
        // The control comes first: what has to be done once is done then.
        let control = on_gpu.multiply(slice, tier, &moved, host, &mut || way.tell(GateStep::ReadBack, host)).await?;
        way.tell(GateStep::Multiply, host);
        let product = on_gpu.multiply(slice, tier, &x, host, &mut || way.tell(GateStep::ReadBack, host)).await?;
        compare(slice, (tier, tiers), [&product, &control], &way.expected, report);
        figures.push(product.figures(tier));
    }
    let place = file.source.place(slice.offset_bytes());
    Ok(SliceFigures {
        tensor: slice.tensor.name.clone(),
        format: slice.format.name().to_owned(),
        shape: slice.tensor.shape.clone(),
        expert: slice.expert,
        rows: slice.rows,
        columns: slice.columns,
        file: place.file,
        offset_bytes: place.offset_bytes,
        fetched_bytes: way.fetched_bytes,
        multiplied_bytes: slice.rows * slice.row_bytes(),
        requests,
        sha256,
        fetch_ms: way.fetch_ms,
        upload_ms: way.upload_ms,
        reference_ms: way.reference_ms,
        gpu_bytes: on_gpu.weights_bytes(),
        usual_tolerance: slice.tolerance == USUAL_TOLERANCE,
        rounding: (slice.columns as f64).sqrt() * 2f64.powi(-24),
        tiers: figures,
    })
}

/// Compares a product and the control with what the reference says of the product.
fn compare(
    slice: &Slice<'_>,
    (tier, tiers): (Tier, Tiers),
    [product, control]: [&Product; 2],
    expected: &[f32],
    report: &mut Report,
) {
    let shape = [slice.rows];
    let against = "the scalar reference: blocks decoded from the file, sums in F64";
    let comparison = |what: &str, y: &[f32]| {
        let comparison = Comparison::new(what, against, &shape, slice.tolerance).with(y, expected);
        if tiers == Tiers::Each { comparison.of_tier(tier) } else { comparison }
    };
    report.compare(comparison("y = W x on the GPU", &product.y));
    report.compare(comparison("y = W x′ on the GPU, x′ moved by one place", &control.y).must_differ());
}
