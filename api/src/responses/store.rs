//! Responses that can be asked for again and gone on from: the last few, for an hour.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gptoss_protocol::ChatMessage;
use serde_json::Value;

/// Responses that are kept at most.
const MOST: usize = 256;
/// How long each is kept after it was made or last used.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A response with what it takes to go on from it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Id of the model that wrote it.
    pub model: String,
    pub object: Value,
    /// Items that were its input, without those of responses before it.
    pub input: Vec<Value>,
    /// All that was said up to its end, as the model wrote it.
    pub history: Vec<ChatMessage>,
    /// Ids of the calls in it, with the function of each.
    pub calls: Vec<(String, String)>,
}

impl Stored {
    /// The history for this model: what another one wrote goes to it as text, since tokens are those of a vocabulary.
    pub fn history_for(&self, model: &str) -> Vec<ChatMessage> {
        let mut history = self.history.clone();
        if self.model != model {
            for message in &mut history {
                if let ChatMessage::Assistant { tokens, .. } = message {
                    *tokens = None;
                }
            }
        }
        history
    }
}

/// The last responses.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: Mutex<VecDeque<(Instant, String, Stored)>>,
}

impl Store {
    /// Keeps a response.
    pub fn keep(&self, id: String, stored: Stored) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push_back((Instant::now(), id, stored));
        if entries.len() > MOST {
            entries.pop_front();
        }
    }

    /// A response that is kept.
    pub fn recall(&self, id: &str) -> Option<Stored> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(since, ..)| since.elapsed() < LIFETIME);
        let at = entries.iter().position(|(_, known, _)| known == id)?;
        let (_, id, stored) = entries.remove(at)?;
        entries.push_back((Instant::now(), id, stored.clone()));
        Some(stored)
    }

    /// Forgets a response; `false` if there was none.
    pub fn forget(&self, id: &str) -> bool {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let before = entries.len();
        entries.retain(|(_, known, _)| known != id);
        entries.len() < before
    }
}
