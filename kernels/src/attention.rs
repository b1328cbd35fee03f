//! Causal attention with sinks and an optional sliding window, over the KV cache.

use bytemuck::{Pod, Zeroable};

use crate::gpu::{Access, Gpu, GpuBuffer};
use crate::launch::{Extent, Kernel, Launch};
use crate::rope::HEAD_DIM;
use crate::sources::{self, CacheFormat};

/// Mirrors `Params` in `attention.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    pub query_heads: u32,
    pub kv_heads: u32,
    /// Positions that the cache holds; a ring on sliding layers.
    pub capacity: u32,
    /// Keys that a query sees, itself included; 0 is all of them.
    pub window: u32,
    pub layer: u32,
    pub padding: [u32; 3],
}

pub const ACCESSES: [Access; 8] = [
    Access::Uniform,
    Access::Uniform,
    Access::Read,
    Access::Read,
    Access::ReadWrite,
    Access::Read,
    Access::Read,
    Access::Read,
];

/// The compiled kernel for one cache format.
pub struct Attention(Kernel);

/// Buffers of one launch: `qkv` as after [`crate::rope`], `sinks` [query_heads] F32, `out` [tokens, query_heads · 64] F32.
pub struct Buffers<'a> {
    pub step: &'a GpuBuffer,
    pub qkv: &'a GpuBuffer,
    pub sinks: &'a GpuBuffer,
    pub out: &'a GpuBuffer,
    pub keys: &'a GpuBuffer,
    pub values: &'a GpuBuffer,
    pub status: &'a GpuBuffer,
}

impl Attention {
    pub fn new(gpu: &Gpu, cache: CacheFormat) -> Self {
        Self(Kernel::new(gpu, "attention", &sources::attention(cache), &ACCESSES))
    }

    pub fn launch(&self, gpu: &Gpu, buffers: &Buffers<'_>, params: Params) -> Launch {
        let uniform = gpu.uniform("attention", &params);
        self.0
            .launch(
                gpu,
                &[
                    buffers.step.whole(),
                    uniform.whole(),
                    buffers.qkv.whole(),
                    buffers.sinks.whole(),
                    buffers.out.whole(),
                    buffers.status.whole(),
                    buffers.keys.whole(),
                    buffers.values.whole(),
                ],
                Extent::Fixed(params.query_heads),
                Extent::EACH_TOKEN,
            )
            .keep(uniform)
    }
}

/// Shape of a scalar attention: keys and values of positions `0..keys.len() / (kv_heads · 64)`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub query_heads: usize,
    pub kv_heads: usize,
    /// 0 is full attention.
    pub window: usize,
}

/// The specification: one token at `position`. `query` [query_heads, 64], `keys`, `values` [positions, kv_heads, 64],
/// `sinks` [query_heads] → [query_heads, 64]; a head whose sink or one of whose scores is not finite gives NaN.
pub fn reference(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    sinks: &[f32],
    position: usize,
    shape: Shape,
) -> Vec<f32> {
    let row = shape.kv_heads * HEAD_DIM;
    let first = if shape.window == 0 { 0 } else { (position + 1).saturating_sub(shape.window) };
    let mut out = Vec::with_capacity(query.len());
    for (head, q) in query.chunks_exact(HEAD_DIM).enumerate() {
        let kv = head / (shape.query_heads / shape.kv_heads) * HEAD_DIM;
        let scores: Vec<f64> = (first..=position)
            .map(|j| {
                let key = &keys[j * row + kv..][..HEAD_DIM];
                q.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>() / (HEAD_DIM as f64).sqrt()
            })
            .collect();
        let sink = f64::from(sinks[head]);
        if !sink.is_finite() || scores.iter().any(|score| !score.is_finite()) {
            out.extend([f32::NAN; HEAD_DIM]);
            continue;
        }
        let maximum = scores.iter().copied().fold(sink, f64::max);
        let total = (sink - maximum).exp() + scores.iter().map(|s| (s - maximum).exp()).sum::<f64>();
        out.extend((0..HEAD_DIM).map(|d| {
            let sum: f64 = scores
                .iter()
                .zip(first..)
                .map(|(s, j)| (s - maximum).exp() * f64::from(values[j * row + kv + d]))
                .sum();
            (sum / total) as f32
        }));
    }
    out
}
