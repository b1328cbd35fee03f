//! Dates as the system message has them: `YYYY-MM-DD`.

use gptoss_telemetry::is_date;
use time::OffsetDateTime;

/// Reads the value of `--date`: a date, or `today` (in UTC).
///
/// # Errors
/// What was expected.
pub fn parse(text: &str) -> Result<String, String> {
    match text {
        "today" => Ok(OffsetDateTime::now_utc().date().to_string()),
        date if is_date(date) => Ok(date.to_owned()),
        _ => Err("expected a date such as 2026-02-28, or today".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_or_today_is_taken() {
        assert_eq!(parse("2024-02-29").as_deref(), Ok("2024-02-29"));
        assert!(parse("today").is_ok_and(|date| is_date(&date)));
        for bad in ["2023-02-29", "yesterday", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
