//! `docs/parameters.md`, made from the table.

use std::fmt::Write;

use super::{Kind, OPTIONS, OptionRow, Owner};

const BEGIN: &str = "\
# Options

<!-- Made from the table in protocol/src/options/table.rs: change it there. `UPDATE_DOCS=1 cargo test -p gptoss-protocol --test parameters` writes this file. -->

On the page an option is a parameter of the address (`/gptoss?gguf=/models/model.gguf&temp=0.7`), and most are an input of the
form, too. On the command line it is a flag of `pylon`; `--help` of each command says which it takes. Both accept the same values.
One that cannot be used is an error, never ignored. Only what campaigns and networks append to any address (`utm_source`,
`fbclid`, `ref`, …) is nobody's option.

Bytes are a number, alone or with K, M, G, T (powers of 1000) or Ki, Mi, Gi, Ti (powers of 1024). Words other than those listed
are refused.
";

/// Titles of the parts, in their order.
const PARTS: [(Owner, &str); 9] = [
    (Owner::Model, "Which model"),
    (Owner::Prompt, "What is asked"),
    (Owner::Sampling, "How tokens are drawn"),
    (Owner::Engine, "How the model is loaded (engine)"),
    (Owner::Gpu, "How the GPU is used"),
    (Owner::Cpu, "How the CPU is used"),
    (Owner::Network, "How patient reads over the network are"),
    (Owner::Cache, "What is cached in the browser"),
    (Owner::Page, "What the page does by itself"),
];

/// The text of the file: a table for each owner.
pub fn document() -> String {
    let mut text = BEGIN.to_owned();
    for (owner, title) in PARTS {
        let _ = write!(text, "\n## {title}\n\n| address | flag | what | values | default |\n|---|---|---|---|---|\n");
        for row in OPTIONS.iter().filter(|row| row.owner == owner) {
            let (address, flag, values, default) = (address(row), flag(row), values(row), default(row));
            let _ = writeln!(text, "| {address} | {flag} | {} | {values} | {default} |", what(row));
        }
    }
    text.push_str("\nParameters without an input on the page are marked \"address only\".\n");
    text
}

fn address(row: &OptionRow) -> String {
    match row.key {
        Some(key) if key.in_form => format!("`{}`", key.name),
        Some(key) => format!("`{}` (address only)", key.name),
        None => "–".to_owned(),
    }
}

/// Help of the option; the flag's own note is a separate sentence if there is a parameter, too.
fn what(row: &OptionRow) -> String {
    let note = row.flag.filter(|flag| flag.means.is_none()).map_or("", |flag| flag.note);
    match (note, row.key) {
        ("", _) => format!("{}.", row.help),
        (note, Some(_)) => format!("{} (pylon: {note}).", row.help),
        (_, None) => format!("{}.", row.flag_help()),
    }
}

/// Name of the flag; a flag without a value says which value it means.
fn flag(row: &OptionRow) -> String {
    match row.flag {
        Some(flag) => match flag.means {
            Some(word) => format!("`--{}` (`{word}`)", flag.name),
            None => format!("`--{}`", flag.name),
        },
        None => "–".to_owned(),
    }
}

fn values(row: &OptionRow) -> String {
    let examples: Vec<String> = row.examples.iter().map(|example| format!("`{example}`")).collect();
    let said = match &row.kind {
        Kind::Whole { from, to, unit, instead, .. } => {
            let instead = instead.as_ref().map_or(String::new(), |word| format!("`{}`, or ", word.text));
            let unit = if unit.is_empty() { String::new() } else { format!(", in {unit}") };
            format!("{instead}a whole number from {from} to {to}{unit}")
        }
        Kind::Number { allowed, .. } | Kind::Seconds { allowed, .. } => allowed.words.to_owned(),
        Kind::Bytes { .. } => "bytes".to_owned(),
        Kind::Words { words, .. } => {
            let words = words.iter().map(|word| {
                let all: Vec<String> =
                    std::iter::once(&word.text).chain(word.also).map(|text| format!("`{text}`")).collect();
                let meaning = if word.meaning.is_empty() { String::new() } else { format!(": {}", word.meaning) };
                all.join(" or ") + &meaning
            });
            words.collect::<Vec<_>>().join("; ")
        }
        Kind::Text { .. } => "text".to_owned(),
        Kind::Date { .. } => "a date as YYYY-MM-DD, `today` or `none`".to_owned(),
        Kind::Address { node, .. } => {
            let file = "an http(s) address, a path on this host, or `cached:` and the name of a cached file";
            if *node {
                format!("{file}; or `pylon://`, over TLS `pylons://`, and the host and port of a node")
            } else {
                file.to_owned()
            }
        }
    };
    if examples.is_empty() { said } else { format!("{said}; such as {}", examples.join(", ")) }
}

fn default(row: &OptionRow) -> String {
    let default = row.default;
    match (row.key, row.flag) {
        (Some(_), Some(_)) if default.page != default.pylon => {
            format!("{} (pylon: {})", default.page, default.pylon)
        }
        (None, _) => default.pylon.to_owned(),
        _ => default.page.to_owned(),
    }
}
