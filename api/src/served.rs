//! The turns that this server served last, token by token. A client sends back what was said as text; written anew from that text
//! it would not be what the model wrote (header order, spaces, `<|constrain|>`), and the KV cache could not be used for it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use gptoss_protocol::ChatMessage;

/// Turns that are kept.
const MOST: usize = 256;

/// What a client can say of a turn: its visible text, and calls by id, name and arguments.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub(crate) struct Sketch {
    pub text: String,
    pub calls: Vec<(String, String, String)>,
}

/// The last turns by their sketches.
#[derive(Debug, Default)]
pub(crate) struct Served {
    turns: Mutex<VecDeque<(u64, Vec<ChatMessage>)>>,
}

impl Sketch {
    /// Whether a turn may be told by it. The ids of calls are known to whoever was told them. Texts are anybody's: by a text alone
    /// a turn is told only if it ended with its answer, since its reasoning is never read again then. One that was cut before that
    /// would bring the reasoning of one client into the conversation of another who says the same.
    fn tells(&self, messages: &[ChatMessage]) -> bool {
        let is_answer = |message: &ChatMessage| matches!(message, ChatMessage::Assistant { channel: Some(channel), .. } if channel == "final");
        !self.calls.is_empty() || !self.text.is_empty() && messages.last().is_some_and(is_answer)
    }
}

impl Served {
    /// Keeps what the model wrote, if it can be told by what was visible of it.
    pub fn remember(&self, sketch: &Sketch, messages: &[ChatMessage]) {
        if messages.is_empty() || !sketch.tells(messages) {
            return;
        }
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|(known, _)| *known != key(sketch));
        turns.push_back((key(sketch), messages.to_vec()));
        if turns.len() > MOST {
            turns.pop_front();
        }
    }

    /// What the model wrote, if it was this server's and is known still.
    pub fn recall(&self, sketch: &Sketch) -> Option<Vec<ChatMessage>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let at = turns.iter().position(|(known, _)| *known == key(sketch))?;
        // The one that was used last is forgotten last.
        let turn = turns.remove(at)?;
        turns.push_back(turn.clone());
        Some(turn.1)
    }
}

fn key(sketch: &Sketch) -> u64 {
    let mut hasher = DefaultHasher::new();
    sketch.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_known_by_all_that_was_said_and_the_oldest_is_forgotten() {
        let served = Served::default();
        let sketch =
            |text: &str, id: &str| Sketch { text: text.into(), calls: vec![(id.into(), "f".into(), "{}".into())] };
        served.remember(&sketch("a", "1"), &[ChatMessage::said("first")]);
        served.remember(&sketch("a", "2"), &[ChatMessage::said("second")]);
        assert_eq!(served.recall(&sketch("a", "1")), Some(vec![ChatMessage::said("first")]));
        assert_eq!(served.recall(&sketch("b", "1")), None);
        for number in 0..MOST - 1 {
            served.remember(&sketch("a", &format!("more {number}")), &[ChatMessage::said("more")]);
        }
        assert_eq!(served.recall(&sketch("a", "2")), None, "it was used before the first");
        assert!(served.recall(&sketch("a", "1")).is_some());
        // A turn of which nothing was visible could be anybody's.
        served.remember(&Sketch::default(), &[ChatMessage::said("secret")]);
        assert_eq!(served.recall(&Sketch::default()), None);
        // Nor does a text tell a turn that was cut before its answer; one that came to it is told by it.
        let on = |channel: &str| {
            let (channel, text) = (Some(channel.to_owned()), "I look.".to_owned());
            ChatMessage::Assistant { channel, recipient: None, content_type: None, text, tokens: None }
        };
        let text = Sketch { text: "I look.".into(), calls: Vec::new() };
        served.remember(&text, &[on("analysis"), on("commentary")]);
        assert_eq!(served.recall(&text), None);
        served.remember(&text, &[on("analysis"), on("final")]);
        assert_eq!(served.recall(&text), Some(vec![on("analysis"), on("final")]));
        served.remember(&sketch("b", "1"), &[]);
        assert_eq!(served.recall(&sketch("b", "1")), None, "nothing was said");
    }
}
