//! A load that comes with a question: a question that cannot be asked is refused before weights are fetched, and a
//! model that is replaced stays loaded until then.
#![cfg(not(target_arch = "wasm32"))]

use std::cell::RefCell;

use crate::support::{memory, run};
use gptoss_engine::{GpuEngine, Loader, open_engine};
use gptoss_kernels::GpuOptions;
use gptoss_model::{EngineError, Host, StageError};
use gptoss_protocol::{Event, LoadOptions, OptionId, Prompt, PromptFormat, Sampling, Stage, StageStatus};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

/// Notes stages as they begin, what was told of the header, and when the load went ahead.
#[derive(Default)]
struct Watcher {
    begun: RefCell<Vec<Stage>>,
    header: RefCell<Vec<(u64, u64)>>,
    /// The stages that had begun by then.
    ahead: RefCell<Option<Vec<Stage>>>,
}

impl Host for Watcher {
    fn emit(&self, event: Event) {
        match event {
            Event::Stage { stage, status: StageStatus::Started, .. } => self.begun.borrow_mut().push(stage),
            Event::Header { fetched_bytes, asked_bytes, .. } => {
                self.header.borrow_mut().push((fetched_bytes, asked_bytes));
            }
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn load_begins(&self) {
        *self.ahead.borrow_mut() = Some(self.begun.borrow().clone());
    }
}

fn prompt(user: &str) -> Prompt {
    Prompt {
        user: user.into(),
        format: PromptFormat::Harmony,
        instructions: String::new(),
        effort: Default::default(),
        date: None,
        max_new_tokens: 60,
        sampling: Sampling::default(),
        ..Prompt::default()
    }
}

async fn load(prompt: &Prompt, max_kv_tokens: Option<u32>, host: &Watcher) -> Result<GpuEngine, StageError> {
    let options = LoadOptions { max_kv_tokens, layers: Some(1), ..LoadOptions::default() };
    let source = memory("nano", MODEL);
    let loader = Loader { source, gpu: GpuOptions::default(), options, all_logits: false, sequences: 1 };
    open_engine(loader, Some(prompt), host).await
}

#[test]
fn a_question_that_does_not_fit_is_refused_with_a_capacity_that_would_do() {
    run(async {
        let question = prompt(&"word ".repeat(100));
        let host = Watcher::default();
        let error = load(&question, Some(64), &host).await.err().expect("too long");
        let EngineError::PromptTooLong { tokens, capacity: 64, .. } = error.error else { panic!("{error}") };
        assert_eq!((error.stage, error.error.parameter()), (Stage::PromptEncode, Some(OptionId::Prompt)));
        assert!(host.ahead.borrow().is_none() && !host.begun.borrow().contains(&Stage::Kernels));
        let advice = error.failure().advice;
        let capacity: u32 = advice
            .split_once("KV capacity of ")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no number in: {advice}"));
        assert!(capacity > tokens, "{advice}");
        load(&question, Some(capacity), &Watcher::default()).await.expect("that would do");
    });
}

#[test]
fn a_value_that_cannot_be_used_is_refused_before_anything_is_done() {
    run(async {
        let host = Watcher::default();
        let hot = Prompt { sampling: Sampling { temperature: 3.0, ..Sampling::default() }, ..prompt("Hi") };
        let error = load(&hot, None, &host).await.err().expect("too hot");
        assert_eq!(error.error.parameter(), Some(OptionId::Temperature));
        assert!(error.to_string().contains(Sampling::TEMPERATURES.words), "{error}");
        assert!(host.begun.borrow().is_empty(), "{:?}", host.begun);
    });
}

#[test]
fn the_load_goes_ahead_once_all_was_looked_at_and_before_anything_is_allocated() {
    run(async {
        let host = Watcher::default();
        let question = prompt("What is 12 + 30?");
        let engine = load(&question, None, &host).await.expect("it fits");
        let ahead = host.ahead.borrow().clone().expect("it went ahead");
        assert_eq!(ahead, [Stage::GpuDevice, Stage::GgufHeader, Stage::MemoryPlan, Stage::Tokenizer]);
        // No conversation is shorter than what the page takes for the least.
        let least = engine.encode(&prompt("a")).len() as u32 + 1;
        assert!(least >= PromptFormat::Harmony.least_context_tokens(), "{least}");

        let header = host.header.borrow();
        let (fetched, asked) = *header.last().expect("bytes of the header are told");
        assert!(fetched == asked && fetched > 0, "{header:?}");
        assert!(header.iter().all(|(fetched, asked)| fetched <= asked), "{header:?}");
        assert!(header.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{header:?}");
    });
}
