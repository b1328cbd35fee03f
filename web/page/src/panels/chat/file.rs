//! A conversation as a file of its own: what was said, without what was measured.

use gptoss_protocol::ChatMessage;
use serde::{Deserialize, Serialize};

/// Says what kind of file it is.
const KIND: &str = "gpt-oss conversation";

#[derive(Serialize, Deserialize)]
struct File {
    kind: String,
    version: u32,
    messages: Vec<ChatMessage>,
}

/// The version that is written; later ones may mean something else.
const VERSION: u32 = 1;

/// The conversation as JSON.
pub fn write(messages: &[ChatMessage]) -> String {
    let file = File { kind: KIND.to_owned(), version: VERSION, messages: messages.to_vec() };
    serde_json::to_string_pretty(&file).expect("messages are texts and numbers")
}

/// Reads a conversation back.
///
/// # Errors
/// Why the text is none, in words for the user.
pub fn read(text: &str) -> Result<Vec<ChatMessage>, String> {
    let file: File =
        serde_json::from_str(text).map_err(|error| format!("it is no conversation of this page: {error}"))?;
    match (file.kind.as_str(), file.version) {
        (KIND, VERSION) => Ok(file.messages),
        (KIND, version) => Err(format!("it is of version {version}, and this page reads version {VERSION}")),
        (kind, _) => Err(format!("it says that it is a {kind:?}, not a {KIND:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_survive_a_file_and_others_are_refused() {
        let messages = vec![ChatMessage::User { text: "é\n\"".into() }, ChatMessage::said("ok")];
        let text = write(&messages);
        assert_eq!(read(&text), Ok(messages));
        for (from, to, said) in [
            ("\"version\": 1", "\"version\": 2", "version 2"),
            (KIND, "shopping list", "shopping list"),
            ("\"messages\"", "\"others\"", "no conversation"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = read(&text.replace(from, to)).expect_err(to);
            assert!(error.contains(said), "{error}");
        }
    }
}
