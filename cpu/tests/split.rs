//! Models in several files on the CPU: any part names them all, and they compute what one file does.

use std::path::Path;

use gptoss_cpu::{Activations, CpuModel, CpuOptions};
use gptoss_model::{Backend, EngineError, Quiet, StageError};
use gptoss_source::SourceError;
use gptoss_synth::{Model, Spec, part_name};

const PARTS: usize = 3;

fn model() -> Model {
    Spec::tiny().layers(2).seed(5).build().expect("a model")
}

fn write_parts(model: &Model, folder: &Path) {
    for (index, part) in model.split(PARTS).expect("enough tensors").iter().enumerate() {
        let path = folder.join(part_name("m", index, PARTS));
        part.write(&mut std::fs::File::create(path).expect("a file")).expect("written");
    }
}

fn open(path: &Path, activations: Activations) -> Result<CpuModel, StageError> {
    let options = CpuOptions { threads: Some(2), activations, ..CpuOptions::default() };
    pollster::block_on(CpuModel::open(path, &options, &Quiet))
}

fn logits(path: &Path, activations: Activations) -> Vec<f32> {
    let tokens: Vec<u32> = (0..9).map(|at| (at * 37 + 5) % 300).collect();
    let mut model = open(path, activations).expect("the model opens");
    pollster::block_on(model.logits(&tokens)).expect("logits")
}

#[test]
fn any_part_computes_what_one_file_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("m.gguf");
    model().write(&mut std::fs::File::create(&whole).expect("a file")).expect("written");
    write_parts(&model(), folder.path());
    for activations in [Activations::F32, Activations::Int8] {
        let want = logits(&whole, activations);
        for part in 0..PARTS {
            let got = logits(&folder.path().join(part_name("m", part, PARTS)), activations);
            assert!(got == want, "other logits, bit for bit, than from one file ({activations:?}, part {part})");
        }
    }
}

#[test]
fn all_missing_parts_are_named_in_one_error() {
    let folder = tempfile::tempdir().expect("a folder");
    write_parts(&model(), folder.path());
    let path = |part| folder.path().join(part_name("m", part, PARTS));
    for part in [0, 2] {
        std::fs::remove_file(path(part)).expect("was there");
    }
    let error = open(&path(1), Activations::F32).err().expect("must be refused").error;
    let EngineError::Source(SourceError::PartsMissing { missing, count: PARTS, .. }) = &error else {
        panic!("expected missing parts, got {error}")
    };
    assert_eq!(*missing, [0, 2].map(|part| path(part).display().to_string()));
}
