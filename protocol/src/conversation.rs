//! What was said before a question: the history that travels with a prompt, and how a conversation grows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::{Prompt, Sampling};

/// One message of a conversation's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatMessage {
    /// The user said this.
    User {
        /// Plain text: it never becomes a special token.
        text: String,
    },
    /// Whoever runs the conversation said this in its course. What stands at its beginning is [`crate::Prompt::instructions`].
    Developer {
        /// Plain text, as instructions are.
        text: String,
    },
    /// The model said this, as [`crate::Event::Finished`] told it.
    Assistant {
        /// Name of the Harmony channel (`analysis`, `commentary`, `final`), if the header named one.
        channel: Option<String>,
        /// Full name of the tool that is called, such as `functions.get_weather`.
        recipient: Option<String>,
        /// What kind of text it is, with `<|constrain|>` where that announced it: `<|constrain|>json`.
        content_type: Option<String>,
        /// The message without its header.
        text: String,
        /// The tokens that the model wrote, header included. Where they are known they are used instead of the fields above, so
        /// that the model meets its own words unchanged.
        #[serde(default)]
        tokens: Option<Vec<u32>>,
    },
    /// A function that the model called gave this.
    FunctionResult {
        /// The function's name, without `functions.`.
        name: String,
        /// What it returned, as text.
        result: String,
    },
}

impl ChatMessage {
    /// Whether the model is to answer it: everybody's words but its own.
    pub fn asks(&self) -> bool {
        !matches!(self, Self::Assistant { .. })
    }

    /// The model's answer, as a user would type it in.
    pub fn said(text: impl Into<String>) -> Self {
        let channel = Some("final".to_owned());
        Self::Assistant { channel, recipient: None, content_type: None, text: text.into(), tokens: None }
    }
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// Its name, without `functions.`.
    pub name: String,
    /// What it is good for, in words for the model.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of its arguments; `None` for a function that takes none.
    #[serde(default)]
    pub parameters: Option<Value>,
}

/// A conversation on its way: everything that shapes its answers, and what was said so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    prompt: Prompt,
    questions: u64,
}

impl Chat {
    /// A conversation in which nothing was asked yet. `prompt` has what shapes every answer; its own question is left out.
    pub fn new(prompt: &Prompt) -> Self {
        Self { prompt: Prompt { user: String::new(), ..prompt.clone() }, questions: 0 }
    }

    /// The prompt for a question, which is part of the conversation from here on. Every question is drawn with a seed of its own.
    pub fn ask(&mut self, question: impl Into<String>) -> Prompt {
        self.questions += 1;
        let user = question.into();
        let seed = self.prompt.sampling.seed.wrapping_add(self.questions);
        let asked =
            Prompt { user: user.clone(), sampling: Sampling { seed, ..self.prompt.sampling }, ..self.prompt.clone() };
        self.prompt.history.push(ChatMessage::User { text: user });
        asked
    }

    /// The model said these messages. An answer that says nothing takes its question with it.
    pub fn answered(&mut self, messages: impl IntoIterator<Item = ChatMessage>) {
        let before = self.prompt.history.len();
        self.prompt.history.extend(messages);
        if self.prompt.history.len() == before {
            self.forget_question();
        }
    }

    /// The answer was stopped when the user had seen `shown` of it. If that is nothing, the question goes, too.
    pub fn stopped(&mut self, shown: &str) {
        self.answered((!shown.is_empty()).then(|| ChatMessage::said(shown)));
    }

    /// The last question and all that came after it was never said.
    pub fn forget_question(&mut self) {
        let is_question = |message: &ChatMessage| matches!(message, ChatMessage::User { .. });
        if let Some(question) = self.prompt.history.iter().rposition(is_question) {
            self.prompt.history.truncate(question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat() -> Chat {
        let sampling = Sampling { seed: u64::MAX, ..Sampling::default() };
        Chat::new(&Prompt { user: "left out".into(), instructions: "Be brief.".into(), sampling, ..Prompt::default() })
    }

    #[test]
    fn a_question_comes_with_what_was_said_before_it() {
        let mut chat = chat();
        let first = chat.ask("One?");
        assert_eq!((first.user.as_str(), first.history.len(), first.sampling.seed), ("One?", 0, 0));
        chat.answered([ChatMessage::said("Yes.")]);
        let second = chat.ask("Two?");
        let said = [ChatMessage::User { text: "One?".into() }, ChatMessage::said("Yes.")];
        assert_eq!((second.user.as_str(), &second.history[..], second.sampling.seed), ("Two?", &said[..], 1));
        assert_eq!(second.instructions, "Be brief.");
    }

    #[test]
    fn a_question_that_was_not_answered_is_gone() {
        let mut chat = chat();
        chat.ask("One?");
        chat.stopped("");
        chat.ask("Two?");
        chat.answered([]);
        chat.ask("Three?");
        chat.forget_question();
        assert_eq!(chat.prompt.history, []);
        assert_eq!(chat.ask("Four?").sampling.seed, 3, "the seeds go on");
    }

    #[test]
    fn a_call_that_came_to_nothing_goes_with_its_question() {
        let mut chat = chat();
        chat.ask("One?");
        chat.stopped("Yes");
        let before = chat.prompt.history.clone();
        chat.ask("The weather?");
        chat.answered([ChatMessage::FunctionResult { name: "get_weather".into(), result: "sun".into() }]);
        chat.forget_question();
        assert_eq!(chat.prompt.history, before);
    }
}
