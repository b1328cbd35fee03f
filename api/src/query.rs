//! Values in the part of an address after the question mark.

use percent_encoding::percent_decode_str;

use crate::error::ApiError;

/// The value of `name`, as it is written.
pub(crate) fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The value of `name` as the text that was meant: `%20` is a blank.
pub(crate) fn text_value(query: &str, name: &str) -> Option<String> {
    value(query, name).map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned())
}

/// A whole number between `least` and `most`.
pub(crate) fn number(query: &str, name: &str, least: u32, most: u32) -> Result<Option<u32>, ApiError> {
    let Some(text) = value(query, name) else { return Ok(None) };
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    let wrong = || ApiError::invalid(name, format!("{name} is {text:?}, expected a number from {least} to {most}"));
    number.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded() {
        assert_eq!(text_value("n=1&model=my%20model%2Bb", "model").as_deref(), Some("my model+b"));
        assert_eq!(text_value("n=1", "model"), None);
    }

    #[test]
    fn numbers_are_read_and_refused_by_name() {
        assert_eq!(number("a=1&limit=20", "limit", 1, 100).expect("good"), Some(20));
        assert_eq!(number("limits=20", "limit", 1, 100).expect("absent"), None);
        for text in ["limit=", "limit=0", "limit=101", "limit=-1", "limit=ten"] {
            let error = number(text, "limit", 1, 100).expect_err(text);
            assert!(error.param.as_deref() == Some("limit") && error.message.contains("from 1 to 100"), "{error}");
        }
    }
}
