//! The router: logits over experts, the top k, their softmax, and which of them are resident.

use bytemuck::{Pod, Zeroable};

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::launch::{Extent, Kernel, Launch};
use crate::sources;

/// Page-table entry of an expert that is not on the GPU.
pub const MISS: u32 = u32::MAX;

/// Mirrors `Params` in `router.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub columns: u32,
    pub experts: u32,
    pub experts_per_token: u32,
    pub layer: u32,
}

/// One choice of a token. Mirrors `Route` in the router and expert kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Route {
    pub expert: u32,
    /// Softmax over the token's choices.
    pub weight: f32,
}

pub const ACCESSES: [Access; 9] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
    Access::ReadWrite,
    Access::ReadWrite,
];

/// The compiled kernel.
pub struct Router(Kernel);

/// Buffers of one launch: `x` [tokens, columns], `weight` [experts, columns], `bias` [experts], all F32; `routes`
/// [tokens, k] of [`Route`]; `page_table` and `last_used` [layers, experts] of u32.
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub x: &'a GpuBuffer,
    pub weight: &'a GpuBuffer,
    pub bias: &'a GpuBuffer,
    pub routes: &'a GpuBuffer,
    pub page_table: &'a GpuBuffer,
    pub last_used: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

impl Router {
    pub fn new(gpu: &Gpu) -> Self {
        Self(Kernel::new(gpu, "router", &sources::router(), &ACCESSES))
    }

    pub fn launch(&self, gpu: &Gpu, buffers: &Buffers<'_>, params: Params) -> Launch {
        let uniform = gpu.uniform("router", &params);
        self.0
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    buffers.x.whole(),
                    buffers.weight.whole(),
                    buffers.bias.whole(),
                    buffers.routes.whole(),
                    buffers.page_table.whole(),
                    buffers.last_used.whole(),
                    buffers.status.whole(),
                ],
                Extent::EACH_TOKEN,
                Extent::ONE,
            )
            .keep(uniform)
    }
}

/// The specification, for one token: `x` [columns] → the `k` best experts, best first (ties: lower index), with softmax
/// over the k. An expert with a bias of −∞ or the least float is never chosen; if fewer than `k` others are left, or a logit
/// is not finite for another reason, all weights are NaN.
pub fn reference(x: &[f32], weight: &[f32], bias: &[f32], k: usize) -> Vec<Route> {
    let logits: Vec<f64> = weight
        .chunks_exact(x.len())
        .zip(bias)
        .map(|(w, &b)| f64::from(b) + w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>())
        .collect();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(k);
    let is_sound = |e: usize| logits[e].is_finite() || (logits[e] == f64::NEG_INFINITY && bias[e] == f32::NEG_INFINITY);
    if !(0..logits.len()).all(is_sound) || order.iter().any(|&e| logits[e] <= f64::from(f32::MIN)) {
        return order.iter().map(|&e| Route { expert: e as u32, weight: f32::NAN }).collect();
    }
    let total: f64 = order.iter().map(|&e| (logits[e] - logits[order[0]]).exp()).sum();
    order
        .iter()
        .map(|&e| Route { expert: e as u32, weight: ((logits[e] - logits[order[0]]).exp() / total) as f32 })
        .collect()
}
