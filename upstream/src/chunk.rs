//! A piece of a completion, as servers write it.

use serde::Deserialize;
use serde_json::Value;

/// A piece of a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What is added.
    pub said: Said,
    /// Why nothing comes after it, if nothing does.
    pub finish: Option<Finish>,
    /// Tokens, where the server counts them.
    pub usage: Option<Usage>,
}

/// What a piece of a completion says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The ids of its tokens.
    Tokens(Vec<u32>),
    /// Its text, with special tokens by name: this server tells no ids.
    Text(String),
}

/// Why a completion ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A token ended it: this one, if the server says which.
    Stop(Option<u32>),
    /// It has as many tokens as it may have.
    Length,
    /// Another reason, in the server's word.
    Other(String),
}

/// Tokens as a server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt that its cache had, where it tells them.
    pub cached_tokens: Option<u32>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u32>,
}

/// What was to be a piece of a completion, and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoChunk {
    /// The server takes the request for wrong: vLLM looks at some of it only after it has answered with status 200.
    Refusal(String),
    /// Another error, or what cannot be read, in words.
    Nonsense(String),
}

#[derive(Deserialize)]
struct Wire {
    choices: Option<Vec<WireChoice>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
    /// vLLM's errors of old have it beside their message.
    object: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct WireChoice {
    text: Option<String>,
    token_ids: Option<Vec<u32>>,
    finish_reason: Option<String>,
    stop_reason: Option<Value>,
}

#[derive(Deserialize)]
struct WireUsage {
    completion_tokens: Option<u32>,
    prompt_tokens_details: Option<WireDetails>,
}

#[derive(Deserialize)]
struct WireDetails {
    cached_tokens: Option<u32>,
}

impl Chunk {
    /// Reads the data of an event, or a whole answer.
    ///
    /// # Errors
    /// What it is instead.
    pub(crate) fn read(data: &str) -> Result<Self, NoChunk> {
        let nonsense = |what: String| Err(NoChunk::Nonsense(what));
        let wire: Wire = match serde_json::from_str(data) {
            Ok(wire) => wire,
            Err(error) => return nonsense(format!("{}: {error}", shortened(data))),
        };
        if let Some(error) = wire.error.filter(|error| !error.is_null()) {
            let message = shortened(&message_of(&error));
            return match error.get("code").and_then(Value::as_u64) {
                Some(400 | 413 | 422) => Err(NoChunk::Refusal(message)),
                _ => nonsense(format!("the error {message:?}")),
            };
        }
        if wire.object.as_deref() == Some("error") {
            return nonsense(format!("the error {:?}", shortened(&wire.message.unwrap_or_default())));
        }
        let Some(mut choices) = wire.choices else { return nonsense(format!("no choices: {}", shortened(data))) };
        let usage = wire.usage.map(|usage| Usage {
            cached_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens),
            completion_tokens: usage.completion_tokens,
        });
        if choices.len() > 1 {
            return nonsense(format!("{} choices, where one was asked for", choices.len()));
        }
        let Some(choice) = choices.pop() else {
            return Ok(Self { said: Said::Tokens(Vec::new()), finish: None, usage });
        };
        let stop_token = choice.stop_reason.and_then(|reason| u32::try_from(reason.as_u64()?).ok());
        let finish = choice.finish_reason.map(|reason| match reason.as_str() {
            "stop" => Finish::Stop(stop_token),
            "length" => Finish::Length,
            _ => Finish::Other(reason),
        });
        let said = match choice.token_ids {
            Some(tokens) => Said::Tokens(tokens),
            None => Said::Text(choice.text.unwrap_or_default()),
        };
        Ok(Self { said, finish, usage })
    }
}

/// What an error says, in whichever of the usual shapes.
pub(crate) fn message_of(error: &Value) -> String {
    let inner = error.get("error").unwrap_or(error);
    let message = inner.get("message").or_else(|| inner.get("detail")).unwrap_or(inner);
    message.as_str().map_or_else(|| message.to_string(), str::to_owned)
}

/// The beginning of a text that somebody else wrote, for an error.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(said: Said, finish: Option<Finish>) -> Result<Chunk, NoChunk> {
        Ok(Chunk { said, finish, usage: None })
    }

    #[test]
    fn chunks_of_several_servers_are_read() {
        let ids =
            r#"{"choices": [{"index": 0, "text": "a", "token_ids": [5, 7], "finish_reason": null}], "usage": null}"#;
        assert_eq!(Chunk::read(ids), chunk(Said::Tokens(vec![5, 7]), None));
        let text = r#"{"choices": [{"text": "<|end|>", "index": 0, "logprobs": null, "finish_reason": null}]}"#;
        assert_eq!(Chunk::read(text), chunk(Said::Text("<|end|>".into()), None));
        let stop = r#"{"choices": [{"text": "", "token_ids": [], "finish_reason": "stop", "stop_reason": 200012}]}"#;
        assert_eq!(Chunk::read(stop), chunk(Said::Tokens(Vec::new()), Some(Finish::Stop(Some(200_012)))));
        let usage =
            r#"{"choices": [], "usage": {"completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9}}}"#;
        let usage = Chunk::read(usage).expect("a chunk").usage;
        assert_eq!(usage, Some(Usage { cached_tokens: Some(9), completion_tokens: Some(3) }));
        let usage = Chunk::read(r#"{"choices": [], "usage": {"completion_tokens": 3}}"#).expect("a chunk").usage;
        assert_eq!(usage.expect("usage").cached_tokens, None, "not told is not none");
    }

    #[test]
    fn what_is_no_chunk_is_told_in_its_own_words() {
        for (data, word) in [
            ("hello", "hello"),
            ("[]", "[]"),
            ("{\"id\": 5}", "no choices"),
            (r#"{"error": {"message": "out of memory"}}"#, "out of memory"),
            (r#"{"object": "error", "message": "too long"}"#, "too long"),
            (r#"{"choices": [{"token_ids": [-1]}]}"#, "-1"),
            (r#"{"choices": [{"token_ids": ["a"]}]}"#, "token_ids"),
            (r#"{"choices": [{"text": "a"}, {"text": "b"}]}"#, "2 choices"),
        ] {
            let NoChunk::Nonsense(what) = Chunk::read(data).expect_err(data) else { panic!("{data}") };
            assert!(what.contains(word), "{what}");
        }
        let NoChunk::Nonsense(what) = Chunk::read(&"x".repeat(1000)).expect_err("none") else { panic!("a refusal") };
        assert!(what.len() < 500);
        let refused = r#"{"error": {"message": "min_p is not supported", "type": "BadRequestError", "code": 400}}"#;
        assert_eq!(Chunk::read(refused), Err(NoChunk::Refusal("min_p is not supported".into())));
    }
}
