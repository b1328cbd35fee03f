//! An answer under way: pieces as they come, and how it ended.

use std::sync::Arc;

use axum::http::StatusCode;
use gptoss_protocol::{ChatMessage, Event, Prompt};

use crate::engine::UnderWay;
use crate::error::ApiError;
use crate::models::Model;
use crate::record::{PendingRecord, current};
use crate::said::{End, Ending, Piece, Said, Usage};
use crate::server::Engaged;

/// The answer to one request. Dropping it stops the engine.
pub(crate) struct Answering<A> {
    under_way: UnderWay<A>,
    said: Said,
    /// Pieces that came before anybody could be told.
    ahead: Option<Vec<Piece>>,
    /// Is told of the tokens.
    record: Option<Arc<PendingRecord>>,
}

/// Begins to answer. Ends once it is known that there will be an answer, so that a prompt that cannot be answered has a status of
/// its own; or once it is known that it waits for others.
pub(crate) async fn begin<A: Engaged>(model: &Model<A>, prompt: Prompt) -> Result<Answering<A>, ApiError> {
    let offered = prompt.functions.iter().map(|function| function.name.clone()).collect();
    let under_way = model.ask(prompt)?;
    let mut answering = Answering { under_way, said: Said::of(offered), ahead: None, record: current() };
    while let Some(event) = answering.under_way.next().await {
        let is_under_way =
            matches!(event, Event::Queued { .. } | Event::Prefill { .. } | Event::Token(_) | Event::Finished { .. });
        let pieces = answering.follow(event);
        if is_under_way {
            answering.ahead = Some(pieces);
            return Ok(answering);
        }
    }
    Err(answering.end(|_| {}).err().unwrap_or_else(|| ApiError::internal("the engine ended without an answer")))
}

impl<A> Answering<A> {
    /// What comes next; `None` once it has ended.
    pub async fn next(&mut self) -> Option<Vec<Piece>> {
        if let Some(ahead) = self.ahead.take() {
            return Some(ahead);
        }
        let event = self.under_way.next().await?;
        Some(self.follow(event))
    }

    fn follow(&mut self, event: Event) -> Vec<Piece> {
        let pieces = self.said.follow(event);
        if let Some(record) = &self.record {
            record.used(self.said.usage());
        }
        pieces
    }

    /// Tokens up to here.
    pub fn usage(&self) -> Usage {
        self.said.usage()
    }

    /// Tokens, and how it ended.
    pub fn into_ending(self) -> (Usage, Ending) {
        (self.said.usage(), self.said.into_ending())
    }

    /// Tokens, and why nothing follows; `keep` is given what the answer adds to a conversation.
    ///
    /// # Errors
    /// There is no answer.
    pub fn end(self, keep: impl FnOnce(&[ChatMessage])) -> Result<(Usage, End), ApiError> {
        let (usage, ending) = self.into_ending();
        match ending {
            Ending::Finished { end, messages } => {
                keep(&messages);
                Ok((usage, end))
            }
            ending => Err(error_of(&ending)),
        }
    }
}

/// An ending that is no answer, as an error.
pub(crate) fn error_of(ending: &Ending) -> ApiError {
    match ending {
        Ending::Failed(failure) => ApiError::engine(failure),
        Ending::Stopped => ApiError {
            code: Some("server_shutting_down"),
            ..ApiError::refused(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down, and stopped this answer")
        },
        Ending::Finished { .. } => ApiError::internal("the answer has ended"),
        Ending::Junk(tokens) => ApiError::internal(format!(
            "this is no answer: {tokens} tokens in a row belong to no message. The file may be damaged; `pylon gguf verify` looks \
             closer"
        )),
        Ending::Vanished => ApiError::internal("the engine has ended; start the server again"),
    }
}
