//! The costs of a forward pass, derived from its recipe: dispatches, threads, barriers, serial steps, bytes.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail};
use gptoss_engine::{BufferId, BufferPurpose, MemoryPlan, PlanOptions, Recipe};
use gptoss_gguf::Progress;
use gptoss_kernels::gpu::{Access, Limits};
use gptoss_kernels::weights::PlaneLayout;
use gptoss_kernels::{Call, Operation, Step, Tier, attention, matmul, matmul_residual};
use gptoss_model::ops::rope::HEAD_DIM;
use gptoss_model::sequences::BATCHES_UNDER_WAY;
use gptoss_model::{Inventory, ModelConfig};
use gptoss_synth::Spec;
use serde::{Deserialize, Serialize};

use crate::barriers::Barriers;
use crate::kernels::{GEOMETRY, Kernel};
use crate::steps;

/// With fewer threads than this, most of any GPU is idle: even the smallest laptop GPUs hold more.
pub const FEW_THREADS: u64 = 4096;
/// Number of rows of the prompt.
pub const PROMPT_ROWS: u32 = 512;
/// Number of keys that a decoded token sees, its own included.
pub const CONTEXT_TOKENS: u32 = 1024;

/// Limits that every WebGPU device grants, with eight lanes per row in workgroups of 64.
pub const DEFAULT_LIMITS: Limits = Limits {
    max_buffer_bytes: 256 << 20,
    max_binding_bytes: 128 << 20,
    max_workgroup_storage_bytes: 16 << 10,
    max_workgroups_per_dimension: 65535,
    rows_per_group: 64 / GEOMETRY.lanes_per_row,
};
/// Limits that the GPUs of PCs grant: all experts of a layer are one arena (424 MB), and the head is one matrix (616
/// MB).
pub const ROOMY_LIMITS: Limits = Limits { max_buffer_bytes: 2 << 30, max_binding_bytes: 2 << 30, ..DEFAULT_LIMITS };

/// Costs of computing some rows, with all experts resident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassCosts {
    /// Number of passes through all layers.
    pub batches: u64,
    /// How many of these passes the GPU is given at a time; a token must be known before the next one is begun.
    pub batches_under_way: u64,
    pub dispatches: u64,
    /// Threads of the smallest dispatch.
    pub least_threads: u64,
    /// Threads of the largest dispatch.
    pub most_threads: u64,
    /// Number of dispatches with fewer threads than [`FEW_THREADS`].
    pub small_dispatches: u64,
    /// Number of dispatches that wait for earlier ones, see [`Barriers`].
    pub barriers: u64,
    /// Sum over the dispatches of the loop rounds of the busiest thread, see [`steps`].
    pub serial_steps: u64,
    /// How often the logits of a row are read.
    pub logit_passes: u64,
    /// Bytes of matrices, each read once for a batch: the dense ones, the router's, and as many experts as there are
    /// choices, but no more than exist.
    pub weight_bytes_once: u64,
    /// Bytes of matrices as the kernels read them: again for every group of tokens, and for every choice of an expert.
    pub weight_bytes_read: u64,
    /// Bytes of keys and values that the rows of a batch see, each read once for a batch.
    pub kv_bytes_once: u64,
    /// Bytes of keys and values as the kernels read them: again for every query head and every row.
    pub kv_bytes_read: u64,
}

/// A model of real size, but without weights, planned for a device.
pub struct Planned {
    config: ModelConfig,
    plan: MemoryPlan,
    recipe: Recipe,
    limits: Limits,
    /// Threads of a workgroup, by operation and whether there is a single token.
    workgroups: HashMap<(Operation, bool), u64>,
}

/// Rows that go through the layers together.
#[derive(Clone, Copy, Debug)]
struct Batch {
    /// Position of the first row.
    position: u32,
    rows: u32,
    /// Whether the last row's logits are wanted.
    head: bool,
}

impl Planned {
    /// Plans gpt-oss-20b for a device that grants `limits`.
    ///
    /// # Errors
    /// The header or the plan is refused, or a kernel is not valid.
    pub fn gpt_oss_20b(limits: Limits) -> Result<Self> {
        let model = Spec::gpt_oss_20b().build()?;
        let Progress::Ready(gguf) = gptoss_gguf::parse(&model.header(), model.file_bytes())? else {
            bail!("the header of the synthetic file is not whole");
        };
        let config = ModelConfig::from_gguf(&gguf)?;
        let inventory = Inventory::from_gguf(&gguf, &config)?;
        let plan = MemoryPlan::new(&config, &inventory, &limits, &PlanOptions::for_model(&config))?;
        let recipe = Recipe::new(&config, &inventory, &plan, &limits)?;
        let operations: HashSet<_> = recipe.operations().collect();
        let mut workgroups = HashMap::new();
        for operation in operations {
            for single in [true, false] {
                workgroups.insert((operation, single), workgroup_threads(operation, single)?);
            }
        }
        Ok(Self { config, plan, recipe, limits, workgroups })
    }

    /// Costs of one token at the end of a context of [`CONTEXT_TOKENS`].
    pub fn decode(&self) -> PassCosts {
        self.costs(&[Batch { position: CONTEXT_TOKENS - 1, rows: 1, head: true }])
    }

    /// Costs of a prompt of [`PROMPT_ROWS`] from an empty context, in batches of the plan's size.
    pub fn prompt(&self) -> PassCosts {
        let size = self.plan.batch_tokens;
        let batch = |position| {
            let rows = size.min(PROMPT_ROWS - position);
            Batch { position, rows, head: position + rows == PROMPT_ROWS }
        };
        let batches: Vec<_> = (0..PROMPT_ROWS).step_by(size as usize).map(batch).collect();
        self.costs(&batches)
    }

    fn costs(&self, batches: &[Batch]) -> PassCosts {
        let mut costs = PassCosts {
            batches: batches.len() as u64,
            batches_under_way: (batches.len() as u64).min(BATCHES_UNDER_WAY.into()),
            least_threads: u64::MAX,
            ..PassCosts::default()
        };
        for batch in batches {
            let head_tokens = u32::from(batch.head);
            let step = Step { tokens: batch.rows, head_first: batch.rows - head_tokens, head_tokens, stamp: 0 };
            let mut barriers = Barriers::default();
            for call in self.recipe.calls() {
                let Some([x, y]) = self.groups(call, &step) else { continue };
                let threads =
                    u64::from(x) * u64::from(y) * self.workgroups[&(call.operation, tokens(call, &step) == 1)];
                costs.dispatches += 1;
                costs.least_threads = costs.least_threads.min(threads);
                costs.most_threads = costs.most_threads.max(threads);
                costs.small_dispatches += u64::from(threads < FEW_THREADS);
                // The second binding is the parameters, which nobody writes.
                let accesses = call.operation.accesses().iter().enumerate().filter(|(at, _)| *at != 1);
                let uses = call.buffers.iter().zip(accesses);
                barriers.dispatch(uses.map(|(buffer, (_, access))| (buffer.place(), *access == Access::ReadWrite)));
                costs.serial_steps += steps::of_call(call.operation, &call.params, batch.position + batch.rows - 1);
                if call.operation == Operation::Sample {
                    costs.logit_passes += steps::LOGIT_PASSES * u64::from(step.head_tokens);
                }
                self.count_dense(call, [x, y], &mut costs);
                self.count_cache(call, batch, &mut costs);
            }
            costs.barriers += barriers.count();
            self.count_experts(batch, &mut costs);
        }
        costs
    }

    /// The grid of a call; `None` if the batch has no work for it.
    fn groups<B>(&self, call: &Call<B>, step: &Step) -> Option<[u32; 2]> {
        let groups = [call.x, call.y].map(|extent| extent.on(self.limits.rows_per_group).groups(step));
        (!groups.contains(&0)).then_some(groups)
    }

    /// Counts the matrices that all tokens use: a matmul reads its own for every group of tokens, the router for every
    /// token.
    fn count_dense(&self, call: &Call<BufferId>, [x, y]: [u32; 2], costs: &mut PassCosts) {
        let (bytes, times) = match call.operation {
            Operation::Matmul(format) => {
                let matmul::Params { rows, blocks_per_row, .. } = bytemuck::pod_read_unaligned(&call.params);
                (plane_bytes(&PlaneLayout { format, rows: rows.into(), blocks_per_row: blocks_per_row.into() }), y)
            }
            Operation::MatmulResidual(format) => {
                let matmul_residual::Params { rows, blocks_per_row, .. } = bytemuck::pod_read_unaligned(&call.params);
                (plane_bytes(&PlaneLayout { format, rows: rows.into(), blocks_per_row: blocks_per_row.into() }), y)
            }
            Operation::Router => {
                let is_weight = |place: &usize| self.recipe.buffers[*place].purpose == BufferPurpose::Dense;
                let places = call.buffers.iter().map(|buffer| buffer.place()).filter(is_weight);
                (places.map(|place| self.recipe.buffers[place].bytes).sum(), x)
            }
            _ => return,
        };
        costs.weight_bytes_once += bytes;
        costs.weight_bytes_read += bytes * u64::from(times);
    }

    /// Counts keys and values: a workgroup for each row and query head reads those of its KV head that the row sees.
    fn count_cache<B>(&self, call: &Call<B>, batch: &Batch, costs: &mut PassCosts) {
        if !matches!(call.operation, Operation::Attention(_)) {
            return;
        }
        let attention::Params { query_heads, kv_heads, window, .. } = bytemuck::pod_read_unaligned(&call.params);
        let seen = |position: u32| if window == 0 { position + 1 } else { window.min(position + 1) };
        let last = batch.position + batch.rows - 1;
        // The range is from the first key that the first row sees to the last row's own.
        let keys_once = u64::from(batch.rows - 1 + seen(batch.position));
        let keys_read: u64 = (batch.position..=last).map(|position| u64::from(seen(position))).sum();
        let head_bytes = 2 * HEAD_DIM as u64 * self.plan.cache.size_bytes();
        costs.kv_bytes_once += keys_once * u64::from(kv_heads) * head_bytes;
        costs.kv_bytes_read += keys_read * u64::from(query_heads) * head_bytes;
    }

    /// Counts experts: in whichever arena a chosen expert is, its rows are read by the workgroups of its pair of token
    /// and choice.
    fn count_experts(&self, batch: &Batch, costs: &mut PassCosts) {
        let pairs = u64::from(batch.rows * self.config.experts_per_token);
        let at_once = pairs.min(u64::from(self.config.experts));
        for layer in &self.recipe.layers {
            let slot = &layer.buffers.slot;
            let mut bytes = plane_bytes(&slot.gate.planes) + plane_bytes(&slot.down.planes);
            if !slot.formats().interleave() {
                bytes += plane_bytes(&slot.up.planes);
            }
            costs.weight_bytes_once += at_once * bytes;
            costs.weight_bytes_read += pairs * bytes;
        }
    }
}

/// The number of tokens that decides which variant runs.
fn tokens<B>(call: &Call<B>, step: &Step) -> u32 {
    if call.x.is_head() || call.y.is_head() { step.head_tokens } else { step.tokens }
}

/// Threads of a workgroup of the kernel that every device can run.
fn workgroup_threads(operation: Operation, single: bool) -> Result<u64> {
    let mut variants = operation.chosen(GEOMETRY, Tier::Baseline).into_iter();
    let variant = variants.find(|variant| variant.tokens.contains(if single { &1 } else { &2 }));
    let variant = variant.with_context(|| format!("{operation} has no kernel for such a batch"))?;
    steps::check(operation, &variant.source)?;
    Ok(Kernel::new(operation, variant).applied()?.workgroup_threads().into())
}

/// Bytes of codes and scales, without padding.
fn plane_bytes(planes: &PlaneLayout) -> u64 {
    planes.codes_bytes() + planes.scales_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> (PassCosts, PassCosts) {
        let planned = Planned::gpt_oss_20b(DEFAULT_LIMITS).expect("a plan");
        (planned.decode(), planned.prompt())
    }

    /// The same figures, derived from the shape of the model.
    #[test]
    fn keys_and_values_are_those_of_24_layers() {
        let (decode, prompt) = costs();
        // Keys or values of 8 heads, with 64 values of 2 bytes each.
        let key_bytes = 2 * 8 * 64 * 2;
        // Half of the layers see 128 keys at most; 8 query heads share a KV head.
        assert_eq!(decode.kv_bytes_once, 12 * (1024 + 128) * key_bytes);
        assert_eq!(decode.kv_bytes_read, 8 * decode.kv_bytes_once);
        let full: u64 = (1..=512).sum();
        let sliding: u64 = (1..=512).map(|position: u64| position.min(128)).sum();
        assert_eq!(prompt.kv_bytes_read, 8 * 12 * (full + sliding) * key_bytes);
    }

    /// The expected bytes are those of the file's tensors.
    #[test]
    fn a_token_reads_every_dense_matrix_and_four_of_32_experts() {
        let model = Spec::gpt_oss_20b().build().expect("a model");
        let Ok(Progress::Ready(gguf)) = gptoss_gguf::parse(&model.header(), model.file_bytes()) else {
            panic!("a whole header")
        };
        let is_matrix = |name: &str| name.ends_with(".weight") && !name.contains("norm") && name != "token_embd.weight";
        let matrices = gguf.tensors.iter().filter(|tensor| is_matrix(&tensor.name));
        let of_token = |tensor: &gptoss_gguf::TensorInfo| match tensor.name.contains("_exps") {
            true => tensor.size_bytes * 4 / 32,
            false => tensor.size_bytes,
        };
        let expected: u64 = matrices.map(of_token).sum();
        let (decode, _) = costs();
        // Rows of scales are padded to whole words: of MXFP4 that are 2 bytes to a row of 1530.
        assert!((expected..expected + expected / 500).contains(&decode.weight_bytes_once), "{expected}: {decode:?}");
        assert_eq!(decode.weight_bytes_read, decode.weight_bytes_once);
    }

    /// 64 rows are 8 groups of 8 tokens, and 256 choices of 32 experts. The head works for one row only, the router
    /// reads its matrix for each: both are small beside the experts.
    #[test]
    fn a_batch_reads_matrices_eight_times() {
        let (_, prompt) = costs();
        let times = prompt.weight_bytes_read as f64 / prompt.weight_bytes_once as f64;
        assert!((times - 8.0).abs() < 0.1, "{times}");
    }

    /// Calls: the begin, 8 per layer, the head and the sampling.
    #[test]
    fn with_room_a_layer_is_eight_dispatches() {
        let decode = Planned::gpt_oss_20b(ROOMY_LIMITS).expect("a plan").decode();
        assert_eq!(decode.dispatches, 1 + 24 * 8 + 2);
    }

    /// The steps of a token by hand: 24 routers, 24 layers of products of 2880 and (output) 4096 columns, the head,
    /// half of the layers with all 1024 keys, and the sampling.
    #[test]
    fn serial_steps_of_a_token() {
        let decode = Planned::gpt_oss_20b(ROOMY_LIMITS).expect("a plan").decode();
        let products = 12 + 16 + 12 + 12;
        let keys = (16 * 32 + 1024) + (2 * 32 + 128);
        assert_eq!(decode.serial_steps, 24 * (1440 + products) + 12 * keys + 12 + 8 * 786);
        assert_eq!((decode.logit_passes, decode.batches_under_way), (8, 1));
    }

    #[test]
    fn dispatches_of_a_prompt_are_those_of_its_batches() {
        let (decode, prompt) = costs();
        assert_eq!(prompt.batches, u64::from(PROMPT_ROWS / gptoss_engine::DEFAULT_BATCH_TOKENS));
        assert!(prompt.dispatches < prompt.batches * decode.dispatches, "only the last batch has a head");
        assert!(prompt.least_threads > decode.least_threads && decode.barriers < decode.dispatches);
    }
}
