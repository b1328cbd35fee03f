//! Dates as the system message has them: `YYYY-MM-DD`.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_SECONDS: u64 = 86_400;

/// Reads the value of `--date`: a date, or `today` (in UTC).
///
/// # Errors
/// What was expected.
pub fn parse(text: &str) -> Result<String, String> {
    if text == "today" {
        return Ok(today());
    }
    let digits = |part: &str, len: usize| (part.len() == len).then(|| part.parse::<u32>().ok()).flatten();
    let mut parts = text.split('-');
    let fields = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(year), Some(month), Some(day), None) = fields else { return Err(expected()) };
    match (digits(year, 4), digits(month, 2), digits(day, 2)) {
        (Some(year), Some(month @ 1..=12), Some(day)) if (1..=days_of(year, month)).contains(&day) => {
            Ok(text.to_owned())
        }
        _ => Err(expected()),
    }
}

fn expected() -> String {
    "expected a date such as 2026-02-28, or today".to_owned()
}

fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date_of(since.as_secs() / DAY_SECONDS)
}

/// The date that many days after 1970-01-01.
fn date_of(mut days: u64) -> String {
    let mut year = 1970;
    let days_of_year = |year| (1..=12).map(|month| u64::from(days_of(year, month))).sum::<u64>();
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= u64::from(days_of(year, month)) {
        days -= u64::from(days_of(year, month));
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

fn days_of(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        // From `date -u -d @SECONDS +%F`.
        for (seconds, date) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_798_761_599, "2026-12-31")] {
            assert_eq!(date_of(seconds / DAY_SECONDS), date);
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for good in ["2024-02-29", "1999-12-31"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        assert!(parse("today").is_ok_and(|date| date.len() == 10));
        for bad in ["2023-02-29", "2024-13-01", "2024-1-1", "24-01-01", "2024-01-01-", "yesterday", "2024-00-10"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
