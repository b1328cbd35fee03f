//! Dates as the system message has them.

use time::{Date, Month};

/// Whether `text` is a day of the calendar, written `YYYY-MM-DD` and no other way.
pub fn is_date(text: &str) -> bool {
    // Other spellings that parse as a date (a sign, a missing digit) are not accepted.
    parse(text).is_some_and(|date| date.to_string() == text)
}

fn parse(text: &str) -> Option<Date> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let month: Month = month.parse::<u8>().ok()?.try_into().ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar_and_nothing_else() {
        for text in ["2024-02-29", "2000-02-29", "1999-12-31", "2026-11-30", "0000-01-01", "9999-12-31"] {
            assert!(is_date(text), "{text}");
        }
        for text in [
            "",
            "-",
            "--",
            "today",
            "none",
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-04-31",
            "2024-01-00",
            "2024-1-1",
            "2024-01-1",
            "24-01-01",
            "2024-01-01-",
            "2024-01-01 ",
            " 2024-01-01",
            "+2024-01-01",
            "-2024-01-01",
            "2024-+1-01",
            "12024-01-01",
            "2024/01/01",
            "20240101",
            "28.06.2025",
            "2024-01-01T00:00:00Z",
            "٢٠٢٤-01-01",
        ] {
            assert!(!is_date(text), "{text}");
        }
    }
}
