//! The lines of the log. Tens of thousands of events are looked at once each, however often the log is drawn.

use std::collections::VecDeque;

use gptoss_protocol::{Envelope, Recording};

use super::{Filter, Summary};
use crate::describe::event_line;
use crate::state::State;
use crate::view::{Node, element};

/// Lines on the page.
const SHOWN: usize = 120;

/// Which events of a recording match, by their numbers from the first on.
#[derive(Debug, Default)]
pub struct Log {
    filter: Filter,
    matching: VecDeque<u64>,
    /// Events that were looked at so far.
    taken: u64,
    held: usize,
    /// Lines that stand on the page, by their numbers, in ascending order.
    drawn: Vec<u64>,
    /// Whether lines have to be drawn.
    is_new: bool,
}

impl Log {
    /// Changes what is looked for. All events are looked at again with the next drawing.
    pub fn change_filter(&mut self, change: impl FnOnce(&mut Filter)) {
        let before = self.filter.clone();
        change(&mut self.filter);
        if self.filter != before {
            self.matching.clear();
            (self.taken, self.is_new) = (0, true);
        }
    }

    /// Looks at the events that came since the last time.
    pub fn take(&mut self, recording: &Recording<State>) {
        let (dropped, events) = (recording.dropped(), recording.events());
        while self.matching.front().is_some_and(|first| *first < dropped) {
            self.matching.pop_front();
        }
        let first = self.taken.max(dropped);
        for (envelope, number) in events.iter().skip((first - dropped) as usize).zip(first..) {
            if self.filter.matches(&envelope.event) {
                self.matching.push_back(number);
                self.is_new = true;
            }
        }
        (self.taken, self.held) = (dropped + events.len() as u64, events.len());
    }

    /// Whether there is something to draw.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// What is known of the log besides its lines.
    pub fn summary(&self) -> Summary<'_> {
        Summary { filter: &self.filter, matching: self.matching.len(), held: self.held, all: self.taken }
    }

    /// The lines to be shown; those that stand there already are named only.
    pub fn lines(&mut self, recording: &Recording<State>) -> Vec<Node> {
        self.is_new = false;
        let first = self.matching.len().saturating_sub(SHOWN);
        let numbers: Vec<u64> = self.matching.range(first..).copied().collect();
        let lines = numbers.iter().map(|number| {
            let key = number.to_string();
            let line = element("li").version("").key(key);
            match self.drawn.binary_search(number) {
                Ok(_) => line.into(),
                Err(_) => self.envelope(recording, *number).map_or(line.clone().into(), |envelope| {
                    let (kind, text) = event_line(&envelope.event);
                    let part = |class: &'static str, text: &str| element("span").class(class).text(text);
                    line.class(if kind == "failed" { "failed" } else { "" })
                        .child(part("at", &clock(envelope.at_ms)))
                        .child(part("kind", kind))
                        .child(part("text", &text))
                        .into()
                }),
            }
        });
        let lines: Vec<Node> = lines.collect();
        self.drawn = numbers;
        lines
    }

    /// All lines that match, as text.
    pub fn as_text(&self, recording: &Recording<State>) -> String {
        let mut text = String::new();
        for envelope in self.matching.iter().filter_map(|number| self.envelope(recording, *number)) {
            let (kind, line) = event_line(&envelope.event);
            text.push_str(&format!("{:>12} {kind:<9} {line}\n", clock(envelope.at_ms)));
        }
        text
    }

    fn envelope<'a>(&self, recording: &'a Recording<State>, number: u64) -> Option<&'a Envelope> {
        recording.events().get(number.checked_sub(recording.dropped())? as usize)
    }
}

fn clock(at_ms: f64) -> String {
    format!("{:.3} s", at_ms / 1000.0)
}
