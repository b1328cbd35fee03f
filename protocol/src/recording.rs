//! What happened, in the order in which it did: enough to see it again.
//!
//! As text a recording is JSON lines: a header that says what it is, then one [`Envelope`] a line. A recording is bounded, and yet
//! replays to the same state: what no longer fits is applied to the state that the recording begins with.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Envelope, PROTOCOL_VERSION, ProtocolError};

/// A state that is worked out from events alone.
pub trait Replay: Clone + Default {
    /// Takes one event in.
    fn apply(&mut self, envelope: &Envelope);
}

/// The last events of a watcher, and the state before the first of them.
#[derive(Clone, Debug)]
pub struct Recording<S> {
    capacity: usize,
    /// The state in which the first event is applied.
    before: S,
    events: VecDeque<Envelope>,
    dropped: u64,
}

/// First line of a recording as text.
#[derive(Serialize, Deserialize)]
struct Header<S> {
    version: u32,
    /// Events that came before the first one, and are part of `state`.
    dropped: u64,
    /// State in which the first event is applied; `None` where nothing came before.
    #[serde(default = "none")]
    state: Option<S>,
}

fn none<S>() -> Option<S> {
    None
}

/// Why a text is no recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingError {
    /// There is no header.
    Empty,
    /// A line cannot be read.
    Line {
        /// Number of the line in the text, counted from 1.
        number: usize,
        /// Why it is no header, or no envelope.
        error: ProtocolError,
    },
}

impl std::fmt::Display for RecordingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("the recording is empty: it has no header line"),
            Self::Line { number, error } => write!(f, "line {number} of the recording: {error}"),
        }
    }
}

impl std::error::Error for RecordingError {}

impl<S: Replay> Recording<S> {
    /// An empty recording that holds at most so many events.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), before: S::default(), events: VecDeque::new(), dropped: 0 }
    }

    /// Records an event. The oldest one gives way where there is no room.
    pub fn push(&mut self, envelope: Envelope) {
        while self.events.len() >= self.capacity
            && let Some(oldest) = self.events.pop_front()
        {
            self.before.apply(&oldest);
            self.dropped += 1;
        }
        self.events.push_back(envelope);
    }

    /// The events that are held, oldest first.
    pub fn events(&self) -> &VecDeque<Envelope> {
        &self.events
    }

    /// The state in which the first event that is held is applied.
    pub fn before(&self) -> &S {
        &self.before
    }

    /// Events that are held no longer, since the recording is bounded.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The state after the last event.
    pub fn replay(&self) -> S {
        let mut state = self.before.clone();
        self.events.iter().for_each(|envelope| state.apply(envelope));
        state
    }
}

impl<S: Replay + Serialize> Recording<S> {
    /// The recording as JSON lines.
    ///
    /// # Errors
    /// The state has a part that JSON cannot say.
    pub fn to_json_lines(&self) -> Result<String, serde_json::Error> {
        let state = (self.dropped > 0).then_some(&self.before);
        let mut text = serde_json::to_string(&Header { version: PROTOCOL_VERSION, dropped: self.dropped, state })?;
        for envelope in &self.events {
            text.push('\n');
            text.push_str(&envelope.to_json());
        }
        text.push('\n');
        Ok(text)
    }
}

impl<S: Replay + DeserializeOwned> Recording<S> {
    /// Reads a recording back.
    ///
    /// # Errors
    /// There is no header, or a line cannot be read; the error says which.
    pub fn from_json_lines(text: &str) -> Result<Self, RecordingError> {
        let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let (first, number) = lines.next().ok_or(RecordingError::Empty)?;
        let at = |number| move |error| RecordingError::Line { number, error };
        let header: Header<S> = crate::from_json(first).map_err(at(number))?;
        let events = lines.map(|(line, number)| Envelope::from_json(line).map_err(at(number)));
        let events = events.collect::<Result<VecDeque<_>, _>>()?;
        let before = header.state.unwrap_or_default();
        Ok(Self { capacity: events.len().max(1), before, events, dropped: header.dropped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Sequencer};

    /// A fold in which the order of events matters.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Sum {
        value: u64,
        last_ms: f64,
    }

    impl Replay for Sum {
        fn apply(&mut self, envelope: &Envelope) {
            let Event::GpuMemory { allocated_bytes } = envelope.event else { panic!("there is no other") };
            self.value = self.value.wrapping_mul(31).wrapping_add(allocated_bytes);
            self.last_ms = envelope.at_ms;
        }
    }

    fn recorded(count: u64, capacity: usize) -> (Recording<Sum>, Sum) {
        let (mut recording, mut state, mut sequencer) = (Recording::new(capacity), Sum::default(), Sequencer::new(1));
        for index in 0..count {
            let event = Event::GpuMemory { allocated_bytes: index * index };
            let envelope = sequencer.wrap(0.1 + index as f64 / 3.0, None, event);
            state.apply(&envelope);
            recording.push(envelope);
        }
        (recording, state)
    }

    #[test]
    fn a_bounded_recording_replays_to_the_same_state_also_from_its_text() {
        for (count, capacity) in [(0, 5), (3, 5), (5, 5), (6, 5), (1000, 7), (4, 0)] {
            let (recording, state) = recorded(count, capacity);
            assert_eq!(recording.replay(), state, "{count} of {capacity}");
            assert!(recording.events().len() <= capacity.max(1));
            assert_eq!(recording.dropped() + recording.events().len() as u64, count);
            let text = recording.to_json_lines().expect("JSON");
            let read = Recording::<Sum>::from_json_lines(&text).expect("it was written just now");
            assert_eq!((read.replay(), read.dropped()), (state, recording.dropped()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_line() {
        let (recording, _) = recorded(3, 9);
        let text = recording.to_json_lines().expect("JSON");
        let read = |text: &str| Recording::<Sum>::from_json_lines(text).expect_err("it is damaged");
        assert_eq!(read(""), RecordingError::Empty);
        let other = text.replacen(&format!("\"version\":{PROTOCOL_VERSION}"), "\"version\":1", 1);
        let error = ProtocolError::Version { expected: PROTOCOL_VERSION, got: 1 };
        assert_eq!(read(&other), RecordingError::Line { number: 1, error });
        let cut = &text[..text.trim_end().len() - 10];
        let said = read(cut).to_string();
        assert!(said.starts_with("line 4 of the recording: malformed"), "{said}");
    }
}
