//! Today, as the system message has it: `YYYY-MM-DD`.

use time::OffsetDateTime;

/// Today, in UTC.
pub fn today() -> String {
    OffsetDateTime::now_utc().date().to_string()
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::is_date;

    use super::*;

    #[test]
    fn today_is_a_day() {
        assert!(is_date(&today()));
    }
}
