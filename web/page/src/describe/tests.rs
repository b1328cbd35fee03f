use gptoss_protocol::{AdapterInfo, Failure, FailureKind, Prompt, Replay, Sequencer};

use super::*;
use crate::state::STOP_PATIENCE_MS;

#[test]
fn the_title_says_what_goes_on() {
    let mut state = State::default();
    assert_eq!(page_title(&state), "gpt-oss in this tab");
    state.load_requested();
    assert_eq!(page_title(&state), "loading · gpt-oss in this tab");
    let fetch =
        Event::Fetch { fetched_bytes: 25, needed_bytes: 100, requests: 1, wire_bytes: None, bytes_per_second: None };
    state.apply(&Sequencer::new(0).wrap(0.0, None, fetch));
    assert_eq!(page_title(&state), "25.0 % · gpt-oss in this tab");
}

#[test]
fn a_question_has_the_numbers_and_lasts_until_it_is_answered() {
    let mut sequencer = Sequencer::new(0);
    let mut state = State::default();
    state.load_requested();
    let plan = gptoss_protocol::MemoryPlan {
        budget_bytes: Some(8_000_000_000),
        expert_slots_per_layer: 12,
        experts_per_layer: 32,
        kv_capacity_tokens: 1024,
        shortened_from_tokens: Some(8192),
        first_token_bytes: 3_000_000_000,
        all_bytes: 12_000_000_000,
        paged: true,
        ..Default::default()
    };
    state.apply(&sequencer.wrap(0.0, None, Event::Plan(plan)));
    assert_eq!(question(&state), None);
    let waits = |waits| Event::Preflight { waits, bytes_per_second: Some(1e8) };
    state.apply(&sequencer.wrap(0.0, None, waits(false)));
    assert_eq!(question(&state), None, "it goes on");
    state.apply(&sequencer.wrap(0.0, None, waits(true)));
    assert_eq!(
        question(&state).as_deref(),
        Some(
            "Of each layer 12 of 32 experts at a time fit 8.00 GB of GPU memory. The others are \
             fetched when they are needed: 3.00 GB before the first token, up to 12.0 GB in all, and answers wait for \
             it. Prompt and answer together can be 1\u{202f}024 tokens long instead of 8\u{202f}192."
        )
    );
    assert_eq!(sentence(&state), "Waiting for you: not all of the model fits.");
    state.approved();
    assert_eq!(question(&state), None);
    state.apply(&sequencer.wrap(0.0, None, waits(true)));
    state.stop_requested(0.0);
    assert_eq!((question(&state), state.stopping()), (None, true));
}

#[test]
fn the_sentence_follows_the_run() {
    let mut sequencer = Sequencer::new(0);
    let mut state = State::default();
    assert_eq!(sentence(&state), "No model is loaded.");
    state.load_requested();
    assert_eq!(sentence(&state), "Loading the model.");
    let mut event = |state: &mut State, event| {
        state.apply(&sequencer.wrap(0.0, None, event));
        sentence(state)
    };
    let started = Event::Stage { stage: Stage::WeightsFetch, status: StageStatus::Started, elapsed_ms: None };
    event(&mut state, started);
    let fetch = Event::Fetch {
        fetched_bytes: 1_500_000,
        needed_bytes: 3_000_000,
        requests: 4,
        wire_bytes: None,
        bytes_per_second: None,
    };
    assert_eq!(event(&mut state, fetch), "Loading weights: 1.50 MB of 3.00 MB.");
    let mut trouble = Trouble {
        what: TroubleKind::BrokenOff,
        file: "m.gguf".into(),
        offset_bytes: 100,
        missing_bytes: 2_000,
        next: Some(NextAttempt { attempt: 2, attempts: 12, wait_ms: 250.0 }),
    };
    assert_eq!(
        event(&mut state, Event::Trouble(trouble.clone())),
        "Loading weights: 1.50 MB of 3.00 MB. The connection broke off: attempt 2 of 12 after 250 ms."
    );
    trouble = Trouble { what: TroubleKind::Offline, offset_bytes: 0, next: None, ..trouble };
    let offline = "Loading weights: 1.50 MB of 3.00 MB. There is no network: going on when it is back.";
    assert_eq!(event(&mut state, Event::Trouble(trouble)), offline);
    let over = |offset_bytes| Event::TroubleOver { file: "m.gguf".into(), offset_bytes, attempts: 2, elapsed_ms: 9.0 };
    assert_eq!(event(&mut state, over(100)), offline, "the other read still waits");
    assert_eq!(event(&mut state, over(0)), "Loading weights: 1.50 MB of 3.00 MB.");
    state.stop_requested(0.0);
    assert_eq!(sentence(&state), "Stopping.");
    state.time_passed(STOP_PATIENCE_MS);
    assert_eq!(sentence(&state), "Stopping, but the engine does not react.");
    assert_eq!(event(&mut state, Event::Stopped { model_loaded: false }), "Stopped. No model is loaded.");
    state.answer_requested(&Prompt::default());
    assert_eq!(sentence(&state), "Preparing the prompt.");
    let missing = Event::Missing(Missing { layer: 4, layers: 24, experts: 26, bytes: 343_000_000 });
    let waits = "Reading the prompt. Layer 5 of 24 waits for 26 experts, 343 MB.";
    assert_eq!(event(&mut state, missing.clone()), waits);
    let prefill = Event::Prefill { done_tokens: 64, total_tokens: 80, reused_tokens: 0, elapsed_ms: 3.0 };
    assert_eq!(event(&mut state, prefill), "Reading the prompt: 64 of 80 tokens.");
    let waits = "Reading the prompt: 64 of 80 tokens. Layer 5 of 24 waits for 26 experts, 343 MB.";
    assert_eq!(event(&mut state, missing), waits);
}

#[test]
fn the_rest_is_told_beside_what_is_going_on() {
    let mut sequencer = Sequencer::new(0);
    let mut state = State::default();
    state.load_requested();
    let mut event = |state: &mut State, event| {
        state.apply(&sequencer.wrap(0.0, None, event));
        sentence(state)
    };
    let ready = "The model is loaded and waits for a question.";
    assert_eq!(event(&mut state, Event::Ready { load_ms: 1.0 }), ready);
    let rest = |missing_bytes| {
        Event::Prefetch(Prefetch { resident: 96, slots: 768, missing_bytes, bytes_per_second: Some(5e7) })
    };
    assert_eq!(event_line(&rest(8_900_000_000)).1, "96 of 768 experts are there · 8.90 GB left · 50.0 MB/s");
    let reading = format!("{ready} Experts that were not needed so far are read meanwhile: 8.90 GB left.");
    assert_eq!(event(&mut state, rest(8_900_000_000)), reading);
    assert!(state.is_prefetching() && state.can_stop());
    assert_eq!(left_to_load(&state).as_deref(), Some("8.90 GB · 2 min 58 s"));
    assert_eq!(event(&mut state, Event::PrefetchPaused), ready);
    assert_eq!(event(&mut state, rest(0)), ready);
    assert!(!state.is_prefetching() && !state.can_stop());
    assert_eq!(left_to_load(&state).as_deref(), Some("nothing"));
    let failure =
        Failure { kind: FailureKind::Source, message: "no host".into(), advice: "start it".into(), parameter: None };
    let failed = format!("{ready} The other experts come when a question needs them: no host.");
    assert_eq!(event(&mut state, Event::PrefetchFailed(failure)), failed);
    state.answer_requested(&Prompt::default());
    assert_eq!((state.prefetch, state.prefetch_problem), (None, None));
}

#[test]
fn a_lost_gpu_is_told_from_one_that_is_awaited() {
    let mut sequencer = Sequencer::new(0);
    let mut state = State::default();
    state.answer_requested(&Prompt::default());
    let before = sentence(&state);
    let mut event = |event| {
        state.apply(&sequencer.wrap(0.0, None, event));
        sentence(&state)
    };
    let lost = Event::Recovering { stage: Stage::Decode, attempt: 1, most: 3, tokens: 80, reason: "gone".into() };
    let loading = "The GPU went away. Loading the model again, attempt 1 of 3.";
    assert_eq!(event(lost), loading);
    let reason = "no usable GPU adapter".to_owned();
    let awaiting = Event::AwaitingGpu { waited_ms: 12_300.0, patience_ms: 150_000.0, reason };
    assert_eq!(event_line(&awaiting), ("lost", "no usable GPU adapter · waited 12.3 s of at most 2 min 30 s".into()));
    assert_eq!(
        event(awaiting),
        "The GPU went away, and the browser gives no other yet; after crashes it may refuse one for two minutes. \
         Waited 12 of at most 150 s."
    );
    let adapter = AdapterInfo {
        name: "a GPU".into(),
        backend: "webgpu".into(),
        software: false,
        max_buffer_bytes: 1 << 30,
        max_binding_bytes: 1 << 30,
        max_workgroup_storage_bytes: 16 << 10,
        features: Vec::new(),
        tier: gptoss_protocol::Tier::Baseline,
    };
    assert_eq!(event(Event::Adapter(adapter)), loading);
    assert_eq!(event(Event::Recovered { tokens: 80, elapsed_ms: 14_000.0 }), before);
}

#[test]
fn log_lines_name_kind_and_numbers() {
    let tensor = Event::Tensor {
        name: "blk.0.attn_q.weight".into(),
        format: "Q8_0".into(),
        bytes: 52_224,
        index: 3,
        count: 117,
    };
    assert_eq!(event_line(&tensor), ("tensor", "blk.0.attn_q.weight · Q8_0 · 52.2 kB · 4 of 117".to_owned()));
    let trouble = Event::Trouble(Trouble {
        what: TroubleKind::Stalled,
        file: "m.gguf".into(),
        offset_bytes: 4096,
        missing_bytes: 1_500,
        next: Some(NextAttempt { attempt: 3, attempts: 12, wait_ms: 1_500.0 }),
    });
    let line = "m.gguf at byte 4096, 1.50 kB missing · The host went silent: attempt 3 of 12 after 1.50 s";
    assert_eq!(event_line(&trouble), ("trouble", line.to_owned()));
    let over = Event::TroubleOver { file: "m.gguf".into(), offset_bytes: 4096, attempts: 3, elapsed_ms: 21_500.0 };
    assert_eq!(event_line(&over).1, "m.gguf at byte 4096 · over: attempt 3, 21.5 s without a byte");
    let fetch = Event::Fetch {
        fetched_bytes: 1_000,
        needed_bytes: 2_000,
        requests: 3,
        wire_bytes: Some(1_100),
        bytes_per_second: None,
    };
    assert_eq!(event_line(&fetch).1, "1.00 kB of 2.00 kB in 3 requests · 1.10 kB received");
    let failed = Event::Stage { stage: Stage::Kernels, status: StageStatus::Failed, elapsed_ms: Some(1234.0) };
    assert_eq!(event_line(&failed).1, "Kernels: failed after 1.23 s");
}

#[test]
fn bytes_of_the_header_are_told_while_they_come() {
    let mut sequencer = Sequencer::new(0);
    let mut state = State::default();
    state.load_requested();
    let mut event = |state: &mut State, event| {
        state.apply(&sequencer.wrap(0.0, None, event));
        sentence(state)
    };
    let started = Event::Stage { stage: Stage::GgufHeader, status: StageStatus::Started, elapsed_ms: None };
    assert_eq!(event(&mut state, started), "Reading the file's header.");
    let header = Event::Header { fetched_bytes: 4_000_000, asked_bytes: 16_000_000, bytes_per_second: Some(4e5) };
    assert_eq!(event_line(&header).1, "4.00 MB of 16.0 MB asked for · 400 kB/s");
    assert_eq!(event(&mut state, header), "Reading the file's header: 4.00 MB so far, 400 kB/s.");
    assert_eq!((state.read_share(), page_title(&state).as_str()), (Some(0.25), "header 4.00 MB · gpt-oss in this tab"));
    let ended = Event::Stage { stage: Stage::GgufHeader, status: StageStatus::Completed, elapsed_ms: Some(9.0) };
    event(&mut state, ended);
    assert_eq!((state.read_share(), page_title(&state).as_str()), (None, "loading · gpt-oss in this tab"));
}

#[test]
fn an_answer_of_format_tokens_alone_says_so() {
    let mut state = State::default();
    assert!(stream_note(&state.answer).expect("nothing came").starts_with("Tokens appear here"));
    let token = |index| TokenInfo {
        index,
        id: 1,
        text: String::new(),
        channel: None,
        recipient: None,
        probability: None,
        entropy_nats: 0.0,
        top: Vec::new(),
        elapsed_ms: 1.0,
        decode_tokens_per_second: None,
    };
    let mut sequencer = Sequencer::new(0);
    (0..3).for_each(|index| state.apply(&sequencer.wrap(0.0, None, Event::Token(token(index)))));
    assert_eq!(stream_note(&state.answer).as_deref(), Some("No text so far: 3 tokens, all of the format."));
    state.answer.final_text = "x".into();
    assert_eq!(stream_note(&state.answer), None);
}
