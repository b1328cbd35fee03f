//! Bad input and bad luck: each stops with an error that names the thing, and nothing hangs or goes on silently.
#![cfg(not(target_arch = "wasm32"))]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::support::{FaultySource, Reads, engine_of, memory, run};
use gptoss_engine::GpuEngine;
use gptoss_kernels::GpuOptions;
use gptoss_model::{EngineError, Host, Quiet, StageError};
use gptoss_protocol::{Event, FailureKind, LoadOptions, Prompt, PromptFormat, Sampling, Stage};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

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

async fn try_load(file: &[u8], options: &LoadOptions) -> Result<GpuEngine, StageError> {
    engine_of(memory("test.gguf", file), &GpuOptions::default(), options, &Quiet).await
}

/// The error of a load that must fail; its text must contain every word given.
fn refused(file: &[u8], options: &LoadOptions, stage: Stage, kind: FailureKind, words: &[&str]) {
    run(async {
        let error = try_load(file, options).await.err().expect("the load must be refused");
        let failure = error.failure();
        assert_eq!((error.stage, failure.kind), (stage, kind), "{}", failure.message);
        for word in words {
            assert!(failure.message.contains(word), "{word:?} is missing in: {}", failure.message);
        }
        assert!(!failure.advice.is_empty(), "no advice for: {}", failure.message);
    });
}

/// Replaces the only occurrence of `from` by `to`, of the same length.
fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut file = MODEL.to_vec();
    let places: Vec<usize> = (0..file.len() - from.len()).filter(|&at| &file[at..at + from.len()] == from).collect();
    assert_eq!(places.len(), 1, "{:?} occurs {} times", String::from_utf8_lossy(from), places.len());
    file[places[0]..places[0] + to.len()].copy_from_slice(to);
    file
}

fn header(file: &[u8], kind: FailureKind, words: &[&str]) {
    refused(file, &LoadOptions::default(), Stage::GgufHeader, kind, words);
}

#[test]
fn not_a_gguf() {
    header(
        b"<!doctype html><title>404</title> and some more text, long enough",
        FailureKind::File,
        &["test.gguf", "GGUF"],
    );
}

#[test]
fn an_empty_file() {
    header(b"", FailureKind::File, &["test.gguf"]);
}

#[test]
fn a_truncated_file() {
    header(&MODEL[..MODEL.len() - 1000], FailureKind::File, &["output.weight"]);
}

#[test]
fn another_architecture() {
    // The length-prefixed value of general.architecture.
    let file = patched(
        b"\x07\0\0\0\0\0\0\0gpt-oss\x0c\0\0\0\0\0\0\0general.type",
        b"\x07\0\0\0\0\0\0\0mistral\x0c\0\0\0\0\0\0\0general.type",
    );
    header(&file, FailureKind::Model, &["mistral", "gpt-oss"]);
}

#[test]
fn all_missing_tensors_are_named_at_once() {
    let mut file = patched(b"blk.2.attn_sinks.weight", b"blk.2.attn_sinkz.weight");
    let other = patched(b"blk.4.ffn_down_exps.bias", b"blk.4.ffn_dawn_exps.bias");
    for (to, from) in file.iter_mut().zip(&other) {
        if *from == b'a' && *to == b'o' {
            *to = *from;
        }
    }
    header(&file, FailureKind::Model, &["blk.2.attn_sinks.weight", "blk.4.ffn_down_exps.bias"]);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    // One sink for each of four heads becomes three.
    let info = |heads: u8| [b"blk.1.attn_sinks.weight".as_slice(), &[1, 0, 0, 0, heads, 0, 0, 0, 0, 0, 0, 0]].concat();
    header(&patched(&info(4), &info(3)), FailureKind::Model, &["blk.1.attn_sinks.weight", "[3]", "[4]"]);
}

#[test]
fn an_unsupported_type_is_named() {
    // n_dims = 2, dimensions 192 and 256, then the type: Q8_0 (8) becomes NVFP4 (40), which is smaller and so still
    // fits.
    let info = |kind: u8| {
        [b"blk.3.attn_q.weight".as_slice(), &[2, 0, 0, 0, 192, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, kind]]
            .concat()
    };
    let words = ["blk.3.attn_q.weight", "NVFP4", "MXFP4, Q4_0", "IQ4_NL"];
    header(&patched(&info(8), &info(40)), FailureKind::Model, &words);
}

#[test]
fn a_missing_special_token_is_named() {
    let file = patched(b"<|channel|>\x09\0\0", b"<|chunnel|>\x09\0\0");
    refused(&file, &LoadOptions::default(), Stage::Tokenizer, FailureKind::Model, &["<|channel|>"]);
}

#[test]
fn too_little_expert_memory_says_what_would_do() {
    let options = LoadOptions { expert_memory_bytes: Some(100_000), ..LoadOptions::default() };
    refused(MODEL, &options, Stage::MemoryPlan, FailureKind::Memory, &["100 kB", "needs 4"]);
}

#[test]
fn too_little_gpu_memory_says_what_takes_how_much() {
    let options = LoadOptions { gpu_memory_bytes: Some(1_000_000), ..LoadOptions::default() };
    refused(MODEL, &options, Stage::MemoryPlan, FailureKind::Memory, &["1.00 MB", "4 experts", "context of 512"]);
}

#[test]
fn too_long_a_context() {
    let options = LoadOptions { max_kv_tokens: Some(200_000), ..LoadOptions::default() };
    refused(MODEL, &options, Stage::MemoryPlan, FailureKind::Request, &["200000", "131072"]);
}

#[test]
fn more_layers_than_there_are() {
    let options = LoadOptions { layers: Some(7), ..LoadOptions::default() };
    refused(MODEL, &options, Stage::MemoryPlan, FailureKind::Request, &["layers", "7", "6"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_and_the_model_still_answers() {
    run(async {
        let options = LoadOptions { max_kv_tokens: Some(160), ..LoadOptions::default() };
        let mut engine = try_load(MODEL, &options).await.expect("nano loads");
        let error = engine.answer(&prompt(&"word ".repeat(400)), &Quiet).await.expect_err("too long");
        assert_eq!(error.stage, Stage::Prefill);
        assert!(matches!(error.error, EngineError::PromptTooLong { capacity: 160, .. }), "{error}");
        let answer = engine.answer(&prompt("What is 12 + 30?"), &Quiet).await.expect("an answer");
        assert!(answer.final_text().contains("42"), "{:?}", answer.final_text());
    });
}

#[test]
fn a_full_context_ends_the_answer_and_says_so() {
    run(async {
        let mut engine = try_load(MODEL, &LoadOptions::default()).await.expect("nano loads");
        let prompt = prompt("What is 12 + 30?");
        let tokens = engine.encode(&prompt).len() as u32;
        let options = LoadOptions { max_kv_tokens: Some(tokens + 3), ..LoadOptions::default() };
        engine = try_load(MODEL, &options).await.expect("nano loads");
        let answer = engine.answer(&prompt, &Quiet).await.expect("a short answer");
        assert_eq!(answer.reason, gptoss_protocol::FinishReason::ContextFull);
        assert_eq!(answer.tokens.len(), 4, "three more in the context, and one predicted from the last");
    });
}

/// Expert weights that cannot be fetched end the answer with the source's own error. No expert is skipped, and once the
/// source is back the same question gets the same answer.
#[test]
fn a_failing_source_stops_the_answer_and_nothing_is_lost() {
    run(async {
        let whole = try_load(MODEL, &LoadOptions::default()).await.expect("nano loads");
        let four_slots = whole.model.plan().expert_bytes(4);
        let options = LoadOptions { expert_memory_bytes: Some(four_slots), ..LoadOptions::default() };
        let source = Rc::new(FaultySource::new("nano", MODEL));
        let mut engine = engine_of(source.clone(), &GpuOptions::default(), &options, &Quiet).await.expect("nano loads");
        let question = prompt("What is 12 + 30?");
        let right = engine.answer(&question, &Quiet).await.expect("an answer").tokens;

        source.reads.set(Reads::Fail);
        let error = engine.answer(&question, &Quiet).await.expect_err("experts are missing");
        assert_eq!((error.stage, error.failure().kind), (Stage::Prefill, FailureKind::Source), "{error}");
        source.reads.set(Reads::Good);
        assert_eq!(engine.answer(&question, &Quiet).await.expect("an answer").tokens, right);
    });
}

/// A host that does not answer may keep a read waiting for minutes. STOP does not wait with it, and the model stays
/// good.
#[test]
fn stop_ends_a_read_that_brings_nothing() {
    /// Somebody who presses STOP as soon as a read waits.
    struct Impatient(Rc<FaultySource>);
    impl Host for Impatient {
        fn emit(&self, _event: Event) {}
        fn cancelled(&self) -> bool {
            self.0.hangs.get()
        }
        fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
            Box::pin(poll_fn(|_| if self.0.hangs.get() { Poll::Ready(()) } else { Poll::Pending }))
        }
    }
    run(async {
        let whole = try_load(MODEL, &LoadOptions::default()).await.expect("nano loads");
        let four_slots = whole.model.plan().expert_bytes(4);
        let options = LoadOptions { expert_memory_bytes: Some(four_slots), ..LoadOptions::default() };
        let source = Rc::new(FaultySource::new("nano", MODEL));
        let mut engine = engine_of(source.clone(), &GpuOptions::default(), &options, &Quiet).await.expect("nano loads");
        let question = prompt("What is 12 + 30?");
        let right = engine.answer(&question, &Quiet).await.expect("an answer").tokens;

        source.reads.set(Reads::Hang);
        let error = engine.answer(&question, &Impatient(source.clone())).await.expect_err("it was stopped");
        assert!(error.is_cancelled() && source.hangs.get(), "{error}");
        source.reads.set(Reads::Good);
        assert_eq!(engine.answer(&question, &Quiet).await.expect("an answer").tokens, right);
    });
}
