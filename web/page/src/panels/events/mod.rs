//! The event log: everything that happened, line by line, and what of it is shown.

mod filter;
mod log;

use super::parts::tool;
use super::{Panel, Seen, Shown};
use crate::action::Action;
use crate::format::{count, plural};
use crate::view::{Node, element};

pub use self::filter::{Filter, Group};
pub use self::log::Log;

/// The panel.
pub const PANEL: Panel = Panel {
    name: "events",
    title: "Event log",
    line_id: "log-summary",
    how: "Events of the worker and of the page, each by its own clock. The last 16384 are there to filter, copy and export; of those that \
          match, the last 120 are shown. Copy takes every line that matches; the exported recording has all events, and replays to \
          this picture.",
    style: include_str!("style.css"),
    view,
};

/// What is known of the log besides its lines.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// What is looked for.
    pub filter: &'a Filter,
    /// Events that match it.
    pub matching: usize,
    /// Events that are held.
    pub held: usize,
    /// Events so far, those included that are held no longer.
    pub all: u64,
}

fn view(seen: &Seen<'_>) -> Shown {
    let Summary { filter, matching, held, all } = seen.log;
    let line = match (all, filter.is_all()) {
        (0, _) => "no events".to_owned(),
        (all, true) => plural(all, "event"),
        (_, false) => format!("{} of {} match", count(matching as u64), plural(held as u64, "event")),
    };
    let copy = match filter.is_all() {
        true => "copy".to_owned(),
        false => format!("copy {}", plural(matching as u64, "line")),
    };
    let tools: Vec<Node> = vec![
        tool("log-copy", Action::CopyLog, copy).into(),
        tool("log-export", Action::ExportLog, "export recording".to_owned()).into(),
    ];
    let typed = element("input").id("log-filter").with("type", "search").with("autocomplete", "off");
    let typed = typed
        .with("spellcheck", "false")
        .with("placeholder", "filter")
        .with("aria-label", "Show events with these words");
    let group = |group: Group| {
        let pressed = if filter.group == Some(group) { "true" } else { "false" };
        let button = element("button").class("quiet").with("type", "button").with("aria-pressed", pressed);
        button.with("data-do", Action::LogGroup(group).to_string()).text(group.name())
    };
    let choices = element("div").class("choices").child(typed).children(Group::ALL.map(group));
    // Its lines are drawn apart from the panel: see `Log`.
    let lines = element("div").class("log-lines scroller").with("tabindex", "0").with("role", "region");
    let lines = lines.with("aria-label", "Events, oldest first").child(element("ol").id("log").class("to-end"));
    Shown { line, tools, body: vec![choices.into(), lines.into()], ..Shown::default() }
}

#[cfg(test)]
mod tests;
