//! Stages: what a load and an answer go through, when each began, and how much of the whole it took.

use gptoss_protocol::{Stage, StageStatus};

use super::{Panel, Seen, Shown};
use crate::describe::{stage_name, status_word};
use crate::format::{fraction_of, milliseconds, percent};
use crate::state::{State, all_stages};
use crate::view::{Node, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "stages",
    title: "Stages",
    line_id: "stages-line",
    how: "Each time is the stage's own duration on the engine's clock, known when the stage ends. The bar stands where the stage began \
          and ended, between the beginning of the first and the end of the last of its load or answer; the share is that of the sum of \
          their durations. What lies between stages is not theirs: a load waits for you, an answer for its turn.",
    style: include_str!("style.css"),
    view,
};

/// One after the other: the stages of a load, and of an answer.
const RUNS: [(&str, &[Stage]); 2] = [("load", &Stage::LOAD), ("answer", &Stage::ANSWER)];

fn view(seen: &Seen<'_>) -> Shown {
    let state = seen.state;
    let spans: Vec<Span> = RUNS.iter().map(|(_, stages)| Span::of(state, stages)).collect();
    let parts = RUNS.iter().zip(&spans).filter(|(_, span)| span.sum_ms > 0.0);
    let parts: Vec<String> =
        parts.map(|((name, _), span)| format!("{name} {}", milliseconds(Some(span.sum_ms)))).collect();
    let is_empty = all_stages().all(|stage| state.stage(stage).status.is_none());
    let line = match (is_empty, parts.is_empty()) {
        (true, _) => "none has begun".to_owned(),
        (false, true) => state.running_stage().map_or_else(String::new, |stage| stage_name(stage).to_owned()),
        (false, false) => parts.join(" · "),
    };
    let items = all_stages().map(|stage| item(state, stage, &spans[usize::from(Stage::ANSWER.contains(&stage))]));
    let body = vec![element("ol").id("stages").class("stages").children(items).into()];
    Shown { line, body, is_empty, ..Shown::default() }
}

/// The time that the stages of a run took together, and from when to when they went.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    from_ms: f64,
    to_ms: f64,
    sum_ms: f64,
}

impl Span {
    fn of(state: &State, stages: &[Stage]) -> Self {
        let mut span = Self { from_ms: f64::INFINITY, to_ms: f64::NEG_INFINITY, sum_ms: 0.0 };
        for stage in stages {
            if let Some((from_ms, to_ms)) = begin_and_end(state, *stage) {
                span.from_ms = span.from_ms.min(from_ms);
                span.to_ms = span.to_ms.max(to_ms);
            }
            span.sum_ms += state.stage(*stage).elapsed_ms.unwrap_or(0.0);
        }
        span
    }

    /// Where a moment is within it, as a share of one.
    fn place(&self, at_ms: f64) -> f64 {
        fraction_of(at_ms - self.from_ms, self.to_ms - self.from_ms).unwrap_or(0.0)
    }
}

/// When a stage began, and when it ended or, while it runs, when the newest event was told.
fn begin_and_end(state: &State, stage: Stage) -> Option<(f64, f64)> {
    let known = state.stage(stage);
    let from_ms = known.begun_at_ms?;
    let to_ms = match known.elapsed_ms {
        Some(elapsed_ms) => from_ms + elapsed_ms,
        None => state.inside.at_ms.max(from_ms),
    };
    Some((from_ms, to_ms))
}

fn item(state: &State, stage: Stage, span: &Span) -> Node {
    let known = state.stage(stage);
    let word = status_word(known.status);
    let time = match known.status {
        None => String::new(),
        Some(StageStatus::Started) => "running".to_owned(),
        Some(StageStatus::Completed) => milliseconds(known.elapsed_ms),
        Some(StageStatus::Failed | StageStatus::Cancelled) => format!("{word}, {}", milliseconds(known.elapsed_ms)),
    };
    let share = known.elapsed_ms.and_then(|elapsed_ms| fraction_of(elapsed_ms, span.sum_ms));
    let (from, to) = begin_and_end(state, stage).unwrap_or((0.0, 0.0));
    let (from, to) = if from < to { (span.place(from), span.place(to)) } else { (0.0, 0.0) };
    let class = if stage == Stage::ANSWER[0] { "answer-begins" } else { "" };
    let part = |class: &'static str, text: String| element("span").class(class).text(text);
    element("li")
        .class(class)
        .with("data-status", word)
        .child(part("mark", mark(known.status).to_owned()))
        .child(part("name", stage_name(stage).to_owned()))
        .child(element("span").class("when").with("aria-hidden", "true").share("--from", from).share("--to", to))
        .child(part("time", time))
        .child(part("share", share.map_or_else(String::new, percent)))
        .into()
}

fn mark(status: Option<StageStatus>) -> &'static str {
    match status {
        None => "·",
        Some(StageStatus::Started) => "▸",
        Some(StageStatus::Completed) => "✓",
        Some(StageStatus::Failed) => "✕",
        Some(StageStatus::Cancelled) => "■",
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::Event;

    use super::super::tests::{html, state, state_at};
    use super::*;

    fn stage(stage: Stage, status: StageStatus, elapsed_ms: Option<f64>) -> Event {
        Event::Stage { stage, status, elapsed_ms }
    }

    #[test]
    fn a_stage_stands_where_it_began_and_has_its_share() {
        use StageStatus::{Completed, Started};
        let events = [
            (1000.0, stage(Stage::RangeCheck, Started, None)),
            (1100.0, stage(Stage::RangeCheck, Completed, Some(100.0))),
            (1250.0, stage(Stage::GgufHeader, Started, None)),
            (1400.0, stage(Stage::GgufHeader, Completed, Some(150.0))),
            // The page waited meanwhile.
            (1900.0, stage(Stage::WeightsFetch, Started, None)),
            (2000.0, stage(Stage::WeightsFetch, Completed, Some(100.0))),
        ];
        let said = html(&PANEL, &state_at(events));
        assert!(said.contains("id=\"stages-line\">load 350 ms<"), "{said}");
        let header = "<span class=\"name\">GGUF header</span>\
                      <span class=\"when\" aria-hidden=\"true\" style=\"--from: 25.00%; --to: 40.00%\"></span>\
                      <span class=\"time\">150 ms</span><span class=\"share\">42.9 %</span>";
        assert!(said.contains(header), "{said}");
        assert!(said.contains("data-status=\"waiting\""), "the others have not begun: {said}");
    }

    #[test]
    fn before_anything_has_begun_it_is_one_line_with_all_stages_behind_it() {
        let said = html(&PANEL, &state([]));
        assert!(said.contains("data-empty") && said.contains("none has begun"), "{said}");
        // Whoever drives the page reads them there.
        assert_eq!(said.matches("<li ").count(), all_stages().count());
    }
}
