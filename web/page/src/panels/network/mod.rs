//! The weight stream: how the file's bytes come, tensor by tensor, and how fast.

pub mod cells;

use super::parts::{Rows, line, or_not_measured};
use super::{Panel, Seen, Shown};
use crate::format::{bytes, bytes_per_second, count, fraction, milliseconds, percent, plural};
use crate::state::inside::{Expert, Place};
use crate::state::{Phase, State};
use crate::view::{Element, Node, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "network",
    title: "Weight stream",
    line_id: "weights-summary",
    how: "Bytes are counted as they arrive from the host, from this browser's download cache or from a picked file. The rate now is \
          that of the last two seconds, the other one that since the first byte. Received is all that came from the host, the header \
          and what had to be fetched again included; used is what of the fetched weights was put in place. One cell stands for one \
          tensor of the file, in the file's order: it fills with its bytes, for experts with those that are on the GPU. A repeated \
          attempt is a retry, a stall one after which nothing came for too long.",
    style: include_str!("style.css"),
    view,
};

/// Names of the latest arrivals on the page.
const LATEST: usize = 5;

fn view(seen: &Seen<'_>) -> Shown {
    let state = seen.state;
    let header = state.header_under_way();
    let said = match (state.fetch, header) {
        (Some(fetch), _) => Some(format!("{} of {}", bytes(fetch.fetched_bytes), bytes(fetch.needed_bytes))),
        (None, Some(header)) => Some(format!("header, {} so far", bytes(header.fetched_bytes))),
        (None, None) => None,
    };
    let progress = element("progress").id("weights-progress").with("max", "1");
    let progress = progress
        .with("value", format!("{:.4}", state.read_share().unwrap_or(0.0)))
        .with("aria-label", "Weights loaded");
    let canvas = element("canvas").id("weights-cells").class("cells").with("height", "8").with("role", "img");
    let formats = [("four-bit", "MXFP4"), ("eight-bit", "Q8_0"), ("other", "other formats")];
    let legend = formats.map(|(class, name)| element("span").class(class).text(name));
    let body = vec![
        progress.into(),
        canvas.with("aria-label", "No tensor is known yet").into(),
        element("p").class("legend").with("aria-hidden", "true").children(legend).into(),
        rates(state).into(),
        quantities(state, seen).view().into(),
        latest(state).into(),
    ];
    Shown { is_empty: said.is_none(), line: or_not_measured(said), body, ..Shown::default() }
}

/// The rate over the last half a minute of the load.
fn rates(state: &State) -> Element {
    let rates: Vec<f32> = state.stream.rates.iter().map(|rate| *rate as f32).collect();
    let highest = state.stream.rates.iter().copied().max().unwrap_or_default();
    let words = format!("at most {}", bytes_per_second(Some(f64::from(highest))));
    element("div")
        .class("spark")
        .flag("hidden", rates.len() < 2)
        .child(line(&rates, 0.0, format!("Rate of fetching, a point for each quarter of a second: {words}")))
        .child(element("p").class("note").text(words))
}

fn quantities(state: &State, seen: &Seen<'_>) -> Rows {
    let rate = |rate: Option<f64>| rate.map(|rate| bytes_per_second(Some(rate)));
    let mut rows = Rows::default();
    if state.phase == Phase::Loading && state.fetch.is_some() {
        rows.add("weights-rate-now", "Rate now", rate(state.stream.rate_now()));
    } else if state.is_prefetching() {
        let prefetched = state.prefetch.and_then(|prefetch| prefetch.bytes_per_second);
        rows.add("weights-rate-now", "Rate of the prefetch", rate(prefetched));
    }
    let average = match state.fetch {
        Some(fetch) => fetch.bytes_per_second,
        None => state.header_under_way().and_then(|header| header.bytes_per_second),
    };
    rows.add("weights-rate", "Rate of the load", rate(average));
    if let Some(fetch) = state.fetch {
        let open = format!("{} open", plural(state.inside.under_way.len() as u64, "read"));
        rows.add("weights-requests", "Requests", Some(count(u64::from(fetch.requests)))).note(open);
        // A picked file has no wire.
        if let Some(wire) = fetch.wire_bytes {
            rows.add("weights-wire", "Received", Some(bytes(wire)));
        }
    }
    let of = |some: usize, all: usize| format!("{} of {}", count(some as u64), count(all as u64));
    let tensors = state.tensor_count.map(|all| of(state.tensors.len(), all as usize));
    rows.add("weights-tensors", "Tensors of the load", tensors);
    if state.inside.map.is_some() {
        let complete = state.inside.complete.iter().filter(|complete| **complete).count();
        rows.add("weights-complete", "Tensors of the file", Some(of(complete, state.inside.complete.len())));
    }
    if let Some((cached, network)) = seen.live.cache.loaded_bytes() {
        let share = fraction(cached, cached + network);
        rows.add("weights-cached", "From the cache", Some(bytes(cached))).bar(share);
        rows.add("weights-network", "From host or file", Some(bytes(network))).bar(share.map(|share| 1.0 - share));
    }
    if let Some(work) = state.work.filter(|work| work.weights_fetched_bytes > 0) {
        let share = fraction(work.weights_used_bytes, work.weights_fetched_bytes);
        let value = format!("{} of {}", bytes(work.weights_used_bytes), bytes(work.weights_fetched_bytes));
        rows.add("weights-used", "Used of fetched", Some(value)).note(share.map_or_else(String::new, percent));
    }
    let stream = &state.stream;
    let stalls = plural(u64::from(stream.stalls), "stall");
    rows.add("weights-retries", "Retries", Some(count(u64::from(stream.retries)))).note(stalls);
    if stream.longest_silence_ms.is_some() {
        rows.add("weights-silence", "Longest silence", Some(milliseconds(stream.longest_silence_ms)));
    }
    if state.load_ms.is_some() {
        rows.add("load-time", "Load time", Some(milliseconds(state.load_ms)));
    }
    rows
}

/// What came last, the newest first: experts one by one where they come so, else tensors.
fn latest(state: &State) -> Element {
    let inside = &state.inside;
    let mut experts: Vec<(usize, &Expert)> = Vec::with_capacity(LATEST + 1);
    if state.experts.is_some_and(|experts| experts.loaded_bytes > 0) {
        for (at, cell) in inside.cells.iter().enumerate().filter(|(_, cell)| cell.place == Place::Resident) {
            let later = experts.iter().position(|(_, known)| known.moved_at_ms < cell.moved_at_ms);
            experts.insert(later.unwrap_or(experts.len()), (at, cell));
            experts.truncate(LATEST);
        }
    }
    let line = |name: &str, format: &str, size: u64| -> Node {
        let part = |text: &str| element("span").text(text);
        element("li").child(part(name)).child(part(format)).child(part(&bytes(size))).into()
    };
    let mut lines: Vec<Node> = Vec::new();
    for (at, _) in experts {
        let (layer, expert) = (at as u32 / inside.experts, at as u32 % inside.experts);
        lines.push(line(&format!("blk.{layer} ▸ expert {expert}"), "", inside.expert_bytes(layer)));
    }
    for tensor in state.tensors.iter().rev().take(LATEST - lines.len()) {
        lines.push(line(&tensor.name, &tensor.format, tensor.bytes));
    }
    element("ol").id("weights-latest").class("latest").with("aria-label", "Latest arrivals").children(lines)
}

#[cfg(test)]
mod tests;
