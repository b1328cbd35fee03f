use gptoss_protocol::{
    CacheOptions, Channel, FailureKind, InputError, LoadSettings, NetworkOptions, NextAttempt, Prompt, Recording,
    Sequencer, TokenInfo, TopToken, TroubleKind,
};

use super::*;

/// Plays events into a state, numbered as a worker and a page number them, and records them: when it ends, the recording must replay
/// to the state that there is.
struct Run {
    sequencer: Sequencer,
    page: Sequencer,
    state: State,
    recording: Recording<State>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.recording.replay(), self.state, "the recording replays to another state");
            let text = self.recording.to_json_lines().expect("a state is JSON");
            let read = Recording::<State>::from_json_lines(&text).expect("it was written just now");
            assert_eq!(read.replay(), self.state, "the recording's text replays to another state");
        }
    }
}

impl Run {
    fn new() -> Self {
        // So small that most of every run is in the state that the recording begins with.
        let recording = Recording::new(3);
        let (sequencer, page) = (Sequencer::new(1), Sequencer::new(2));
        let mut run = Self { sequencer, page, state: State::default(), recording };
        run.own(Event::HostStarted);
        run.event(Event::HostReady);
        run
    }

    fn event(&mut self, event: Event) -> &State {
        let sent = self.sequencer.wrap(0.0, None, event);
        self.take(&sent)
    }

    /// The page's own event.
    fn own(&mut self, event: Event) -> &State {
        self.own_at(0.0, event)
    }

    fn own_at(&mut self, at_ms: f64, event: Event) -> &State {
        let sent = self.page.wrap(at_ms, Some(RequestId(1)), event);
        self.take(&sent)
    }

    fn take(&mut self, sent: &Envelope) -> &State {
        // Through the wire, as it happens on the page.
        let envelope = Envelope::from_json(&sent.to_json()).expect("round trip");
        self.state.apply(&envelope);
        self.recording.push(envelope);
        &self.state
    }

    fn ask(&mut self, command: Command) {
        self.own(Event::Asked { command });
    }

    fn load(&mut self) {
        self.ask(load_command());
    }

    fn download(&mut self) {
        let model = ModelLocation::Url { url: "https://host/model.gguf".into() };
        self.ask(Command::Download { model, network: NetworkOptions::default(), cache: CacheOptions::default() });
    }

    fn answer(&mut self) {
        self.ask(Command::Generate { prompt: Prompt::default() });
    }

    fn stop(&mut self, at_ms: f64) {
        self.own_at(at_ms, Event::Asked { command: Command::Stop { request: None } });
    }

    fn time_passed(&mut self, at_ms: f64) {
        self.own_at(at_ms, Event::TimePassed);
    }

    fn stage(&mut self, stage: Stage, status: StageStatus) -> &State {
        let elapsed_ms = (status != StageStatus::Started).then_some(2.5);
        self.event(Event::Stage { stage, status, elapsed_ms })
    }

    fn loaded() -> Self {
        let mut run = Self::new();
        run.load();
        for stage in Stage::LOAD {
            run.stage(stage, StageStatus::Started);
            run.stage(stage, StageStatus::Completed);
        }
        run.event(Event::Ready { load_ms: 12.0 });
        run
    }
}

fn load_command() -> Command {
    let model = ModelLocation::Url { url: "https://host/model.gguf".into() };
    Command::Load { model, options: LoadSettings::default(), prompt: None, remembered: Vec::new() }
}

fn token(index: u32, text: &str, channel: Option<Channel>) -> Event {
    Event::Token(TokenInfo {
        index,
        id: 100 + index,
        text: text.to_owned(),
        channel,
        recipient: None,
        probability: Some(0.75),
        entropy_nats: 0.5,
        top: vec![TopToken { id: 100 + index, text: text.to_owned(), probability: 0.75 }],
        elapsed_ms: 30.0,
        decode_tokens_per_second: (index > 0).then_some(33.0),
    })
}

fn finished(reason: FinishReason, final_text: &str) -> Event {
    Event::Finished {
        reason,
        stopped_by: None,
        reused_tokens: Some(0),
        messages: Vec::new(),
        new_tokens: 3,
        junk_tokens: 0,
        final_text: final_text.to_owned(),
        analysis_text: "think".to_owned(),
        tool_calls: Vec::new(),
        prefill_tokens_per_second: Some(100.0),
        decode_tokens_per_second: Some(33.0),
        time_to_first_token_ms: Some(250.0),
    }
}

#[test]
fn stage_order_is_the_declared_one() {
    for (index, stage) in all_stages().enumerate() {
        assert_eq!(stage_index(stage), index, "{stage:?}");
    }
}

#[test]
fn a_load_with_a_prompt_goes_from_idle_to_done() {
    let mut run = Run::new();
    assert_eq!(run.state.phase, Phase::Idle);
    assert!(run.state.host_ready);
    run.load();
    assert_eq!(run.state.phase, Phase::Loading);
    assert_eq!(run.stage(Stage::WeightsFetch, StageStatus::Started).running_stage(), Some(Stage::WeightsFetch));
    run.stage(Stage::WeightsFetch, StageStatus::Completed);
    let state = run.event(Event::Ready { load_ms: 12.0 });
    assert_eq!((state.phase, state.model_loaded, state.load_ms), (Phase::Ready, true, Some(12.0)));
    assert_eq!(run.stage(Stage::PromptEncode, StageStatus::Started).phase, Phase::Generating);
    run.event(token(0, "", None));
    run.event(token(1, "thi", Some(Channel::Analysis)));
    run.event(token(2, "nk", Some(Channel::Analysis)));
    run.event(token(3, "", None));
    let state = run.event(token(4, "7", Some(Channel::Final)));
    assert_eq!((state.answer.analysis_text.as_str(), state.answer.final_text.as_str()), ("think", "7"));
    assert_eq!(state.answer.generated(), 5);
    assert_eq!(state.answer.tokens.len(), 5, "format tokens count too");
    let said: Vec<_> = state.answer.said.iter().map(|said| (said.text.as_str(), said.ends.as_slice())).collect();
    assert_eq!(
        said,
        [("think", &[(1, 3), (2, 5)][..]), ("7", &[(4, 1)])],
        "texts, and the tokens that they are made of"
    );
    let state = run.event(finished(FinishReason::Return, "7"));
    assert_eq!(state.phase, Phase::Done);
    assert_eq!(state.answer.time_to_first_token_ms, Some(250.0), "the engine's own number");
    assert_eq!(state.missing_events, 0);
}

#[test]
fn a_second_question_starts_from_nothing_but_keeps_the_model() {
    let mut run = Run::loaded();
    run.answer();
    run.stage(Stage::PromptEncode, StageStatus::Started);
    run.event(token(0, "old", Some(Channel::Final)));
    run.event(finished(FinishReason::Return, "old"));
    let number = run.state.answer.number;
    run.answer();
    assert_eq!(run.state.phase, Phase::Generating);
    assert_eq!(run.state.answer, Answer { number: number + 1, ..Answer::default() });
    assert!(run.state.model_loaded);
    assert_eq!(run.state.stage(Stage::Decode), StageState::default());
    assert_eq!(run.state.stage(Stage::WeightsFetch).status, Some(StageStatus::Completed));
}

#[test]
fn the_engines_own_final_text_wins() {
    let mut run = Run::loaded();
    run.event(token(0, "partial", Some(Channel::Final)));
    assert_eq!(run.event(finished(FinishReason::Return, "whole")).answer.final_text, "whole");
}

#[test]
fn stop_takes_effect_only_when_the_worker_says_so() {
    let mut run = Run::new();
    run.stop(0.0);
    assert!(!run.state.stopping(), "nothing to stop");
    run.load();
    run.stop(0.0);
    assert!(run.state.stopping());
    assert_eq!(run.state.phase, Phase::Loading);
    let state = run.event(Event::Stopped { model_loaded: false });
    assert_eq!((state.phase, state.stopping(), state.model_loaded), (Phase::Stopped, false, false));

    let mut run = Run::loaded();
    run.answer();
    run.stop(0.0);
    let state = run.event(finished(FinishReason::Stopped, ""));
    assert_eq!((state.phase, state.stopping(), state.model_loaded), (Phase::Stopped, false, true));
}

#[test]
fn a_stop_without_effect_offers_to_end_the_engine() {
    let mut run = Run::loaded();
    run.answer();
    run.stage(Stage::Prefill, StageStatus::Started);
    run.time_passed(1e9);
    assert!(!run.state.offers_end(), "nobody pressed STOP");
    run.stop(1000.0);
    run.time_passed(1000.0 + STOP_PATIENCE_MS - 1.0);
    assert!(!run.state.offers_end());
    run.time_passed(1000.0 + STOP_PATIENCE_MS);
    assert!(run.state.offers_end());
    run.event(token(0, "late", Some(Channel::Final)));
    assert!(run.state.offers_end(), "a sign of life is not what was asked for");
    let mut late = run.state.clone();
    run.event(Event::Stopped { model_loaded: true });
    assert!(!run.state.offers_end() && run.state.model_loaded, "STOP took effect after all");

    late.engine_ended();
    assert_eq!((late.phase, late.model_loaded, late.host_ready), (Phase::Stopped, false, false));
    assert!(!late.offers_end() && !late.can_stop() && late.failure.is_none());
    assert_eq!(late.stage(Stage::Prefill).status, Some(StageStatus::Cancelled));
    assert_eq!(late.running_stage(), None);

    // Replacing a model, before anything is heard of it.
    late.load_requested();
    late.stop_requested(0.0);
    late.time_passed(STOP_PATIENCE_MS);
    assert!(late.offers_end());
    late.engine_ended();
    late.load_requested();
    assert!(!late.stopping() && !late.offers_end() && late.phase == Phase::Loading);
}

#[test]
fn a_failure_is_cached_until_the_next_attempt() {
    let failure = Failure { kind: FailureKind::Source, message: "no".into(), advice: "do".into(), parameter: None };
    let mut run = Run::new();
    run.load();
    run.stage(Stage::RangeCheck, StageStatus::Failed);
    let state = run.event(Event::Failed { stage: Stage::RangeCheck, failure: failure.clone() });
    assert_eq!((state.phase, state.failure.as_ref()), (Phase::Error, Some(&failure)));
    run.load();
    assert_eq!((run.state.phase, &run.state.failure), (Phase::Loading, &None));
    assert_eq!(run.state.stage(Stage::RangeCheck), StageState::default());
    assert!(run.state.host_ready, "the worker is still the same");
    run.own(Event::HostDied(failure.clone()));
    assert!(!run.state.host_ready && !run.state.model_loaded);
    assert_eq!(run.state.failure, Some(failure));
}

#[test]
fn a_stage_does_not_run_on_when_nobody_is_left_to_end_it() {
    let failure =
        Failure { kind: FailureKind::Unreachable, message: "no".into(), advice: "do".into(), parameter: None };
    let mut run = Run::loaded();
    run.answer();
    run.stage(Stage::PromptEncode, StageStatus::Started);
    run.stage(Stage::PromptEncode, StageStatus::Completed);
    run.stage(Stage::Decode, StageStatus::Started);
    let state = run.own(Event::HostDied(failure));
    assert_eq!((state.stage(Stage::Decode).status, state.running_stage()), (Some(StageStatus::Failed), None));
    assert_eq!(state.stage(Stage::Decode).elapsed_ms, None, "nobody knows how long it took");
    assert_eq!(state.stage(Stage::PromptEncode).status, Some(StageStatus::Completed));
}

#[test]
fn a_node_that_does_not_answer_takes_nobodys_place() {
    let failure =
        Failure { kind: FailureKind::Unreachable, message: "no".into(), advice: "do".into(), parameter: None };
    let model = |address: &str| ModelLocation::Node { address: address.into() };
    let load = |model| Command::Load { model, options: LoadSettings::default(), prompt: None, remembered: Vec::new() };
    let mut run = Run::loaded();
    run.event(crate::panels::tests::model());
    run.ask(load(model("pylon://h:1")));
    assert_eq!(run.state.node(), None);
    run.event(Event::Failed { stage: Stage::RangeCheck, failure });
    assert!(run.state.model_loaded && run.state.node().is_none(), "the worker's model is still loaded");
    run.ask(load(model("pylon://h:2")));
    run.event(Event::Unloaded);
    run.event(crate::panels::tests::model());
    assert_eq!(run.state.node(), Some("pylon://h:2"));
    run.event(Event::Ready { load_ms: 1.0 });
    run.event(Event::Unloaded);
    run.load();
    run.event(crate::panels::tests::model());
    assert_eq!(run.state.node(), None, "a file is loaded in its place");
}

#[test]
fn a_dying_workers_own_words_are_cached_and_a_new_one_counts_from_zero() {
    let failure = |message: &str| Failure {
        kind: FailureKind::Internal,
        message: message.into(),
        advice: "".into(),
        parameter: None,
    };
    let mut run = Run::loaded();
    run.event(Event::Failed { stage: Stage::Decode, failure: failure("index out of bounds") });
    run.own(Event::HostDied(failure("unreachable")));
    assert_eq!(run.state.failure, Some(failure("index out of bounds")));
    run.own(Event::HostStarted);
    run.sequencer = Sequencer::new(2);
    assert_eq!(run.event(Event::HostReady).missing_events, 0);
    assert!(run.state.host_ready);
}

#[test]
fn trouble_lasts_until_data_flows_or_the_run_ends() {
    let trouble = |what, offset_bytes, attempt| Trouble {
        what,
        file: "m.gguf".into(),
        offset_bytes,
        missing_bytes: 10,
        next: Some(NextAttempt { attempt, attempts: 12, wait_ms: 250.0 }),
    };
    let mut run = Run::new();
    run.load();
    assert_eq!(run.state.worst_trouble(), None);
    run.event(Event::Trouble(trouble(TroubleKind::BrokenOff, 0, 3)));
    run.event(Event::Trouble(trouble(TroubleKind::Stalled, 8, 2)));
    let worst = |run: &Run| run.state.worst_trouble().map(|trouble| (trouble.what, trouble.offset_bytes));
    assert_eq!(worst(&run), Some((TroubleKind::BrokenOff, 0)));
    run.event(Event::Trouble(trouble(TroubleKind::NoAnswer, 8, 4)));
    assert_eq!((worst(&run), run.state.troubles.len()), (Some((TroubleKind::NoAnswer, 8)), 2));
    run.event(Event::Trouble(Trouble { next: None, ..trouble(TroubleKind::Offline, 0, 0) }));
    assert_eq!(worst(&run), Some((TroubleKind::Offline, 0)));
    for offset_bytes in [0, 8] {
        run.event(Event::TroubleOver { file: "m.gguf".into(), offset_bytes, attempts: 2, elapsed_ms: 300.0 });
    }
    assert_eq!(worst(&run), None);

    let failure = Failure { kind: FailureKind::Source, message: "no".into(), advice: "do".into(), parameter: None };
    for end in [
        Event::Stopped { model_loaded: true },
        Event::Failed { stage: Stage::Decode, failure },
        finished(FinishReason::Return, "7"),
    ] {
        run.event(Event::Trouble(trouble(TroubleKind::NoAnswer, 0, 2)));
        assert!(run.event(end).troubles.is_empty());
    }
}

#[test]
fn a_lost_device_takes_the_model_with_it() {
    let failure =
        Failure { kind: FailureKind::DeviceLost, message: "gone".into(), advice: "again".into(), parameter: None };
    let state = Run::loaded().event(Event::Failed { stage: Stage::Decode, failure }).clone();
    assert_eq!((state.phase, state.model_loaded), (Phase::Error, false));
}

#[test]
fn gaps_are_counted_in_what_the_worker_sends() {
    let mut run = Run::new();
    run.sequencer.wrap(0.0, None, Event::HostReady);
    run.sequencer.wrap(0.0, None, Event::HostReady);
    assert_eq!(run.event(Event::GpuMemory { allocated_bytes: 5 }).missing_events, 2);
    run.page.wrap(0.0, None, Event::TimePassed);
    run.time_passed(1.0);
    assert_eq!(run.event(Event::GpuMemory { allocated_bytes: 6 }).missing_events, 2, "the page's are its own");
}

#[test]
fn measurements_that_never_came_are_none() {
    let run = Run::loaded();
    let state = &run.state;
    assert_eq!((state.gpu_allocated_bytes, state.kv, state.experts, state.work), (None, None, None, None));
    assert_eq!((state.answer.decode_tokens_per_second, state.fetch), (None, None));
}

fn failed(kind: FailureKind, option: Option<gptoss_protocol::OptionId>) -> Event {
    let parameter = option.map(|option| gptoss_protocol::RefusedOption { option, got: None, expected: None });
    let failure = Failure { kind, message: "the prompt is long".into(), advice: "Shorten it.".into(), parameter };
    Event::Failed { stage: Stage::RangeCheck, failure }
}

/// A model that answered, with what the page knows about it.
fn answered() -> Run {
    let mut run = Run::loaded();
    run.event(Event::GpuMemory { allocated_bytes: 7_000_000 });
    run.event(Event::Kv { used_tokens: 3, capacity_tokens: 64, bytes: 9 });
    run.answer();
    run.stage(Stage::PromptEncode, StageStatus::Started);
    run.event(token(0, "42", Some(Channel::Final)));
    run.event(finished(FinishReason::Return, "42"));
    run
}

#[test]
fn what_is_loaded_stays_until_another_model_is_known_to_be_good() {
    for ending in [failed(FailureKind::Source, None), Event::Stopped { model_loaded: true }] {
        let mut run = answered();
        let before = run.state.clone();
        run.load();
        assert_eq!((run.state.phase, run.state.model_loaded), (Phase::Loading, false));
        assert_eq!(run.state.gpu_allocated_bytes, Some(7_000_000), "it still takes its memory");
        assert_eq!(run.state.answer.final_text, "42", "and can still be read");
        run.stage(Stage::RangeCheck, StageStatus::Started);
        run.stage(Stage::RangeCheck, StageStatus::Failed);
        run.event(ending);
        let after = &run.state;
        assert!(after.model_loaded && !after.phase.busy());
        assert_eq!((&after.answer, after.kv, after.load_ms), (&before.answer, before.kv, before.load_ms));
        assert_eq!(after.gpu_allocated_bytes, Some(7_000_000));
        assert_eq!(after.stages, before.stages);
        assert_eq!(after.failure.is_some(), after.phase == Phase::Error);
        assert_eq!(after.missing_events, 0);
    }
}

#[test]
fn what_was_let_go_of_does_not_come_back() {
    let mut run = answered();
    run.load();
    run.event(Event::Unloaded);
    assert_eq!((run.state.gpu_allocated_bytes, run.state.answer.final_text.as_str()), (None, ""));
    run.event(failed(FailureKind::Memory, None));
    assert!(!run.state.model_loaded && run.state.phase == Phase::Error);

    let mut run = answered();
    run.load();
    run.event(failed(FailureKind::DeviceLost, None));
    assert!(!run.state.model_loaded, "the GPU went away with both");
}

#[test]
fn a_question_that_is_refused_keeps_the_answer_before_it() {
    let mut run = answered();
    run.answer();
    run.stage(Stage::PromptEncode, StageStatus::Started);
    run.stage(Stage::PromptEncode, StageStatus::Completed);
    assert_eq!(run.state.answer.final_text, "");
    let number = run.state.answer.number;
    run.event(failed(FailureKind::Request, Some(gptoss_protocol::OptionId::Prompt)));
    let state = &run.state;
    assert_eq!((state.answer.final_text.as_str(), state.answer.generated()), ("42", 1));
    assert!(state.answer.number > number, "it has to be drawn again");
    assert!(state.model_loaded);
    let refused = &state.refused;
    assert_eq!((refused.number, refused.errors[0].field), (1, Some(gptoss_protocol::OptionId::Prompt)));
    assert_eq!(refused.errors[0].message, "The prompt is long. Shorten it.");

    // One that fails in the middle keeps what it has itself.
    run.answer();
    run.event(token(0, "4", Some(Channel::Final)));
    run.event(failed(FailureKind::Source, None));
    assert_eq!(run.state.answer.final_text, "4");
}

#[test]
fn inputs_that_are_refused_on_the_page_are_marked_every_time() {
    let mut run = answered();
    let error = InputError { field: Some(gptoss_protocol::OptionId::TopP), message: "Top-p is \"7\".".into() };
    for number in [1, 2] {
        run.own(Event::InputsRefused { errors: vec![error.clone()] });
        assert_eq!(run.state.refused, Refusal { number, errors: vec![error.clone()] });
        assert_eq!(run.state.failure.as_ref().expect("said").message, "Top-p is \"7\".");
        assert!(run.state.model_loaded && run.state.answer.final_text == "42");
    }
    // The marks stay until inputs were accepted: not while they are only looked at again.
    for (number, request) in [(3, Run::answer as fn(&mut Run)), (5, Run::load), (7, Run::download)] {
        request(&mut run);
        assert_eq!(run.state.refused, Refusal { number, errors: vec![] });
        run.own(Event::InputsRefused { errors: vec![error.clone()] });
    }
}

#[test]
fn a_download_that_was_not_cached_has_failed_and_leaves_the_loaded_model_alone() {
    let downloaded = |cached_bytes| Event::Downloaded { cached_bytes, model_bytes: 3_000_000, elapsed_ms: 5.0 };
    for (cached_bytes, words) in [(0, "nothing of it is in this browser"), (1_000_000, "only 1.00 MB of 3.00 MB are")] {
        let mut run = answered();
        run.download();
        run.event(Event::CacheNotice(gptoss_protocol::CacheNotice {
            kind: gptoss_protocol::CacheNoticeKind::NotCached,
            file: "m.gguf".into(),
            message: "no more of m.gguf is cached: there is no room left".into(),
            advice: "Free disk space.".into(),
        }));
        let state = run.event(downloaded(cached_bytes));
        let failure = state.failure.as_ref().expect("an error");
        assert_eq!((state.phase, failure.kind, state.model_loaded), (Phase::Error, FailureKind::Storage, true));
        assert!(failure.message.contains(words) && failure.message.ends_with("no room left"), "{}", failure.message);
        assert_eq!(failure.advice, "Free disk space.");
    }
    let mut run = answered();
    run.download();
    let state = run.event(downloaded(3_000_000));
    assert_eq!((state.phase, state.downloaded, state.model_loaded), (Phase::Ready, Some(3_000_000), true));
    let mut run = Run::new();
    run.download();
    assert_eq!(run.event(downloaded(3_000_000)).phase, Phase::Idle);
}
