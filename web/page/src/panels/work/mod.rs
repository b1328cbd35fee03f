//! Work: what the engine asked of the GPU and read back, since the load and for the last token.

use gptoss_protocol::WorkCounters;

use super::parts::or_not_measured;
use super::{Panel, Seen, Shown};
use crate::format::{NOT_MEASURED, bytes, count, plural};
use crate::view::{Node, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "work",
    title: "Work",
    line_id: "work-line",
    how: "Counted at the calls themselves, since the model was loaded; the last token's is what the counters grew by from the token \
          before. Fetched and used weight bytes are equal when nothing was fetched twice or thrown away. What is read back for the \
          picture of the model, for attention and for times is read only while somebody looks.",
    style: include_str!("style.css"),
    view,
};

/// A counter: id, name, how to read it, and whether it is of bytes.
type Counter = (&'static str, &'static str, fn(&WorkCounters) -> u64, bool);

const COUNTERS: [Counter; 10] = [
    ("work-submits", "GPU submits", |work| work.submits, false),
    ("work-dispatches", "Dispatches", |work| work.dispatches, false),
    ("work-buffers", "Buffers created", |work| work.buffers_created, false),
    ("work-bind-groups", "Bind groups created", |work| work.bind_groups_created, false),
    ("work-pipelines", "Pipelines created", |work| work.pipelines_created, false),
    ("work-status", "Status read back", |work| work.status_readback_bytes, true),
    ("work-sampling", "Candidates read back", |work| work.sampling_readback_bytes, true),
    ("work-watched", "Read back to be seen", |work| work.watched_readback_bytes, true),
    ("work-fetched", "Weights fetched", |work| work.weights_fetched_bytes, true),
    ("work-used", "Weights used", |work| work.weights_used_bytes, true),
];

fn view(seen: &Seen<'_>) -> Shown {
    let (work, token) = (seen.state.work, seen.state.per_token.work);
    let line = match (token, work) {
        (Some(token), _) => {
            let (submits, dispatches) = (plural(token.submits, "submit"), count(token.dispatches));
            Some(format!("{submits}, {dispatches} dispatches for the last token"))
        }
        (None, Some(work)) => Some(plural(work.submits, "submit")),
        (None, None) => None,
    };
    let columns = ["since the load", "last token"].map(|text| element("th").with("scope", "col").text(text));
    let lines = COUNTERS.iter().map(|counter| line_of(counter, work.as_ref(), token.as_ref()));
    let table = element("table")
        .child(element("thead").child(element("tr").child(element("td")).children(columns)))
        .child(element("tbody").children(lines));
    Shown { is_empty: work.is_none(), line: or_not_measured(line), body: vec![table.into()], ..Shown::default() }
}

fn line_of((id, name, of, is_bytes): &Counter, work: Option<&WorkCounters>, token: Option<&WorkCounters>) -> Node {
    let value = |counters: &WorkCounters| if *is_bytes { bytes(of(counters)) } else { count(of(counters)) };
    let cell = |counters: Option<&WorkCounters>| {
        let cell = element("td").class(if counters.is_some() { "" } else { "unmeasured" });
        cell.text(counters.map_or_else(|| NOT_MEASURED.to_owned(), value))
    };
    // Before the second token there is no last one to tell of; that need not be said ten times.
    let last = token.map_or_else(|| element("td").text("–"), |token| cell(Some(token)));
    let name = element("th").with("scope", "row").text(*name);
    element("tr").child(name).child(cell(work).id(*id)).child(last).into()
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::Event;

    use super::super::tests::{html, state, token};
    use super::*;

    #[test]
    fn the_last_token_stands_beside_all_of_them() {
        let at = |submits| {
            let work = WorkCounters {
                submits,
                dispatches: submits * 45,
                status_readback_bytes: 4096,
                ..WorkCounters::default()
            };
            Event::Work(work)
        };
        let events = [at(7), token(0), at(8), token(1)];
        let said = html(&PANEL, &state(events.clone()));
        assert!(said.contains("id=\"work-line\">1 submit, 45 dispatches for the last token<"), "{said}");
        assert!(
            said.contains("GPU submits</th><td class=\"\" id=\"work-submits\">8</td><td class=\"\">1</td>"),
            "{said}"
        );
        assert!(said.contains("id=\"work-status\">4.10 kB</td><td class=\"\">0 B</td>"), "{said}");
        let first = html(&PANEL, &state(events[..1].to_vec()));
        assert!(first.contains("id=\"work-submits\">7</td><td>–</td>"), "{first}");
        assert!(html(&PANEL, &state([])).contains("data-empty"));
    }
}
