//! The GPU that a model is put on: opened once, and again after it was lost.

use std::rc::Rc;
use std::time::Duration;

use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::{AwaitPoint, EngineError, GpuError, Host, StageError, in_stage, until_stopped};
use gptoss_protocol::{AdapterInfo, Event, Stage};
use web_time::Instant;

use crate::platform::ADAPTER_PATIENCE;

/// First pause between two attempts to find an adapter, and how soon a STOP takes effect.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between two attempts.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// Opens a device and reports what was granted.
pub async fn open_gpu(options: &GpuOptions, host: &dyn Host) -> Result<Rc<Gpu>, StageError> {
    in_stage(host, Stage::GpuDevice, async {
        let gpu = until_stopped(host, AwaitPoint::Device, Gpu::open(options)).await??;
        host.emit(Event::Adapter(adapter_info(&gpu)));
        Ok(Rc::new(gpu))
    })
    .await
}

/// Like [`open_gpu`], but after a loss: waits for an adapter, because there may be none for a while.
pub(crate) async fn reopen_gpu(options: &GpuOptions, host: &dyn Host) -> Result<Rc<Gpu>, StageError> {
    in_stage(host, Stage::GpuDevice, async {
        let begin = Instant::now();
        loop {
            let last = match until_stopped(host, AwaitPoint::Device, Gpu::open(options)).await? {
                Ok(gpu) => {
                    host.emit(Event::Adapter(adapter_info(&gpu)));
                    return Ok(Rc::new(gpu));
                }
                Err(error @ (GpuError::NoAdapter { .. } | GpuError::NoDevice { .. })) => error,
                Err(other) => return Err(other.into()),
            };
            let waited = begin.elapsed();
            if waited >= ADAPTER_PATIENCE {
                return Err(EngineError::NoGpuAfterLoss { waited, last });
            }
            host.emit(Event::AwaitingGpu {
                waited_ms: waited.as_secs_f64() * 1e3,
                patience_ms: ADAPTER_PATIENCE.as_secs_f64() * 1e3,
                reason: last.to_string(),
            });
            // A GPU process that was only restarted offers an adapter at once.
            let pause = waited.clamp(SHORT_PAUSE, LONG_PAUSE).min(ADAPTER_PATIENCE.saturating_sub(waited));
            let resume = Instant::now() + pause;
            while Instant::now() < resume {
                let pause = gptoss_source::pause(SHORT_PAUSE.min(resume - Instant::now()));
                until_stopped(host, AwaitPoint::NextAdapter, pause).await?;
            }
        }
    })
    .await
}

fn adapter_info(gpu: &Gpu) -> AdapterInfo {
    let (adapter, limits) = (gpu.adapter(), gpu.limits());
    AdapterInfo {
        name: adapter.name.clone(),
        backend: adapter.backend.clone(),
        software: adapter.software,
        max_buffer_bytes: limits.max_buffer_bytes,
        max_binding_bytes: limits.max_binding_bytes,
        max_workgroup_storage_bytes: limits.max_workgroup_storage_bytes,
        features: adapter.features.clone(),
        tier: gpu.tier(),
    }
}
