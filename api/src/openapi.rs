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

    /// The fields that a request is read into, from the source.
    fn fields(source: &str, request: &str) -> Vec<String> {
        let (_, body) = source.split_once(&format!("pub(crate) struct {request} {{\n")).expect("the request");
        let (body, _) = body.split_once("\n}\n").expect("its end");
        let lines = body.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
        let names = lines.filter_map(|line| line.trim_start().trim_start_matches("pub ").split_once(": "));
        names.map(|(name, _)| name.trim_start_matches('_').to_owned()).collect()
    }

    #[test]
    fn every_field_that_acts_is_documented() {
        // Those of every dialect, that `Draw` reads.
        const OF_ALL: [&str; 8] =
            ["temperature", "top_p", "min_p", "top_k", "seed", "logit_bias", "presence_penalty", "frequency_penalty"];
        // They are read to be refused.
        const OLD: [&str; 2] = ["functions", "function_call"];
        let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
        for (source, request, schemas) in [
            (include_str!("chat/request.rs"), "ChatRequest", &["ChatRequest"][..]),
            (include_str!("completions.rs"), "CompletionRequest", &["CompletionRequest"]),
            (include_str!("responses/request.rs"), "ResponsesRequest", &["ResponseRequest"]),
            (include_str!("messages/request.rs"), "MessagesRequest", &["CountRequest", "MessageRequest"]),
        ] {
            let read = fields(source, request);
            assert!(read.len() > 8 && read.last().is_some_and(|last| last == "draw"), "{request}: {read:?}");
            let acting = read.iter().map(String::as_str).filter(|name| *name != "draw" && !OLD.contains(name));
            let missing: Vec<&str> = acting
                .chain(OF_ALL)
                .filter(|name| {
                    schemas.iter().all(|it| document["components"]["schemas"][it]["properties"][name].is_null())
                })
                .collect();
            assert_eq!(missing, [""; 0], "{request}");
        }
    }

    #[test]
    fn what_a_server_answers_before_an_endpoint_does_is_documented() {
        let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
        let paths = document["paths"].as_object().expect("paths").values();
        let operations: Vec<&Value> = paths.flat_map(|path| path.as_object().expect("operations").values()).collect();
        assert!(operations.len() > 15);
        for operation in operations {
            let of_bodies: &[&str] = if operation.get("requestBody").is_some() { &["408", "413"] } else { &[] };
            for status in ["403", "405", "421", "431"].iter().chain(of_bodies) {
                assert!(operation["responses"].get(status).is_some(), "{status}: {operation}");
            }
        }
        let schemes = document["components"]["securitySchemes"].as_object().expect("schemes");
        assert!(schemes.values().any(|scheme| scheme["name"] == "x-api-key"));
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
