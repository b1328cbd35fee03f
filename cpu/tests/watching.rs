//! What is told to those who watch a batch, held against the scalar reference.

use std::path::PathBuf;

use gptoss_cpu::{Activations, CpuModel, CpuOptions};
use gptoss_model::Quiet;
use gptoss_protocol::Watch;

use crate::watcher::{Script, Watcher};

/// The prompt is longer than nano's window of 64.
const SCRIPT: Script = Script { prompt: 150, single: 3, batch: 512 };

fn open() -> CpuModel {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/nano/gpt-oss-nano.gguf");
    let exact = CpuOptions { threads: Some(2), kv_f32: true, activations: Activations::F32, ..CpuOptions::default() };
    pollster::block_on(CpuModel::open(&path, &exact, &Quiet)).expect("nano opens")
}

#[test]
fn what_is_told_is_what_happens() {
    let file = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
    let traces = pollster::block_on(SCRIPT.traces(file));
    let watched = Watcher::of(Watch { routes: true, residual: true, ..Watch::default() });
    let said = pollster::block_on(SCRIPT.run(&mut open(), &watched));
    SCRIPT.routes_are_those_of(&traces, &watched.routes(), "watched");
    SCRIPT.norms_are_those_of(&traces, &watched.residuals(), "watched");
    let unwatched = Watcher::default();
    assert_eq!(pollster::block_on(SCRIPT.run(&mut open(), &unwatched)), said);
    assert!(unwatched.routes().is_empty() && unwatched.residuals().is_empty());
}
