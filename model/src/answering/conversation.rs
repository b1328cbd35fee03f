//! The Harmony prompt that a question and what was said before it make, and the way back: the model's messages for the wire.

use gptoss_protocol::{self as protocol, ChatMessage, Prompt, PromptFormat};
use gptoss_text::Tokenizer;
use gptoss_text::harmony::{
    self, AssistantMessage, Channel, ContentType, Conversation, DeveloperMessage, FunctionTool, Message, Renderer,
    ResponseFormat, SystemMessage, ToolMessage, ToolNamespace,
};

use crate::error::EngineError;

/// Token ids of a prompt; as Harmony they end where the assistant begins. Reasoning of completed turns is left out by the renderer.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &Prompt) -> Vec<u32> {
    match prompt.format {
        PromptFormat::Harmony => Renderer::default().tokens(tokenizer, &conversation(prompt)),
        PromptFormat::Text => tokenizer.encode_ordinary(&prompt.user),
        PromptFormat::Raw => tokenizer.encode_with_specials(&prompt.user),
        PromptFormat::Tokens => prompt.ids.prompt.clone(),
    }
}

fn conversation(prompt: &Prompt) -> Conversation {
    let system = SystemMessage {
        current_date: prompt.date.clone(),
        effort: Some(match prompt.effort {
            protocol::Effort::Low => harmony::Effort::Low,
            protocol::Effort::Medium => harmony::Effort::Medium,
            protocol::Effort::High => harmony::Effort::High,
        }),
        ..SystemMessage::default()
    };
    let functions = prompt.functions.iter().cloned().map(|function| FunctionTool {
        name: function.name,
        description: function.description,
        parameters: function.parameters,
    });
    let developer = DeveloperMessage {
        instructions: prompt.instructions.clone(),
        tools: ToolNamespace::functions(functions.collect()).into_iter().collect(),
        response_formats: prompt.response_format.iter().map(|format| response_format(format)).collect(),
    };
    let mut messages = vec![Message::System(system), Message::Developer(developer)];
    messages.extend(prompt.history.iter().map(harmony_message));
    // After the result of a function the model goes on by itself, and after instructions alone it begins.
    let is_begun = !prompt.history.is_empty() || !prompt.instructions.is_empty();
    if !prompt.user.is_empty() || !is_begun {
        messages.push(Message::User(prompt.user.clone()));
    }
    Conversation { messages }
}

fn response_format(format: &protocol::ResponseFormat) -> ResponseFormat {
    let protocol::ResponseFormat { name, description, schema } = format.clone();
    ResponseFormat { name, description, schema }
}

const CONSTRAIN: &str = "<|constrain|>";

fn harmony_message(message: &ChatMessage) -> Message {
    match message.clone() {
        ChatMessage::User { text } => Message::User(text),
        ChatMessage::Developer { text } => {
            Message::Developer(DeveloperMessage { instructions: text, ..DeveloperMessage::default() })
        }
        ChatMessage::Assistant { channel, recipient, content_type, text, tokens } => {
            Message::Assistant(AssistantMessage {
                channel: channel.map(|name| Channel::from_name(&name)),
                recipient,
                content_type: content_type.map(|name| match name.strip_prefix(CONSTRAIN) {
                    Some(name) => ContentType { name: name.to_owned(), constrained: true },
                    None => ContentType { name, constrained: false },
                }),
                text,
                exact_tokens: tokens,
            })
        }
        ChatMessage::FunctionResult { name, result } => Message::Tool(ToolMessage::function_result(&name, result)),
    }
}

/// Puts a message of the model into the form that travels on the wire.
pub(super) fn chat_message(message: AssistantMessage) -> ChatMessage {
    let AssistantMessage { channel, recipient, content_type, text, exact_tokens } = message;
    ChatMessage::Assistant {
        channel: channel.map(|channel| channel.name().to_owned()),
        recipient,
        content_type: content_type
            .map(|ContentType { name, constrained }| if constrained { format!("{CONSTRAIN}{name}") } else { name }),
        text,
        tokens: exact_tokens,
    }
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
    require_room_for_answer(encode_prompt(tokenizer, prompt).len() as u32, kv_capacity, longest)
}

/// Does what [`check_prompt_fits`] does for a prompt of so many tokens.
///
/// # Errors
/// [`EngineError::PromptTooLong`].
pub fn require_room_for_answer(tokens: u32, capacity: u32, longest: u32) -> Result<(), EngineError> {
    if tokens < capacity { Ok(()) } else { Err(EngineError::PromptTooLong { tokens, capacity, longest }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_comes_before_the_question_and_survives_the_wire() {
        let call = AssistantMessage::function_call("get_weather", "{}");
        let thought =
            AssistantMessage { exact_tokens: Some(vec![5, 7]), ..AssistantMessage::new(Channel::Analysis, "Hm.") };
        let odd = AssistantMessage { channel: None, ..AssistantMessage::new(Channel::Final, "It is warm.") };
        let mut history = vec![ChatMessage::User { text: "The weather?".into() }];
        history.extend([thought.clone(), call.clone()].map(chat_message));
        history.push(ChatMessage::FunctionResult { name: "get_weather".into(), result: "sun".into() });
        let goes_on = Prompt { history: history.clone(), ..Prompt::default() };
        let messages = conversation(&goes_on).messages;
        let result = Message::Tool(ToolMessage::function_result("get_weather", "sun"));
        let said =
            [Message::User("The weather?".into()), Message::Assistant(thought), Message::Assistant(call), result];
        assert_eq!(messages[2..], said, "nobody asks: the model goes on after the function's result");
        history.push(chat_message(odd.clone()));
        let asked = conversation(&Prompt { history, user: "Sure?".into(), ..Prompt::default() }).messages;
        assert_eq!(asked[6..], [Message::Assistant(odd), Message::User("Sure?".into())]);
    }
}
