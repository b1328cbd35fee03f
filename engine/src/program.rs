//! A recipe on a device: its kernels compiled and checked, its calls bound to their buffers once.

use std::rc::Rc;

use gptoss_kernels::repack::RepackKernels;
use gptoss_kernels::self_check::{Report, SelfCheck};
use gptoss_kernels::{Call, Gpu, GpuBuffer, Kernels, Launch, Operation};
use gptoss_model::{GpuError, Inventory, ModelConfig};

use crate::recipe::{BufferId, Filled, LayerRecipe, Recipe};

/// Every compiled kernel that a model needs.
pub struct ModelKernels {
    pub kernels: Kernels,
    /// Kernels that are used when experts are loaded.
    pub repack: Rc<RepackKernels>,
}

impl ModelKernels {
    /// Compiles the kernels that the recipe calls, and those that repack the file's weights.
    pub fn compile(gpu: &Gpu, recipe: &Recipe, inventory: &Inventory) -> Self {
        let kernels = Kernels::compile(gpu, recipe.operations());
        Self { kernels, repack: Rc::new(RepackKernels::new(gpu, &inventory.gpu_formats())) }
    }

    /// Checks all kernels with known vectors, for use by this model. `last_position`: the largest position that it will
    /// run at.
    ///
    /// # Errors
    /// A kernel that computes something else, or what the device fails with.
    pub async fn self_check(
        &self,
        gpu: &Gpu,
        config: &ModelConfig,
        recipe: &Recipe,
        last_position: u32,
    ) -> Result<Report, GpuError> {
        let mut check = SelfCheck::new(gpu, &self.kernels, last_position);
        check.repack(&self.repack);
        for operation in self.kernels.operations() {
            match operation {
                Operation::Matmul(format) => check.matmul(format, &self.repack),
                Operation::MatmulResidual(format) => check.matmul_residual(format, &self.repack),
                Operation::Rope(cache) => check.rope(cache, &config.yarn),
                Operation::Attention(cache) => check.attention(cache, config.query_heads / config.kv_heads),
                Operation::Router => check.router(config.experts, config.experts_per_token),
                Operation::Sample => check.sample(),
                // The row is checked with attention, whose inputs it has. The others are checked below, because one works
                // on the results of another.
                Operation::AttentionRow(_)
                | Operation::ExpertsGateUp(_)
                | Operation::ExpertsGate(_)
                | Operation::ExpertsUp(_)
                | Operation::ExpertsDown(_)
                | Operation::ExpertsCombine => {}
            }
        }
        for formats in recipe.expert_formats() {
            check.experts(formats, &self.repack);
        }
        check.run().await
    }
}

/// The launches of one layer: those of [`LayerRecipe`].
pub struct LayerProgram {
    pub attend: Vec<Launch>,
    pub experts: Vec<Launch>,
    pub combine: Vec<Launch>,
    pub attention_row: Launch,
}

/// The launches of a forward pass.
pub struct Program {
    pub begin: Vec<Launch>,
    pub layers: Vec<LayerProgram>,
    pub head: Vec<Launch>,
}

impl Program {
    /// Binds every call of the recipe to its buffers.
    pub fn new(gpu: &Gpu, kernels: &Kernels, recipe: &Recipe, buffers: &Filled) -> Self {
        let bind_one = |call: &Call<BufferId>| kernels.bind(gpu, &call.map(|id| -> &GpuBuffer { &buffers[*id] }));
        let bind = |calls: &[Call<BufferId>]| -> Vec<Launch> { calls.iter().map(bind_one).collect() };
        let layer = |layer: &LayerRecipe| LayerProgram {
            attend: bind(&layer.attend),
            experts: bind(&layer.experts),
            combine: bind(&layer.combine),
            attention_row: bind_one(&layer.attention_row),
        };
        let layers = recipe.layers.iter().map(layer).collect();
        Self { begin: bind(&recipe.begin), layers, head: bind(&recipe.head) }
    }
}
