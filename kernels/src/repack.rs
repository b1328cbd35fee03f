//! From the file's blocks to aligned planes, on the GPU: the bytes go from the source straight to a staging buffer, and
//! no weight passes through the CPU's arithmetic or the wasm heap.

use bytemuck::{Pod, Zeroable};

use crate::format::Format;
use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::sources;
use crate::weights::PlaneLayout;

/// Mirrors `Params` in `repack.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub rows: u32,
    pub blocks_per_row: u32,
    pub first_row: u32,
    pub row_step: u32,
    pub codes_base: u32,
    pub scales_base: u32,
    pub padding: [u32; 2],
}

pub const ACCESSES: [Access; 3] = [Access::Uniform, Access::Read, Access::ReadWrite];

/// The largest piece: one dispatch takes it, even with a single block to a row (a thread for every 17 bytes, 64 threads
/// to a workgroup, 65535 workgroups).
pub const MAX_PIECE_BYTES: u64 = 64 << 20;

/// Where the rows of one piece go.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    pub buffer: &'a GpuBuffer,
    /// Byte offset of the planes in `buffer`; a multiple of 256.
    pub planes_offset_bytes: u64,
    pub planes: PlaneLayout,
    /// Row r of the piece becomes row `first_row + r · row_step` of the planes.
    pub first_row: u64,
    pub row_step: u64,
}

/// The compiled kernels and the staging buffer that pieces pass through.
pub struct Repack {
    layout: wgpu::BindGroupLayout,
    q8_0: wgpu::ComputePipeline,
    mxfp4: wgpu::ComputePipeline,
    staging: GpuBuffer,
    params: GpuBuffer,
}

impl Repack {
    /// `piece_bytes`: the largest piece that will be passed through, at most [`MAX_PIECE_BYTES`].
    pub fn new(gpu: &Gpu, piece_bytes: u64) -> Self {
        assert!(piece_bytes <= MAX_PIECE_BYTES, "pieces of {piece_bytes} bytes do not fit one dispatch");
        let layout = gpu.bind_group_layout("repack", &ACCESSES);
        let pipeline = |format: Format| {
            let source = sources::repack(format).expect("only formats that are repacked come here");
            gpu.pipeline("repack", &source, &layout, &[])
        };
        Self {
            q8_0: pipeline(Format::Q8_0),
            mxfp4: pipeline(Format::Mxfp4),
            // Reading the last word of a piece may look one word further.
            staging: gpu.storage("staging", piece_bytes + 8),
            params: gpu.uniform("repack", &Params::zeroed()),
            layout,
        }
    }

    /// The buffer to write the raw bytes of the next piece into, from its start.
    pub fn staging(&self) -> &GpuBuffer {
        &self.staging
    }

    /// The largest piece, in bytes.
    pub fn piece_bytes(&self) -> u64 {
        self.staging.size_bytes() - 8
    }

    /// Submits the repacking of the `rows` that were just written to [`Repack::staging`]. Later writes to the staging
    /// buffer are ordered after it by the queue.
    pub fn submit(&self, gpu: &Gpu, rows: u64, destination: &Destination<'_>) {
        let planes = &destination.planes;
        let pipeline = match planes.format {
            Format::Q8_0 => &self.q8_0,
            Format::Mxfp4 => &self.mxfp4,
            Format::F32 | Format::F16 | Format::Bf16 => unreachable!("used as they are in the file"),
        };
        let base = destination.planes_offset_bytes;
        gpu.write(
            &self.params,
            0,
            bytemuck::bytes_of(&Params {
                rows: rows as u32,
                blocks_per_row: planes.blocks_per_row as u32,
                first_row: destination.first_row as u32,
                row_step: destination.row_step as u32,
                codes_base: (base / 4) as u32,
                scales_base: ((base + planes.scales_offset_bytes()) / 4) as u32,
                padding: [0; 2],
            }),
        );
        let bind_group = gpu.bind_group(
            "repack",
            &self.layout,
            &[self.params.whole(), self.staging.whole(), destination.buffer.whole()],
        );
        let threads = rows * planes.format.scale_words(planes.blocks_per_row);
        let mut encoder = gpu.encoder("repack");
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(threads.div_ceil(64) as u32, 1, 1);
        }
        gpu.count_dispatches(1);
        gpu.submit(encoder);
    }
}

/// The specification: file rows → (codes, scale words), as they lie on the GPU.
pub fn reference(bytes: &[u8], planes: &PlaneLayout) -> (Vec<u8>, Vec<u32>) {
    let scale_bytes = match planes.format {
        Format::Q8_0 => 2,
        Format::Mxfp4 => 1,
        Format::F32 | Format::F16 | Format::Bf16 => 0,
    };
    let block_bytes = planes.format.block_bytes() as usize;
    let mut codes = Vec::new();
    let mut scales = Vec::new();
    for row in bytes.chunks_exact(planes.file_row_bytes() as usize) {
        let mut row_scales = Vec::new();
        for block in row.chunks_exact(block_bytes) {
            row_scales.extend_from_slice(&block[..scale_bytes]);
            codes.extend_from_slice(&block[scale_bytes..]);
        }
        row_scales.resize(row_scales.len().next_multiple_of(4), 0);
        scales.extend(row_scales.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    }
    (codes, scales)
}
