//! Sizes as text, written and read in one place: the same file has the same size in errors of the engine, on the page,
//! on the command line and in the server's list, and what one of them prints is taken by the others.

/// Formats a byte count in decimal units with three significant digits: `3.05 MB`. Below 1000 the count is exact.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
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

/// Like [`bytes`], but never less than `count`: for a size that is needed.
pub fn bytes_at_least(count: u64) -> String {
    let step = step_of_third_digit(count);
    bytes(count.div_ceil(step).saturating_mul(step))
}

/// Like [`bytes`], but never more than `count`: for a size that does not suffice.
pub fn bytes_at_most(count: u64) -> String {
    let step = step_of_third_digit(count);
    bytes(count / step * step)
}

/// Formats a rate like [`bytes`], with `/s` after it.
pub fn bytes_per_second(rate: f64) -> String {
    format!("{}/s", bytes(rate.round() as u64))
}

/// What [`parse_bytes`] expects.
pub const BYTES_EXPECTED: &str =
    "a number of bytes such as 1500000000, 1.5G (powers of 1000) or 1536Mi (powers of 1024)";

/// Reads a number of bytes as people write it and as [`bytes`] prints it: `1500000000`, `1.5G`, `3.05 MB`, `4gib`. K to
/// E are powers of 1000, Ki to Ei powers of 1024. A fraction is rounded to whole bytes.
///
/// # Errors
/// What was expected, to be put after the word.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    exact_bytes(text.trim()).ok_or_else(|| BYTES_EXPECTED.to_owned())
}

/// Computes in whole numbers only: a float would lose bytes of sizes beyond 2^53.
fn exact_bytes(text: &str) -> Option<u64> {
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = u128::from(factor_of(unit.strip_suffix('b').unwrap_or(&unit))?);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // Digits after the nineteenth are less than a byte of any unit, and nineteen fit a u64.
    let fraction = &fraction[..fraction.len().min(19)];
    let scale = 10_u128.pow(fraction.len() as u32);
    let part = u128::from(fraction.parse::<u64>().ok()?) * factor;
    let whole = u128::from(whole.parse::<u64>().ok()?) * factor;
    u64::try_from(whole + (2 * part + scale) / (2 * scale)).ok()
}

/// The bytes that a unit stands for, in small letters and without its B.
fn factor_of(unit: &str) -> Option<u64> {
    let (letter, base) = match unit.strip_suffix('i') {
        Some(letter) => (letter, 1024_u64),
        None => (unit, 1000),
    };
    let power = match letter {
        "" if base == 1000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    Some(base.pow(power))
}

/// Formats a number with three significant digits.
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
        assert!(bytes_at_least(u64::MAX).ends_with("EB"));
    }

    #[test]
    fn sizes_are_read_with_any_unit() {
        for (text, count) in [
            ("0", 0),
            ("512", 512),
            ("7B", 7),
            ("3k", 3000),
            ("500MB", 500_000_000),
            ("4gb", 4_000_000_000),
            ("1.5 T", 1_500_000_000_000),
            ("2KiB", 2048),
            ("2 mi", 2 << 20),
            (" 4 GiB ", 4 << 30),
            ("1.5Ti", 3 << 39),
            ("1.0005K", 1001),
            ("0.3333333333333333333333333333K", 333),
            // Sizes beyond 2^53, where a float would round.
            ("18446744073709551615", u64::MAX),
            ("9007199254740993", (1 << 53) + 1),
            ("18446744073709551.615K", u64::MAX),
            ("15.999999999999999999Ei", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(count), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_examples_that_are() {
        for text in [
            "",
            " ",
            "G",
            "lots",
            "-1",
            "+1",
            "1,5G",
            "1.5.2G",
            ".5G",
            "5.G",
            "12x",
            "1ib",
            "4 G B",
            "1kbb",
            "1e6",
            "4G!",
            "18446744073709551616",
            "18446744073709551.6155K",
            "16Ei",
            "99999999999999999999999999999999999999999",
        ] {
            let expected = parse_bytes(text).expect_err(text);
            for (example, count) in [("1500000000", 1_500_000_000), ("1.5G", 1_500_000_000), ("1536Mi", 1536 << 20)] {
                assert!(expected.contains(example) && parse_bytes(example) == Ok(count), "{expected}");
            }
        }
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let powers = (0..20).map(|power| 10_u64.pow(power));
        for count in powers.flat_map(|power| [1, 2, 5, 9].map(|digit| power.saturating_mul(digit))).chain([u64::MAX]) {
            for count in [count - 1, count, count.saturating_add(1)] {
                let read = parse_bytes(&bytes(count)).expect("what is printed");
                let half_a_step = step_of_third_digit(count) / 2 + 1;
                assert!(
                    read.abs_diff(count) <= half_a_step,
                    "{count} is printed as {} and read as {read}",
                    bytes(count)
                );
            }
        }
    }

    #[test]
    fn rates_are_sizes_of_a_second() {
        assert_eq!((bytes_per_second(1.25e8), bytes_per_second(0.4)), ("125 MB/s".to_owned(), "0 B/s".to_owned()));
    }
}
