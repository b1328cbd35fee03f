//! What the page shows and its form offers; the form itself stands in index.html.

use gptoss_protocol::{FailureKind, GateStep, GateTensor, Stage};

use super::build::{el, of, say, table, with};
use super::card::card;
use super::fold::Gates;
use super::inputs::Field;
use super::report::{Report, power, shape, verdict_word};
use crate::action::{Action, GatePress};
use crate::catalog::HostedModel;
use crate::describe::{self, with_trouble};
use crate::format::{bytes, milliseconds, plural};
use crate::state::{Phase, State};
use crate::view::{Element, Node};

/// What was found so far: the way of the slice, the verdict, and a card for each gate.
pub fn found(state: &State, gates: &Gates) -> Vec<Node> {
    let number = gates.number;
    let cards = gates.all().enumerate();
    let cards = cards.map(|(at, report)| card(report).key(format!("{number} {at}")).version("told once").into());
    let mut found = vec![way(state, gates)];
    found.extend(end(state, gates));
    found.extend(overview(gates));
    found.push(of(el("div", "cards"), cards.collect()));
    if !gates.reports.is_empty() {
        found.push(of(el("div", "actions"), vec![button(GatePress::Copy, "copy as JSON", "quiet")]));
    }
    found
}

/// What goes on, in a sentence.
pub fn sentence(state: &State, gates: &Gates) -> String {
    if state.stopping() {
        return "Stopping.".to_owned();
    }
    if gates.running {
        return match (&gates.progress, state.running_stage()) {
            (Some(at), _) => with_trouble(state, format!("{}: {}.", at.tensor, step_name(at.step))),
            (None, Some(_)) => describe::sentence(state),
            (None, None) => "At work.".to_owned(),
        };
    }
    match (state.phase, gates.ended) {
        (Phase::Error, _) => "That could not run; the message says why.".to_owned(),
        (Phase::Stopped, _) => "Stopped.".to_owned(),
        (_, Some((_, ms))) => {
            format!("{} in {}.", plural(gates.reports.len() as u64, "gate"), milliseconds(Some(ms)))
        }
        (_, None) => "Nothing is fetched before you press a button.".to_owned(),
    }
}

fn step_name(step: GateStep) -> &'static str {
    match step {
        GateStep::Fetch => "fetch",
        GateStep::Upload => "upload, repack",
        GateStep::Reference => "scalar F64",
        GateStep::Multiply => "GPU multiplies",
        GateStep::ReadBack => "read back",
    }
}

fn button(press: GatePress, text: &str, class: &str) -> Node {
    let (id, action) = (format!("gate-{}", press.name()), Action::Gate(press).to_string());
    with(el("button", class), &[("id", &id), ("type", "button"), ("data-do", &action)]).text(text).into()
}

fn option(value: &str, text: &str) -> Node {
    with(el("option", ""), &[("value", value)]).text(text).into()
}

/// The tensors of the file, to choose from.
pub fn tensors(gates: &Gates) -> Vec<Node> {
    let line = |tensor: &GateTensor| {
        let note = if tensor.usual_rows.is_none() { ", not multiplied" } else { "" };
        let text = format!("{} {}{note}", tensor.format, shape(tensor.shape.iter().copied()));
        option(&tensor.name, &text)
    };
    gates.tensors.iter().map(line).collect()
}

/// The models of this host, to choose from.
pub fn models(models: &[HostedModel]) -> Vec<Node> {
    let mut options = vec![option("", "another address")];
    options.extend(models.iter().map(|it| option(&it.file_url, &format!("{} · {}", it.name, bytes(it.size_bytes)))));
    options
}

/// What an input means without a text, of a tensor that is known.
pub fn placeholder(field: Field, tensor: &GateTensor) -> Option<String> {
    let length = |at: usize| tensor.shape.get(at).copied().unwrap_or(0);
    Some(match field {
        Field::Expert if length(2) == 0 => "none".to_owned(),
        Field::Expert => format!("0, at most {}", length(2) - 1),
        Field::Columns => format!("{}, in {}s", length(0), tensor.block_weights),
        Field::Rows => format!("{} of {}", tensor.usual_rows?, length(1)),
        _ => return None,
    })
}

/// The way of a slice, one station after the other, with the time that each took.
fn way(state: &State, gates: &Gates) -> Node {
    let verdict_of = |gate| gates.last(gate).map_or("", Report::verdict);
    let mut stations = Vec::new();
    for (name, gate, stage) in [("header", "a", Stage::GgufHeader), ("limits", "e", Stage::GpuDevice)] {
        let running = gates.running && state.running_stage() == Some(stage);
        let status = if running { "running" } else { verdict_of(gate) };
        let ms = state.stage(stage).elapsed_ms.filter(|_| !status.is_empty());
        stations.push(station(name, status, ms.map(|ms| milliseconds(Some(ms)))));
    }
    let slice = gates.last("c").and_then(Report::slice).filter(|_| gates.progress.is_none());
    let tier = slice.and_then(|slice| slice.all("tiers").next());
    for step in GateStep::ALL {
        let status = match (&gates.progress, slice) {
            (Some(now), _) if now.step == step => "running",
            (Some(now), _) if (now.step as u8) > (step as u8) => "pass",
            (None, Some(_)) => "pass",
            _ => "",
        };
        let (whose, name) = match step {
            GateStep::Fetch => (slice, "{fetch_ms~}"),
            GateStep::Upload => (slice, "{upload_ms~}"),
            GateStep::Reference => (slice, "{reference_ms~}"),
            GateStep::Multiply => (tier, "{multiply_ms~}"),
            GateStep::ReadBack => (tier, "{readback_ms~}"),
        };
        stations.push(station(step_name(step), status, whose.map(|it| it.fill(name))));
    }
    let compared = gates.last("c").or_else(|| gates.last("d")).filter(|_| gates.progress.is_none());
    let error = compared.and_then(|report| report.all("comparisons").next()).map(|it| it.fill("{relative_error^}"));
    stations.push(station("compare", compared.map_or("", Report::verdict), error));
    of(with(el("ol", "way"), &[("aria-label", "The way of the slice")]), stations)
}

fn station(name: &str, status: &str, figure: Option<String>) -> Node {
    let figure = figure.as_deref().unwrap_or("–");
    of(with(el("li", ""), &[("data-status", status)]), vec![say("span", "", name), say("b", "", figure)])
}

/// How it ended: a verdict, a failure, or a stop.
fn end(state: &State, gates: &Gates) -> Option<Node> {
    let (name, word, text, advice) = if let Some(failure) = &state.failure {
        let word = if failure.kind == FailureKind::Request { "NOT RUN" } else { "COULD NOT RUN" };
        ("could_not_run", word, failure.message.clone(), failure.advice.as_str())
    } else if let Some((verdict, _)) = gates.ended {
        let name = verdict.name();
        match gates.why() {
            Some((report, why)) => {
                let why = format!("Gate {}. {why}", report.text("gate"));
                (name, verdict_word(name), why, report.text("advice"))
            }
            None => (name, verdict_word(name), praise(gates), ""),
        }
    } else if state.phase == Phase::Stopped {
        ("stopped", "STOPPED", "There is no verdict.".to_owned(), "")
    } else if state.offers_end() {
        ("could_not_run", "STOP has had no effect for 5 seconds", "Something in the engine hangs.".to_owned(), "")
    } else {
        return None;
    };
    let mut words = vec![with(el("p", ""), &[("id", "gate-why")]).text(text).into()];
    if !advice.is_empty() {
        words.push(say("p", "note", advice));
    }
    if state.offers_end() {
        words.push(button(GatePress::EndEngine, "End the engine", "stop"));
    }
    let word: Element = with(el("strong", ""), &[("id", "gate-verdict")]).text(word);
    let banner = with(el("div", "gate-end"), &[("id", "gate-end"), ("data-verdict", name), ("role", "alert")]);
    Some(of(banner, vec![word.into(), of(el("div", ""), words)]))
}

/// What a pass says.
fn praise(gates: &Gates) -> String {
    let gives = "the GPU gives what scalar arithmetic gives.";
    let slices: Vec<Report<'_>> = gates.all().filter_map(Report::slice).collect();
    match slices[..] {
        [] if let Some(whole) = gates.last("d") => {
            Report(&whole.0["facts"]).fill("Logits after {layers} layers: ") + gives
        }
        [] => "The header describes a whole gpt-oss model. Choose one of its tensors and press RUN.".to_owned(),
        [it] => it.fill("{rows#} rows of {tensor}, {format}: ") + gives,
        ref slices => format!("{}: {gives}", plural(slices.len() as u64, "type")),
    }
}

/// A line for each slice where there are several.
fn overview(gates: &Gates) -> Option<Node> {
    let reports: Vec<Report<'_>> = gates.all().filter(|report| report.text("gate") == "c").collect();
    if reports.len() < 2 {
        return None;
    }
    let line = |report: &Report<'_>| {
        let verdict = report.verdict();
        let worst = report.all("comparisons").filter(|it| it.text("expect") == "equal");
        let worst = worst.filter_map(|it| it.number("relative_error")).reduce(f64::max);
        let mut cells = match report.slice() {
            Some(it) => {
                let mut cells: Vec<Node> = ["{format}", "{tensor}", "{fetched_bytes%}"]
                    .iter()
                    .map(|text| say("td", "", &it.fill(text)))
                    .collect();
                cells.push(say("td", "", it.text("sha256").get(..16).unwrap_or_default()));
                cells.push(say("td", "", &power(worst)));
                cells
            }
            None => {
                let why = report.0["not_run"].as_str().unwrap_or(report.text("title"));
                vec![with(el("td", ""), &[("colspan", "5")]).text(why).into()]
            }
        };
        cells.push(say("td", "", verdict_word(verdict)));
        ("", verdict == "pass", cells)
    };
    let names = ["type", "tensor", "fetched", "SHA-256", "relative error", ""];
    Some(table("table types", &names, reports.iter().map(line).collect()))
}
