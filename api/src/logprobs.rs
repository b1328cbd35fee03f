//! Log probabilities of tokens, as chat completions and responses tell them, and as completions do.

use gptoss_protocol::TokenInfo;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// As many of the most likely tokens can be asked for, as with OpenAI.
const MOST_TOP: u32 = 20;

/// Stands for a probability that is too small to be known.
const UNKNOWN_LOGPROB: f64 = -9999.0;

/// What is known of a token of an answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Logprob {
    #[serde(flatten)]
    own: TokenLogprob,
    top_logprobs: Vec<TokenLogprob>,
}

#[derive(Clone, Debug, Serialize)]
struct TokenLogprob {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

impl Logprob {
    /// What is known of a token, whose visible text is what it completed, and of the `top` most likely ones in its place.
    pub fn of(text: &str, token: &TokenInfo, top: u32) -> Self {
        let known = |probability: Option<f32>| probability.map(f64::from).filter(|it| *it > 0.0);
        let logprob = |probability| known(probability).map_or(UNKNOWN_LOGPROB, f64::ln);
        let entry = |text: &str, probability| TokenLogprob {
            token: text.into(),
            logprob: logprob(probability),
            bytes: text.into(),
        };
        let best = token.top.iter().take(top as usize);
        Self {
            own: entry(text, token.probability),
            top_logprobs: best.map(|it| entry(&it.text, Some(it.probability))).collect(),
        }
    }
}

/// A number of most likely tokens, if there can be so many.
pub(crate) fn top(param: &str, asked: Option<u32>) -> Result<Option<u32>, ApiError> {
    match asked {
        Some(top) if top > MOST_TOP => {
            Err(ApiError::invalid(param, format!("{param} is {top}, expected at most {MOST_TOP}")))
        }
        asked => Ok(asked),
    }
}

/// Log probabilities as `/v1/completions` has them: in columns. `offset`: characters of the text before them.
pub(crate) fn columns(logprobs: &[Logprob], offset: usize) -> Value {
    let offsets = logprobs.iter().scan(offset, |offset, logprob| {
        let begins = *offset;
        *offset += logprob.own.token.chars().count();
        Some(begins)
    });
    let best = |logprob: &Logprob| {
        // Two tokens can have one text; the likelier one stands.
        let mut best = Map::new();
        for TokenLogprob { token, logprob, .. } in &logprob.top_logprobs {
            best.entry(token.clone()).or_insert_with(|| json!(logprob));
        }
        best
    };
    json!({
        "tokens": logprobs.iter().map(|logprob| &logprob.own.token).collect::<Vec<_>>(),
        "token_logprobs": logprobs.iter().map(|logprob| logprob.own.logprob).collect::<Vec<_>>(),
        "top_logprobs": logprobs.iter().map(best).collect::<Vec<_>>(),
        "text_offset": offsets.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::TopToken;

    use super::*;

    #[test]
    fn columns_say_where_each_token_begins_and_what_else_was_likely() {
        let likely = |text: &str, probability| TopToken { id: 0, text: text.into(), probability };
        let token = |probability| TokenInfo {
            index: 0,
            id: 0,
            text: String::new(),
            channel: None,
            recipient: None,
            probability,
            entropy_nats: 0.0,
            top: vec![likely("a", 0.5), likely("a", 0.25), likely("é", 0.125)],
            elapsed_ms: 0.0,
            decode_tokens_per_second: None,
        };
        let logprobs = [Logprob::of("né", &token(Some(0.5)), 3), Logprob::of("b", &token(None), 0)];
        let half = 0.5_f64.ln();
        assert_eq!(
            columns(&logprobs, 7),
            json!({
                "tokens": ["né", "b"], "token_logprobs": [half, UNKNOWN_LOGPROB], "text_offset": [7, 9],
                "top_logprobs": [{"a": half, "é": 0.125_f64.ln()}, {}],
            })
        );
    }
}
