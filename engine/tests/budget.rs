//! Plans fitted to the memory that there is: devices × models × contexts. Headers of the real shapes, without their
//! data.
#![cfg(not(target_arch = "wasm32"))]

use std::sync::LazyLock;

use gptoss_engine::{BufferPurpose, LEAST_CONTEXT_TOKENS, MemoryPlan, PlanOptions};
use gptoss_gguf::{Gguf, Progress, parse};
use gptoss_kernels::Limits;
use gptoss_model::{CacheFormat, EngineError, Inventory, MemoryShortage, ModelConfig};
use gptoss_protocol::units;
use gptoss_synth::Spec;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const GB: u64 = 1_000_000_000;

const fn limits(max_binding_bytes: u64, max_buffer_bytes: u64) -> Limits {
    Limits {
        max_buffer_bytes,
        max_binding_bytes,
        max_workgroup_storage_bytes: 16 << 10,
        max_workgroups_per_dimension: 65535,
        rows_per_group: 8,
    }
}

/// What every WebGPU device has.
const LEAST_LIMITS: Limits = limits(128 * MIB, 256 * MIB);

/// Name, what its browser grants, and the memory that may be used.
const DEVICES: [(&str, Limits, u64); 5] = [
    ("8 GB iGPU", limits(2 * GIB - 4, 2 * GIB), 7 * GB),
    ("12 GB card", limits(2 * GIB - 4, 2 * GIB), 11 * GIB),
    ("16 GB Mac", limits(4 * GIB - 4, 4 * GIB), 10_500_000_000),
    ("24 GB card", limits(2 * GIB - 4, 2 * GIB), 23 * GIB),
    ("12 GB card at WebGPU's least", LEAST_LIMITS, 11 * GIB),
];

const CONTEXTS: [Option<u32>; 5] = [None, Some(2048), Some(8192), Some(32_768), Some(131_072)];

struct Model {
    name: &'static str,
    config: ModelConfig,
    inventory: Inventory,
    /// Length of the data of all tensors in the file.
    data_bytes: u64,
}

impl Model {
    /// Makes a model from a header alone: the file has a length, but its data are never made.
    fn new(name: &'static str, spec: &Spec) -> Self {
        let model = spec.build().expect("a valid shape");
        let gguf: Gguf = match parse(&model.header(), model.file_bytes()).expect("a valid header") {
            Progress::Ready(gguf) => *gguf,
            Progress::NeedMore { at_least } => panic!("{name}: the header is {at_least} bytes long"),
        };
        let config = ModelConfig::from_gguf(&gguf).expect("gpt-oss");
        let inventory = Inventory::from_gguf(&gguf, &config).expect("a complete model");
        let data_bytes = gguf.tensors.iter().map(|tensor| tensor.size_bytes).sum();
        Self { name, config, inventory, data_bytes }
    }

    fn plan(&self, limits: &Limits, options: &PlanOptions) -> Result<MemoryPlan, EngineError> {
        MemoryPlan::new(&self.config, &self.inventory, limits, options)
    }

    fn options(&self, context: Option<u32>, budget: Option<u64>) -> PlanOptions {
        PlanOptions { max_kv_tokens: context, gpu_memory_bytes: budget, ..PlanOptions::for_model(&self.config) }
    }

    /// Bytes of the plan with exactly these choices, whatever there is.
    fn total(&self, limits: &Limits, context: u32, slots: u32) -> u64 {
        let plenty = self.plan(limits, &self.options(Some(context), None)).expect("within the limits");
        let options =
            PlanOptions { expert_memory_bytes: Some(plenty.expert_bytes(slots)), ..self.options(Some(context), None) };
        let plan = self.plan(limits, &options).expect("within the limits");
        assert_eq!((plan.slots_per_layer, plan.kv_capacity), (slots, context));
        plan.totals.gpu_total_bytes
    }

    /// The fewest bytes with this wish.
    fn least(&self, limits: &Limits, context: Option<u32>) -> u64 {
        self.total(limits, context.unwrap_or(LEAST_CONTEXT_TOKENS), self.config.experts_per_token)
    }
}

static MODELS: LazyLock<[Model; 3]> = LazyLock::new(|| {
    [
        Model::new("nano", &Spec::nano()),
        Model::new("20b", &Spec::gpt_oss_20b()),
        Model::new("120b", &Spec::gpt_oss_120b()),
    ]
});

fn model(name: &str) -> &'static Model {
    MODELS.iter().find(|model| model.name == name).expect("a model of the table")
}

/// Every row of devices × models × contexts, with a name for messages.
fn every_row(mut check: impl FnMut(&str, &Model, &Limits, Option<u32>, u64)) {
    for model in MODELS.iter() {
        for (device, limits, budget) in &DEVICES {
            for context in CONTEXTS {
                check(&format!("{} on {device}, context {context:?}", model.name), model, limits, context, *budget);
            }
        }
    }
}

#[test]
fn a_plan_stays_within_memory_and_limits_and_takes_all_it_can() {
    every_row(|row, model, limits, context, budget| {
        let Ok(plan) = model.plan(limits, &model.options(context, Some(budget))) else { return };
        let totals = &plan.totals;
        assert!(totals.gpu_total_bytes <= budget, "{row}: {totals:?}");
        assert_eq!(totals.budget_bytes, Some(budget), "{row}");

        let buffers = plan.buffers(&model.config, &model.inventory, limits).expect("planned before");
        let sum = |purpose| buffers.iter().filter(|b| b.purpose == purpose).map(|b| b.bytes).sum::<u64>();
        let parts = [BufferPurpose::Dense, BufferPurpose::Experts, BufferPurpose::Cache, BufferPurpose::Scratch];
        assert_eq!(
            parts.map(sum),
            [totals.dense_bytes, totals.expert_bytes, totals.kv_bytes, totals.scratch_bytes],
            "{row}"
        );
        assert_eq!(parts.map(sum).iter().sum::<u64>(), totals.gpu_total_bytes, "{row}");
        for buffer in &buffers {
            let most = limits.max_binding_bytes.min(limits.max_buffer_bytes);
            assert!(buffer.bytes <= most, "{row}: {buffer:?} is more than {most} bytes");
        }
        for arenas in &plan.arenas {
            assert_eq!(arenas.iter().sum::<u32>(), plan.slots_per_layer, "{row}");
        }

        let (slots, experts) = (plan.slots_per_layer, model.config.experts);
        assert!((model.config.experts_per_token..=experts).contains(&slots), "{row}: {slots} slots");
        assert_eq!(plan.totals.paged, slots < experts, "{row}");
        if slots < experts {
            assert!(model.total(limits, plan.kv_capacity, slots + 1) > budget, "{row}: one slot more would fit");
        }
        match context {
            Some(asked) => assert_eq!((plan.kv_capacity, totals.shortened_from_tokens), (asked, None), "{row}"),
            None if totals.shortened_from_tokens.is_none() => assert_eq!(plan.kv_capacity, 8192, "{row}"),
            None => panic!("{row}: no device of the table holds the model only with a shorter context"),
        }
    });
}

#[test]
fn a_refusal_has_the_numbers_and_comes_only_when_the_least_does_not_fit() {
    let mut refusals = Vec::new();
    every_row(|row, model, limits, context, budget| {
        let needed = model.least(limits, context);
        match model.plan(limits, &model.options(context, Some(budget))) {
            Ok(_) => assert!(needed <= budget, "{row}: {needed} bytes are needed"),
            Err(EngineError::GpuMemory(shortage)) => {
                assert!(needed > budget, "{row}: {needed} bytes are enough");
                check_shortage(row, model, limits, context, budget, &shortage, needed);
                refusals.push(row.to_owned());
            }
            Err(other) => panic!("{row}: {other}"),
        }
        // Exactly the least is enough, one byte less is not.
        assert!(model.plan(limits, &model.options(context, Some(needed))).is_ok(), "{row}");
        let error = model.plan(limits, &model.options(context, Some(needed - 1))).expect_err(row);
        let EngineError::GpuMemory(shortage) = error else { panic!("{row}: {error}") };
        check_shortage(row, model, limits, context, needed - 1, &shortage, needed);
    });
    // 131072 tokens are 3.2 GB of keys and values in 20b and 4.8 GB in 120b; 120b needs 4.7 GB without them.
    assert_eq!(refusals, ["120b on 8 GB iGPU, context Some(131072)"], "{refusals:?}");
}

fn check_shortage(
    row: &str,
    model: &Model,
    limits: &Limits,
    context: Option<u32>,
    given: u64,
    shortage: &MemoryShortage,
    needed: u64,
) {
    assert_eq!((shortage.given, shortage.needed), (given, needed), "{row}");
    assert_eq!(
        shortage.dense + shortage.experts + shortage.kv + shortage.scratch,
        needed,
        "{row}: the parts make the whole"
    );
    assert_eq!(shortage.context_tokens, context.unwrap_or(LEAST_CONTEXT_TOKENS), "{row}");
    let text = EngineError::GpuMemory(Box::new(shortage.clone())).to_string();
    let parts = [shortage.dense, shortage.experts, shortage.kv, shortage.scratch].map(units::bytes);
    for size in parts.into_iter().chain([units::bytes_at_most(given), units::bytes_at_least(needed)]) {
        assert!(text.contains(&size), "{row}: {size} is missing in {text}");
    }
    match shortage.fitting_context_tokens {
        Some(fitting) => {
            assert!(fitting < shortage.context_tokens, "{row}");
            assert!(model.plan(limits, &model.options(Some(fitting), Some(given))).is_ok(), "{row}: {fitting} tokens");
        }
        None => assert!(model.least(limits, None) > given, "{row}: a shorter context would fit"),
    }
}

#[test]
fn more_memory_never_gives_less() {
    for (model, limits) in [(model("nano"), LEAST_LIMITS), (model("20b"), LEAST_LIMITS), (model("120b"), DEVICES[3].1)]
    {
        let least = model.least(&limits, None);
        let all = model.plan(&limits, &model.options(None, None)).expect("no budget").totals.gpu_total_bytes;
        let mut before = (0, 0);
        let mut seen = Vec::new();
        for step in 0..=100 {
            let budget = least + (all - least) * step / 100;
            let plan = model.plan(&limits, &model.options(None, Some(budget))).expect("at least the least");
            let now = (plan.kv_capacity, plan.slots_per_layer);
            assert!(now.0 >= before.0 && now.1 >= before.1, "{}: {before:?}, then {now:?}", model.name);
            // The context is shortened only when the experts have given all they can.
            assert!(now.0 == 8192 || now.1 == model.config.experts_per_token, "{}: {now:?}", model.name);
            assert_eq!(plan.totals.shortened_from_tokens, (now.0 < 8192).then_some(8192));
            let longer = now.0 + 64;
            assert!(now.0 == 8192 || model.total(&limits, longer, now.1) > budget, "{}: {longer} fit", model.name);
            before = now;
            seen.push(now);
        }
        assert_eq!(seen[0], (LEAST_CONTEXT_TOKENS, model.config.experts_per_token), "{}", model.name);
        assert_eq!(seen[100], (8192, model.config.experts), "{}", model.name);
    }
}

/// What stays on disk and what is fetched when, against sums over the file's own tensors.
#[test]
fn bytes_to_fetch_are_those_of_the_file() {
    every_row(|row, model, limits, context, budget| {
        let Ok(plan) = model.plan(limits, &model.options(context, Some(budget))) else { return };
        let totals = &plan.totals;
        assert_eq!(totals.all_bytes, model.data_bytes, "{row}");
        let expert_bytes: u64 = model.inventory.layers.iter().map(|layer| layer.expert_file_bytes()).sum();
        let of_experts = |count: u32| expert_bytes / u64::from(model.config.experts) * u64::from(count);
        let dense = model.data_bytes - expert_bytes;
        let at_load = if plan.totals.paged { 0 } else { model.config.experts };
        let at_first = at_load.max(model.config.experts_per_token);
        assert_eq!(totals.load_bytes, dense + of_experts(at_load), "{row}");
        assert_eq!(totals.first_token_bytes, dense + of_experts(at_first), "{row}");
        assert_eq!(totals.on_disk_bytes, of_experts(model.config.experts - plan.slots_per_layer), "{row}");
    });
    let known = model("20b");
    assert_eq!(known.data_bytes, 12_096_558_336, "of the public file");
}

#[test]
fn the_output_matrix_of_20b_is_cut_to_the_smallest_bindings() {
    let model = model("20b");
    let plan = model.plan(&LEAST_LIMITS, &model.options(None, Some(11 * GIB))).expect("fits, paged");
    let buffers = plan.buffers(&model.config, &model.inventory, &LEAST_LIMITS).expect("planned before");
    let output: Vec<u64> = buffers.iter().filter(|buffer| buffer.what == "output").map(|buffer| buffer.bytes).collect();
    assert_eq!(output.len(), 5, "{output:?}");
    assert!(output.iter().all(|&bytes| bytes <= 128 * MIB), "{output:?}");
    let file_bytes = model.inventory.output.size_bytes;
    assert_eq!(file_bytes / MIB, 586, "201088 rows of 2880 Q8_0 weights");
    // Each shard's scales begin at a multiple of 256.
    assert!((file_bytes..file_bytes + 5 * 256).contains(&output.iter().sum()), "{output:?}");
    // 10 slots of 13.3 MB to a binding.
    assert!(plan.arenas.iter().flatten().all(|&slots| slots <= 10), "{:?}", plan.arenas);
}

#[test]
fn a_default_context_fits_the_bindings_and_one_asked_for_is_refused() {
    let model = model("120b");
    let small = limits(2 * MIB, 256 * MIB);
    let wide = PlanOptions { cache: CacheFormat::F32, ..model.options(Some(131_072), None) };
    let error = model.plan(&LEAST_LIMITS, &wide).expect_err("256 MiB of F32 keys in a layer");
    assert!(matches!(error, EngineError::Context { wanted: 131_072, .. }), "{error}");
    let error = model.plan(&small, &model.options(Some(8192), None)).expect_err("8 MiB of keys in a layer");
    assert!(matches!(error, EngineError::Context { wanted: 8192, .. }), "{error}");
    let nano = Model::new("nano", &Spec::nano());
    let plan = nano.plan(&limits(MIB, 256 * MIB), &nano.options(None, None)).expect("a shorter default");
    assert_eq!(plan.kv_capacity, 4096, "of 256 bytes each");
}
