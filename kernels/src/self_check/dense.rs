//! Checks of RMSNorm, of repacking, and of matrix products.

use std::rc::Rc;

use gptoss_gguf::{CodeOrder, WeightType};
use gptoss_model::ops;

use super::{SelfCheck, Want};
use crate::gpu::GpuBuffer;
use crate::matmul::{self, Target};
use crate::repack::{self, Destination, RepackKernels};
use crate::rms_norm;
use crate::weights::{BINDING_ALIGNMENT, PlaneLayout, Shard};

/// More than a workgroup takes with one lane to a row.
const ROWS: usize = 67;
/// Nine blocks of 32: eight lanes have one each, and one has another.
const COLUMNS: u64 = 288;

/// At least `columns`, and whole blocks of a format.
pub(super) fn whole_blocks(format: WeightType, columns: u64) -> usize {
    columns.next_multiple_of(format.block_weights()) as usize
}

impl SelfCheck<'_> {
    /// Both ways of using it: every token of a batch, and those whose logits are wanted.
    pub fn rms_norm(&mut self) {
        let (columns, epsilon) = (200, 1e-5);
        let tokens = self.step.tokens as usize;
        let x = self.random.normals(tokens * columns, 1.5);
        let weight = self.random.normals(columns, 1.0);
        let want = ops::rms_norm::reference(&x, &weight, f64::from(epsilon));
        let (x, weight) = (self.storage(&x), self.storage(&weight));
        for head in [0, 1] {
            let first = if head == 1 { self.step.head_first as usize * columns } else { 0 };
            let want = want[first..].to_vec();
            let y = self.output(want.len());
            let buffers: rms_norm::Buffers<&GpuBuffer> =
                rms_norm::Buffers { step: &self.step_buffer, x: &x, weight: &weight, y: &y, status: &self.running };
            let params = rms_norm::Params { columns: columns as u32, layer: 0, head, epsilon };
            let launch = self.bind(&rms_norm::call(&buffers, params));
            self.record(self.step, vec![launch]);
            self.expect("rms_norm", "y", &y, Want::Close(want));
        }
    }

    /// Bit for bit, in every format: rows that are spread out as gate and up rows of an expert are, not from the start of the
    /// buffer.
    pub fn repack(&mut self, repack: &RepackKernels) {
        let orders = |format| {
            let other = (format == WeightType::Mxfp4).then_some(CodeOrder::Neighbours);
            [CodeOrder::Halves].into_iter().chain(other).map(move |order| (format, order))
        };
        for (format, order) in repack.formats().flat_map(orders) {
            let (rows, columns) = (5, whole_blocks(format, COLUMNS - 32));
            let mut bytes = self.random.weights(format, rows, columns);
            let layout = PlaneLayout::new(format, 2 * rows as u64, columns as u64);
            let buffer = self.keep(self.gpu.storage("self-check", BINDING_ALIGNMENT + layout.total_bytes()));
            let place = Destination {
                planes_offset_bytes: BINDING_ALIGNMENT,
                first_row: 1,
                row_step: 2,
                codes: order,
                ..whole(&buffer, layout)
            };
            self.upload(repack, &bytes, &place);
            order.to_halves(&mut bytes);
            // Even rows are never written.
            let row_bytes = layout.file_row_bytes() as usize;
            let spread: Vec<u8> =
                bytes.chunks_exact(row_bytes).flat_map(|row| [&vec![0; row_bytes][..], row].concat()).collect();
            let (codes, scales) = repack::reference(&spread, &layout);
            let name = format!("repack {}", format.name());
            let codes = Want::Exact(bytemuck::pod_collect_to_vec(&codes));
            self.expect_at(&name, "codes", &buffer, BINDING_ALIGNMENT, codes);
            let scales_at = BINDING_ALIGNMENT + layout.scales_offset_bytes();
            self.expect_at(&name, "scales", &buffer, scales_at, Want::Exact(scales));
        }
    }

    /// Products of repacked weights, by the pipelines for one and for many tokens.
    pub fn matmul(&mut self, format: WeightType, repack: &RepackKernels) {
        let columns = whole_blocks(format, COLUMNS);
        let bytes = self.random.weights(format, ROWS, columns);
        let layout = PlaneLayout::new(format, ROWS as u64, columns as u64);
        let buffer = self.keep(self.gpu.storage("self-check", layout.total_bytes()));
        self.upload(repack, &bytes, &whole(&buffer, layout));
        let shard = Shard { buffer, layout, first_row: 0 };
        let tokens = self.step.tokens as usize;
        let x = self.random.normals(tokens * columns, 1.0);
        let bias = self.random.normals(ROWS, 1.0);
        let before = self.random.normals(tokens * ROWS, 1.0);
        let products = ops::matmul::reference(&format.decode(&bytes), &x, &bias, columns);
        let added = products.iter().zip(&before).map(|(product, before)| product + before).collect();
        let first = products[..ROWS].iter().zip(&bias).map(|(product, bias)| product - bias).collect();
        let (x, bias, one, many) = (self.storage(&x), self.storage(&bias), self.output(ROWS), self.storage(&before));
        for (name, y, head, want) in [("one token", one, true, first), ("many tokens", many, false, added)] {
            let buffers: matmul::Buffers<&GpuBuffer> = matmul::Buffers {
                step: &self.step_buffer,
                x: &x,
                bias: (!head).then_some(&*bias),
                y: &y,
                status: &self.running,
            };
            let target = Target { y_first: 0, y_stride: ROWS as u32, layer: 0, residual: !head, head };
            let launch = self.bind(&matmul::call(&shard.by_ref(), &buffers, target));
            self.record(self.step, vec![launch]);
            self.expect(&format!("matmul {}, {name}", format.name()), "y", &y, Want::Close(want));
        }
    }

    /// Brings rows of a file to their place as the loader does.
    pub(super) fn upload(&mut self, repack: &RepackKernels, bytes: &[u8], destination: &Destination<'_>) {
        let Destination { buffer, planes, planes_offset_bytes, first_row, row_step, codes: _ } = *destination;
        let row_bytes = planes.file_row_bytes() as usize;
        if planes.format.is_quantised() {
            let raw = self.keep(self.gpu.storage("self-check", repack::staging_bytes(bytes.len() as u64)));
            self.gpu.write(&raw, 0, bytes);
            let rows = (bytes.len() / row_bytes) as u64;
            let params = self.keep(self.gpu.uniform("repack", &repack::Params::new(rows, destination)));
            repack.record(self.gpu, &mut self.encoder, [&params, &raw], rows, destination);
            return;
        }
        for (row, bytes) in (first_row..).step_by(row_step as usize).zip(bytes.chunks_exact(row_bytes)) {
            self.gpu.write(buffer, planes_offset_bytes + row * row_bytes as u64, bytes);
        }
    }
}

/// All rows of a buffer that holds nothing else.
fn whole(buffer: &Rc<GpuBuffer>, planes: PlaneLayout) -> Destination<'_> {
    Destination { buffer, planes_offset_bytes: 0, planes, first_row: 0, row_step: 1, codes: CodeOrder::Halves }
}
