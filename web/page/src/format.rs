//! Numbers as text, with their units. One place, so that the same quantity looks the same in every panel.

pub use gptoss_protocol::units::bytes;
use gptoss_protocol::units::{self, three_digits};

/// Shown wherever a number was not measured; never a zero.
pub const NOT_MEASURED: &str = "not measured";

/// Shown in its place where a node computes on the CPU, which will not tell it later either.
pub const CPU_DOES_NOT_TELL: &str = "the CPU engine does not tell this";

/// Label of picked files: `model.gguf · 3.05 MB`, or `model-00001-of-00003.gguf and 2 more · 63.4 GB`.
pub fn picked(first_name: &str, files: usize, total_bytes: u64) -> String {
    let more = if files > 1 { format!(" and {} more", files - 1) } else { String::new() };
    format!("{first_name}{more} · {}", bytes(total_bytes))
}

/// A rate such as `12.3 MB/s`.
pub fn bytes_per_second(rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate.is_finite() && rate >= 0.0 => units::bytes_per_second(rate),
        _ => NOT_MEASURED.to_owned(),
    }
}

/// Tokens per second, without the unit (the panel names it).
pub fn rate(rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate.is_finite() => three_digits(rate),
        _ => NOT_MEASURED.to_owned(),
    }
}

/// A duration such as `0.4 ms`, `123 ms`, `1.23 s` or `2 min 05 s`.
pub fn milliseconds(ms: Option<f64>) -> String {
    let Some(ms) = ms.filter(|ms| ms.is_finite() && *ms >= 0.0) else { return NOT_MEASURED.to_owned() };
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else if ms < 99_950.0 {
        format!("{} s", three_digits(ms / 1000.0))
    } else {
        let seconds = (ms / 1000.0).round() as u64;
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// A number with thin spaces between groups of three digits: `201 088`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A percentage such as `93.2 %`; never `100 %` or `0 %` by rounding alone.
pub fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    match percent {
        p if !p.is_finite() => NOT_MEASURED.to_owned(),
        p if p > 99.9 && p < 100.0 => "> 99.9 %".to_owned(),
        p if p > 0.0 && p < 0.1 => "< 0.1 %".to_owned(),
        p => format!("{p:.1} %"),
    }
}

/// `part` of `whole` as a fraction of one; `None` if `whole` is zero.
pub fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// `part` of `whole` as a fraction of one; `None` if `whole` is none.
pub fn fraction_of(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// A token's text on one line, with spaces and control characters made visible.
pub fn visible_token(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' ' => '␣',
            '\n' => '⏎',
            '\t' => '⇥',
            c if c.is_control() => '·',
            c => c,
        })
        .collect()
}

/// A count with its unit: `1 request`, `2 requests`.
pub fn plural(value: u64, unit: &str) -> String {
    format!("{} {unit}{}", count(value), if value == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picked_files_are_counted_and_added_up() {
        assert_eq!(picked("m.gguf", 1, 3_054_208), "m.gguf · 3.05 MB");
        assert_eq!(picked("m-00001-of-00003.gguf", 3, 5000), "m-00001-of-00003.gguf and 2 more · 5.00 kB");
    }

    #[test]
    fn rates_have_a_unit() {
        assert_eq!(bytes_per_second(Some(1.25e8)), "125 MB/s");
        assert_eq!(bytes_per_second(Some(f64::INFINITY)), NOT_MEASURED);
    }

    #[test]
    fn what_was_not_measured_says_so() {
        assert_eq!(rate(None), NOT_MEASURED);
        assert_eq!(milliseconds(None), NOT_MEASURED);
        assert_eq!(bytes_per_second(None), NOT_MEASURED);
        assert_eq!(milliseconds(Some(0.0)), "0.0 ms");
        assert_eq!(rate(Some(0.0)), "0.00");
    }

    #[test]
    fn durations_change_unit() {
        for (ms, text) in [
            (0.44, "0.4 ms"),
            (9.96, "10.0 ms"),
            (123.4, "123 ms"),
            (999.6, "1.00 s"),
            (12_340.0, "12.3 s"),
            (125_000.0, "2 min 05 s"),
        ] {
            assert_eq!(milliseconds(Some(ms)), text);
        }
    }

    #[test]
    fn counts_are_grouped_and_percentages_do_not_round_to_the_ends() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1234), "1\u{202f}234");
        assert_eq!(count(201_088_000), "201\u{202f}088\u{202f}000");
        assert_eq!(percent(0.5), "50.0 %");
        assert_eq!(percent(0.99999), "> 99.9 %");
        assert_eq!(percent(0.00001), "< 0.1 %");
        assert_eq!((percent(0.0), percent(1.0)), ("0.0 %".to_owned(), "100.0 %".to_owned()));
        assert_eq!(fraction(1, 0), None);
    }

    #[test]
    fn tokens_show_their_spaces() {
        assert_eq!(visible_token(" a\n\u{7}"), "␣a⏎·");
        assert_eq!(plural(1, "request"), "1 request");
        assert_eq!(plural(0, "request"), "0 requests");
    }
}
