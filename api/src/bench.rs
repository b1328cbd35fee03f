//! `/bench`: how fast answers come, several at once, measured from within.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use gptoss_protocol::{Event, Prompt, Sampling};
use serde::Serialize;

use crate::engine::UnderWay;
use crate::error::ApiError;
use crate::prompt::prompt;
use crate::query::{number, text_value};
use crate::server::{Engaged, Shared};

/// Questions at once.
const MOST_QUESTIONS: u32 = 64;

/// Tokens of each answer.
const MOST_TOKENS: u32 = 1024;

/// What was measured.
#[derive(Debug, PartialEq, Serialize)]
struct Report {
    model: String,
    questions: u32,
    max_new_tokens: u32,
    /// Tokens of the prompt of each question.
    prompt_tokens: u32,
    /// Tokens of all answers together; one that ended by itself is shorter than it might be.
    new_tokens: u32,
    elapsed_ms: f64,
    /// Tokens of all answers by the whole time, reading of prompts included.
    tokens_per_second: f64,
    time_to_first_token_ms: Spread,
    /// Between tokens of one answer, by the clock of whatever computes: those of fast models come here several at once.
    token_ms: Spread,
}

/// What many times spread over, in milliseconds; `null` where there is none.
#[derive(Debug, PartialEq, Serialize)]
struct Spread {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
}

impl Spread {
    /// Each is the least time that so many percent of all do not exceed.
    fn of(mut times_ms: Vec<f64>) -> Self {
        times_ms.sort_by(f64::total_cmp);
        let at = |percent: usize| times_ms.get((times_ms.len() * percent).div_ceil(100).max(1) - 1).copied();
        Self { p50: at(50), p90: at(90), p99: at(99) }
    }
}

/// When one answer's tokens came; the first in milliseconds since it was asked for.
#[derive(Debug, Default)]
struct Times {
    prompt_tokens: u32,
    first_ms: Option<f64>,
    new_tokens: u32,
    /// From each token to the next.
    steps_ms: Vec<f64>,
}

/// `GET /bench?n=4&max_new_tokens=64&model=ID`: asks `n` questions of a model at once and tells how the tokens came. What others ask meanwhile is
/// measured with it.
pub(crate) async fn run<A: Engaged>(shared: Arc<Shared<A>>, query: &str) -> Result<Response, ApiError> {
    let questions = number(query, "n", 1, MOST_QUESTIONS)?.unwrap_or(1);
    let most = shared.most_requests();
    if questions as usize > most {
        let message =
            format!("n is {questions}, expected at most {most}: --max-requests allows no more at the same time");
        return Err(ApiError::invalid("n", message));
    }
    let max_new_tokens = number(query, "max_new_tokens", 1, MOST_TOKENS)?.unwrap_or(64);
    let begin = Instant::now();
    let model = shared.model_of(text_value(query, "model").as_deref())?;
    let asked = (0..questions).map(|index| model.ask(question(index, max_new_tokens)));
    let asked = asked.collect::<Result<Vec<_>, _>>()?;
    let answers = join_all(asked.into_iter().map(|answer| follow(answer, begin))).await;
    let elapsed_ms = milliseconds(begin);
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let new_tokens = answers.iter().map(|times| times.new_tokens).sum();
    let firsts = answers.iter().filter_map(|times| times.first_ms);
    let steps = answers.iter().flat_map(|times| times.steps_ms.iter().copied());
    Ok(Json(Report {
        model: model.id().to_owned(),
        questions,
        max_new_tokens,
        prompt_tokens: answers.iter().map(|times| times.prompt_tokens).max().unwrap_or(0),
        new_tokens,
        elapsed_ms,
        tokens_per_second: f64::from(new_tokens) / (elapsed_ms / 1000.0),
        time_to_first_token_ms: Spread::of(firsts.collect()),
        token_ms: Spread::of(steps.collect()),
    })
    .into_response())
}

/// Others each time, so that answers differ as those of users do; the KV cache is used for none.
fn question(index: u32, max_new_tokens: u32) -> Prompt {
    let user = format!("Tell a long story about a river, a mountain and {} travellers.", index + 2);
    let sampling = Sampling { temperature: 1.0, seed: u64::from(index), ..Sampling::default() };
    Prompt { user, max_new_tokens, sampling, ..prompt(Vec::new(), String::new()) }
}

async fn follow<A>(mut answer: UnderWay<A>, begin: Instant) -> Result<Times, ApiError> {
    let mut times = Times::default();
    while let Some(event) = answer.next().await {
        match event {
            Event::PromptEncoded { tokens, .. } => times.prompt_tokens = tokens,
            Event::Token(token) => {
                times.new_tokens += 1;
                match times.first_ms {
                    None => times.first_ms = Some(milliseconds(begin)),
                    Some(_) => times.steps_ms.push(token.elapsed_ms),
                }
            }
            Event::Failed { failure, .. } => return Err(ApiError::engine(&failure)),
            _ => {}
        }
    }
    Ok(times)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_times_that_were_measured() {
        let spread = |p50, p90, p99| Spread { p50, p90, p99 };
        assert_eq!(Spread::of(Vec::new()), spread(None, None, None));
        assert_eq!(Spread::of(vec![3.0]), spread(Some(3.0), Some(3.0), Some(3.0)));
        let many = (1..=200).rev().map(f64::from).collect();
        assert_eq!(Spread::of(many), spread(Some(100.0), Some(180.0), Some(198.0)));
    }
}
