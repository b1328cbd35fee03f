//! What this machine can compute with, and what there is to run: found by looking, without starting a model or a
//! server.

use gptoss_protocol::units::bytes;
use serde::Serialize;

use crate::adapters::{self, Adapter};
use crate::catalogue::{self, Catalogue, FoundModel, SkippedFile};
use crate::environment::Environment;
use crate::machine::Machine;
use crate::upstream::ProviderState;

/// Everything `pylon doctor` and `pylon compute` know.
#[derive(Debug, Serialize)]
pub struct Survey {
    pub version: &'static str,
    pub machine: Machine,
    pub adapters: Vec<Adapter>,
    pub backends: Vec<BackendState>,
    /// All that could answer: the backends, and servers elsewhere that were named.
    pub providers: Vec<ProviderState>,
    pub models: Vec<FoundModel>,
    /// Files that the search for models passed over, and why.
    pub skipped: Vec<SkippedFile>,
    /// Ids of the models that can be served.
    pub model_ids: Vec<String>,
    /// Whether some model can run here.
    pub can_run: bool,
    /// Obstacles, and other facts worth knowing.
    pub findings: Vec<String>,
}

/// One of the backends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendState {
    /// Name for `--backend`: `cpu` or `gpu`.
    pub backend: &'static str,
    pub device: String,
    pub ready: bool,
    /// Whether `--backend auto` takes it for a model that fits.
    pub automatic: bool,
    /// Why it is not ready, or what to expect of it.
    pub remark: Option<String>,
}

impl Survey {
    /// Looks at everything; of servers elsewhere at those of which somebody has looked already.
    pub fn take(environment: &Environment, upstreams: Vec<ProviderState>) -> Self {
        let machine = Machine::look();
        let adapters = pollster::block_on(adapters::list());
        let Catalogue { models, skipped } = catalogue::search(environment);
        let backends = backends(&machine, &adapters);
        let model_ids: Vec<String> =
            models.iter().filter(|model| model.supported).map(|model| model.id.clone()).collect();
        let runs_here = !model_ids.is_empty() && backends.iter().any(|backend| backend.ready);
        let can_run = runs_here || upstreams.iter().any(|upstream| upstream.is_ready);
        let findings = findings(&machine, &adapters, &models);
        let version = env!("CARGO_PKG_VERSION");
        let here = backends.iter().map(|backend| backend.provider(&model_ids));
        let providers = here.chain(upstreams).collect();
        Self { version, machine, adapters, backends, providers, models, skipped, model_ids, can_run, findings }
    }
}

impl BackendState {
    fn provider(&self, model_ids: &[String]) -> ProviderState {
        let models = if self.ready { model_ids.to_vec() } else { Vec::new() };
        ProviderState { id: self.backend.to_owned(), is_ready: self.ready, models, remark: self.remark.clone() }
    }
}

fn backends(machine: &Machine, adapters: &[Adapter]) -> Vec<BackendState> {
    let has_gpu = adapters.iter().any(|adapter| adapter.usable && !adapter.software);
    let plural = if machine.threads == 1 { "" } else { "s" };
    let cpu = BackendState {
        backend: "cpu",
        device: format!("{} thread{plural}, {}", machine.threads, machine.instruction_set),
        ready: true,
        automatic: !has_gpu,
        remark: None,
    };
    let gpus = adapters.iter().map(|adapter| BackendState {
        backend: "gpu",
        device: format!("{} ({}, {})", adapter.name, adapter.api, adapter.kind),
        ready: adapter.usable,
        automatic: adapter.usable && !adapter.software,
        remark: match (&adapter.obstacle, adapter.software) {
            (Some(obstacle), _) => Some(obstacle.clone()),
            (None, true) => Some("a software adapter: right, but slower than the cpu backend".to_owned()),
            (None, false) => None,
        },
    });
    std::iter::once(cpu).chain(gpus).collect()
}

fn findings(machine: &Machine, adapters: &[Adapter], models: &[FoundModel]) -> Vec<String> {
    let mut findings = Vec::new();
    if adapters.is_empty() {
        findings.push("No GPU adapter was found: install a Vulkan driver, or use the CPU backend.".to_owned());
    }
    if models.is_empty() {
        findings.push(
            "No model was found: set GPT_OSS_GGUF_PATH to a gpt-oss GGUF such as gpt-oss-20b-mxfp4.gguf from ggml-org."
                .to_owned(),
        );
    } else if !models.iter().any(|model| model.supported) {
        findings.push("None of the GGUF files that were found can be run; see the reasons.".to_owned());
    }
    let memory_bytes = machine.memory.map_or(u64::MAX, |memory| memory.total_bytes);
    for model in models.iter().filter(|model| model.supported && model.file_bytes > memory_bytes) {
        findings.push(format!(
            "{} ({}) is larger than this machine's memory ({}): its experts will be read from disk again and again.",
            model.id,
            bytes(model.file_bytes),
            bytes(memory_bytes)
        ));
    }
    findings
}
