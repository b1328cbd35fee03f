use gptoss_protocol::{Command, Event, LoadOptions, LoadSettings, ModelLocation, Prompt, Replay, Sequencer, TopToken};

use super::*;

fn apply(state: &mut State, event: Event) {
    state.apply(&Sequencer::new(1).wrap(0.0, None, event));
}

fn token(index: u32, said: &str, channel: Option<Channel>, probability: f32) -> Event {
    Event::Token(TokenInfo {
        index,
        id: index,
        text: said.to_owned(),
        channel,
        recipient: (channel == Some(Channel::ToolCall)).then(|| "get_weather".to_owned()),
        probability: Some(probability),
        entropy_nats: 0.5,
        top: vec![TopToken { id: index, text: said.to_owned(), probability }],
        elapsed_ms: 20.0,
        decode_tokens_per_second: None,
    })
}

fn finished(reason: FinishReason, final_text: &str, analysis_text: &str) -> Event {
    Event::Finished {
        reason,
        stopped_by: None,
        new_tokens: 6,
        reused_tokens: Some(0),
        junk_tokens: 0,
        final_text: final_text.to_owned(),
        analysis_text: analysis_text.to_owned(),
        tool_calls: Vec::new(),
        messages: vec![ChatMessage::said(final_text)],
        prefill_tokens_per_second: Some(100.0),
        decode_tokens_per_second: Some(50.0),
        time_to_first_token_ms: Some(9.0),
    }
}

fn html(state: &State, choices: Choices) -> String {
    turns(state, choices, &|_, _| false).iter().map(Node::to_html).collect()
}

fn answered() -> State {
    let mut state = State::default();
    let prompt = Prompt { user: "Is 7 < 9?".into(), ..Prompt::default() };
    apply(&mut state, Event::Asked { command: Command::Generate { prompt } });
    apply(&mut state, token(0, "", None, 1.0));
    apply(&mut state, token(1, "We think", Some(Channel::Analysis), 0.9));
    apply(&mut state, token(2, "", None, 1.0));
    apply(&mut state, token(3, "**Yes", Some(Channel::Final), 0.3));
    apply(&mut state, token(4, "**.", Some(Channel::Final), 0.01));
    state
}

#[test]
fn channels_are_told_apart_and_tokens_can_be_looked_at() {
    let mut state = answered();
    let now = html(&state, Choices::default());
    assert!(now.contains("<p class=\"asked\">Is 7 &lt; 9?</p>"), "{now}");
    // What was thought is folded, since another message has begun.
    assert!(now.contains("<details class=\"channel analysis\" data-channel=\"analysis\">"), "{now}");
    assert!(now.contains("<section class=\"channel final\" data-channel=\"final\" data-writing=\"\">"), "{now}");
    assert!(now.contains("<strong><span class=\"t unsure\" data-do=\"token 0 3\">Yes</span></strong>"), "{now}");
    assert!(!now.contains(">again<"), "nothing to be done with an answer that is being given");
    apply(&mut state, finished(FinishReason::Return, "**Yes**.", "We think"));
    let done = html(&state, Choices { tinted: true, ..Choices::default() });
    assert!(done.contains("<span class=\"t unsure s4\" data-do=\"token 0 4\">.</span>"), "{done}");
    assert!(done.contains("6 tokens · 50.0 tok/s"), "{done}");
    assert!(done.contains("data-do=\"again 0\"") && done.contains("data-do=\"copy 0\""), "{done}");
}

#[test]
fn a_question_can_be_written_anew() {
    let mut state = answered();
    apply(&mut state, finished(FinishReason::Return, "**Yes**.", "We think"));
    let editing = html(&state, Choices { editing: Some(0), ..Choices::default() });
    assert!(editing.contains("<textarea id=\"edited\"") && editing.contains("ask-edited 0"), "{editing}");
    assert!(!editing.contains("class=\"asked\""), "{editing}");
}

#[test]
fn a_call_asks_for_what_the_function_gives() {
    let mut state = State::default();
    apply(&mut state, Event::Asked { command: Command::Generate { prompt: Prompt::default() } });
    apply(&mut state, token(0, "{\"place\":\"Rome\"}", Some(Channel::ToolCall), 0.9));
    apply(&mut state, finished(FinishReason::Call, "", ""));
    let asks = html(&state, Choices::default());
    assert!(asks.contains("data-function=\"get_weather\"") && asks.contains("send-results 0"), "{asks}");
    assert!(asks.contains("tool call · get_weather"), "{asks}");
}

#[test]
fn an_answer_of_another_model_says_so() {
    let shown = |engine: LoadOptions| {
        let mut state = State::default();
        let model = ModelLocation::Url { url: "https://h/m.gguf".into() };
        let options = LoadSettings { engine, ..LoadSettings::default() };
        let command = Command::Load { model, options, prompt: None, remembered: Vec::new() };
        apply(&mut state, Event::Asked { command });
        apply(&mut state, Event::Asked { command: Command::Generate { prompt: Prompt::default() } });
        apply(&mut state, token(0, "Yes", Some(Channel::Final), 0.9));
        html(&state, Choices::default())
    };
    let own = shown(LoadOptions { max_kv_tokens: Some(4096), kv_f32: true, ..LoadOptions::default() });
    assert!(own.contains("Yes") && !own.contains("experiment"), "{own}");
    let other = shown(LoadOptions { layers: Some(0), yarn_truncate: true, ..LoadOptions::default() });
    assert!(other.contains("own answer: none of its layers was run, YaRN's range is rounded."), "{other}");
}

#[test]
fn what_was_streamed_gives_way_to_the_engines_own_text() {
    let mut state = answered();
    apply(&mut state, finished(FinishReason::Return, "No.", "We think"));
    let done = html(&state, Choices::default());
    assert!(done.contains("<p>No.</p>") && !done.contains("Yes"), "{done}");
}

#[test]
fn conversations_from_files_are_told_apart() {
    let version_of = |said: &str| {
        let mut state = State::default();
        let history = vec![ChatMessage::User { text: "Q".into() }, ChatMessage::said(said)];
        apply(&mut state, Event::ConversationTaken { history });
        let versions = std::cell::RefCell::new(Vec::new());
        turns(&state, Choices::default(), &|key, version| {
            versions.borrow_mut().push(format!("{key} {version}"));
            false
        });
        versions.into_inner()
    };
    assert_eq!(version_of("one"), version_of("one"));
    assert_ne!(version_of("one"), version_of("two"), "the second would not be drawn");
}
