//! One card for each gate that ended.

use serde_json::Value;

use super::build::{el, of, pair, say, table, with};
use super::report::{Report, outcome, power, verdict_word};
use crate::format::count;
use crate::view::{Element, Node};

/// What a gate found. Everything about a slice is laid out in full; of other gates that passed it is a line that opens.
pub fn card(report: Report<'_>) -> Element {
    let (verdict, gate, slice) = (report.verdict(), report.text("gate"), report.slice());
    let title = slice.map_or_else(|| report.text("title").split(':').next().unwrap_or(""), |it| it.text("tensor"));
    let heading = vec![say("b", "", gate), say("span", "", title)];
    let compared: Vec<Node> = report.all("comparisons").filter(|_| slice.is_none()).filter_map(comparison).collect();
    let is_line = slice.is_none() && compared.is_empty() && verdict == "pass";
    let (tag, head) = if is_line { ("details", "summary") } else { ("section", "header") };
    let head = of(el(head, ""), vec![of(el("h3", ""), heading), say("span", "verdict", verdict_word(verdict))]);
    let mut body = vec![head];
    if let Some(why) = report.0["not_run"].as_str() {
        body.push(say("p", "why", why));
    }
    match slice {
        Some(slice) => slice_nodes(report, slice, &mut body),
        None => body.push(facts(report)),
    }
    let checks: Vec<Node> = report.all("checks").map(check).chain(compared).collect();
    if !checks.is_empty() {
        body.push(of(el("ul", "checks"), checks));
    }
    if let Some(advice) = report.0["advice"].as_str() {
        body.push(say("p", "note", advice));
    }
    with(el(tag, "gate-card"), &[("data-gate", gate), ("data-verdict", verdict)]).children(body)
}

fn check(check: Report<'_>) -> Node {
    let ok = if check.is("ok") { "yes" } else { "no" };
    let said = vec![say("span", "", check.text("check")), say("span", "", check.text("found"))];
    of(with(el("li", ""), &[("data-ok", ok)]), said)
}

/// A comparison that is no product of a slice: its outcome, and its numbers.
fn comparison(comparison: Report<'_>) -> Option<Node> {
    let ok = if comparison.is("ok") { "yes" } else { "no" };
    let (_, came) = outcome(comparison).split_once(": ").map(|(what, came)| (what.to_owned(), came.to_owned()))?;
    let numbers =
        comparison.fill("; max abs {max_abs^} of values up to {largest_expected^}; {values#} values; {against}");
    let said = vec![say("span", "", comparison.text("what")), say("span", "", &(came + &numbers))];
    Some(of(with(el("li", ""), &[("data-ok", ok)]), said))
}

/// The facts as they are; of a list one line for each.
fn facts(report: Report<'_>) -> Node {
    let bare = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => format!("{} {}", Report(value).text("name"), Report(value).text("type")),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), count),
        value => value.to_string(),
    };
    let fact = |(name, value): (&String, &Value)| match value {
        Value::Array(all) => pair(name, &all.iter().map(bare).collect::<Vec<_>>().join("\n")),
        value => pair(name, &bare(value)),
    };
    of(el("dl", "facts"), report.0["facts"].as_object().into_iter().flatten().map(fact).collect())
}

/// What is told of every slice: name and text of each figure.
const FIGURES: &str = "Type|{format}\nTensor|{shape}\nSlice|{rows#} rows × {columns#} columns\nFetched|{fetched_bytes%}\n\
    Multiplied|{multiplied_bytes%}\nRequests|{requests#}\nFetch|{fetch_ms~}\nUpload, repack|{upload_ms~}\n\
    Scalar F64|{reference_ms~}\nGPU memory|{gpu_bytes%}";

/// The way of a slice: where its bytes are, how long each part took, what came of it.
fn slice_nodes(report: Report<'_>, slice: Report<'_>, body: &mut Vec<Node>) {
    let figure = |line: &str| line.split_once('|').map(|(name, text)| pair(name, &slice.fill(text)));
    let mut figures: Vec<Node> = FIGURES.lines().filter_map(figure).collect();
    if let Some(expert) = slice.number("expert") {
        figures.push(pair("Expert", &expert.to_string()));
    }
    body.push(of(el("dl", "facts row"), figures));
    let (offset, fetched) = (slice.count("offset_bytes"), slice.count("fetched_bytes"));
    let place = format!("bytes {offset} to {} of {}", offset + fetched.saturating_sub(1), slice.text("file"));
    body.push(of(el("p", "range"), vec![say("span", "", &place), say("code", "sha256", slice.text("sha256"))]));
    body.push(say(
        "p",
        "note",
        &format!("The same by hand: tail -c +{} FILE | head -c {fetched} | sha256sum", offset + 1),
    ));
    body.push(kernels(report, slice));
    if let Some(comparison) = report.all("comparisons").next() {
        let whose = if slice.is("usual_tolerance") { "the usual one, as of pylon gate c" } else { "as you chose it" };
        let worst =
            Report(&comparison.0["worst"]).fill("Largest difference: row {index#}, got {got}, expected {expected}. ");
        let tolerance = comparison.fill("Tolerance {tolerance^}, ");
        let rounding = slice
            .fill("; rounding to F32 alone gives a sum of {columns#} terms a relative error of about {rounding^}.");
        body.push(say("p", "note", &(worst + &tolerance + whose + &rounding)));
    }
}

/// Columns of the table: name, and text of a product. A control has no times.
const COLUMNS: [(&str, &str); 5] = [
    ("multiply", "{multiply_ms~}"),
    ("read back", "{readback_ms~}"),
    ("max abs", "{max_abs^}"),
    ("mean abs", "{mean_abs^}"),
    ("relative error", "{relative_error^}"),
];

/// One line for each tier of kernels, and one for each control.
fn kernels(report: Report<'_>, slice: Report<'_>) -> Node {
    let mut lines = Vec::new();
    for figures in slice.all("tiers") {
        let tier = figures.text("tier");
        if let Some(same_as) = figures.0["same_as"].as_str() {
            let wide = with(el("td", ""), &[("colspan", "6")]).text(format!("the same kernel as {same_as}"));
            lines.push(("same", true, vec![say("td", "", tier), wide.into()]));
        }
        for comparison in report.all("comparisons").filter(|it| it.text("tier") == tier) {
            let is_control = comparison.text("expect") != "equal";
            let (class, name) = if is_control { ("control", "control: x moved by one") } else { ("product", tier) };
            let mut cells = vec![say("td", "", name)];
            for (at, (_, text)) in COLUMNS.iter().enumerate() {
                let of_time = at < 2;
                let text = if of_time && is_control { "" } else { text };
                cells.push(say("td", "", &if of_time { figures } else { comparison }.fill(text)));
            }
            cells.push(of(el("td", ""), vec![scale(slice, comparison)]));
            lines.push((class, comparison.is("ok"), cells));
        }
    }
    let names = ["kernels"].into_iter().chain(COLUMNS.map(|(name, _)| name)).chain([""]);
    table("table", &names.collect::<Vec<_>>(), lines)
}

/// Error, tolerance and what rounding gives on one logarithmic scale, from 10⁻¹⁰ to 10.
fn scale(slice: Report<'_>, comparison: Report<'_>) -> Node {
    let values = [
        ("rounding", slice.number("rounding")),
        ("tolerance", comparison.number("tolerance")),
        ("error", comparison.number("relative_error")),
    ];
    let mark = |&(class, value): &(&str, Option<f64>)| {
        let at = ((value.unwrap_or(f64::INFINITY).log10() + 10.0) / 11.0).clamp(0.0, 1.0) * 100.0;
        of(with(el("i", class), &[("style", &format!("--at:{at:.1}%"))]), Vec::new())
    };
    let title: Vec<String> = values.iter().map(|(name, value)| format!("{name} {}", power(*value))).collect();
    let title = format!("from 1e-10 to 10: {}", title.join(", "));
    let scale = with(el("span", "scale"), &[("role", "img"), ("aria-label", &title), ("title", &title)]);
    of(scale, values.iter().map(mark).collect())
}
