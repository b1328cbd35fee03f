//! Gate E: limits. What the adapter grants, and that every size follows from it.

use gptoss_engine::{Buffer, MemoryPlan, PlanOptions};
use gptoss_gguf::Gguf;
use gptoss_kernels::gpu::Limits;
use gptoss_kernels::weights::Matrix;
use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::{AwaitPoint, EngineError, Host, Inventory, MatrixTensor, ModelConfig, until_stopped};
use serde_json::json;

use crate::error::GateError;
use crate::report::Report;

/// What the gate is about.
pub const TITLE: &str = "limits: every size follows from what the adapter grants";

/// Limits that WebGPU guarantees everywhere.
const WEBGPU_BINDING_BYTES: u64 = 128 << 20;
const WEBGPU_BUFFER_BYTES: u64 = 256 << 20;

/// Opens the device that the engine would use.
///
/// # Errors
/// There is none, and STOP.
pub async fn open_device(
    options: &GpuOptions,
    report: &mut Report,
    host: &dyn Host,
) -> Result<std::rc::Rc<Gpu>, GateError> {
    let gpu = gptoss_engine::open_gpu(options, host).await.map_err(GateError::of_stage)?;
    describe_device(&gpu, report);
    Ok(gpu)
}

/// Notes which device it is.
pub fn describe_device(gpu: &Gpu, report: &mut Report) {
    let adapter = gpu.adapter();
    let kind = if adapter.software { "software" } else { "hardware" };
    report.fact("adapter", format!("{} ({}, {kind})", adapter.name, adapter.backend));
}

/// Plans the model's memory under the limits granted here and under those that WebGPU guarantees everywhere, checks that
/// each buffer of the plan fits, that requests beyond the limits are refused, and allocates the largest matrix.
///
/// # Errors
/// The file holds no whole gpt-oss model, the model does not fit, the device was lost, and STOP.
pub async fn check(gguf: &Gguf, gpu: &Gpu, report: &mut Report, host: &dyn Host) -> Result<(), GateError> {
    let config = ModelConfig::from_gguf(gguf)?;
    let inventory = Inventory::from_gguf(gguf, &config)?;
    let granted = gpu.limits();
    report.fact("granted", described(&granted));
    report.fact("features", json!(gpu.adapter().features));

    let everywhere = Limits {
        max_binding_bytes: WEBGPU_BINDING_BYTES.min(granted.max_binding_bytes),
        max_buffer_bytes: WEBGPU_BUFFER_BYTES.min(granted.max_buffer_bytes),
        ..granted
    };
    let mut totals = Vec::new();
    for (name, limits) in [("granted", granted), ("guaranteed by WebGPU", everywhere)] {
        check_plan(name, &config, &inventory, &limits, report, &mut totals)?;
    }
    report.fact("plans", json!(totals));
    check_refusals(&config, &inventory, &granted, report);

    let largest = inventory.gpu_matrices().max_by_key(|matrix| matrix.size_bytes).expect("a model has matrices");
    let MatrixTensor { name, format, rows, columns, size_bytes, experts, .. } = largest;
    let allocating =
        gpu.probe_memory(name, *size_bytes, || Matrix::allocate(gpu, name, *format, rows * experts, *columns));
    let allocated = until_stopped(host, AwaitPoint::Memory, allocating).await?;
    let found = match &allocated {
        Ok(Ok(matrix)) => format!("{name}, {size_bytes} bytes in {} buffers", matrix.shards.len()),
        Ok(Err(error)) | Err(error) => error.to_string(),
    };
    report.check("the largest matrix is allocated", matches!(allocated, Ok(Ok(_))), found);
    Ok(())
}

fn described(limits: &Limits) -> String {
    format!(
        "buffers up to {} bytes, bindings up to {}, {} bytes of workgroup memory, {} workgroups a dimension",
        limits.max_buffer_bytes,
        limits.max_binding_bytes,
        limits.max_workgroup_storage_bytes,
        limits.max_workgroups_per_dimension
    )
}

/// Plans for `limits` and checks every buffer of the plan.
fn check_plan(
    name: &str,
    config: &ModelConfig,
    inventory: &Inventory,
    limits: &Limits,
    report: &mut Report,
    totals: &mut Vec<String>,
) -> Result<(), GateError> {
    let plan = MemoryPlan::new(config, inventory, limits, &PlanOptions::for_model(config))?;
    totals.push(format!(
        "{name}: {} bytes on the GPU, of them {} for experts in {} buffers, {} for a cache of {} tokens",
        plan.totals.gpu_total_bytes,
        plan.totals.expert_bytes,
        plan.arenas.iter().map(Vec::len).sum::<usize>(),
        plan.totals.kv_bytes,
        plan.kv_capacity
    ));
    let buffers = plan.buffers(config, inventory, limits)?;
    let most = limits.max_binding_bytes.min(limits.max_buffer_bytes);
    let Buffer { what, bytes, .. } = buffers.iter().max_by_key(|buffer| buffer.bytes).expect("a plan has buffers");
    report.check(
        format!("buffers fit, limits {name}"),
        *bytes <= most,
        format!("{} buffers of at most {bytes} bytes ({what}); a binding holds {most}", buffers.len()),
    );
    let slots = plan.slots_per_layer;
    let all_placed = plan.arenas.iter().all(|arenas| arenas.iter().sum::<u32>() == slots);
    report.check(
        format!("expert slots, limits {name}"),
        all_placed && slots >= config.experts_per_token,
        format!("{slots} a layer for {} experts; a token needs {}", config.experts, config.experts_per_token),
    );
    Ok(())
}

/// Checks that what is impossible is refused with the reason.
fn check_refusals(config: &ModelConfig, inventory: &Inventory, granted: &Limits, report: &mut Report) {
    let whole = PlanOptions::for_model(config);
    let beyond = PlanOptions { max_kv_tokens: Some(config.context_tokens.saturating_add(1)), ..whole.clone() };
    let refused = MemoryPlan::new(config, inventory, granted, &beyond);
    report.check(
        "a context beyond the model's is refused",
        matches!(refused, Err(EngineError::Context { .. })),
        refused.map_or_else(|error| error.to_string(), |_| "it was planned".into()),
    );
    let starved = PlanOptions { expert_memory_bytes: Some(1), ..whole };
    let refused = MemoryPlan::new(config, inventory, granted, &starved);
    report.check(
        "expert memory below one token's need is refused",
        matches!(refused, Err(EngineError::ExpertMemory { .. })),
        refused.map_or_else(|error| error.to_string(), |_| "it was planned".into()),
    );
}
