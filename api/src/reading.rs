//! Bodies and parts of them, read from JSON. What is wrong with one is told by its place and in plain words, where serde would name
//! types of this program.

use std::fmt;
use std::marker::PhantomData;

use axum::http::StatusCode;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::ApiError;

/// As many characters of a text that is wrong are told.
const MOST_TOLD_CHARS: usize = 60;

/// Something that stands in lists, in whose place one text may stand.
pub(crate) trait Listed {
    /// What is expected, in words.
    const EXPECTED: &'static str;
}

impl Listed for String {
    const EXPECTED: &'static str = "a text or a list of texts";
}

impl Listed for Value {
    const EXPECTED: &'static str = "a text or a list of items";
}

/// A text, or a list. Other than with an untagged enum of serde's, an error in the list keeps its place.
#[derive(Clone, Debug)]
pub(crate) enum TextOr<T> {
    Text(String),
    List(Vec<T>),
}

struct TextOrList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Listed> Visitor<'de> for TextOrList<T> {
    type Value = TextOr<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(TextOr::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(TextOr::List)
    }
}

impl<'de, T: Deserialize<'de> + Listed> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrList(PhantomData))
    }
}

/// Reads what stands at a place of a request.
pub(crate) fn read_at<'v, T: Deserialize<'v>>(place: &str, value: &'v Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let within = error.path().to_string();
        let place = match within.as_str() {
            "." => place.to_owned(),
            // An element of a list.
            within if within.starts_with('[') => format!("{place}{within}"),
            within => format!("{place}.{within}"),
        };
        wrong_at(&place, &error.inner().to_string())
    })
}

/// What is wrong at a place of a request, from serde's words for it. `.` is the request as a whole.
pub(crate) fn wrong_at(place: &str, words: &str) -> ApiError {
    let is_whole = place == ".";
    let words = without_position(words);
    for (beginning, what) in [("missing field `", "is missing"), ("duplicate field `", "is given twice")] {
        if let Some(field) = words.strip_prefix(beginning).and_then(|rest| rest.strip_suffix('`')) {
            let place = if is_whole { field.to_owned() } else { format!("{place}.{field}") };
            return ApiError::invalid(&place, format!("{place} {what}"));
        }
    }
    let name = if is_whole { "the body" } else { place };
    let message = match mismatch(words) {
        Some((got, expected)) => format!("{name} is {got}, expected {expected}"),
        None => format!("{name} cannot be read: {words}"),
    };
    match is_whole {
        true => ApiError::refused(StatusCode::BAD_REQUEST, message),
        false => ApiError::invalid(place, message),
    }
}

/// The words without the line and column that the JSON parser adds: the place says more.
fn without_position(words: &str) -> &str {
    let is_position = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || b" column".contains(&byte));
    words.rsplit_once(" at line ").filter(|(_, rest)| is_position(rest)).map_or(words, |(words, _)| words)
}

/// What is there, and what was expected, if one is there in place of the other.
fn mismatch(words: &str) -> Option<(String, &str)> {
    let (kind, rest) = words.split_once(": ").or_else(|| words.split_once(' '))?;
    let got = match kind {
        "invalid type" | "invalid value" => rest,
        "invalid" if rest.starts_with("length ") => rest,
        _ => return None,
    };
    let (got, expected) = got.rsplit_once(", expected ")?;
    let expected = match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        of_this_program if of_this_program.starts_with("struct ") => "an object",
        words => words,
    };
    Some((in_words(got), expected))
}

/// A value, as serde tells it, as JSON has it.
fn in_words(got: &str) -> String {
    match got {
        "sequence" => return "a list".into(),
        "map" => return "an object".into(),
        "unit value" => return "null".into(),
        length if length.starts_with("length ") => return "a list".into(),
        _ => {}
    }
    let kinds = ["boolean ", "integer ", "floating point ", "string "];
    let value = kinds.iter().find_map(|kind| got.strip_prefix(kind)).unwrap_or(got).trim_matches('`');
    match value.char_indices().nth(MOST_TOLD_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only errors are looked at")]
    struct Body {
        number: u32,
        text: Option<String>,
        flag: Option<bool>,
        list: Option<Vec<Inner>>,
        either: Option<TextOr<Inner>>,
        fields: Option<serde_json::Map<String, Value>>,
    }

    #[derive(Clone, Debug, Deserialize)]
    #[serde(expecting = "a thing with a name")]
    #[expect(dead_code, reason = "only errors are looked at")]
    struct Inner {
        name: String,
    }

    impl Listed for Inner {
        const EXPECTED: &'static str = "a text or a list of things";
    }

    /// Place and words of the error, read as a body is and read as a value is.
    fn refused(field: &str, value: &Value) -> [(Option<String>, String); 2] {
        let mut body = json!({"number": 1});
        body[field] = value.clone();
        let text = body.to_string();
        let error = serde_path_to_error::deserialize::<_, Body>(&mut serde_json::Deserializer::from_str(&text));
        let error = error.expect_err("refused");
        let of_body = wrong_at(&error.path().to_string(), &error.inner().to_string());
        let of_value = read_at::<Body>("at", &body).expect_err("refused");
        [of_body, of_value].map(|error| (error.param, error.message))
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected_there() {
        let whole = "expected a whole number from 0 to 4294967295";
        for (field, value, place, words) in [
            ("number", json!("9"), "number", format!("is \"9\", {whole}")),
            ("number", json!(-1), "number", format!("is -1, {whole}")),
            ("number", json!(1.5), "number", format!("is 1.5, {whole}")),
            ("number", json!(4_294_967_296_u64), "number", format!("is 4294967296, {whole}")),
            ("number", Value::Null, "number", format!("is null, {whole}")),
            ("text", json!([1]), "text", "is a list, expected a text".into()),
            ("text", json!({"a": 1}), "text", "is an object, expected a text".into()),
            (
                "flag",
                json!("yes at line 1, expected no"),
                "flag",
                "is \"yes at line 1, expected no\", expected true or false".into(),
            ),
            ("fields", json!([]), "fields", "is a list, expected an object".into()),
            ("list", json!(true), "list", "is true, expected a list".into()),
            ("list", json!([{"name": "a"}, {}]), "list[1].name", "is missing".into()),
            ("list", json!([7]), "list[0]", "is 7, expected a thing with a name".into()),
            ("either", json!(5), "either", "is 5, expected a text or a list of things".into()),
            ("either", json!([{"name": "a"}, {"name": 2}]), "either[1].name", "is 2, expected a text".into()),
        ] {
            let [of_body, of_value] = refused(field, &value);
            assert_eq!(of_body, (Some(place.into()), format!("{place} {words}")));
            assert_eq!(of_value, (Some(format!("at.{place}")), format!("at.{place} {words}")));
        }
        let error = read_at::<Vec<Inner>>("at", &json!([{"name": "a"}, 3])).expect_err("refused");
        assert_eq!(error.message, "at[1] is 3, expected a thing with a name");
    }

    #[test]
    fn a_body_that_is_no_object_has_no_place_and_long_texts_are_cut() {
        let error = serde_json::from_str::<Body>("7").expect_err("refused");
        let error = wrong_at(".", &error.to_string());
        assert_eq!((error.param, error.message.as_str()), (None, "the body is 7, expected an object"));
        let [(_, words), _] = refused("flag", &json!("é".repeat(1000)));
        assert!(words.chars().count() < 120 && words.contains("é…, expected true or false"), "{words}");
    }

    #[test]
    fn fields_that_are_missing_or_given_twice_are_named() {
        for (body, place, words) in
            [("{}", "number", "is missing"), ("{\"number\": 1, \"number\": 2}", "number", "is given twice")]
        {
            let error = serde_json::from_str::<Body>(body).expect_err("refused");
            let error = wrong_at(".", &error.to_string());
            assert_eq!((error.param.as_deref(), error.message), (Some(place), format!("{place} {words}")));
        }
    }
}
