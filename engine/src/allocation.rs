//! Allocating what a plan says, or less where the GPU has less.

use std::rc::Rc;

use gptoss_kernels::repack::Repack;
use gptoss_kernels::{Gpu, GpuBuffer};
use gptoss_model::sequences::BATCHES_UNDER_WAY;
use gptoss_model::{AwaitPoint, EngineError, GpuError, Host, Inventory, LoadProposal, ModelConfig, until_stopped};
use gptoss_protocol::Event;

use crate::pager::Residency;
use crate::plan::{MemoryPlan, PlanOptions};
use crate::policy::LoadPolicy;
use crate::program::ModelKernels;
use crate::recipe::{Filled, Recipe};
use crate::weights::Weights;

/// Everything that a plan puts on the GPU, still empty.
pub struct Allocated {
    pub recipe: Recipe,
    pub buffers: Filled,
    pub weights: Weights,
    pub residency: Residency,
    pub repack: Repack,
    pub readbacks: Vec<GpuBuffer>,
}

/// The inputs of an allocation.
pub struct Allocation<'a> {
    pub gpu: &'a Gpu,
    pub kernels: &'a ModelKernels,
    pub config: &'a ModelConfig,
    pub inventory: &'a Inventory,
    pub policy: LoadPolicy,
}

impl Allocation<'_> {
    /// Allocates what the plan says. If the GPU has less memory than that, experts give way, then the default context,
    /// and the new plan is reported. If that does not fit either, the error has the numbers.
    pub async fn make(
        &self,
        mut plan: MemoryPlan,
        mut options: PlanOptions,
        host: &dyn Host,
    ) -> Result<(MemoryPlan, Allocated), EngineError> {
        let &Self { gpu, config, inventory, policy, .. } = self;
        let wanted = plan.totals.gpu_total_bytes;
        let wished_expert_bytes = options.expert_memory_bytes;
        loop {
            let bytes = plan.totals.gpu_total_bytes;
            let probe = gpu.probe_memory("the model", bytes, || self.allocate(&plan));
            let out_of_memory = match until_stopped(host, AwaitPoint::Memory, probe).await? {
                Ok(allocated) => {
                    let allocated = allocated?;
                    if bytes < wanted {
                        let proposal = LoadProposal { plan: &plan.totals, bytes_per_second: None, wished_expert_bytes };
                        policy.approval(host, proposal).await?;
                    }
                    return Ok((plan, allocated));
                }
                Err(error @ GpuError::OutOfMemory { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            if !give_way(&plan, config, &mut options) {
                return Err(out_of_memory.into());
            }
            // Without any plan, the context is already as short as it may be.
            plan = MemoryPlan::new(config, inventory, &gpu.limits(), &options).map_err(|_shortage| out_of_memory)?;
            host.emit(Event::Plan(plan.totals.clone()));
        }
    }

    fn allocate(&self, plan: &MemoryPlan) -> Result<Allocated, GpuError> {
        let &Self { gpu, kernels, config, inventory, .. } = self;
        let recipe = Recipe::new(config, inventory, plan, &gpu.limits())?;
        let buffers = Filled::allocate(gpu, &recipe, config, plan);
        let page_table = Rc::clone(&buffers[recipe.shared.page_table]);
        Ok(Allocated {
            weights: Weights::of(&recipe, &buffers, plan),
            residency: Residency::new(gpu, plan, config.experts, page_table),
            repack: Repack::with(gpu, Rc::clone(&kernels.repack), plan.piece_bytes),
            readbacks: (0..BATCHES_UNDER_WAY).map(|_| gpu.staging("readback", plan.readback_bytes(config))).collect(),
            recipe,
            buffers,
        })
    }
}

/// Reduces what did not fit: halves the expert slots, down to the fewest that work; then halves the cache, if the user
/// did not choose the context. `false` when nothing is left to give.
fn give_way(plan: &MemoryPlan, config: &ModelConfig, options: &mut PlanOptions) -> bool {
    if plan.layers > 0 && plan.slots_per_layer > config.experts_per_token {
        let slots = (plan.slots_per_layer / 2).max(config.experts_per_token);
        options.expert_memory_bytes = Some(plan.expert_bytes(slots));
        return true;
    }
    let totals = &plan.totals;
    options.gpu_memory_bytes = Some(totals.gpu_total_bytes - totals.kv_bytes.div_ceil(2));
    options.max_kv_tokens.is_none() && totals.kv_bytes > 0
}
