//! Bytes that come without an error and are not the file's.

#![cfg(not(target_arch = "wasm32"))] // what they do to a page is tested on the page

#[path = "../../gguf/tests/gguf/garble.rs"]
mod garble;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::support::{engine_of, run};
use garble::Garble;
use gptoss_engine::GpuEngine;
use gptoss_kernels::GpuOptions;
use gptoss_model::{EngineError, Quiet, SensibleSource, StageError, read_gguf};
use gptoss_protocol::{ExpertLoading, FailureKind, LoadOptions, Prompt, Stage};
use gptoss_source::{Bytes, MemorySource, ReadFuture, Source, SourceError};

const NANO: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

/// Nano on a bad line: every byte from one on is another.
struct BadLine {
    good: MemorySource,
    garbled: MemorySource,
    is_bad: Cell<bool>,
    distrusted: RefCell<Vec<u64>>,
}

impl BadLine {
    fn new(fault: Garble, from: usize) -> Rc<Self> {
        Rc::new(Self {
            good: MemorySource::new("nano.gguf", NANO.to_vec()),
            garbled: MemorySource::new("nano.gguf", fault.apply(NANO, from, NANO.len())),
            is_bad: Cell::new(true),
            distrusted: RefCell::default(),
        })
    }

    fn file(&self) -> &MemorySource {
        if self.is_bad.get() { &self.garbled } else { &self.good }
    }
}

impl Source for BadLine {
    fn name(&self) -> &str {
        self.good.name()
    }

    fn len_bytes(&self) -> u64 {
        self.good.len_bytes()
    }

    fn identity(&self) -> &str {
        self.good.identity()
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        self.file().read(offset_bytes, len_bytes)
    }

    fn requests(&self) -> u32 {
        self.file().requests()
    }

    fn distrust(&self, offset_bytes: u64) {
        self.distrusted.borrow_mut().push(offset_bytes);
    }
}

async fn load(source: Rc<BadLine>, experts: ExpertLoading) -> Result<GpuEngine, StageError> {
    let options = LoadOptions { experts, ..LoadOptions::default() };
    engine_of(source, &GpuOptions::default(), &options, &Quiet).await
}

#[track_caller]
fn assert_damaged(error: &StageError, stage: Stage, source: &BadLine) {
    let failure = error.failure();
    assert_eq!((error.stage, failure.kind), (stage, FailureKind::Damaged), "{error}");
    assert!(matches!(error.error, EngineError::Source(SourceError::Nonsense { .. })), "{error:?}");
    let words = ["nano.gguf is damaged", "at byte", "expected", "got"];
    assert!(words.iter().all(|word| failure.message.contains(word)), "{}", failure.message);
    assert!(failure.advice.contains("download the file again"), "{}", failure.advice);
    assert_eq!(source.distrusted.borrow().len(), 1, "it is told once");
}

/// Whatever the size of the reads, which begin and end anywhere.
#[test]
fn no_read_hands_out_what_makes_no_sense() {
    run(async {
        for (fault, from) in [
            (Garble::Skip(4), 65_536),
            (Garble::Skip(4), 2_900_000),
            (Garble::Repeat(1), 1_000_003),
            (Garble::Html, 300_000),
            (Garble::Fill(0), 2_000_001),
        ] {
            for read_bytes in [16 << 10, 100_000, 1 << 20, 8 << 20] {
                let source = BadLine::new(fault, from);
                let gguf = read_gguf(&source.good, &Quiet).await.expect("a header");
                let sensible = SensibleSource::new(source.clone(), &gguf);
                let mut refused = None;
                for offset in (0..NANO.len() as u64).step_by(read_bytes) {
                    let len = (read_bytes as u64).min(NANO.len() as u64 - offset);
                    let read: Result<Bytes, _> = sensible.read(offset, len).await;
                    if let Err(error) = read {
                        refused = Some((offset + len, error));
                        break;
                    }
                }
                let (end, error) = refused.unwrap_or_else(|| panic!("{fault:?} from {from}, {read_bytes} at a time"));
                let SourceError::Nonsense { place, .. } = &error else { panic!("{error}") };
                assert!(end > from as u64 && place.offset_bytes < end, "{error}");
                assert_eq!(*source.distrusted.borrow(), [place.offset_bytes]);
            }
        }
    });
}

#[test]
fn a_garbled_load_is_an_error_and_the_next_one_is_right() {
    run(async {
        for (fault, from) in [(Garble::Skip(4), 65_536), (Garble::Skip(4), 2_900_000), (Garble::Restart, 1_500_000)] {
            let source = BadLine::new(fault, from);
            let error = load(source.clone(), ExpertLoading::Ahead).await.err().expect("garbled");
            assert_damaged(&error, Stage::WeightsFetch, &source);
            source.is_bad.set(false);
            load(source, ExpertLoading::Ahead).await.expect("the same file, as it is");
        }
    });
}

/// Experts are read in the middle of an answer, too. The dense weights came before the line went bad.
#[test]
fn garbled_experts_end_the_answer() {
    run(async {
        let source = BadLine::new(Garble::Skip(3), 44_032);
        source.is_bad.set(false);
        let mut engine = load(source.clone(), ExpertLoading::AsNeeded).await.expect("good so far");
        let question = Prompt {
            user: "What is 12 + 30?".into(),
            format: Default::default(),
            instructions: String::new(),
            effort: Default::default(),
            date: None,
            max_new_tokens: 64,
            sampling: Default::default(),
            ..Prompt::default()
        };
        source.is_bad.set(true);
        let error = engine.answer(&question, &Quiet).await.expect_err("no expert makes sense");
        assert_damaged(&error, Stage::Prefill, &source);
        source.is_bad.set(false);
        assert!(engine.answer(&question, &Quiet).await.expect("an answer").final_text().contains("42"));
    });
}

/// A header that cannot be read would be read from the cache for ever.
#[test]
fn a_garbled_header_is_distrusted_too() {
    run(async {
        let source = BadLine::new(Garble::Html, 0);
        let error = load(source.clone(), ExpertLoading::Ahead).await.err().expect("no header");
        assert_eq!(error.failure().kind, FailureKind::File, "{error}");
        assert_eq!(*source.distrusted.borrow(), [0]);
    });
}
