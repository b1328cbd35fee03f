//! Shared by the whole-model tests: loading from memory, goldens, comparing logits. The same code runs natively and in
//! headless Chromium.

mod faulty_source;
mod gated_source;
pub mod interleavings;
mod logits;
pub mod watcher;

use std::cell::RefCell;
use std::rc::Rc;

pub use faulty_source::*;
pub use gated_source::*;
use gptoss_engine::{GpuEngine, LoadPolicy, Loader, Model, load, open_engine, open_gpu, preflight};
use gptoss_kernels::GpuOptions;
#[cfg(not(target_arch = "wasm32"))]
use gptoss_kernels::gpu::Limits;
#[cfg(not(target_arch = "wasm32"))]
use gptoss_model::{Header, read_header};
use gptoss_model::{Host, Quiet, StageError};
use gptoss_protocol::{Event, LoadOptions};
use gptoss_source::{MemorySource, Source};
pub use logits::*;

/// An engine for the model of `source`, without a first question.
pub async fn engine_of(
    source: Rc<dyn Source>,
    gpu: &GpuOptions,
    options: &LoadOptions,
    host: &dyn Host,
) -> Result<GpuEngine, StageError> {
    open_engine(
        Loader { source, gpu: gpu.clone(), options: options.clone(), all_logits: false, sequences: 1 },
        None,
        host,
    )
    .await
}

/// What every WebGPU device has, with eight lanes to a row.
#[cfg(not(target_arch = "wasm32"))]
pub const DEFAULT_LIMITS: Limits = Limits {
    max_buffer_bytes: 256 << 20,
    max_binding_bytes: 128 << 20,
    max_workgroup_storage_bytes: 16 << 10,
    max_workgroups_per_dimension: 65535,
    rows_per_group: 8,
};

/// The header of a file that is sound.
#[cfg(not(target_arch = "wasm32"))]
pub fn header(file: &[u8]) -> Header {
    pollster::block_on(read_header(memory("model", file).as_ref(), &Quiet)).expect("a valid file")
}

/// Says something about a test that passes.
pub fn print(line: &str) {
    #[cfg(not(target_arch = "wasm32"))]
    println!("{line}");
    #[cfg(target_arch = "wasm32")]
    wasm_bindgen_test::console_log!("{line}");
}

/// Runs an async test to its end.
#[cfg(not(target_arch = "wasm32"))]
pub fn run(test: impl Future<Output = ()>) {
    pollster::block_on(test);
}

/// Declares a test that runs natively and in a worker of headless Chromium.
macro_rules! everywhere {
    ($(#[$meta:meta])* $name:ident, $body:expr) => {
        $(#[$meta])*
        #[cfg(not(target_arch = "wasm32"))]
        #[test]
        fn $name() {
            $crate::support::run($body);
        }

        $(#[$meta])*
        #[cfg(target_arch = "wasm32")]
        #[wasm_bindgen_test::wasm_bindgen_test]
        async fn $name() {
            $body.await;
        }
    };
}

/// A host that keeps what it hears.
#[derive(Default)]
pub struct Recorder {
    pub events: RefCell<Vec<Event>>,
}

impl Host for Recorder {
    fn emit(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn cancelled(&self) -> bool {
        false
    }
}

pub fn memory(name: &str, file: &[u8]) -> Rc<MemorySource> {
    Rc::new(MemorySource::new(name, file.to_vec()))
}

/// How to load for parity.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub options: LoadOptions,
    pub gpu: GpuOptions,
    /// Expert slots per layer instead of all.
    pub slots: Option<u32>,
    /// Logits of every position rather than of the last.
    pub all_logits: bool,
    pub batch_tokens: Option<u32>,
    /// 0 is one.
    pub sequences: u32,
}

/// Loads a model without its tokenizer.
pub async fn load_model(name: &str, file: &[u8], setup: &Setup) -> Model {
    let gpu = open_gpu(&setup.gpu, &Quiet).await.expect("a GPU adapter: install a Vulkan driver (mesa-vulkan-drivers)");
    let source = memory(name, file);
    let mut prepared =
        preflight(&gpu, source.as_ref(), &setup.options, LoadPolicy::First, &Quiet).await.expect("a valid file");
    if let Some(tokens) = setup.batch_tokens {
        prepared.options.batch_tokens = tokens;
    }
    prepared.options.sequences = setup.sequences.max(1);
    if setup.all_logits {
        prepared.options.head_tokens = prepared.options.batch_tokens;
    }
    if let Some(slots) = setup.slots {
        prepared.options.expert_memory_bytes = Some(prepared.plan.expert_bytes(slots));
    }
    prepared.plan = gptoss_engine::MemoryPlan::new(
        &prepared.header.config,
        &prepared.header.inventory,
        &gpu.limits(),
        &prepared.options,
    )
    .expect("a plan");
    load(gpu, source, prepared, &Quiet).await.expect("the model loads")
}
