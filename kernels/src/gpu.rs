//! The device, and everything created on it, counted at the calls themselves.

use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gptoss_model::GpuError;
use gptoss_protocol::Tier;
use gptoss_source::pause;
use xxhash_rust::xxh3::Xxh3Default;

use crate::error::plain;
use crate::granted::Granted;
use crate::needs;
use crate::patience::{OPENING, Pace, TURN, within};
use crate::platform;
use crate::testbed::Testbed;

mod buffers;
mod waiting;

pub use self::buffers::GpuBuffer;
pub use self::waiting::Mark;

/// Options for opening a device.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Whether to use the WebGPU default limits (128 MiB bindings, 256 MiB buffers) even if the adapter grants more.
    pub default_limits: bool,
    /// Largest binding to assume, in bytes, so that tests can shard small models.
    pub max_binding_bytes: Option<u64>,
    /// Lanes that share a row of a matrix product: 8 or 1. `None` chooses what suits the adapter.
    pub lanes_per_row: Option<u32>,
    /// Kernel tier; `None` takes the highest that the adapter supports.
    pub tier: Option<Tier>,
    /// Faults to inject, for tests that a bad device is survived.
    pub testbed: Option<Rc<Testbed>>,
}

/// Features that faster kernel tiers could use, by their names in the WebGPU specification.
const KERNEL_FEATURES: [(wgpu::Features, &str); 3] = [
    (wgpu::Features::SHADER_F16, "shader-f16"),
    (wgpu::Features::SUBGROUP, "subgroups"),
    (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
];

/// Lanes in a workgroup of the kernels that multiply rows.
const ROW_KERNEL_LANES: u32 = 64;

/// Limits of the device that decide how tensors are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest buffer, in bytes (`maxBufferSize`).
    pub max_buffer_bytes: u64,
    /// Largest storage binding, in bytes (`maxStorageBufferBindingSize`).
    pub max_binding_bytes: u64,
    /// Most memory that a workgroup shares, in bytes (`maxComputeWorkgroupStorageSize`).
    pub max_workgroup_storage_bytes: u32,
    /// Most workgroups along one axis of a dispatch (`maxComputeWorkgroupsPerDimension`).
    pub max_workgroups_per_dimension: u32,
    /// Rows that a workgroup computes in the kernels that multiply rows, as suits the adapter.
    pub rows_per_group: u32,
}

/// Description of the adapter, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Name of the GPU, as far as the platform tells it.
    pub name: String,
    /// API that is used: `Vulkan`, `Metal`, `BrowserWebGpu` and the like.
    pub backend: String,
    /// Text that tells adapters and drivers apart, as far as the platform does.
    pub identity: String,
    /// Whether it is a software adapter: correct, but slow.
    pub software: bool,
    /// Features of the adapter that faster tiers could use; the baseline tier needs none.
    pub features: Vec<String>,
}

/// Numbers of calls since the device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Submissions to the queue.
    pub submits: u64,
    /// Dispatches of a kernel.
    pub dispatches: u64,
    /// Buffers created.
    pub buffers_created: u64,
    /// Bind groups created.
    pub bind_groups_created: u64,
    /// Pipelines compiled.
    pub pipelines_created: u64,
    /// Bytes of the buffers that exist now.
    pub allocated_bytes: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    submits: Cell<u64>,
    dispatches: Cell<u64>,
    buffers_created: Cell<u64>,
    bind_groups_created: Cell<u64>,
    pipelines_created: Cell<u64>,
    allocated_bytes: Cell<u64>,
}

impl Counts {
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes.get()
    }
}

fn add(cell: &Cell<u64>, amount: u64) {
    cell.set(cell.get() + amount);
}

/// A submission that can be awaited, without waiting for later ones.
#[derive(Clone, Debug)]
pub struct Submission(wgpu::SubmissionIndex);

/// How a kernel accesses one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform buffer.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is read and written.
    ReadWrite,
}

/// A device with its queue. Not `Send`, because an engine has one thread.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: Adapter,
    limits: Limits,
    lanes_per_row: u32,
    tier: Tier,
    granted: Granted,
    counts: Rc<Counts>,
    fault: Arc<Mutex<Option<GpuError>>>,
    pipelines_hash: Cell<u64>,
    pace: Pace,
    testbed: Option<Rc<Testbed>>,
}

impl Gpu {
    /// Opens the strongest adapter and a device with its buffer limits, or the default ones if so asked.
    pub async fn open(options: &GpuOptions) -> Result<Self, GpuError> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = platform::backends();
        let instance = wgpu::Instance::new(descriptor);
        let request = instance.request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        });
        let adapter = opened(options, request)
            .await
            .ok_or_else(|| GpuError::NoAdapter { detail: unanswered(OPENING) })?
            .map_err(|error| GpuError::NoAdapter { detail: platform::no_adapter(&error) })?;
        if options.testbed.as_ref().is_some_and(|testbed| testbed.hides_adapters()) {
            return Err(GpuError::NoAdapter { detail: "the test hides it".into() });
        }
        let info = adapter.get_info();
        let offered = adapter.limits();
        let shortages = needs::shortages(&offered);
        if !shortages.is_empty() {
            return Err(GpuError::TooLimited { adapter: display_name(&info, ""), shortages });
        }
        // Limits that no kernel needs may be lower than WebGPU promises.
        let mut wanted = wgpu::Limits::default().or_worse_values_from(&offered);
        if !options.default_limits {
            wanted.max_buffer_size = offered.max_buffer_size;
            wanted.max_storage_buffer_binding_size = offered.max_storage_buffer_binding_size;
        }
        // Where times can be measured somebody may watch them: [`crate::stopwatch`].
        let timestamps = wgpu::Features::TIMESTAMP_QUERY;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gpt-oss"),
            required_features: adapter.features() & (Granted::asked_for(options.tier) | timestamps),
            required_limits: wanted,
            ..Default::default()
        };
        // The patch must live until the device exists.
        let _with_subgroups = platform::WithSubgroups::new(options.tier.unwrap_or(Tier::F16Subgroups)).await;
        let no_device = |detail| GpuError::NoDevice { adapter: display_name(&info, ""), detail };
        let (device, queue) = opened(options, adapter.request_device(&descriptor))
            .await
            .ok_or_else(|| no_device(unanswered(OPENING)))?
            .map_err(|error| no_device(plain(&error.to_string())))?;

        let granted = Granted::on(&device, &info);
        let tier = granted.tier(options.tier, || display_name(&info, ""))?;
        let details = platform::adapter_details(&device, &info);
        let fault = Arc::new(Mutex::new(None));
        watch(&device, &fault);
        let counts = Rc::new(Counts::default());
        if let Some(testbed) = &options.testbed {
            testbed.opened(&device, &counts);
        }
        let limits_granted = device.limits();
        // Barriers are expensive on software adapters, scattered reads on GPUs.
        let lanes_per_row = options.lanes_per_row.unwrap_or(if is_software(&info) { 1 } else { 8 });
        let limits = Limits {
            max_buffer_bytes: limits_granted.max_buffer_size,
            max_binding_bytes: options
                .max_binding_bytes
                .unwrap_or(u64::MAX)
                .min(limits_granted.max_storage_buffer_binding_size)
                .min(limits_granted.max_buffer_size),
            max_workgroup_storage_bytes: limits_granted.max_compute_workgroup_storage_size,
            max_workgroups_per_dimension: limits_granted.max_compute_workgroups_per_dimension,
            rows_per_group: ROW_KERNEL_LANES / lanes_per_row,
        };
        Ok(Self {
            adapter: Adapter {
                name: display_name(&info, &details),
                identity: format!("{} / {details} / {:?}", info.name, info.backend),
                backend: format!("{:?}", info.backend),
                software: is_software(&info),
                features: KERNEL_FEATURES
                    .iter()
                    .filter(|(feature, _)| {
                        let is_granted = *feature == wgpu::Features::SUBGROUP && granted.subgroups;
                        is_granted || adapter.features().contains(*feature)
                    })
                    .map(|(_, name)| (*name).to_owned())
                    .collect(),
            },
            device,
            queue,
            limits,
            lanes_per_row,
            tier,
            granted,
            counts,
            fault,
            pipelines_hash: Cell::new(0),
            pace: Pace::new(is_software(&info), options.testbed.as_ref().and_then(|testbed| testbed.patience())),
            testbed: options.testbed.clone(),
        })
    }

    /// Description of the adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Limits that decide how tensors are laid out.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How many lanes share a row in the kernels that multiply rows.
    pub fn lanes_per_row(&self) -> u32 {
        self.lanes_per_row
    }

    /// Rows that a workgroup of those kernels computes.
    pub fn rows_per_group(&self) -> u32 {
        self.limits.rows_per_group
    }

    /// Level of optional features that kernels use on this device.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Optional features of this device, whatever the tier.
    pub fn granted(&self) -> Granted {
        self.granted
    }

    /// A hash of all sources and constants that were compiled for this device.
    pub fn pipelines_hash(&self) -> u64 {
        self.pipelines_hash.get()
    }

    /// The device as wgpu has it.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The queue as wgpu has it.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Numbers of calls so far.
    pub fn counters(&self) -> Counters {
        Counters {
            submits: self.counts.submits.get(),
            dispatches: self.counts.dispatches.get(),
            buffers_created: self.counts.buffers_created.get(),
            bind_groups_created: self.counts.bind_groups_created.get(),
            pipelines_created: self.counts.pipelines_created.get(),
            allocated_bytes: self.counts.allocated_bytes.get(),
        }
    }

    /// Makes the layout of a bind group whose bindings have these accesses, numbered from 0.
    pub fn bind_group_layout(&self, label: &str, accesses: &[Access]) -> wgpu::BindGroupLayout {
        let entries: Vec<_> = accesses
            .iter()
            .enumerate()
            .map(|(index, access)| wgpu::BindGroupLayoutEntry {
                binding: index as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries })
    }

    /// Compiles a kernel whose entry point is `main`, with override `constants`. A fault shows up in [`Gpu::check`].
    pub fn pipeline(
        &self,
        label: &str,
        source: &str,
        layout: &wgpu::BindGroupLayout,
        constants: &[(&str, f64)],
    ) -> wgpu::ComputePipeline {
        let source = platform::wgsl(source);
        let source = match &self.testbed {
            Some(testbed) => testbed.altered(label, source),
            None => Cow::Borrowed(source),
        };
        // Hashes are added, so that the order does not matter.
        self.pipelines_hash.set(self.pipelines_hash.get().wrapping_add(pipeline_hash(label, &source, constants)));
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl(source),
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(layout)],
            immediate_size: 0,
        });
        add(&self.counts.pipelines_created, 1);
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        })
    }

    /// Binds `resources` in the order of the layout.
    pub fn bind_group(
        &self,
        label: &str,
        layout: &wgpu::BindGroupLayout,
        resources: &[wgpu::BindingResource<'_>],
    ) -> wgpu::BindGroup {
        let entries: Vec<_> = resources
            .iter()
            .enumerate()
            .map(|(index, resource)| wgpu::BindGroupEntry { binding: index as u32, resource: resource.clone() })
            .collect();
        add(&self.counts.bind_groups_created, 1);
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
    }

    /// Starts a list of commands.
    pub fn encoder(&self, label: &str) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) })
    }

    /// Sends commands to the GPU and returns what can be awaited.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> Submission {
        add(&self.counts.submits, 1);
        Submission(self.queue.submit([encoder.finish()]))
    }

    pub(crate) fn count_dispatches(&self, dispatches: u64) {
        add(&self.counts.dispatches, dispatches);
    }

    /// Destroys the device; later work fails with [`GpuError::DeviceLost`].
    pub fn destroy(&self) {
        self.device.destroy();
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // A browser would keep pipelines and caches until a garbage collector runs.
        self.device.destroy();
    }
}

/// The answer of the browser or the driver before there is a device; `None` if there is none in time.
async fn opened<T>(options: &GpuOptions, asked: impl Future<Output = T>) -> Option<T> {
    let limit = options.testbed.as_ref().and_then(|testbed| testbed.patience()).unwrap_or(OPENING);
    let turn = async |_: bool| {
        pause(TURN).await;
        Ok::<_, Infallible>(true)
    };
    let Ok(outcome) = within(limit, held_up(options.testbed.as_ref(), asked), turn).await;
    outcome.map(|(outcome, _)| outcome)
}

/// Awaits `awaited`, unless a test makes it hang.
async fn held_up<T>(testbed: Option<&Rc<Testbed>>, awaited: impl Future<Output = T>) -> T {
    if testbed.is_some_and(|testbed| testbed.hangs()) {
        std::future::pending::<()>().await;
    }
    awaited.await
}

fn unanswered(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f64())
}

fn watch(device: &wgpu::Device, fault: &Arc<Mutex<Option<GpuError>>>) {
    let note = |slot: &Arc<Mutex<Option<GpuError>>>, error: GpuError| {
        slot.lock().expect("nothing panics while holding this lock").get_or_insert(error);
    };
    let slot = Arc::clone(fault);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let detail = error.to_string();
        note(
            &slot,
            match error {
                wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { what: "a buffer".into(), bytes: 0, detail },
                wgpu::Error::Validation { .. } => GpuError::Validation { detail },
                wgpu::Error::Internal { .. } => GpuError::Internal { detail },
            },
        );
    }));
    let slot = Arc::clone(fault);
    device.set_device_lost_callback(move |reason, detail| {
        let mut fault = slot.lock().expect("nothing panics while holding this lock");
        // If the device was given up, the reason is known. Any other fault is a consequence of the loss: natively the
        // first call on a lost device may fail before this callback runs.
        if !matches!(*fault, Some(GpuError::DeviceLost { .. })) {
            *fault = Some(GpuError::DeviceLost { reason: format!("{reason:?}"), detail });
        }
    });
}

fn display_name(info: &wgpu::AdapterInfo, details: &str) -> String {
    match (info.name.is_empty(), details.is_empty()) {
        (false, _) => info.name.clone(),
        (true, false) => details.to_owned(),
        // Browsers may withhold the name.
        (true, true) => "WebGPU adapter (name withheld by the browser)".into(),
    }
}

/// A hash that is the same in every build, unlike the standard library's, because browsers remember it.
fn pipeline_hash(label: &str, source: &str, constants: &[(&str, f64)]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(label.as_bytes());
    hash.update(source.as_bytes());
    for (name, value) in constants {
        hash.update(name.as_bytes());
        hash.update(&value.to_bits().to_le_bytes());
    }
    hash.digest()
}

/// Whether an adapter computes on the CPU: correct, but slow.
pub fn is_software(info: &wgpu::AdapterInfo) -> bool {
    let name = format!("{} {}", info.name, info.driver).to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu || name.contains("swiftshader") || name.contains("llvmpipe")
}
