//! Many sequences on the GPU, in random interleavings, against the scalar reference of each alone: with all experts and
//! with the fewest, and on devices that are lost on the way. Natively and in headless Chromium.

use std::rc::Rc;

use gptoss_engine::{Loader, Session};
use gptoss_kernels::GpuOptions;
use gptoss_kernels::testbed::Testbed;
use gptoss_model::reference::ReferenceModel;
use gptoss_model::{Asked, Backend, EngineError, Quiet, Row, Wanted, rows_of};
use gptoss_protocol::LoadOptions;

use crate::support::interleavings::{Happened, Walk};
use crate::support::{Setup, load_model, memory, print};

const ODD: &[u8] = include_bytes!("../../tests/goldens/odd.gguf");
const STEPS: u32 = if cfg!(target_arch = "wasm32") { 40 } else { 110 };

fn options(context: u32) -> LoadOptions {
    LoadOptions { kv_f32: true, max_kv_tokens: Some(context), ..LoadOptions::default() }
}

async fn reference() -> ReferenceModel {
    ReferenceModel::load(memory("odd", ODD).as_ref(), false).await.expect("a valid file")
}

async fn walk(seed: u64, setup: &Setup) -> Happened {
    let mut model = load_model("odd", ODD, setup).await;
    let reference = reference().await;
    let mut walk = Walk::new(&mut model, &reference, seed);
    walk.steps(STEPS, |_, _| {}).await;
    print(&format!("seed {seed}, {setup:?}: {:?}", walk.happened));
    walk.happened
}

async fn walks(seeds: std::ops::Range<u64>, setup: Setup) {
    let mut all = Vec::new();
    for seed in seeds {
        all.push(walk(seed, &setup).await);
    }
    let sum = |of: fn(&Happened) -> u32| all.iter().map(of).sum::<u32>();
    let seeds = all.len() as u32;
    assert!(sum(|it| it.collected) >= 4 * seeds && sum(|it| it.shared_batches) >= 2 * seeds, "{all:?}");
    assert!(sum(|it| it.forks + it.rewinds + it.stopped) >= 2 * seeds, "{all:?}");
}

fn setup(context: u32) -> Setup {
    Setup { options: options(context), sequences: 4, ..Setup::default() }
}

/// The device is lost every few steps: what was collected stands, what was under way comes after the next device is
/// there.
async fn sequences_outlive_their_device() {
    let testbed = Rc::new(Testbed::default());
    let gpu = GpuOptions { testbed: Some(Rc::clone(&testbed)), ..GpuOptions::default() };
    let loader = Loader { source: memory("odd", ODD), gpu, options: options(300), all_logits: false, sequences: 4 };
    let mut session = Session::open(loader, &Quiet).await.expect("it loads");
    let reference = reference().await;
    let mut walk = Walk::new(&mut session, &reference, 3);
    let every = if cfg!(target_arch = "wasm32") { 19 } else { 23 };
    walk.steps(STEPS, |step, _| {
        if step % every == every - 1 {
            testbed.lose_device();
        }
    })
    .await;
    let happened = walk.happened;
    print(&format!("{} devices: {happened:?}", testbed.devices_opened()));
    assert!(testbed.devices_opened() > 1 && happened.collected > 3, "{happened:?}");
    assert_eq!(testbed.allocated_bytes(), session.plan().totals.gpu_total_bytes, "one model is held");
}

/// What is shared is there once, going back to the end of a turn costs nothing, and a sequence that is closed gives
/// everything back.
async fn forks_share_and_turns_come_back() {
    let mut model = load_model("odd", ODD, &setup(600)).await;
    let tokens: Vec<u32> = (0..200).map(|at| (at * 37 + 5) % 300).collect();
    let first = model.open().expect("a sequence");
    model.prefill(first, &tokens, Asked::TOP, &Quiet, |_| {}).await.expect("a prediction");
    model.mark_turn(first);
    let blocks = |model: &gptoss_engine::Model| model.sequences().cache.blocks_in_use();
    let alone = blocks(&model);
    let second = model.fork(first).expect("a fork");
    assert_eq!(blocks(&model).full, alone.full + 1, "only the block that is not full");
    let more: Vec<u32> = (0..240).map(|at| (at * 53 + 11) % 300).collect();
    model.prefill(second, &more, Asked::TOP, &Quiet, |_| {}).await.expect("a prediction");
    assert_eq!(model.rewind(second, 260), 256, "as far as the blocks go that are held for the end of the turn");
    assert_eq!(model.rewind(second, 200), 200, "the end of the turn");
    assert_eq!(model.rewind(second, 100), 0, "what comes before it is gone");
    model.close(second);
    assert_eq!(blocks(&model), alone);
    let (third, reached) = model.open_like(&[&tokens[..150], &[299][..]].concat()).expect("a fork");
    assert_eq!(reached, 150, "what both have in common");
    model.close(third);
    model.close(first);
    assert_eq!(blocks(&model), Default::default());
}

/// More than one batch is under way where nothing can be missed; who waits for the first does not wait for the second.
async fn two_batches_are_under_way_at_once() {
    let mut model = load_model("odd", ODD, &setup(300)).await;
    let (first, second) = (model.open().expect("a sequence"), model.open().expect("a sequence"));
    let submits = model.work_counters().submits;
    let rows = |sequence| {
        let mut rows = rows_of(sequence, &[1, 2, 3], Wanted::Nothing);
        rows.push(Row { sequence, token: 4, wanted: Asked::TOP.wanted() });
        rows
    };
    let tickets = [model.submit(&rows(first)), model.submit(&rows(second)), model.submit(&rows(first))];
    assert_eq!(model.work_counters().submits - submits, 2, "as many as there are readback buffers");
    let [one, two, three] = tickets.map(|ticket| ticket.expect("there is room"));
    let of_two = model.collect(two, &Quiet).await.expect("a prediction").remove(0).prediction();
    let of_one = model.collect(one, &Quiet).await.expect("a prediction").remove(0).prediction();
    assert_eq!((of_one.token, of_one.logit), (of_two.token, of_two.logit), "the same tokens");
    assert_eq!(model.position(first), 4, "the tail is not there before it is collected");
    model.rewind(first, 4);
    assert!(matches!(model.collect(three, &Quiet).await, Err(EngineError::BatchDropped)));
    assert_eq!((model.position(first), model.position(second)), (4, 4));
}

everywhere!(all_experts, walks(0..if cfg!(target_arch = "wasm32") { 1 } else { 3 }, setup(300)));
everywhere!(a_small_pool_and_few_experts, walks(7..8, Setup { slots: Some(4), batch_tokens: Some(33), ..setup(130) }));
everywhere!(devices, sequences_outlive_their_device());
everywhere!(forks, forks_share_and_turns_come_back());
everywhere!(tickets, two_batches_are_under_way_at_once());
