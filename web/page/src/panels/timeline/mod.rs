//! The timeline: what happened, from the first event to the last, and which moment of it is shown.

use std::collections::VecDeque;

use gptoss_protocol::{AdapterInfo, Command, Envelope, Event, Recording, Replay, TokenInfo};

use crate::action::{Action, Moment};
use crate::format;
use crate::state::State;
use crate::view::{Element, Node, element};

/// Which moment is shown, and whether time goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Playhead {
    /// Events of the recording that have happened in what is shown; `None` shows what is going on now.
    pub at: Option<usize>,
    /// Whether it plays.
    pub playing: bool,
    /// How many times as fast as it happened.
    pub speed: u32,
}

impl Default for Playhead {
    fn default() -> Self {
        Self { at: None, playing: false, speed: 1 }
    }
}

/// Pauses between events are shortened to this when a recording is played: nobody waits for a host twice.
const LONGEST_PAUSE_MS: f64 = 1500.0;
const SPEEDS: [u32; 4] = [1, 4, 16, 64];

impl Playhead {
    /// The speed after this one.
    pub fn faster(&mut self) {
        let next = SPEEDS.iter().find(|speed| **speed > self.speed);
        self.speed = next.copied().unwrap_or(SPEEDS[0]);
    }

    /// The moment of the token before or after what is shown.
    pub fn step(&mut self, events: &VecDeque<Envelope>, moment: Moment) {
        let now = self.at.unwrap_or(events.len());
        let tokens = moments(events);
        let next = match moment {
            Moment::Back => tokens.iter().rev().find(|at| **at < now),
            _ => tokens.iter().find(|at| **at > now),
        };
        self.playing = false;
        if let Some(next) = next {
            self.at = Some(*next);
        }
    }

    /// Goes on for `elapsed_ms`, of which some may be left until the next event; gives that back. Ends at the last event.
    pub fn advance(&mut self, events: &VecDeque<Envelope>, elapsed_ms: f64) -> f64 {
        let mut left_ms = elapsed_ms * f64::from(self.speed);
        let mut at = self.at.unwrap_or(0);
        while at < events.len() {
            let pause_ms = pause_before(events, at);
            if pause_ms > left_ms {
                self.at = Some(at);
                return left_ms / f64::from(self.speed);
            }
            left_ms -= pause_ms;
            at += 1;
        }
        (self.at, self.playing) = (Some(events.len()), false);
        0.0
    }
}

/// Time from the event before to this one, as far as one clock tells: the page's own events have another than the host's.
fn pause_before(events: &VecDeque<Envelope>, at: usize) -> f64 {
    let event = &events[at];
    let before = events.range(..at).rev().find(|before| before.run_id == event.run_id);
    before.map_or(0.0, |before| (event.at_ms - before.at_ms).clamp(0.0, LONGEST_PAUSE_MS))
}

/// Moments worth stopping at: after everything that came with a token, or with a batch of a prompt.
pub fn moments(events: &VecDeque<Envelope>) -> Vec<usize> {
    let is_step = |event: &Event| matches!(event, Event::Token(_) | Event::Prefill { .. });
    let mut found = Vec::new();
    let mut open = false;
    for (at, envelope) in events.iter().enumerate() {
        if is_step(&envelope.event) || ends_step(&envelope.event) {
            if std::mem::take(&mut open) {
                found.push(at);
            }
            open = is_step(&envelope.event);
        }
    }
    if open {
        found.push(events.len());
    }
    found
}

/// Events after which whatever is told belongs to something else.
fn ends_step(event: &Event) -> bool {
    matches!(event, Event::Kv { .. } | Event::Asked { .. } | Event::Finished { .. } | Event::Stage { .. })
}

/// Where there begins to be something to see: the first load.
pub fn first_load(events: &VecDeque<Envelope>) -> usize {
    let is_load = |event: &Event| matches!(event, Event::Asked { command: Command::Load { .. } });
    events.iter().position(|envelope| is_load(&envelope.event)).unwrap_or(0)
}

/// The moment of the first token; the end where there is none.
pub fn first_token(events: &VecDeque<Envelope>) -> usize {
    events.iter().position(|envelope| matches!(envelope.event, Event::Token(_))).map_or(events.len(), |at| at + 1)
}

/// What is marked on the line, by what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something of a load.
    Load,
    /// A batch of a prompt.
    Prompt,
    /// A token.
    Token,
    /// Something failed, or was lost.
    Trouble,
}

/// What kind of mark an event is; `None` for one that is not marked.
pub fn mark(event: &Event) -> Option<Mark> {
    Some(match event {
        Event::Token(_) => Mark::Token,
        Event::Prefill { .. } => Mark::Prompt,
        Event::Fetch { .. } | Event::Tensor { .. } | Event::Reads(_) | Event::Stage { .. } => Mark::Load,
        Event::Failed { .. } | Event::Trouble(_) | Event::Recovering { .. } | Event::HostDied(_) => Mark::Trouble,
        _ => return None,
    })
}

/// The moment in which everything has happened that came with this token; `None` where the recording does not have it any more.
pub fn moment_of(events: &VecDeque<Envelope>, token: &TokenInfo) -> Option<usize> {
    let is_it = |envelope: &Envelope| matches!(&envelope.event, Event::Token(known) if known == token);
    let at = events.iter().rposition(is_it)?;
    moments(events).into_iter().find(|moment| *moment > at)
}

/// The state in which the first `count` events of a recording have happened.
pub fn state_at(recording: &Recording<State>, count: usize) -> State {
    let mut state = recording.before().clone();
    recording.events().iter().take(count).for_each(|envelope| state.apply(envelope));
    state
}

/// Says that a recording is shown, of what and of when.
pub fn label(opened: &str, state: &State) -> String {
    let model = state.model.as_ref().map(|model| model.name.clone());
    let adapter = state.adapter.as_ref().map(AdapterInfo::name_or_backend);
    let parts: Vec<String> = [Some(opened.to_owned()), model, adapter].into_iter().flatten().collect();
    parts.join(" · ")
}

/// The buttons. `opened`: what a recording that was opened is called; `None` while the page's own is shown.
pub fn controls(playhead: Playhead, events: usize, opened: Option<&str>, shown: &State) -> Vec<Node> {
    let button = |label: &str, title: &str, action: Action| {
        let button = element("button").class("quiet").with("type", "button").with("title", title);
        button.with("aria-label", title).with("data-do", action.to_string()).text(label)
    };
    let live = playhead.at.is_none();
    let state: Element = match (opened, live) {
        (Some(name), _) => {
            element("span").class("recording").id("recording-label").text(format!("RECORDING · {}", label(name, shown)))
        }
        (None, true) => element("span").class("live").id("recording-label").text("LIVE"),
        (None, false) => element("span").class("recording").id("recording-label").text("LOOKING BACK"),
    };
    let play = if playhead.playing { "❚❚" } else { "▸" };
    let mut all = vec![
        state,
        button("◂◂", "One token back", Action::Moment(Moment::Back)),
        button(play, if playhead.playing { "Pause" } else { "Play from here" }, Action::Moment(Moment::Play)),
        button("▸▸", "One token on", Action::Moment(Moment::On)),
        button(
            &format!("×{}", playhead.speed),
            "Speed; pauses of more than 1.5 s are shortened",
            Action::Moment(Moment::Faster),
        ),
    ];
    if opened.is_some() || !live {
        all.push(button("live", "Live: back to what is going on now", Action::Moment(Moment::Live)));
    }
    if events > 0 {
        all.push(button("save", "Save the recording as JSON lines", Action::SaveRecording));
    }
    all.push(button("open", "Open a recording", Action::OpenRecording));
    all.into_iter().map(Node::from).collect()
}

/// Where the moment is, in words.
pub fn position(playhead: Playhead, events: usize) -> String {
    let at = playhead.at.unwrap_or(events);
    format!("event {} of {}", format::count(at as u64), format::count(events as u64))
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{Channel, Sequencer};

    use super::*;

    fn token(index: u32) -> Event {
        Event::Token(TokenInfo {
            index,
            id: 1,
            text: "x".into(),
            channel: Some(Channel::Final),
            recipient: None,
            probability: None,
            entropy_nats: 0.0,
            top: Vec::new(),
            elapsed_ms: 1.0,
            decode_tokens_per_second: None,
        })
    }

    fn recorded() -> Recording<State> {
        let kv = |used_tokens| Event::Kv { used_tokens, capacity_tokens: 9, bytes: 1 };
        let prefill = Event::Prefill { done_tokens: 4, total_tokens: 4, reused_tokens: 0, elapsed_ms: 1.0 };
        let work = || Event::Work(gptoss_protocol::WorkCounters::default());
        let events = [
            (0.0, Event::HostReady),
            (10.0, prefill),
            (20.0, kv(5)),
            (30.0, token(0)),
            (31.0, work()),
            (5000.0, kv(6)),
            (5001.0, token(1)),
            (5002.0, work()),
        ];
        let (mut recording, mut sequencer) = (Recording::new(99), Sequencer::new(1));
        for (at_ms, event) in events {
            recording.push(sequencer.wrap(at_ms, None, event));
        }
        recording
    }

    #[test]
    fn a_token_has_its_moment_as_long_as_the_recording_has_it() {
        let recording = recorded();
        let infos: Vec<TokenInfo> = recording
            .events()
            .iter()
            .filter_map(|envelope| if let Event::Token(info) = &envelope.event { Some(info.clone()) } else { None })
            .collect();
        assert_eq!(
            infos.iter().map(|info| moment_of(recording.events(), info)).collect::<Vec<_>>(),
            [Some(5), Some(8)]
        );
        assert_eq!(moment_of(recording.events(), &TokenInfo { index: 9, ..infos[0].clone() }), None);
    }

    #[test]
    fn one_steps_from_token_to_token() {
        let recording = recorded();
        let events = recording.events();
        assert_eq!(moments(events), [2, 5, 8]);
        let mut head = Playhead::default();
        let mut seen = Vec::new();
        for moment in [Moment::Back, Moment::Back, Moment::Back, Moment::On, Moment::On, Moment::On] {
            head.step(events, moment);
            seen.push(head.at.expect("a moment"));
        }
        assert_eq!(seen, [5, 2, 2, 5, 8, 8]);
        assert_eq!(state_at(&recording, 5).answer.tokens.len(), 1);
        assert_eq!(state_at(&recording, 8), recording.replay());
    }

    #[test]
    fn a_recording_plays_as_it_happened_and_ends() {
        let recording = recorded();
        let events = recording.events();
        let mut head = Playhead { at: Some(0), playing: true, speed: 1 };
        let left = head.advance(events, 25.0);
        assert_eq!((head.at, left), (Some(3), 5.0), "the token came at 30 ms");
        // The pause of five seconds is one and a half.
        let left = head.advance(events, left + 1000.0);
        assert_eq!(head.at, Some(5));
        head.advance(events, left + 600.0);
        assert_eq!((head.at, head.playing), (Some(8), false));
        let mut head = Playhead { at: Some(0), playing: true, speed: 64 };
        head.advance(events, 30.0);
        assert_eq!(head.at, Some(8));
        head.faster();
        assert_eq!(head.speed, 1);
    }

    #[test]
    fn a_recording_says_that_it_is_one() {
        let shown = State::default();
        let html = |opened, head| -> String { controls(head, 3, opened, &shown).iter().map(Node::to_html).collect() };
        assert!(html(None, Playhead::default()).contains(">LIVE<"));
        assert!(html(None, Playhead { at: Some(1), ..Playhead::default() }).contains("LOOKING BACK"));
        let opened = html(Some("nano, 2026-11-30"), Playhead { at: Some(1), ..Playhead::default() });
        assert!(opened.contains("RECORDING · nano, 2026-11-30") && opened.contains("data-do=\"live\""), "{opened}");
    }

    /// What plays on a page on which nothing has happened. To record another: load nano on the page, and save its timeline.
    #[test]
    fn the_recording_that_comes_with_the_page_can_be_played() {
        let text = include_str!("../../../../recordings/nano.jsonl");
        let recording = Recording::<State>::from_json_lines(text).expect("a recording of this protocol");
        let begin = first_load(recording.events());
        assert!(begin > 0, "a page waits for its user before it loads");
        let mut head = Playhead { at: Some(begin), playing: true, speed: 1 };
        let (mut left_ms, mut frames) = (0.0, 0);
        while head.playing {
            left_ms = head.advance(recording.events(), left_ms + 66.0);
            frames += 1;
        }
        assert!(frames > 30, "there is something to be seen");
        let state = state_at(&recording, recording.events().len());
        assert_eq!(state.missing_events, 0);
        assert!(state.answer.final_text.contains("42"), "17 and 25: {:?}", state.answer.final_text);
        assert!(state.inside.recent.back().is_some_and(|routes| !routes.chosen.is_empty()));
        assert!(state.inside.norms.is_some() && state.inside.resident() > 0);
    }
}
