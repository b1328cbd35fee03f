//! What a GPU's own clock and memory say.

use std::time::Instant;

use gptoss_kernels::Gpu;
use gptoss_model::{Backend, EngineError, GpuError, Host};
use gptoss_protocol::CacheCounters;

use super::measure::Bench;
use super::report::{Experts, Operation, Operations};
use crate::backend::AnyModel;

/// Size of the buffer, which is larger than any GPU's cache; it is smaller where buffers cannot be so large.
const BUFFER_BYTES: u64 = 512 << 20;
/// How many copies are submitted together.
const COPIES: u32 = 4;
const PASSES: u32 = 3;

/// What happened to experts since `before`; `None` on the CPU.
pub fn experts(model: &mut AnyModel, before: CacheCounters) -> Option<Experts> {
    let plan = model.on_gpu()?.plan().totals.clone();
    let now = model.cache_counters();
    Some(Experts {
        slots_per_layer: plan.expert_slots_per_layer,
        experts_per_layer: plan.experts_per_layer,
        slots_bytes: plan.expert_bytes,
        hits: now.hits - before.hits,
        misses: now.misses - before.misses,
        read_bytes: now.loaded_bytes - before.loaded_bytes,
    })
}

/// Times of the operations of a prompt, and of a token after it; `None` on the CPU, and if the GPU cannot measure time.
///
/// # Errors
/// Those of the model.
pub async fn operations(
    bench: &Bench,
    model: &mut AnyModel,
    host: &dyn Host,
) -> Result<Option<Operations>, EngineError> {
    // Reading experts, or a prompt that is not in the cache yet, does not belong to the measurement.
    if !start(model) {
        return Ok(None);
    }
    let (sequence, token) = bench.prompt_alone(model, host).await?;
    let prefill = stop(model).await?;
    start(model);
    bench.token_alone(model, sequence, token, host).await?;
    let decode = stop(model).await?;
    Ok(Some(Operations { prefill, decode }))
}

fn start(model: &mut AnyModel) -> bool {
    model.on_gpu().is_some_and(|model| model.start_stopwatch())
}

async fn stop(model: &mut AnyModel) -> Result<Vec<Operation>, EngineError> {
    let Some(model) = model.on_gpu() else { return Ok(Vec::new()) };
    let timings = model.stop_stopwatch().await?;
    let operation = |timing: gptoss_kernels::stopwatch::Timing| Operation {
        name: timing.name,
        launches: timing.launches,
        microseconds: timing.nanoseconds / 1e3,
    };
    Ok(timings.into_iter().map(operation).collect())
}

/// Bytes that the GPU reads and writes in a second while it copies one large buffer to another: the best of a few
/// passes. `None` where there is no memory left for the two.
///
/// # Errors
/// The GPU is lost.
pub async fn copy_bytes_per_second(gpu: &Gpu) -> Result<Option<f64>, EngineError> {
    let bytes = BUFFER_BYTES.min(gpu.limits().max_buffer_bytes);
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let two = || [gpu.buffer("copied from", bytes, usage), gpu.buffer("copied to", bytes, usage)];
    let [from, to] = match gpu.probe_memory("what is copied", 2 * bytes, two).await {
        Ok(buffers) => buffers,
        Err(GpuError::OutOfMemory { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut best: Option<f64> = None;
    // The first pass touches memory that was never used.
    for pass in 0..=PASSES {
        let mut encoder = gpu.encoder("copy");
        for _ in 0..COPIES {
            encoder.copy_buffer_to_buffer(from.raw(), 0, to.raw(), 0, bytes);
        }
        let begin = Instant::now();
        gpu.submit(encoder);
        gpu.finished().await?;
        let seconds = begin.elapsed().as_secs_f64();
        if pass > 0 {
            let rate = 2.0 * (u64::from(COPIES) * bytes) as f64 / seconds;
            best = Some(best.map_or(rate, |best| best.max(rate)));
        }
    }
    Ok(best)
}
