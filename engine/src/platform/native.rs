use std::time::Duration;

use gptoss_kernels::{Gpu, GpuBuffer};
use gptoss_model::GpuError;
use gptoss_source::Bytes;

/// How long to wait for an adapter after a loss: a driver that was reset is back within this time, or not at all.
pub(crate) const ADAPTER_PATIENCE: Duration = Duration::from_secs(3);

/// Queues a write of `bytes` to `buffer` at `offset_bytes` (a multiple of 4); a length that is not a multiple of 4 is
/// padded with zeros.
pub(crate) fn write_bytes(gpu: &Gpu, buffer: &GpuBuffer, offset_bytes: u64, bytes: &Bytes) -> Result<(), GpuError> {
    gpu.write(buffer, offset_bytes, bytes.as_slice());
    Ok(())
}
