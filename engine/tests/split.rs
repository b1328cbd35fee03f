//! Models in several files: the same tensors and, on the GPU, the same logits as in one; files that are not one model
//! are refused by name.
#![cfg(not(target_arch = "wasm32"))]

use std::rc::Rc;

use crate::support::{engine_of, run};
use gptoss_engine::{LoadPolicy, preflight};
use gptoss_kernels::GpuOptions;
use gptoss_model::{Backend, EngineError, Quiet, read_header};
use gptoss_protocol::{FailureKind, LoadOptions, Stage};
use gptoss_source::{JoinedSource, MemorySource, Source};
use gptoss_synth::{Model, Spec, TensorType, TypeMix, part_name};

const PARTS: usize = 3;

/// Names and contents.
type Files = Vec<(String, Vec<u8>)>;

fn model(seed: u64) -> Model {
    Spec::tiny().layers(2).types(TypeMix::Uniform(TensorType::Q8_0)).seed(seed).build().expect("a model")
}

fn one_file(model: &Model) -> Vec<u8> {
    let mut file = Vec::new();
    model.write(&mut file).expect("memory can be written");
    file
}

/// The files of a split model with their names.
fn files(model: &Model, count: usize) -> Files {
    let parts = model.split(count).expect("as many tensors at least").into_iter().enumerate();
    parts
        .map(|(index, part)| {
            let mut file = Vec::new();
            part.write(&mut file).expect("memory can be written");
            (part_name("m", index, count), file)
        })
        .collect()
}

fn source(name: &str, file: &[u8]) -> Rc<dyn Source> {
    Rc::new(MemorySource::new(name, file.to_vec()))
}

fn joined(files: &Files) -> Rc<dyn Source> {
    Rc::new(JoinedSource::new(files.iter().map(|(name, file)| source(name, file)).collect()))
}

#[test]
fn every_tensor_is_found_byte_for_byte() {
    run(async {
        let whole = source("m.gguf", &one_file(&model(1)));
        let want = read_header(whole.as_ref(), &Quiet).await.expect("a model");
        for count in [2, PARTS, want.gguf.tensors.len()] {
            let parts = joined(&files(&model(1), count));
            let got = read_header(parts.as_ref(), &Quiet).await.expect("a model");
            assert_eq!(got.config, want.config);
            assert_eq!(got.gguf.file_len, parts.len_bytes());
            assert_eq!(got.gguf.tensors.len(), want.gguf.tensors.len());
            for (got, want) in got.gguf.tensors.iter().zip(&want.gguf.tensors) {
                assert_eq!((&got.name, &got.shape, got.kind), (&want.name, &want.shape, want.kind));
                let ours = parts.read(got.offset, got.size_bytes).await.expect("inside");
                let theirs = whole.read(want.offset, want.size_bytes).await.expect("inside");
                assert_eq!(ours.as_slice(), theirs.as_slice(), "{} in {count} parts", got.name);
            }
        }
    });
}

/// Compares with all experts resident, and with experts fetched from the parts while it computes.
#[test]
fn the_gpu_computes_the_same_logits() {
    async fn logits(source: Rc<dyn Source>, slots: Option<u32>) -> Vec<f32> {
        let gpu = gptoss_engine::open_gpu(&GpuOptions::default(), &Quiet).await.expect("a GPU adapter");
        let options = LoadOptions::default();
        let mut prepared =
            preflight(&gpu, source.as_ref(), &options, LoadPolicy::First, &Quiet).await.expect("a model");
        if let Some(slots) = slots {
            prepared.options.expert_memory_bytes = Some(prepared.plan.expert_bytes(slots));
        }
        prepared.options.head_tokens = prepared.options.batch_tokens;
        let (header, limits) = (&prepared.header, gpu.limits());
        prepared.plan = gptoss_engine::MemoryPlan::new(&header.config, &header.inventory, &limits, &prepared.options)
            .expect("a plan");
        let mut model = gptoss_engine::load(gpu, source, prepared, &Quiet).await.expect("the model loads");
        model.logits(&(0..9).map(|at| (at * 37 + 5) % 300).collect::<Vec<u32>>()).await.expect("logits")
    }
    run(async {
        let want = logits(source("m.gguf", &one_file(&model(1))), None).await;
        for slots in [None, Some(4)] {
            let got = logits(joined(&files(&model(1), PARTS)), slots).await;
            assert!(got == want, "other logits, bit for bit, than from one file ({slots:?} slots)");
        }
    });
}

/// The error of reading the header; its text must contain every word given.
fn refused(source: Rc<dyn Source>, words: &[&str]) {
    run(async {
        let error = read_header(source.as_ref(), &Quiet).await.err().expect("must be refused");
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "{word:?} is missing in: {message}");
        }
        assert_eq!(error.kind(), FailureKind::File, "{message}");
        assert!(!error.advice().is_empty());
    });
}

#[test]
fn a_part_alone_says_which_are_missing() {
    let files = files(&model(1), PARTS);
    for (index, (name, file)) in files.iter().enumerate() {
        let mut words = vec!["3 files", "missing"];
        words.extend(files.iter().map(|(name, _)| name.as_str()));
        refused(source(name, file), &words);
        refused(source("model.gguf", file), &["model.gguf", &format!("part {} of 3", index + 1), "not named"]);
    }
}

/// What the page and programs get to see: the stage too.
#[test]
fn a_part_alone_is_refused_before_anything_is_allocated() {
    run(async {
        let (name, file) = &files(&model(1), PARTS)[0];
        let options = LoadOptions::default();
        let error = engine_of(source(name, file), &GpuOptions::default(), &options, &Quiet).await;
        let error = error.err().expect("must be refused");
        assert_eq!(error.stage, Stage::GgufHeader);
        assert!(matches!(error.error, EngineError::Split(_)), "{error}");
    });
}

#[test]
fn files_that_are_not_one_model_are_refused_by_name() {
    let good = files(&model(1), PARTS);
    let [one, two, three] = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"];
    let change = |change: &dyn Fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        joined(&files)
    };
    let swap = |files: &mut Files| {
        let second = files[1].1.clone();
        files[1].1 = std::mem::replace(&mut files[2].1, second);
    };
    refused(change(&swap), &[two, "part 3 of 3, expected part 2 of 3"]);
    refused(change(&|files| drop(files.pop())), &[one, "part 1 of 3, expected part 1 of 2"]);
    refused(change(&|files| files[2].1 = files[1].1.clone()), &[three, "part 2 of 3, expected part 3 of 3"]);
    refused(change(&|files| files[1].1 = one_file(&model(1))), &[two, "not a part of a split model"]);
    let foreign = files(&Spec::tiny().layers(3).build().expect("a model"), PARTS);
    refused(change(&|files| files[1] = foreign[1].clone()), &[two, "another model than", one]);
    let cut = |files: &mut Files| {
        let len = files[2].1.len();
        files[2].1.truncate(len - 100);
    };
    refused(change(&cut), &[three, "truncated"]);
    refused(change(&|files| files[1].1.truncate(20)), &[two, "truncated or damaged"]);
    refused(change(&|files| files[1].1 = b"<!doctype html> and so on".to_vec()), &[two, "GGUF"]);
}
