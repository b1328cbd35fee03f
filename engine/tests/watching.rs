//! What is told to those who watch a batch: held against the scalar reference, for pools of all sizes, prompts of several
//! batches and beyond the window. Watching changes no answer, and costs nothing while nobody does.

use crate::support::watcher::{Script, Watcher};
use crate::support::{Setup, load_model, print};
use gptoss_model::{Asked, Backend};
use gptoss_protocol::{Event, Head, LoadOptions, Watch, WorkCounters};

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
/// The prompt has more tokens than nano's window of 64, and more than two batches.
const SCRIPT: Script = Script { prompt: if cfg!(target_arch = "wasm32") { 70 } else { 150 }, single: 4, batch: 64 };

fn setup(slots: Option<u32>) -> Setup {
    let options = LoadOptions { kv_f32: true, ..LoadOptions::default() };
    Setup { options, slots, batch_tokens: Some(SCRIPT.batch), ..Setup::default() }
}

/// All that is told is what the specification computes, whatever is resident; each batch's at its end.
async fn what_is_told_is_what_happens(slots: &[Option<u32>]) {
    let traces = SCRIPT.traces(MODEL).await;
    let mut predicted: Option<Vec<u32>> = None;
    // Even layers see a window of 64, odd ones see everything.
    let heads = [(0, 0), (1, 3), (4, 1), (5, 2)].map(|(layer, head)| Head { layer, head });
    for &slots in slots {
        // Another one for each pool: all experts, and 4, 5, 7 slots.
        let head = heads[slots.map_or(0, |slots| (slots as usize - 3).min(3))];
        let what = format!("{slots:?} slots, {head:?}");
        let watched = Watcher::of(Watch { routes: true, residual: true, attention: Some(head), ..Watch::default() });
        let mut model = load_model("nano", MODEL, &setup(slots)).await;
        let said = SCRIPT.run(&mut model, &watched).await;
        SCRIPT.routes_are_those_of(&traces, &watched.routes(), &what);
        SCRIPT.norms_are_those_of(&traces, &watched.residuals(), &what);
        SCRIPT.rows_are_those_of(&traces, &watched.attention(), &what);
        assert!(watched.attention().iter().all(|row| row.head == head));
        assert_eq!(slots.is_some(), model.cache_counters().misses > 0);

        let mut model = load_model("nano", MODEL, &setup(slots)).await;
        let unwatched = Watcher::default();
        assert_eq!(SCRIPT.run(&mut model, &unwatched).await, said, "{what}: other tokens than unwatched");
        assert!(unwatched.routes().is_empty() && unwatched.residuals().is_empty() && unwatched.attention().is_empty());
        assert_eq!(model.work_counters().watched_readback_bytes, 0);
        assert_eq!(*predicted.get_or_insert_with(|| said.clone()), said);
    }
}

/// Bytes and dispatches of one token.
async fn what_watching_costs() {
    let mut model = load_model("nano", MODEL, &setup(None)).await;
    let sequence = model.open().expect("a sequence");
    let host = Watcher::default();
    model.prefill(sequence, &[1, 2, 3], Asked::TOP, &host, |_| {}).await.expect("a prediction");
    let two = Watch { routes: true, residual: true, ..Watch::default() };
    let of_head = |layer, head| Watch { attention: Some(Head { layer, head }), ..Watch::default() };
    let watches = [
        Watch::default(),
        Watch { routes: true, ..Watch::default() },
        two,
        Watch::default(),
        of_head(3, 1),
        of_head(0, 2),
        // There is no such head, no such layer.
        of_head(3, 99),
        of_head(6, 0),
    ];
    let mut costs: Vec<WorkCounters> = Vec::new();
    for (watch, token) in watches.into_iter().zip(20..) {
        host.watch.set(watch);
        let before = model.work_counters();
        model.decode(sequence, token, Asked::TOP, &host).await.expect("a prediction");
        let after = model.work_counters();
        costs.push(WorkCounters {
            submits: after.submits - before.submits,
            dispatches: after.dispatches - before.dispatches,
            buffers_created: after.buffers_created - before.buffers_created,
            bind_groups_created: after.bind_groups_created - before.bind_groups_created,
            pipelines_created: after.pipelines_created - before.pipelines_created,
            status_readback_bytes: after.status_readback_bytes - before.status_readback_bytes,
            sampling_readback_bytes: after.sampling_readback_bytes - before.sampling_readback_bytes,
            watched_readback_bytes: after.watched_readback_bytes - before.watched_readback_bytes,
            weights_fetched_bytes: after.weights_fetched_bytes - before.weights_fetched_bytes,
            weights_used_bytes: after.weights_used_bytes - before.weights_used_bytes,
        });
    }
    let unwatched = costs[0];
    // The six layers of nano choose four experts each; eight bytes say which one, and its weight.
    let routes_bytes = 6 * 4 * 8;
    let squares_bytes = 7 * u64::from(model.config().hidden.div_ceil(64)) * 4;
    let returning = |watched_readback_bytes| WorkCounters { watched_readback_bytes, ..unwatched };
    let (routed, both) = (returning(routes_bytes), returning(routes_bytes + squares_bytes));
    // The sink, and the keys so far: three of the prompt and one for each token.
    let seen = |keys: u64| WorkCounters { dispatches: unwatched.dispatches + 1, ..returning((1 + keys) * 4) };
    assert_eq!(costs, [unwatched, routed, both, unwatched, seen(8), seen(9), unwatched, unwatched]);
    let rows: Vec<_> = host.attention().iter().map(|row| (row.head.layer, row.head.head, row.weights.len())).collect();
    assert_eq!(rows, [(3, 1, 8), (0, 2, 9)]);
    assert_eq!((unwatched.submits, unwatched.buffers_created, unwatched.watched_readback_bytes), (1, 0, 0));
    assert_eq!((host.routes().len(), host.residuals().len()), (2, 1));
}

everywhere!(told, what_is_told_is_what_happens(&[None, Some(4)]));
/// Each dispatch of a batch is timed once, in halted batches too, beside everything else that is watched.
async fn every_dispatch_is_timed(slots: Option<u32>) {
    let mut model = load_model("nano", MODEL, &setup(slots)).await;
    let can_time = model.gpu().device().features().contains(wgpu::Features::TIMESTAMP_QUERY);
    let attention = Some(Head { layer: 1, head: 0 });
    let host = Watcher::of(Watch { routes: true, residual: true, attention, times: true });
    let before = model.work_counters().dispatches;
    let said = SCRIPT.run(&mut model, &host).await;
    let dispatches = model.work_counters().dispatches - before;
    let times = host.all(|event| if let Event::OperationTimes { times } = event { Some(times.clone()) } else { None });
    let mut unwatched = load_model("nano", MODEL, &setup(slots)).await;
    assert_eq!(SCRIPT.run(&mut unwatched, &Watcher::default()).await, said);
    if !can_time {
        print("NOT TESTED HERE: this adapter has no timestamp-query");
        return assert!(times.is_empty());
    }
    assert_eq!(times.len(), SCRIPT.batches().len());
    let timed: u32 = times.iter().flatten().map(|time| time.dispatches).sum();
    // Experts that take turns in a halted layer are computed by submissions of their own.
    let some_take_turns = slots.is_some() && u64::from(timed) < dispatches;
    assert!(u64::from(timed) == dispatches || some_take_turns, "{timed} of {dispatches}");
    for times in &times {
        let dispatches = |name: &str| times.iter().find(|time| time.operation == name).map_or(0, |it| it.dispatches);
        assert!(dispatches("attention") >= 6 && dispatches("attention_row") >= 1, "{times:?}");
        assert!(times.iter().all(|time| time.elapsed_ms >= 0.0) && times.iter().any(|time| time.elapsed_ms > 0.0));
    }
    assert_eq!(host.routes().len(), times.len());
}

everywhere!(costs, what_watching_costs());
everywhere!(times, every_dispatch_is_timed(None));

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use super::*;
    use crate::support::run;

    #[test]
    fn other_pools() {
        run(what_is_told_is_what_happens(&[Some(5), Some(7)]));
    }

    #[test]
    fn times_of_halted_batches() {
        run(every_dispatch_is_timed(Some(4)));
    }
}
