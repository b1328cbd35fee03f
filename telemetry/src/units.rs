//! Sizes as text, so that the same size looks the same in errors of the engine, on the page and in its log.

/// Decimal units, three significant digits: `3.05 MB`. Below 1000 the exact count.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.5 would be rounded to four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// As [`bytes`], never less than `count`: for a size that is needed.
pub fn bytes_at_least(count: u64) -> String {
    let step = step_of_third_digit(count);
    bytes(count.div_ceil(step).saturating_mul(step))
}

/// As [`bytes`], never more than `count`: for a size that does not suffice.
pub fn bytes_at_most(count: u64) -> String {
    let step = step_of_third_digit(count);
    bytes(count / step * step)
}

/// Three significant digits.
pub fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// What the third digit of a number counts: 1 for numbers of up to three digits, 10 for those of four.
fn step_of_third_digit(count: u64) -> u64 {
    10_u64.pow(count.checked_ilog10().unwrap_or(0).saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_digits_and_change_unit_before_four() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (3_054_208, "3.05 MB"),
            (12_100_000_000, "12.1 GB"),
            (63_400_000_000, "63.4 GB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn a_size_that_is_needed_is_rounded_up_and_one_that_is_too_small_down() {
        for (count, least, most) in [
            (0, "0 B", "0 B"),
            (999, "999 B", "999 B"),
            (1001, "1.01 kB", "1.00 kB"),
            (4_033_480, "4.04 MB", "4.03 MB"),
            (999_500, "1.00 MB", "999 kB"),
            (12_000_000_000, "12.0 GB", "12.0 GB"),
            (12_000_000_001, "12.1 GB", "12.0 GB"),
        ] {
            assert_eq!((bytes_at_least(count).as_str(), bytes_at_most(count).as_str()), (least, most), "{count}");
        }
        assert!(bytes_at_least(u64::MAX).ends_with("PB"));
    }
}
