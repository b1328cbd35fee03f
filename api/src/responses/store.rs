//! Responses that can be asked for again and gone on from: the last few, for an hour.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gptoss_protocol::ChatMessage;
use serde_json::Value;

use super::background::Background;

/// Responses that are kept at most, besides those under way.
const MOST: usize = 256;
/// How long each is kept after it was made or last used.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What it takes to go on from a response.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Id of the model that wrote it.
    pub model: String,
    /// All that was said up to its end, as the model wrote it.
    pub history: Vec<ChatMessage>,
    /// Ids of the calls in it, with the function of each.
    pub calls: Vec<(String, String)>,
}

impl Said {
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

/// The response object: a whole one, or one that is asked of whoever writes it.
#[derive(Clone, Debug)]
enum Object {
    Whole(Value),
    Background(Arc<Background>),
}

/// A response that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    object: Object,
    /// Items that were its input, without those of responses before it.
    pub input: Vec<Value>,
    /// `None` for one that is under way, or that ended otherwise than with an answer.
    pub said: Option<Said>,
}

impl Stored {
    /// The response, as it stands.
    pub fn object(&self) -> Value {
        match &self.object {
            Object::Whole(object) => object.clone(),
            Object::Background(background) => background.object(),
        }
    }

    /// Who writes it, or wrote it, if that was done in the background.
    pub fn background(&self) -> Option<&Arc<Background>> {
        match &self.object {
            Object::Whole(_) => None,
            Object::Background(background) => Some(background),
        }
    }

    fn is_under_way(&self) -> bool {
        self.background().is_some_and(|background| !background.has_ended())
    }
}

struct Entry {
    used: Instant,
    id: String,
    stored: Stored,
}

/// The last responses, the one that was used last at the end.
#[derive(Default)]
pub(crate) struct Store {
    entries: Mutex<VecDeque<Entry>>,
}

impl Store {
    /// Keeps a whole response.
    pub fn keep(&self, id: String, object: Value, input: Vec<Value>, said: Said) {
        self.push(id, Stored { object: Object::Whole(object), input, said: Some(said) });
    }

    /// Keeps a response that is written in the background.
    pub fn keep_under_way(&self, id: String, input: Vec<Value>, background: Arc<Background>) {
        self.push(id, Stored { object: Object::Background(background), input, said: None });
    }

    /// Others can go on from a response that was under way, unless it was forgotten meanwhile.
    pub fn keep_said(&self, id: &str, said: Said) {
        if let Some(entry) = self.entries().iter_mut().find(|entry| entry.id == id) {
            entry.stored.said = Some(said);
            entry.used = Instant::now();
        }
    }

    fn push(&self, id: String, stored: Stored) {
        let mut entries = self.entries();
        entries.push_back(Entry { used: Instant::now(), id, stored });
        if entries.len() > MOST
            && let Some(oldest) = entries.iter().position(|entry| !entry.stored.is_under_way())
        {
            entries.remove(oldest);
        }
    }

    /// A response that is kept.
    pub fn recall(&self, id: &str) -> Option<Stored> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.used.elapsed() < LIFETIME || entry.stored.is_under_way());
        let at = entries.iter().position(|entry| entry.id == id)?;
        let entry = entries.remove(at)?;
        let stored = entry.stored.clone();
        entries.push_back(Entry { used: Instant::now(), ..entry });
        Some(stored)
    }

    /// Forgets a response; gives it, if there was one.
    pub fn forget(&self, id: &str) -> Option<Stored> {
        let mut entries = self.entries();
        let at = entries.iter().position(|entry| entry.id == id)?;
        entries.remove(at).map(|entry| entry.stored)
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
