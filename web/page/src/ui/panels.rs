//! The panels in the document: their frames, what is in them, and their style.

use gptoss_protocol::Recording;

use super::dom::{append, document, element};
use super::now_ms;
use crate::action::Tab;
use crate::panels::events::{Filter, Log};
use crate::panels::{LOW, Panel, Seen, of_tab, section, style};
use crate::state::State;
use crate::view::{Mounted, Node};

/// While a model loads or answers, what nobody sees is drawn less often.
const LEAST_MS_BETWEEN_CLOSED: f64 = 400.0;

/// All panels that are drawn from `crate::panels`.
pub struct PanelsView {
    low: Mounted,
    tabs: Vec<(Tab, Mounted)>,
    closed_drawn_at_ms: f64,
}

impl PanelsView {
    /// Takes over their places in the document, and brings their style along: it is of use only together with what is drawn here,
    /// and as files it would be a request for each panel.
    pub fn new() -> Self {
        if let Some(head) = document().head() {
            append(&head, "style", "", &style());
        }
        let place = |tab: Tab| (tab, Mounted::new(element(&format!("tab-{}", tab.name()))));
        let tabs = Tab::ALL.into_iter().map(place).collect();
        Self { low: Mounted::new(element("low")), tabs, closed_drawn_at_ms: f64::NEG_INFINITY }
    }

    /// Draws all of them, those in closed tabs too: whoever drives the page reads them there. `false` when it was too early for
    /// those.
    pub fn draw(&mut self, seen: &Seen<'_>, open: Option<Tab>) -> bool {
        let sections = |panels: &[Panel]| -> Vec<Node> { panels.iter().map(|panel| section(panel, seen)).collect() };
        self.low.draw(sections(LOW));
        let now_ms = now_ms();
        // What a load or an answer has come to is there as soon as it is said that it has ended.
        let with_closed = !seen.live.phase.busy() || now_ms - self.closed_drawn_at_ms >= LEAST_MS_BETWEEN_CLOSED;
        if with_closed {
            self.closed_drawn_at_ms = now_ms;
        }
        for (tab, mounted) in &mut self.tabs {
            if with_closed || open == Some(*tab) {
                mounted.draw(sections(of_tab(*tab)));
            }
        }
        with_closed
    }
}

/// Every line moves when one is added, which makes the log the dearest part of the page to draw.
const LEAST_MS_BETWEEN_LOGS: f64 = 250.0;

/// The lines of the event log: tens of thousands may come, so they are drawn apart from the panel around them.
pub struct LogView {
    lines: Mounted,
    log: Log,
    drawn_at_ms: f64,
}

impl LogView {
    /// Takes over the place of the lines, which the panel has made.
    pub fn new() -> Self {
        Self { lines: Mounted::new(element("log")), log: Log::default(), drawn_at_ms: f64::NEG_INFINITY }
    }

    /// The log with all events that it has taken in.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Takes in the events that came since the last time.
    pub fn take(&mut self, recording: &Recording<State>) {
        self.log.take(recording);
    }

    /// Shows other events. Whoever types sees that at once.
    pub fn change_filter(&mut self, change: impl FnOnce(&mut Filter)) {
        self.log.change_filter(change);
        self.drawn_at_ms = f64::NEG_INFINITY;
    }

    /// Draws the lines, if they are others than before; `false` when it is too early for that.
    pub fn draw(&mut self, recording: &Recording<State>) -> bool {
        if !self.log.is_new() {
            return true;
        }
        let now_ms = now_ms();
        if now_ms - self.drawn_at_ms < LEAST_MS_BETWEEN_LOGS {
            return false;
        }
        self.drawn_at_ms = now_ms;
        let lines = self.log.lines(recording);
        self.lines.draw(lines);
        true
    }
}
