//! Machine code from a driver without hardware: SPIR-V in, statistics and assembly out.
//!
//! Mesa's RADV compiles for a GPU that is not there when `RADV_FORCE_FAMILY` names its family, and answers
//! VK_KHR_pipeline_executable_properties. Nothing runs on such a device. The variable is read when the driver looks for
//! devices: one process, one family.
#![expect(unsafe_code, reason = "Vulkan is unsafe")]

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use ash::vk;
use gptoss_kernels::gpu::Access;

/// Advice for machines without the driver.
const HELP: &str = "Mesa's RADV with a null device is needed (Debian: mesa-vulkan-drivers and libvulkan1)";

/// The driver's result for a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Statistics by the driver's names, in its order.
    pub statistics: Vec<(String, u64)>,
    /// Disassembled machine code.
    pub isa: String,
}

/// A device that can compile and nothing else.
pub struct Compiler {
    /// Name and version of the driver.
    pub driver: String,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    instance: ash::Instance,
    _entry: ash::Entry,
}

/// The manifest that makes the Vulkan loader find RADV and no other driver.
///
/// # Errors
/// There is none where Vulkan drivers announce themselves.
pub fn manifest() -> Result<PathBuf> {
    let folders = ["/usr/share", "/usr/local/share", "/etc", "/usr/local/etc"];
    let entries = folders.iter().flat_map(|root| std::fs::read_dir(format!("{root}/vulkan/icd.d"))).flatten().flatten();
    let is_radv = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("radeon_icd") && name.ends_with(".json") && !name.contains("i686")
    };
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(is_radv).collect();
    found.sort();
    found.into_iter().next().with_context(|| {
        format!("No radeon_icd*.json in vulkan/icd.d of {}: {HELP}, or call it on Linux.", folders.join(", "))
    })
}

impl Compiler {
    /// Opens the device that this process's environment selects.
    ///
    /// # Errors
    /// No Vulkan loader, no RADV, or a family that it does not know.
    pub fn open() -> Result<Self> {
        // SAFETY: loads the system's Vulkan loader, which may run its initialisers; it is kept as long as what comes from it.
        let entry = unsafe { ash::Entry::load() }.context(format!("No Vulkan loader: {HELP}."))?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let create = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: `create` and what it points to outlive the call.
        let instance =
            unsafe { entry.create_instance(&create, None) }.context(format!("RADV does not start. {HELP}."))?;
        let opened = open_device(&instance);
        let (driver, device) = opened.inspect_err(|_| {
            // SAFETY: nothing that was made from the instance is left.
            unsafe { instance.destroy_instance(None) }
        })?;
        let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
        Ok(Self { driver, device, executables, instance, _entry: entry })
    }

    /// Compiles the entry point `main`, which binds buffers of descriptor set 0 in the order of `accesses`.
    ///
    /// # Errors
    /// The driver refuses it, or does not tell what it made of it.
    pub fn compile(&self, spirv: &[u32], accesses: &[Access]) -> Result<Compiled> {
        let bindings: Vec<_> = (0..)
            .zip(accesses)
            .map(|(binding, access)| {
                let kind = match access {
                    Access::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                    Access::Read | Access::ReadWrite => vk::DescriptorType::STORAGE_BUFFER,
                };
                let layout = vk::DescriptorSetLayoutBinding::default().binding(binding).descriptor_type(kind);
                layout.descriptor_count(1).stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let Self { device, .. } = self;
        let create_set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        let create_module = vk::ShaderModuleCreateInfo::default().code(spirv);
        // SAFETY: naga wrote the SPIR-V from a module that it validated. Pointers in the descriptions outlive the calls that
        // read them, and handles are destroyed once, after the last call that uses them.
        unsafe {
            let set = device.create_descriptor_set_layout(&create_set, None)?;
            let sets = [set];
            let create_layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device.create_pipeline_layout(&create_layout, None)?;
            let module = device.create_shader_module(&create_module, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE);
            let stage = stage.module(module).name(c"main");
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let create = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags);
            let pipelines = device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let compiled = pipelines.map_err(|(_, error)| error).map(|pipelines| {
                let told = self.told(pipelines[0]);
                device.destroy_pipeline(pipelines[0], None);
                told
            });
            device.destroy_shader_module(module, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(set, None);
            compiled.context("RADV does not compile it")?
        }
    }

    fn told(&self, pipeline: vk::Pipeline) -> Result<Compiled> {
        // A compute pipeline has one executable.
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        // SAFETY: the pipeline is alive and was made with the flag that this asks for.
        let statistics = unsafe { self.executables.get_pipeline_executable_statistics(&executable) }?;
        let statistics = statistics.iter().map(|it| Ok((text(&it.name)?, value(it)))).collect::<Result<_>>()?;
        Ok(Compiled { statistics, isa: self.isa(&executable)? })
    }

    /// The representation in machine code. It takes three requests: how many representations there are, how long each
    /// is, and what it says.
    fn isa(&self, executable: &vk::PipelineExecutableInfoKHR<'_>) -> Result<String> {
        // SAFETY: as above.
        let mut all = unsafe { self.executables.get_pipeline_executable_internal_representations(executable) }?;
        let mut texts: Vec<Vec<u8>> = all.iter().map(|it| vec![0; it.data_size]).collect();
        for (representation, text) in all.iter_mut().zip(&mut texts) {
            representation.p_data = text.as_mut_ptr().cast();
        }
        let mut count = all.len() as u32;
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        // SAFETY: `all` has `count` entries, each with as much memory as its size says, which `texts` keeps alive.
        let result = unsafe { get(self.device.handle(), executable, &raw mut count, all.as_mut_ptr()) };
        result.result()?;
        let mut named = all.iter().zip(texts);
        let assembly = named.find(|(it, _)| text(&it.name).is_ok_and(|name| name == "Assembly"));
        let (_, bytes) = assembly.context("RADV shows no representation called Assembly: another version of Mesa?")?;
        let text = CStr::from_bytes_until_nul(&bytes).map_or(bytes.as_slice(), CStr::to_bytes);
        ensure!(!text.is_empty(), "RADV's assembly is empty: Mesa was built without a disassembler");
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // SAFETY: all that was made from either was destroyed by `compile`.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// The driver's name and version, and its device with the features that wgpu enables.
fn open_device(instance: &ash::Instance) -> Result<(String, ash::Device)> {
    // SAFETY: the instance is alive.
    let all = unsafe { instance.enumerate_physical_devices() };
    let all = all.with_context(|| format!("RADV shows no device: RADV_FORCE_FAMILY names one to pretend. {HELP}."))?;
    let Some(&physical) = all.first() else { bail!("RADV shows no device. {HELP}.") };
    let mut named = vk::PhysicalDeviceDriverProperties::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut named);
    // SAFETY: the physical device is the instance's, and what is pushed is alive.
    unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
    let driver = format!("{} {}", text(&named.driver_name)?, text(&named.driver_info)?);
    ensure!(named.driver_id == vk::DriverId::MESA_RADV, "The Vulkan driver is {driver}. {HELP}.");

    let families = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
    let core = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
    let mut told = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
    // wgpu leaves the bounds of buffers to the driver if it supports this, which changes the code.
    let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
    let mut f16 = vk::PhysicalDeviceShaderFloat16Int8Features::default().shader_float16(true);
    let mut bits16 = vk::PhysicalDevice16BitStorageFeatures::default()
        .storage_buffer16_bit_access(true)
        .uniform_and_storage_buffer16_bit_access(true);
    let extensions = [ash::khr::pipeline_executable_properties::NAME, ash::ext::robustness2::NAME].map(CStr::as_ptr);
    let create = vk::DeviceCreateInfo::default()
        .queue_create_infos(&families)
        .enabled_extension_names(&extensions)
        .enabled_features(&core)
        .push_next(&mut told)
        .push_next(&mut robust)
        .push_next(&mut f16)
        .push_next(&mut bits16);
    // SAFETY: all that `create` points to outlives the call.
    let device = unsafe { instance.create_device(physical, &create, None) };
    let device = device.with_context(|| format!("{driver} does not tell what it makes of pipelines. {HELP}."))?;
    Ok((driver, device))
}

fn value(statistic: &vk::PipelineExecutableStatisticKHR<'_>) -> u64 {
    // SAFETY: the format says which field was written.
    unsafe {
        match statistic.format {
            vk::PipelineExecutableStatisticFormatKHR::BOOL32 => u64::from(statistic.value.b32),
            vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => statistic.value.f64 as u64,
            // These are counts, and so not negative.
            _ => statistic.value.u64,
        }
    }
}

fn text(chars: &[c_char]) -> Result<String> {
    let bytes: Vec<u8> = chars.iter().map(|&it| it as u8).collect();
    let text = CStr::from_bytes_until_nul(&bytes).context("a text of the driver has no end")?;
    Ok(text.to_string_lossy().into_owned())
}
