use std::time::Duration;

use gptoss_kernels::{Gpu, GpuBuffer};
use gptoss_model::GpuError;
use gptoss_source::{Bytes, words_of};
use js_sys::{Function, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};

/// How long to wait for an adapter after a loss. Chrome restarts its GPU process at once, but gives pages no adapter
/// for two minutes after two crashes within two minutes.
pub(crate) const ADAPTER_PATIENCE: Duration = Duration::from_secs(150);

/// Queues a write of `bytes` to `buffer` at `offset_bytes` (a multiple of 4); a length that is not a multiple of 4 is
/// padded with zeros.
///
/// wgpu's own `write_buffer` takes a slice of the wasm heap; this hands the JavaScript array to `GPUQueue.writeBuffer`,
/// so that weights never pass through the heap.
pub(crate) fn write_bytes(gpu: &Gpu, buffer: &GpuBuffer, offset_bytes: u64, bytes: &Bytes) -> Result<(), GpuError> {
    let array = bytes.as_uint8_array();
    let aligned = array.length() / 4 * 4;
    if aligned > 0 {
        write_array(gpu, buffer, offset_bytes, &array.subarray(0, aligned))?;
    }
    if aligned < array.length() {
        let tail = Uint8Array::new_with_length(4);
        tail.set(&array.subarray(aligned, array.length()), 0);
        write_array(gpu, buffer, offset_bytes + u64::from(aligned), &tail)?;
    }
    Ok(())
}

fn write_array(gpu: &Gpu, buffer: &GpuBuffer, offset_bytes: u64, array: &Uint8Array) -> Result<(), GpuError> {
    let no_handle = || GpuError::Internal { detail: "this is not a WebGPU device".into() };
    let queue: &JsValue = gpu.queue().as_webgpu().ok_or_else(no_handle)?.as_ref();
    let target: &JsValue = buffer.raw().as_webgpu().ok_or_else(no_handle)?.as_ref();
    // The method is called by name because wgpu's binding of the type is private.
    let failed = |error: JsValue| GpuError::Internal { detail: format!("writeBuffer failed: {}", words_of(&error)) };
    let write: Function = Reflect::get(queue, &JsValue::from_str("writeBuffer"))
        .and_then(|function| function.dyn_into())
        .map_err(failed)?;
    write.call3(queue, target, &JsValue::from_f64(offset_bytes as f64), array).map_err(failed)?;
    Ok(())
}
