//! From the file's blocks to aligned planes, on the GPU: the bytes go from the source straight to a staging buffer, and
//! no weight passes through the CPU's arithmetic or the wasm heap.

use std::rc::Rc;

use bytemuck::{Pod, Zeroable};

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::sources;
use crate::weights::PlaneLayout;
use gptoss_gguf::{CodeOrder, WeightType};

/// Uniform parameters of a dispatch. Mirrors `Params` in `repack.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Rows of the piece.
    pub rows: u32,
    /// Blocks in a row, as the file counts them.
    pub file_blocks_per_row: u32,
    /// Row of the planes that row 0 of the piece becomes.
    pub first_row: u32,
    /// Distance between neighbouring rows in the planes.
    pub row_step: u32,
    /// First word of the codes in the planes' buffer.
    pub codes_base: u32,
    /// First word of the scales in the planes' buffer.
    pub scales_base: u32,
    /// Whether two neighbouring weights share a byte of the file: [`CodeOrder::Neighbours`].
    pub neighbours: u32,
    /// Unused; uniform structs are whole 16-byte units.
    pub padding: u32,
}

/// Access to each binding, in order: the parameters, the piece, the planes.
pub const ACCESSES: [Access; 3] = [Access::Uniform, Access::Read, Access::ReadWrite];

/// Size limit of a piece: one dispatch takes it, even with a single block per row (a thread for every 17 bytes, 64
/// threads per workgroup, 65535 workgroups).
pub const MAX_PIECE_BYTES: u64 = 64 << 20;

/// Size of the staging buffer for pieces of this size: reading the last word of a piece may touch one word more.
pub const fn staging_bytes(piece_bytes: u64) -> u64 {
    piece_bytes + 8
}

/// Where the rows of one piece go.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// Buffer with the planes.
    pub buffer: &'a GpuBuffer,
    /// Byte offset of the planes in `buffer`; a multiple of 256.
    pub planes_offset_bytes: u64,
    /// Layout of the planes.
    pub planes: PlaneLayout,
    /// Row r of the piece becomes row `first_row + r · row_step` of the planes.
    pub first_row: u64,
    /// Distance between neighbouring rows in the planes.
    pub row_step: u64,
    /// Order of the codes in the file; in the planes it is always ggml's.
    pub codes: CodeOrder,
}

/// The kernels compiled for some formats.
pub struct RepackKernels {
    layout: wgpu::BindGroupLayout,
    pipelines: Vec<(WeightType, wgpu::ComputePipeline)>,
}

/// Compiled kernels, and the staging buffer that pieces pass through.
pub struct Repack {
    kernels: Rc<RepackKernels>,
    staging: GpuBuffer,
    params: GpuBuffer,
}

/// How many blocks one thread converts: the fewest whose scales are whole words.
fn blocks_per_thread(format: WeightType) -> u64 {
    match format.scale_bytes() % 4 {
        0 => 1,
        2 => 2,
        _ => 4,
    }
}

/// Override constants of the kernel for one format.
pub fn constants(format: WeightType) -> [(&'static str, u64); 5] {
    [
        ("BLOCK_BYTES", format.block_bytes()),
        ("CODES_AT", format.codes_at()),
        ("SCALES_AT", format.scales_at()),
        ("SCALE_BYTES", format.scale_bytes()),
        ("BLOCKS_PER_THREAD", blocks_per_thread(format)),
    ]
}

impl Params {
    /// Parameters for a piece of `rows` rows that goes to `destination`.
    pub fn new(rows: u64, destination: &Destination<'_>) -> Self {
        let (base, planes) = (destination.planes_offset_bytes, &destination.planes);
        Self {
            rows: rows as u32,
            file_blocks_per_row: planes.file_blocks_per_row() as u32,
            first_row: destination.first_row as u32,
            row_step: destination.row_step as u32,
            codes_base: (base / 4) as u32,
            scales_base: ((base + planes.scales_offset_bytes()) / 4) as u32,
            neighbours: u32::from(destination.codes == CodeOrder::Neighbours),
            padding: 0,
        }
    }
}

impl RepackKernels {
    /// Compiles kernels for pieces of these formats; formats that are used as they are in the file need none and are
    /// ignored.
    pub fn new(gpu: &Gpu, formats: &[WeightType]) -> Self {
        let layout = gpu.bind_group_layout("repack", &ACCESSES);
        let source = sources::repack();
        let pipeline = |format: WeightType| {
            gpu.pipeline("repack", &source, &layout, &constants(format).map(|(name, value)| (name, value as f64)))
        };
        let mut pipelines: Vec<(WeightType, wgpu::ComputePipeline)> = Vec::new();
        for &format in formats.iter().filter(|format| format.is_quantised()) {
            if !pipelines.iter().any(|(known, _)| *known == format) {
                pipelines.push((format, pipeline(format)));
            }
        }
        Self { layout, pipelines }
    }

    /// Formats that a kernel was compiled for.
    pub fn formats(&self) -> impl Iterator<Item = WeightType> {
        self.pipelines.iter().map(|(format, _)| *format)
    }

    /// Records the repacking of `rows` rows that lie at the start of `raw`; `params` holds their [`Params`].
    pub(crate) fn record(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        [params, raw]: [&GpuBuffer; 2],
        rows: u64,
        destination: &Destination<'_>,
    ) {
        let planes = &destination.planes;
        let (_, pipeline) = self
            .pipelines
            .iter()
            .find(|(format, _)| *format == planes.format)
            .expect("compiled for every format of the file that is repacked");
        let resources = [params.whole(), raw.whole(), destination.buffer.whole()];
        let bind_group = gpu.bind_group("repack", &self.layout, &resources);
        let threads = rows * planes.file_blocks_per_row().div_ceil(blocks_per_thread(planes.format));
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(threads.div_ceil(64) as u32, 1, 1);
        gpu.count_dispatches(1);
    }
}

impl Repack {
    /// Compiles kernels for `formats` and allocates the staging buffer; see [`Repack::with`].
    pub fn new(gpu: &Gpu, formats: &[WeightType], piece_bytes: u64) -> Self {
        Self::with(gpu, Rc::new(RepackKernels::new(gpu, formats)), piece_bytes)
    }

    /// Allocates the staging buffer for pieces of at most `piece_bytes`, which is at most [`MAX_PIECE_BYTES`].
    pub fn with(gpu: &Gpu, kernels: Rc<RepackKernels>, piece_bytes: u64) -> Self {
        assert!(piece_bytes <= MAX_PIECE_BYTES, "pieces of {piece_bytes} bytes do not fit one dispatch");
        Self {
            kernels,
            staging: gpu.storage("staging", staging_bytes(piece_bytes)),
            params: gpu.uniform("repack", &Params::zeroed()),
        }
    }

    /// The buffer to write the raw bytes of the next piece into, from its start.
    pub fn staging(&self) -> &GpuBuffer {
        &self.staging
    }

    /// The largest piece, in bytes.
    pub fn piece_bytes(&self) -> u64 {
        self.staging.size_bytes() - staging_bytes(0)
    }

    /// Submits the repacking of the `rows` that were just written to [`Repack::staging`]. Later writes to the staging
    /// buffer are ordered after it by the queue.
    pub fn submit(&self, gpu: &Gpu, rows: u64, destination: &Destination<'_>) {
        gpu.write(&self.params, 0, bytemuck::bytes_of(&Params::new(rows, destination)));
        let mut encoder = gpu.encoder("repack");
        self.kernels.record(gpu, &mut encoder, [&self.params, &self.staging], rows, destination);
        gpu.submit(encoder);
    }
}

/// The specification: file rows to codes and scale words, as they are on the GPU.
pub fn reference(bytes: &[u8], planes: &PlaneLayout) -> (Vec<u8>, Vec<u32>) {
    let format = planes.format;
    let scales_at = format.scales_at() as usize;
    let scales_end = scales_at + format.scale_bytes() as usize;
    let mut codes = Vec::new();
    let mut scales = Vec::new();
    for row in bytes.chunks_exact(planes.file_row_bytes() as usize) {
        let mut row_scales = Vec::new();
        for block in row.chunks_exact(format.block_bytes() as usize) {
            row_scales.extend_from_slice(&block[scales_at..scales_end]);
            codes.extend_from_slice(&block[..scales_at]);
            codes.extend_from_slice(&block[scales_end..]);
        }
        row_scales.resize(row_scales.len().next_multiple_of(4), 0);
        scales.extend(row_scales.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    }
    (codes, scales)
}
