//! The document that says what the server takes and gives, for programs.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// OpenAPI 3.1.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_route_is_documented_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
        let documented: BTreeSet<_> = document["paths"].as_object().expect("paths").keys().cloned().collect();
        let source = include_str!("server.rs");
        let routes = source
            .split(".route(\"")
            .skip(1)
            .filter_map(|rest| rest.split_once('"'))
            .map(|(path, _)| path.replace("{*", "{"));
        assert_eq!(documented, routes.collect());
    }

    #[test]
    fn what_is_referred_to_is_there() {
        fn look(value: &Value, document: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(place)) = fields.get("$ref") {
                        assert!(document.pointer(place.trim_start_matches('#')).is_some(), "{place}");
                    }
                    fields.values().for_each(|value| look(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| look(value, document)),
                _ => {}
            }
        }
        let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
        look(&document, &document);
    }
}
