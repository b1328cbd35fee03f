//! STOP while a prompt is read: between two layers, also in the middle of a batch. What was read stays, and goes on.

use std::cell::Cell;
use std::path::PathBuf;

use gptoss_cpu::{CpuModel, CpuOptions};
use gptoss_model::{Asked, Backend, EngineError, Host, Quiet};
use gptoss_protocol::Event;

/// More than two batches of 512.
const TOKENS: usize = 1200;
const BATCH_TOKENS: u32 = 512;

/// Somebody whose STOP comes before it was asked for the `left`th time.
struct StopAfter {
    left: Cell<u32>,
}

impl Host for StopAfter {
    fn emit(&self, _event: Event) {}

    fn cancelled(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left == 0
    }
}

fn open() -> CpuModel {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/nano/gpt-oss-nano.gguf");
    let options = CpuOptions { threads: Some(2), max_kv_tokens: Some(2048), ..CpuOptions::default() };
    pollster::block_on(CpuModel::open(&path, &options, &Quiet)).expect("nano opens")
}

#[test]
fn a_prompt_can_be_stopped_in_every_batch_and_goes_on_from_there() {
    let tokens: Vec<u32> = (0..TOKENS as u32).map(|at| (at * 37 + 5) % 300).collect();
    let mut model = open();
    let sequence = model.open().expect("a sequence");
    let right = pollster::block_on(model.prefill(sequence, &tokens, Asked::TOP, &Quiet, |_| {})).expect("it is read");
    let layers = model.config().layers;
    for asked in [0, 1, layers - 1, layers, layers + 2, 2 * layers, 3 * layers - 1] {
        assert_eq!(model.rewind(sequence, 0), 0);
        let done = Cell::new(0);
        let host = StopAfter { left: Cell::new(asked) };
        let stopped =
            pollster::block_on(model.prefill(sequence, &tokens, Asked::TOP, &host, |tokens| done.set(tokens)));
        assert!(matches!(stopped, Err(EngineError::Cancelled)), "after {asked} layers");
        assert_eq!(model.position(sequence), asked / layers * BATCH_TOKENS, "whole batches only");
        assert_eq!(done.get(), model.position(sequence));
        let rest = &tokens[model.position(sequence) as usize..];
        let again = pollster::block_on(model.prefill(sequence, rest, Asked::TOP, &Quiet, |_| {})).expect("it goes on");
        assert_eq!((again.token, again.logit.to_bits()), (right.token, right.logit.to_bits()), "after {asked} layers");
    }
}
