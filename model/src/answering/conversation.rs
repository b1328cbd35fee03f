//! What was said so far, and the Harmony prompt that it makes: for one question, and for a chat.

use gptoss_protocol::{self as protocol, FinishReason, Prompt, PromptFormat, Sampling};
use gptoss_text::Tokenizer;
use gptoss_text::harmony::{
    self, AssistantMessage, Channel, Conversation, DeveloperMessage, FunctionTool, Message, Renderer, SystemMessage,
    ToolMessage, ToolNamespace,
};

use super::answer::Answer;
use crate::error::EngineError;

/// A conversation. Reasoning stays in it: the renderer leaves that of completed turns out.
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    conversation: Conversation,
    questions: u64,
}

impl Chat {
    /// Nothing was asked yet. Of `prompt` it takes what shapes every answer: effort, date and instructions.
    pub fn new(prompt: &Prompt) -> Self {
        Self::with_functions(prompt, Vec::new())
    }

    /// As [`Chat::new`], with functions that the model may call.
    pub fn with_functions(prompt: &Prompt, functions: Vec<FunctionTool>) -> Self {
        let system = SystemMessage {
            current_date: prompt.date.clone(),
            effort: Some(match prompt.effort {
                protocol::Effort::Low => harmony::Effort::Low,
                protocol::Effort::Medium => harmony::Effort::Medium,
                protocol::Effort::High => harmony::Effort::High,
            }),
            ..SystemMessage::default()
        };
        let developer = DeveloperMessage {
            instructions: prompt.instructions.clone(),
            tools: ToolNamespace::functions(functions).into_iter().collect(),
        };
        let messages = vec![Message::System(system), Message::Developer(developer)];
        Self { conversation: Conversation { messages }, questions: 0 }
    }

    /// The user says `question`; an answer is due.
    pub fn ask(&mut self, question: impl Into<String>) {
        self.questions += 1;
        self.conversation.messages.push(Message::User(question.into()));
    }

    /// The model gave this answer. Of one that a stop sequence ended, only what came before it was said. An answer that says
    /// nothing takes the question with it.
    pub fn answered(&mut self, answer: &Answer) {
        let said: Vec<AssistantMessage> = match answer.reason {
            FinishReason::StopSequence => vec![AssistantMessage::new(Channel::Final, answer.final_text())],
            _ => answer.turn.messages.iter().filter_map(|message| message.to_history()).collect(),
        };
        self.said(said);
    }

    /// The answer was stopped when the user had seen `shown` of it. If that is nothing, the question goes, too.
    pub fn stopped(&mut self, shown: impl Into<String>) {
        let shown = shown.into();
        let said = (!shown.is_empty()).then(|| AssistantMessage::new(Channel::Final, shown));
        self.said(said.into_iter().collect());
    }

    /// The function `name` (without `functions.`), which the model called, gave `result`; the model goes on from there.
    pub fn function_result(&mut self, name: &str, result: impl Into<String>) {
        self.conversation.messages.push(Message::Tool(ToolMessage::function_result(name, result)));
    }

    /// A question without an answer is not part of the conversation.
    pub fn forget_question(&mut self) {
        let is_question = |message: &Message| matches!(message, Message::User(_));
        if let Some(question) = self.conversation.messages.iter().rposition(is_question) {
            self.conversation.messages.truncate(question);
        }
    }

    /// Token ids that end where the assistant begins. User text never becomes a special token.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        Renderer::default().tokens(tokenizer, &self.conversation)
    }

    /// How the next answer is drawn: `sampling`, with a seed of its own for each question.
    pub fn sampling(&self, sampling: Sampling) -> Sampling {
        Sampling { seed: sampling.seed.wrapping_add(self.questions), ..sampling }
    }

    fn said(&mut self, messages: Vec<AssistantMessage>) {
        if messages.is_empty() {
            self.forget_question();
        }
        self.conversation.messages.extend(messages.into_iter().map(Message::Assistant));
    }
}

/// Token ids of one question; as Harmony they end where the assistant begins.
pub(super) fn encode(tokenizer: &Tokenizer, prompt: &Prompt) -> Vec<u32> {
    if prompt.format == PromptFormat::Text {
        return tokenizer.encode_ordinary(&prompt.user);
    }
    let mut chat = Chat::new(prompt);
    chat.ask(prompt.user.as_str());
    chat.tokens(tokenizer)
}

/// Refuses a prompt that fills a context of `kv_capacity` tokens: an answer has to have room. `longest` is the model's own
/// context.
///
/// # Errors
/// [`EngineError::PromptTooLong`].
pub fn check_prompt_fits(
    prompt: &Prompt,
    tokenizer: &Tokenizer,
    kv_capacity: u32,
    longest: u32,
) -> Result<(), EngineError> {
    require_room_for_answer(encode(tokenizer, prompt).len() as u32, kv_capacity, longest)
}

/// As [`check_prompt_fits`], of a prompt of so many tokens.
pub(super) fn require_room_for_answer(tokens: u32, capacity: u32, longest: u32) -> Result<(), EngineError> {
    if tokens < capacity { Ok(()) } else { Err(EngineError::PromptTooLong { tokens, capacity, longest }) }
}

#[cfg(test)]
mod tests {
    use gptoss_text::harmony::Turn;

    use super::*;

    fn prompt() -> Prompt {
        Prompt { instructions: "Be brief.".into(), date: Some("2026-02-28".into()), ..Prompt::default() }
    }

    fn users(chat: &Chat) -> Vec<&str> {
        let question = |message: &'_ Message| matches!(message, Message::User(_));
        let messages = chat.conversation.messages.iter().filter(|message| question(message));
        messages.map(|message| if let Message::User(text) = message { text.as_str() } else { "" }).collect()
    }

    fn answer(reason: FinishReason, final_text: &str) -> Answer {
        let (turn, final_text) = (Turn::default(), final_text.to_owned());
        Answer { reason, tokens: Vec::new(), reused_tokens: 0, turn, junk_tokens: 0, final_text }
    }

    #[test]
    fn a_question_that_was_not_answered_is_gone() {
        let mut chat = Chat::new(&prompt());
        let before = chat.conversation.clone();
        chat.ask("One?");
        chat.stopped("");
        chat.ask("Two?");
        chat.answered(&answer(FinishReason::Return, ""));
        chat.ask("Three?");
        chat.forget_question();
        assert_eq!(chat.conversation, before);
        assert_eq!(chat.sampling(Sampling { seed: u64::MAX, ..Sampling::default() }).seed, 2, "three were asked");
    }

    #[test]
    fn a_call_that_came_to_nothing_goes_with_its_question() {
        let mut chat = Chat::new(&prompt());
        chat.ask("One?");
        chat.stopped("Yes");
        let before = chat.conversation.clone();
        chat.ask("The weather?");
        chat.said(vec![AssistantMessage::function_call("get_weather", "{}")]);
        chat.function_result("get_weather", "sun");
        chat.forget_question();
        assert_eq!(chat.conversation, before);
        assert_eq!(users(&chat), ["One?"]);
    }

    #[test]
    fn of_an_answer_that_a_stop_sequence_ended_only_what_came_before_it_was_said() {
        let mut chat = Chat::new(&prompt());
        chat.ask("Count.");
        chat.answered(&answer(FinishReason::StopSequence, "1, 2"));
        let last = chat.conversation.messages.last();
        assert_eq!(last, Some(&Message::Assistant(AssistantMessage::new(Channel::Final, "1, 2"))));
    }
}
