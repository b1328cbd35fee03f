//! What the tests of panels share, and what must hold for every panel.

use gptoss_protocol::{
    Channel, Command, Event, LoadSettings, ModelInfo, ModelLocation, Prompt, Replay, Sequencer, TokenInfo, TopToken,
};

use super::*;
use crate::view::Node;

/// A state in which these events have happened.
pub fn state(events: impl IntoIterator<Item = Event>) -> State {
    state_at(events.into_iter().map(|event| (0.0, event)))
}

/// A state in which these events have happened, each at its time.
pub fn state_at(events: impl IntoIterator<Item = (f64, Event)>) -> State {
    let (mut state, mut sequencer) = (State::default(), Sequencer::new(1));
    for (at_ms, event) in events {
        state.apply(&sequencer.wrap(at_ms, None, event));
    }
    state
}

/// A model of 6 layers with 8 experts.
pub fn model() -> Event {
    Event::Model(ModelInfo {
        name: "made up".into(),
        architecture: "gpt-oss".into(),
        file_bytes: 1180,
        tensors: 2,
        layers: 6,
        hidden: 64,
        query_heads: 4,
        kv_heads: 2,
        experts: 8,
        experts_per_token: 4,
        vocabulary: 1280,
        context_tokens: 131_072,
        window_tokens: 128,
        sliding: vec![true, false, true, false, true, false],
        layers_run: 6,
        formats: Vec::new(),
    })
}

/// A load by way of a node.
pub fn ask_node(address: &str) -> Event {
    let model = ModelLocation::Node { address: address.to_owned() };
    let command = Command::Load { model, options: LoadSettings::default(), prompt: None, remembered: Vec::new() };
    Event::Asked { command }
}

/// A question.
pub fn asked() -> Event {
    Event::Asked { command: Command::Generate { prompt: Prompt::default() } }
}

/// A token of an answer, which had a probability of three quarters.
pub fn token(index: u32) -> Event {
    let text = format!(" word{index}");
    Event::Token(TokenInfo {
        index,
        id: index,
        text: text.clone(),
        channel: Some(Channel::Final),
        recipient: None,
        probability: Some(0.75),
        entropy_nats: 0.5,
        top: vec![TopToken { id: index, text, probability: 0.75 }],
        elapsed_ms: 25.0,
        decode_tokens_per_second: None,
    })
}

/// What is seen of a state, with nothing chosen.
pub fn seen(state: &State) -> Seen<'_> {
    Seen { local_time: |ms| format!("at {ms}"), ..Seen::nothing(state) }
}

/// A panel as HTML.
pub fn html_of(panel: &Panel, seen: &Seen<'_>) -> String {
    section(panel, seen).to_html()
}

/// A panel as HTML, of a state.
pub fn html(panel: &Panel, state: &State) -> String {
    html_of(panel, &seen(state))
}

const INDEX: &str = include_str!("../../../../index.html");

#[test]
fn ids_are_unique_in_the_whole_document() {
    let state = state([model()]);
    let drawn: String = all().map(|panel| html(panel, &state)).collect();
    let mut ids: Vec<&str> = Vec::new();
    for text in [INDEX, &drawn] {
        ids.extend(text.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()));
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup_by(|a, b| {
        assert_ne!(a, b, "there are two");
        a == b
    });
    assert_eq!(ids.len(), count);
}

#[test]
fn every_tab_has_a_place_in_the_document() {
    for tab in Tab::ALL {
        assert!(INDEX.contains(&format!("id=\"tab-{}\"", tab.name())), "{tab:?}");
    }
}

#[test]
fn every_panel_says_how_it_is_measured_and_is_named_once() {
    let mut names: Vec<&str> = all().map(|panel| panel.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    for panel in all() {
        assert!(panel.how.ends_with('.') && panel.how.len() > 60, "{}: {:?}", panel.name, panel.how);
    }
}

#[test]
fn a_panel_with_nothing_to_say_is_one_line_that_says_so_once() {
    let state = State::default();
    for panel in all() {
        let shown = (panel.view)(&seen(&state));
        let visible: String =
            if shown.is_empty { String::new() } else { shown.body.iter().map(Node::all_text).collect() };
        assert!(!shown.line.is_empty(), "{} says nothing at all", panel.name);
        // The page's own work has numbers that this browser may not tell.
        let most = if panel.name == "page" { 5 } else { 0 };
        assert!(visible.matches("not measured").count() <= most, "{}: {visible}", panel.name);
    }
}

#[test]
fn rules_of_a_panel_name_it() {
    for panel in all() {
        let selectors = panel.style.lines().filter(|line| line.ends_with('{') && !line.starts_with('@'));
        for selector in selectors.map(str::trim) {
            let own = [format!(".{}", panel.name), "#".to_owned(), ".log-lines".to_owned()];
            assert!(own.iter().any(|own| selector.starts_with(own)), "{}: {selector}", panel.name);
        }
    }
}
