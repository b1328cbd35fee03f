//! Time of each operation on the GPU, by the GPU's own clock.

use gptoss_protocol::{AdapterInfo, OperationTime};

use super::parts::{Rows, or_not_told};
use super::{Panel, Seen, Shown};
use crate::format::{fraction_of, milliseconds, percent};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "times",
    title: "Time per operation",
    line_id: "times-line",
    how: "By timestamp queries, where the browser grants them: each operation is a pass of its own then, which costs some speed, only \
          while this tab is open. The slowest come first, with how often each was dispatched and its share of the batch. Chrome \
          rounds these times to 0.1 ms unless it is told otherwise.",
    style: include_str!("style.css"),
    view,
};

fn view(seen: &Seen<'_>) -> Shown {
    let times = &seen.state.times;
    let can = |adapter: &AdapterInfo| adapter.features.iter().any(|feature| feature == "timestamp-query");
    let line = match &seen.state.adapter {
        _ if !times.is_empty() => format!("{} in the last batch", milliseconds(Some(sum_ms(times)))),
        Some(adapter) if !can(adapter) => "not measured: this GPU tells no times".to_owned(),
        Some(_) => "not measured before the next batch".to_owned(),
        None => or_not_told(None, seen.state.inside.is_mapped),
    };
    let body = vec![lines(times).view().id("times").into()];
    Shown { line, body, is_empty: times.is_empty(), ..Shown::default() }
}

fn sum_ms(times: &[OperationTime]) -> f64 {
    times.iter().map(|time| time.elapsed_ms).sum()
}

/// One line for each kernel, the slowest first. Bars are shares of the slowest.
fn lines(times: &[OperationTime]) -> Rows {
    let sum = sum_ms(times);
    let mut sorted: Vec<&OperationTime> = times.iter().collect();
    sorted.sort_by(|a, b| b.elapsed_ms.total_cmp(&a.elapsed_ms));
    let slowest = sorted.first().map_or(0.0, |time| time.elapsed_ms);
    let mut rows = Rows::default();
    for time in sorted {
        let name = format!("{} × {}", time.operation, time.dispatches);
        rows.add("", &name, Some(milliseconds(Some(time.elapsed_ms))))
            .bar(fraction_of(time.elapsed_ms, slowest))
            .note(percent(fraction_of(time.elapsed_ms, sum).unwrap_or(0.0)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::Event;

    use super::super::tests::{html, model, state};
    use super::*;

    #[test]
    fn the_slowest_comes_first_with_its_share() {
        let time =
            |operation: &str, elapsed_ms| OperationTime { operation: operation.into(), dispatches: 2, elapsed_ms };
        let times = vec![time("rope", 1.0), time("experts", 3.0)];
        let said = html(&PANEL, &state([Event::OperationTimes { times }]));
        assert!(said.contains("id=\"times-line\">4.0 ms in the last batch<"), "{said}");
        let rope = "<dt>rope × 2</dt><dd class=\"bar\" aria-hidden=\"true\" style=\"--share: 33.33%\"></dd>\
                    <dd class=\"value\">1.0 ms</dd><dd class=\"note\">25.0 %</dd>";
        assert!(said.contains(rope), "{said}");
        assert!(said.find("experts × 2") < said.find("rope × 2"), "{said}");
        let none = html(&PANEL, &state([]));
        assert!(none.contains("data-empty") && none.contains("id=\"times-line\">not measured<"), "{none}");
        let cpu = html(&PANEL, &state([model(), Event::Mapped { bytes: 9 }]));
        assert!(cpu.contains("id=\"times-line\">the CPU engine does not tell this<"), "{cpu}");
    }
}
