//! A gate's report as it came: read by name, so that what nobody shows costs nobody anything.

use serde_json::Value;

use crate::format::{NOT_MEASURED, bytes, count, milliseconds};

/// A [`gptoss_protocol::GateReport`], or a part of one.
#[derive(Clone, Copy)]
pub struct Report<'a>(pub &'a Value);

impl<'a> Report<'a> {
    /// A text; empty where there is none.
    #[inline(never)]
    pub fn text(self, name: &str) -> &'a str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// A number.
    #[inline(never)]
    pub fn number(self, name: &str) -> Option<f64> {
        self.0[name].as_f64()
    }

    /// A whole number; 0 where there is none.
    #[inline(never)]
    pub fn count(self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or(0)
    }

    /// Whether something holds.
    pub fn is(self, name: &str) -> bool {
        self.0[name] == true
    }

    /// What a list has.
    #[inline(never)]
    pub fn all(self, name: &str) -> impl Iterator<Item = Report<'a>> + Clone + use<'a> {
        self.0[name].as_array().map_or(&[][..], Vec::as_slice).iter().map(Report)
    }

    /// Figures of the slice, where it is about one.
    pub fn slice(self) -> Option<Self> {
        Some(Self(&self.0["slice"])).filter(|slice| slice.0.is_object())
    }

    /// `pass`, `fail` or `could_not_run`.
    pub fn verdict(self) -> &'a str {
        self.text("verdict")
    }

    /// A small number as powers of ten.
    #[inline(never)]
    pub fn power(self, name: &str) -> String {
        power(self.number(name))
    }

    /// A text with values in it: `{name}` is a text or a list of lengths, `{name#}` a count, `{name~}` milliseconds, `{name%}` bytes,
    /// `{name^}` a small number.
    #[inline(never)]
    pub fn fill(self, template: &str) -> String {
        let mut filled = String::new();
        for (at, part) in template.split(['{', '}']).enumerate() {
            let kind = part.chars().last().unwrap_or(' ');
            let name = part.trim_end_matches(['#', '~', '%', '^']);
            filled += &match kind {
                _ if at % 2 == 0 => part.to_owned(),
                '#' => count(self.count(name)),
                '~' => milliseconds(self.number(name)),
                '%' => bytes(self.count(name)),
                '^' => self.power(name),
                _ if self.0[name].is_array() => shape(self.all(name).filter_map(|length| length.0.as_u64())),
                _ => match self.number(name) {
                    Some(number) => format!("{number:e}"),
                    None => self.text(name).to_owned(),
                },
            };
        }
        filled
    }
}

/// Dimensions, the contiguous one first.
#[inline(never)]
pub fn shape(lengths: impl Iterator<Item = u64>) -> String {
    lengths.map(|length| length.to_string()).collect::<Vec<_>>().join(" × ")
}

/// A number as powers of ten.
#[inline(never)]
pub fn power(value: Option<f64>) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), |value| format!("{value:.2e}"))
}

/// The word for a verdict.
pub fn verdict_word(name: &str) -> &'static str {
    match name {
        "pass" => "PASS",
        "fail" => "FAIL",
        _ => "COULD NOT RUN",
    }
}

/// What came of a comparison, in words.
pub fn outcome(comparison: Report<'_>) -> String {
    let what = comparison.text("what");
    match comparison.count("not_finite") {
        0 => {}
        values => return format!("{what}: {values} values are not finite"),
    }
    let relation = if comparison.text("expect") == "equal" { "at most" } else { "a control, which must be above" };
    let tolerance = comparison.number("tolerance").map_or_else(|| NOT_MEASURED.to_owned(), |it| format!("{it:e}"));
    format!("{what}: relative error {}, {relation} {tolerance}", comparison.power("relative_error"))
}
