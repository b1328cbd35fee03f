//! What platforms say of errors, in words.

/// A platform's message as part of a sentence. wgpu passes JavaScript errors on as wasm-bindgen's `Debug` writes them:
/// `JsValue(NAME: MESSAGE` and the stack. Only name and message remain.
pub(crate) fn plain(text: &str) -> String {
    let (before, thrown) = text.split_once("JsValue(").unwrap_or((text, ""));
    let thrown = thrown.strip_suffix(')').unwrap_or(thrown).lines().next().unwrap_or_default().trim_matches('"');
    let words: Vec<&str> = before.split_whitespace().chain(thrown.split_whitespace()).collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javascript_errors_read_as_name_and_message() {
        for (debug, words) in [
            (
                "JsValue(OperationError: Required limit (8) is greater than the supported limit (4).\n  - While validating.\nundefined)",
                "OperationError: Required limit (8) is greater than the supported limit (4)",
            ),
            ("JsValue(TypeError: no\nTypeError: no\n    at f (x.js:1:2))", "TypeError: no"),
            ("JsValue(\"refused\")", "refused"),
            ("it said JsValue(Error: twice  two)", "it said Error: twice two"),
            ("Validation error:\n  too large", "Validation error: too large"),
        ] {
            assert_eq!(plain(debug), words);
        }
    }
}
