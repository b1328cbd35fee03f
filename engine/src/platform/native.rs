use gptoss_kernels::{Gpu, GpuBuffer, GpuError};
use gptoss_source::Bytes;

/// Queues a write of `bytes` to `buffer` at `offset_bytes` (a multiple of 4); a length that is not a multiple of 4 is
/// padded with zeros.
pub(crate) fn write_bytes(gpu: &Gpu, buffer: &GpuBuffer, offset_bytes: u64, bytes: &Bytes) -> Result<(), GpuError> {
    gpu.write(buffer, offset_bytes, bytes.as_slice());
    Ok(())
}
