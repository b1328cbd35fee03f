//! Every kernel of the registry as SPIR-V, the way wgpu hands it to a Vulkan driver.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use gptoss_gguf::WeightType;
use gptoss_gguf::weight_type::RUN_WEIGHTS;
use gptoss_kernels::gpu::Access;
use gptoss_kernels::operation::{Geometry, Variant};
use gptoss_kernels::{Operation, repack, sources};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

/// Geometry of a GPU: eight lanes share a row. One lane per row is for software adapters.
pub const GEOMETRY: Geometry = Geometry { lanes_per_row: 8 };

/// A kernel to compile.
pub struct Kernel {
    /// Operation, format, and what the variant is for: `matmul Q8_0, 1 token, baseline`.
    pub name: String,
    pub accesses: &'static [Access],
    source: String,
    constants: Vec<(&'static str, f64)>,
}

/// A kernel whose constants are applied.
pub struct Applied {
    module: naga::Module,
    info: ModuleInfo,
}

/// All variants of all operations, and the repacking kernel of each format.
pub fn all() -> Vec<Kernel> {
    let of_operation = |operation: Operation| {
        let variants = operation.variants(GEOMETRY).into_iter();
        variants.map(move |variant| Kernel::new(operation, variant))
    };
    let quantised = WeightType::ALL.into_iter().filter(|format| format.is_quantised());
    Operation::all().into_iter().flat_map(of_operation).chain(quantised.map(Kernel::repack)).collect()
}

impl Kernel {
    /// Describes the kernel of one variant.
    pub fn new(operation: Operation, variant: Variant) -> Self {
        let Variant { tier, tokens, source, constants } = variant;
        let tokens = match (*tokens.start(), *tokens.end()) {
            (1, 1) => ", 1 token",
            (1, u32::MAX) => "",
            (_, u32::MAX) => ", tokens",
            _ => ", some tokens",
        };
        Self {
            name: format!("{operation}{tokens}, {}", tier.name()),
            accesses: operation.accesses(),
            source,
            constants: constants.into_iter().map(|(name, value)| (name, f64::from(value))).collect(),
        }
    }

    fn repack(format: WeightType) -> Self {
        Self {
            name: format!("repack {}", format.name()),
            accesses: &repack::ACCESSES,
            source: sources::repack(),
            constants: repack::constants(format).map(|(name, value)| (name, value as f64)).to_vec(),
        }
    }

    /// Parses the WGSL and applies the constants.
    ///
    /// # Errors
    /// It does not parse or is not valid.
    pub fn applied(&self) -> Result<Applied> {
        // naga does not know the directive, and does not need it.
        let source = self.source.strip_prefix(sources::ENABLE_SUBGROUPS).unwrap_or(&self.source);
        let module = naga::front::wgsl::parse_str(source);
        let module = module.map_err(|error| anyhow!("{}: {}", self.name, error.emit_to_string(source)))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .subgroup_stages(ShaderStages::COMPUTE)
            .subgroup_operations(SubgroupOperationSet::all())
            .validate(&module)
            .map_err(|error| anyhow!("{}: {}", self.name, error.emit_to_string(source)))?;
        let constants = self.constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let entry = Some((naga::ShaderStage::Compute, "main"));
        let applied = naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants);
        let (module, info) = applied.with_context(|| format!("{}: its constants", self.name))?;
        Ok(Applied { module: module.into_owned(), info: info.into_owned() })
    }
}

impl Applied {
    /// Threads of a workgroup.
    pub fn workgroup_threads(&self) -> u32 {
        self.module.entry_points[0].workgroup_size.iter().product()
    }

    /// Translates to SPIR-V with the options that wgpu uses on RADV: buffers are bounded by the driver
    /// (robustBufferAccess2), other indices by the code, workgroup memory is not cleared, and every loop counts to the
    /// end of 64 bits so that the driver may not assume it endless. The last is wgpu's default for untrusted modules,
    /// and browsers do without it.
    ///
    /// # Errors
    /// naga has no SPIR-V for it.
    pub fn spirv(&self) -> Result<Vec<u32>> {
        let bindings = self.module.global_variables.iter().filter_map(|(_, variable)| variable.binding);
        let binding_map: BTreeMap<_, _> = bindings
            .map(|it| (it, spv::BindingInfo { descriptor_set: 0, binding: it.binding, binding_array_size: None }))
            .collect();
        let options = spv::Options {
            // SPIR-V 1.6 belongs to Vulkan 1.3.
            lang_version: (1, 6),
            flags: spv::WriterFlags::LABEL_VARYINGS,
            fake_missing_bindings: false,
            binding_map,
            bounds_check_policies: BoundsCheckPolicies {
                index: BoundsCheckPolicy::Restrict,
                buffer: BoundsCheckPolicy::Unchecked,
                image_load: BoundsCheckPolicy::Unchecked,
                binding_array: BoundsCheckPolicy::Unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: true,
            ..spv::Options::default()
        };
        let entry = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".to_owned() };
        Ok(spv::write_vec(&self.module, &self.info, &options, Some(&entry))?)
    }

    /// Weights that a lane decodes in one round of the loop over the blocks of a row: those of every call of
    /// `load_block` in exactly one loop, counted in the WGSL. `None` if there is no such call, or if some calls are
    /// outside of loops or in nested ones, so that the text does not tell how often they are made.
    pub fn weights_per_round(&self) -> Option<u64> {
        let main = &self.module.entry_points[0].function;
        let mut depths = Vec::new();
        self.calls_of("load_block", &main.body, 0, &mut depths);
        let is_told = !depths.is_empty() && depths.iter().all(|depth| *depth == 1);
        is_told.then(|| depths.len() as u64 * RUN_WEIGHTS as u64)
    }

    /// Records for each call of a function from `block` how many loops it is in.
    fn calls_of(&self, name: &str, block: &naga::Block, depth: u32, depths: &mut Vec<u32>) {
        for statement in block {
            match statement {
                naga::Statement::Call { function, .. } => {
                    let function = &self.module.functions[*function];
                    match function.name.as_deref() == Some(name) {
                        true => depths.push(depth),
                        false => self.calls_of(name, &function.body, depth, depths),
                    }
                }
                naga::Statement::Block(block) => self.calls_of(name, block, depth, depths),
                naga::Statement::If { accept, reject, .. } => {
                    self.calls_of(name, accept, depth, depths);
                    self.calls_of(name, reject, depth, depths);
                }
                naga::Statement::Switch { cases, .. } => {
                    cases.iter().for_each(|case| self.calls_of(name, &case.body, depth, depths));
                }
                naga::Statement::Loop { body, continuing, .. } => {
                    self.calls_of(name, body, depth + 1, depths);
                    self.calls_of(name, continuing, depth + 1, depths);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Kernel {
        all().into_iter().find(|kernel| kernel.name == name).unwrap_or_else(|| panic!("no kernel {name}"))
    }

    #[test]
    fn names_tell_kernels_apart() {
        let mut names: Vec<_> = all().into_iter().map(|kernel| kernel.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn weights_of_a_round_are_those_of_the_blocks_it_loads() {
        let of = |name: &str| named(name).applied().expect("a valid kernel").weights_per_round();
        assert_eq!(of("matmul Q8_0, 1 token, baseline"), Some(32));
        assert_eq!(of("experts_gate_up MXFP4, baseline"), Some(2 * 32));
        assert_eq!(of("router, baseline"), None);
    }

    #[test]
    fn constants_are_applied() {
        let [one, more] = ["1 token", "tokens"].map(|tokens| {
            let kernel = named(&format!("matmul Q8_0, {tokens}, baseline"));
            kernel.applied().expect("a valid kernel").spirv().expect("SPIR-V")
        });
        assert_ne!(one, more);
    }
}
