//! The GPU adapters of this machine, whether or not the engine would take them.

use gptoss_kernels::gpu::is_software;
use serde::Serialize;

/// Features that faster kernel tiers could use, by their names in the WebGPU specification.
const FEATURES: [(wgpu::Features, &str); 3] = [
    (wgpu::Features::SHADER_F16, "shader-f16"),
    (wgpu::Features::SUBGROUP, "subgroups"),
    (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
];

/// An adapter as one graphics API offers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    pub name: String,
    /// API that it is reached by, such as Vulkan.
    pub api: String,
    pub kind: &'static str,
    pub driver: String,
    /// Whether it computes on the CPU: correct, but slower than the CPU backend.
    pub software: bool,
    /// Whether the engine's kernels run on it.
    pub usable: bool,
    /// Why it is not usable.
    pub obstacle: Option<String>,
    pub max_buffer_bytes: u64,
    pub max_binding_bytes: u64,
    pub max_workgroup_storage_bytes: u32,
    pub features: Vec<&'static str>,
}

/// Every adapter of the APIs that the engine uses.
pub async fn list() -> Vec<Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(descriptor);
    instance.enumerate_adapters(wgpu::Backends::PRIMARY).await.iter().map(describe).collect()
}

fn describe(adapter: &wgpu::Adapter) -> Adapter {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let obstacle = obstacle(&limits);
    Adapter {
        software: is_software(&info),
        api: format!("{:?}", info.backend),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete GPU",
            wgpu::DeviceType::IntegratedGpu => "integrated GPU",
            wgpu::DeviceType::VirtualGpu => "virtual GPU",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "unknown kind",
        },
        driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
        usable: obstacle.is_none(),
        obstacle,
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        max_workgroup_storage_bytes: limits.max_compute_workgroup_storage_size,
        features: FEATURES
            .iter()
            .filter(|(feature, _)| adapter.features().contains(*feature))
            .map(|(_, name)| *name)
            .collect(),
        name: info.name,
    }
}

/// Why the engine cannot use an adapter with these limits. The baseline kernels need WebGPU's default limits and no
/// feature.
fn obstacle(limits: &wgpu::Limits) -> Option<String> {
    let mut missing = Vec::new();
    wgpu::Limits::default().check_limits_with_fail_fn(limits, false, |name, needed, got| {
        missing.push(format!("{name} is {got}, {needed} is needed"));
    });
    (!missing.is_empty()).then(|| missing.join("; "))
}
