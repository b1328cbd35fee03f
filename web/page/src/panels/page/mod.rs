//! The page's own work: how much of its thread it takes, and whether it heard everything.

use super::parts::Rows;
use super::{Panel, Seen, Shown};
use crate::format::{bytes, count, milliseconds, plural};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "page",
    title: "This page",
    line_id: "page-line",
    how: "The browser's Long Tasks API reports tasks on the main thread of more than 50 ms. Those while a model loads or answers are \
          counted apart. A drawing is one of the document, at most 15 a second, from the page's state to the last change of an \
          element, by the browser's clock, which is coarse; layout and painting come after it. Missing events are gaps in the \
          worker's numbering.",
    style: "",
    view,
};

/// What the page counts of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Tasks of more than 50 ms; `None` where the browser does not tell.
    pub long_tasks: Option<LongTaskCounts>,
    /// Drawings of the document.
    pub drawings: Drawings,
    /// Events of the worker and of the page so far.
    pub events: u64,
    /// Size of the page's own wasm heap.
    pub heap_bytes: u64,
}

/// Long tasks since the page was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LongTaskCounts {
    /// All of them.
    pub all: u32,
    /// Those that fell into loading or answering.
    pub busy: u32,
    /// Duration of the longest.
    pub longest_ms: f64,
}

/// Drawings since the page was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drawings {
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub sum_ms: f64,
    /// How long the longest took.
    pub longest_ms: f64,
}

impl Drawings {
    /// Takes in one more.
    pub fn add(&mut self, elapsed_ms: f64) {
        self.count += 1;
        self.sum_ms += elapsed_ms;
        self.longest_ms = self.longest_ms.max(elapsed_ms);
    }
}

fn view(seen: &Seen<'_>) -> Shown {
    let Counted { long_tasks, drawings, events, heap_bytes } = seen.counted;
    let tasks = |of: fn(&LongTaskCounts) -> u32| long_tasks.as_ref().map(|counts| count(u64::from(of(counts))));
    let longest = long_tasks.map(|counts| match counts.all {
        0 => "none".to_owned(),
        _ => milliseconds(Some(counts.longest_ms)),
    });
    let mean = (drawings.count > 0).then(|| format!("{:.2} ms", drawings.sum_ms / drawings.count as f64));
    let longest_drawing = (drawings.count > 0).then(|| milliseconds(Some(drawings.longest_ms)));
    let line = match long_tasks {
        Some(counts) => format!("{} while busy", plural(u64::from(counts.busy), "long task")),
        None => "long tasks are not told by this browser".to_owned(),
    };
    let mut rows = Rows::default();
    rows.add("long-tasks-busy", "Long tasks while busy", tasks(|counts| counts.busy));
    rows.add("long-tasks-all", "Long tasks in all", tasks(|counts| counts.all));
    rows.add("long-tasks-longest", "Longest task", longest);
    rows.add("drawings", "Drawings", Some(count(drawings.count)));
    rows.add("drawing-mean", "Mean drawing", mean);
    rows.add("drawing-longest", "Longest drawing", longest_drawing);
    rows.add("page-heap", "Wasm heap of the page", Some(bytes(heap_bytes)));
    rows.add("events-received", "Events received", Some(count(events)));
    rows.add("events-missing", "Events missing", Some(count(seen.live.missing_events)));
    Shown { line, body: vec![rows.view().into()], ..Shown::default() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{html_of, seen, state};
    use super::*;

    #[test]
    fn drawings_have_a_mean_and_a_longest() {
        let mut drawings = Drawings::default();
        [0.5, 1.0, 12.0].into_iter().for_each(|elapsed_ms| drawings.add(elapsed_ms));
        let state = state([]);
        let mut seen = seen(&state);
        seen.counted = Counted { drawings, events: 1204, ..Counted::default() };
        let said = html_of(&PANEL, &seen);
        assert!(
            said.contains("id=\"drawing-mean\">4.50 ms<") && said.contains("id=\"drawing-longest\">12 ms<"),
            "{said}"
        );
        assert!(said.contains("id=\"long-tasks-busy\">not measured<"), "this browser does not tell: {said}");
        assert!(said.contains("id=\"events-received\">1\u{202f}204<"), "{said}");
    }
}
