//! Responses that can be asked for again and gone on from: the last few, for an hour.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gptoss_protocol::ChatMessage;
use serde_json::Value;

use super::background::Background;

/// Responses that are kept at most, besides those under way.
const MOST: usize = 256;
/// Bytes that they have at most together, as JSON: one request can have 32 MiB.
const MOST_BYTES: usize = 256 << 20;
/// How long each is kept after it was made or last used.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What it takes to go on from a response.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Id of the model that wrote it.
    pub model: String,
    /// All that was said up to its end, as the model wrote it.
    pub history: Vec<ChatMessage>,
    /// What system and developer said among the items, unlike `instructions`, which are those of one response only.
    pub instructions: Vec<String>,
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

    /// About as many bytes as it takes: texts, each of which is there a second time in the history.
    fn bytes(&self) -> usize {
        let input: usize = self.input.iter().map(json_bytes).sum();
        let object = match &self.object {
            Object::Whole(object) => json_bytes(object),
            Object::Background(background) => json_bytes(&background.object()),
        };
        2 * (input + object)
    }

    fn is_under_way(&self) -> bool {
        self.background().is_some_and(|background| !background.has_ended())
    }
}

struct Entry {
    used: Instant,
    id: String,
    bytes: usize,
    stored: Stored,
}

fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 16,
        Value::String(text) => 24 + text.len(),
        Value::Array(items) => 24 + items.iter().map(json_bytes).sum::<usize>(),
        Value::Object(fields) => {
            24 + fields.iter().map(|(name, value)| 24 + name.len() + json_bytes(value)).sum::<usize>()
        }
    }
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
        let bytes = stored.bytes();
        entries.push_back(Entry { used: Instant::now(), id, bytes, stored });
        while entries.len() > MOST || entries.iter().map(|entry| entry.bytes).sum::<usize>() > MOST_BYTES {
            let Some(oldest) = entries.iter().position(|entry| !entry.stored.is_under_way()) else { return };
            entries.remove(oldest);
        }
    }

    /// An item of a response that is kept: of what it said, or of what it answered.
    pub fn item(&self, id: &str) -> Option<Value> {
        let entries = self.entries();
        let of = |entry: &Entry| {
            let found = |items: &[Value]| items.iter().find(|item| item["id"] == id).cloned();
            let said = |object: &Value| found(object["output"].as_array()?);
            found(&entry.stored.input).or_else(|| match &entry.stored.object {
                Object::Whole(object) => said(object),
                Object::Background(background) => said(&background.object()),
            })
        };
        entries.iter().rev().find_map(of)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said() -> Said {
        Said { model: "m".into(), history: Vec::new(), instructions: Vec::new(), calls: Vec::new() }
    }

    fn keep(store: &Store, id: &str, text: &str) {
        let object = json!({"id": id, "output": [{"id": format!("msg_{id}"), "text": text}]});
        store.keep(id.into(), object, vec![json!({"id": format!("in_{id}")})], said());
    }

    #[test]
    fn the_last_ones_are_kept_by_number_and_by_size() {
        let store = Store::default();
        for number in 0..MOST {
            keep(&store, &number.to_string(), "a");
        }
        assert!(store.recall("0").is_some(), "it is used, and is the last to go now");
        keep(&store, "new", "a");
        assert!(store.recall("1").is_none() && store.recall("0").is_some() && store.recall("2").is_some());
        // Two that are large leave no room for the others.
        let large = "x".repeat(MOST_BYTES / 5);
        keep(&store, "large", &large);
        keep(&store, "larger", &large);
        assert!(store.recall("large").is_some() && store.recall("larger").is_some() && store.recall("2").is_some());
        keep(&store, "largest", &large);
        assert!(store.recall("largest").is_some());
        let bytes: usize = store.entries().iter().map(|entry| entry.bytes).sum();
        assert!(bytes <= MOST_BYTES && store.entries().len() < 10, "{bytes} bytes, {}", store.entries().len());
    }

    #[test]
    fn items_are_found_by_their_ids_until_their_response_is_forgotten() {
        let store = Store::default();
        keep(&store, "a", "said");
        assert_eq!(store.item("msg_a").expect("an item")["text"], "said");
        assert_eq!(store.item("in_a"), Some(json!({"id": "in_a"})));
        assert_eq!(store.item("msg_b"), None);
        assert!(store.forget("a").is_some() && store.forget("a").is_none() && store.item("msg_a").is_none());
    }
}
