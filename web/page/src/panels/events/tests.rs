use gptoss_protocol::{Event, Recording, Sequencer};

use super::super::tests::{html_of, seen, state, token};
use super::*;
use crate::state::State;

/// A recording of so many events that holds only a few.
fn recording(capacity: usize, events: impl IntoIterator<Item = Event>) -> Recording<State> {
    let (mut recording, mut sequencer) = (Recording::new(capacity), Sequencer::new(1));
    for (event, at_ms) in events.into_iter().zip(0..) {
        recording.push(sequencer.wrap(f64::from(at_ms), None, event));
    }
    recording
}

fn heap(bytes: u64) -> Event {
    Event::WasmHeap { bytes }
}

fn html(nodes: &[Node]) -> String {
    nodes.iter().map(Node::to_html).collect()
}

#[test]
fn what_is_typed_and_pressed_says_what_is_shown_and_copied() {
    let recording = recording(100, [heap(5_000_000), token(0), heap(6_000_000), token(1)]);
    let mut log = Log::default();
    log.take(&recording);
    assert_eq!((log.summary().matching, log.summary().held), (4, 4));
    log.change_filter(|filter| filter.type_text("  WASM 6.00 "));
    log.take(&recording);
    assert_eq!(log.as_text(&recording), "     0.002 s memory    6.00 MB of wasm heap\n");
    let lines = html(&log.lines(&recording));
    assert!(lines.contains("<span class=\"text\">6.00 MB of wasm heap</span>") && !lines.contains("5.00"), "{lines}");
    let known = state([]);
    let mut seen = seen(&known);
    seen.log = log.summary();
    let said = html_of(&PANEL, &seen);
    assert!(said.contains("id=\"log-summary\">1 of 4 events match<") && said.contains(">copy 1 line<"), "{said}");
    // A group, and words within it.
    log.change_filter(|filter| {
        filter.type_text("");
        filter.group = Some(Group::Answer);
    });
    log.take(&recording);
    assert_eq!(log.summary().matching, 2);
    log.change_filter(|filter| filter.type_text("word1"));
    log.take(&recording);
    assert_eq!(log.as_text(&recording).lines().count(), 1);
    log.change_filter(|filter| *filter = Filter::default());
    log.take(&recording);
    assert_eq!(log.as_text(&recording).lines().count(), 4, "everything again");
}

#[test]
fn a_line_is_made_once_and_the_last_lines_are_shown() {
    let mut log = Log::default();
    let whole = recording(1000, (0..130).map(heap));
    log.take(&whole);
    assert!(log.is_new());
    let first = log.lines(&whole);
    assert_eq!(first.len(), 120);
    assert!(html(&first).contains(">0.010 s<") && !html(&first).contains(">0.009 s<"));
    assert!(!log.is_new());
    let more = recording(1000, (0..131).map(heap));
    log.take(&more);
    let again = log.lines(&more);
    assert_eq!(again.iter().filter(|node| !node.all_text().is_empty()).count(), 1, "only the new line has to be made");
}

#[test]
fn events_that_are_held_no_longer_do_not_match() {
    let mut log = Log::default();
    log.take(&recording(10, (0..8).map(heap)));
    assert_eq!(log.summary().matching, 8);
    let later = recording(10, (0..25).map(heap));
    log.take(&later);
    assert_eq!((log.summary().matching, log.summary().held, log.summary().all), (10, 10, 25));
    assert_eq!(log.as_text(&later).lines().count(), 10);
    // The same when so many came at once that none of those that were known is left.
    log.change_filter(|filter| filter.type_text("heap"));
    log.take(&later);
    assert_eq!(log.summary().matching, 10);
}
