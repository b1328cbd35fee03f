//! From a question to an answer: Harmony prompt, prefill, decode, and the typed stream of what the model says.

use std::rc::Rc;

use gptoss_protocol::{self as protocol, ChatMessage, Event, FinishReason, LogitChanges, Prompt, PromptFormat, Stage};
use gptoss_text::Tokenizer;
use gptoss_text::harmony::Turn;

use super::answers::Answers;
use super::conversation::{chat_message, encode_prompt};
use super::restriction::{Restriction, Restrictions};
use super::sampling::Sampler;
use super::speech::Reading;
use crate::backend::Backend;
use crate::error::{EngineError, StageError};
use crate::host::{Host, in_stage_now};
use crate::sequences::SequenceId;

/// A loaded model and its tokenizer: ready to answer.
pub struct Engine<B> {
    /// What computes: it holds the weights and all sequences.
    pub model: B,
    /// Tokenizer of the model's own file.
    pub tokenizer: Tokenizer,
    /// What holds answers to a shape; `None`: a prompt that asks for one is refused.
    pub restrictions: Option<Rc<dyn Restrictions>>,
    /// Sequences that answers were given in, the most recently used last: what they hold need not be read again.
    conversations: Vec<SequenceId>,
}

/// When an answer ends, besides by the model's own word, and how it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerLimits {
    /// The answer ends once it has so many tokens, those of reasoning included.
    pub max_new_tokens: u32,
    /// Texts that end the answer when they appear on the final channel; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer, beside those that end every answer.
    pub stop_tokens: Vec<u32>,
    /// As many of the most likely tokens are told with each token; `None`: five.
    pub top_tokens: Option<u32>,
    /// How the tokens are read: only as Harmony do they have channels.
    pub reading: Reading,
    /// Whether the answer goes on in a sequence that holds the beginning of the prompt, instead of reading all of it.
    pub reuse_prefix: bool,
}

impl AnswerLimits {
    /// The limits that a prompt asks for. What the KV cache holds is used where there is a history, or may be one among tokens:
    /// single questions are answered, and measured, from an empty sequence.
    pub fn of(prompt: &Prompt) -> Self {
        Self {
            max_new_tokens: prompt.max_new_tokens,
            stop: prompt.stop.clone(),
            stop_tokens: prompt.ids.stop.clone(),
            top_tokens: prompt.top_tokens,
            reading: match prompt.format {
                PromptFormat::Harmony => Reading::Harmony,
                PromptFormat::Text | PromptFormat::Tokens => Reading::Text,
                PromptFormat::Raw => Reading::Raw,
            },
            reuse_prefix: !prompt.history.is_empty() || prompt.format == PromptFormat::Tokens,
        }
    }
}

/// A finished answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Why nothing comes after the last token.
    pub reason: FinishReason,
    /// The generated tokens, the one that ended the answer included.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt that were in the KV cache already.
    pub reused_tokens: u32,
    /// What was said, by channel; whole, also when a stop sequence ended it. Empty unless it was read as Harmony.
    pub turn: Turn,
    /// Tokens in a row that said nothing on any channel, where they are too many for a header: then this is no answer, whatever
    /// was made of them. Else 0.
    pub junk_tokens: u32,
    pub(super) final_text: String,
}

impl Answer {
    /// Text of the final channel, or all text that was not read as Harmony, up to a stop sequence.
    pub fn final_text(&self) -> &str {
        &self.final_text
    }

    /// The tools that it calls.
    pub fn tool_calls(&self) -> Vec<protocol::ToolCall> {
        let calls = self.turn.tool_calls();
        calls.map(|call| protocol::ToolCall { name: call.name, arguments: call.arguments }).collect()
    }

    /// What it adds to the history of a conversation. If a stop sequence ended the answer, only what came before it was
    /// said.
    pub fn messages(&self) -> Vec<ChatMessage> {
        match self.reason {
            FinishReason::StopSequence if self.final_text.is_empty() => Vec::new(),
            FinishReason::StopSequence => vec![ChatMessage::said(self.final_text.as_str())],
            _ => self.turn.messages.iter().filter_map(|message| Some(chat_message(message.to_history()?))).collect(),
        }
    }
}

/// Refuses tokens that are not in the vocabulary.
///
/// # Errors
/// [`EngineError::Token`] with the first of them.
pub fn check_tokens<'t>(tokenizer: &Tokenizer, tokens: impl IntoIterator<Item = &'t u32>) -> Result<(), EngineError> {
    let vocabulary = tokenizer.vocab_size() as u32;
    match tokens.into_iter().find(|token| **token >= vocabulary) {
        Some(&id) => Err(EngineError::Token { id, vocabulary }),
        None => Ok(()),
    }
}

impl<B: Backend> Engine<B> {
    /// An engine around a model that is loaded already.
    pub fn new(model: B, tokenizer: Tokenizer) -> Self {
        Self { model, tokenizer, restrictions: None, conversations: Vec::new() }
    }

    /// Number of tokens that the most recently used sequence holds; 0 before the first answer.
    pub fn position(&self) -> u32 {
        self.conversations.last().map_or(0, |sequence| self.model.position(*sequence))
    }

    /// The tokens of a prompt; as Harmony they end where the assistant begins. User text never becomes a special token, unless
    /// the format is [`PromptFormat::Raw`].
    pub fn encode(&self, prompt: &Prompt) -> Vec<u32> {
        encode_prompt(&self.tokenizer, prompt)
    }

    /// Answers one prompt. What the KV cache holds of its beginning is not read again if it has a history.
    ///
    /// # Errors
    /// Sampling that cannot be done, a prompt without room for an answer, STOP, and what the backend fails with; with the stage.
    pub async fn answer(&mut self, prompt: &Prompt, host: &dyn Host) -> Result<Answer, StageError> {
        let (tokens, sampler, limits) = self.read_prompt(prompt, host)?;
        self.answer_tokens(&tokens, sampler, &limits, host).await
    }

    /// The stage in which a prompt becomes tokens.
    ///
    /// # Errors
    /// Sampling that cannot be done, and STOP.
    pub(super) fn read_prompt(
        &self,
        prompt: &Prompt,
        host: &dyn Host,
    ) -> Result<(Vec<u32>, Sampler, AnswerLimits), StageError> {
        in_stage_now(host, Stage::PromptEncode, || {
            let restriction = self.restriction(prompt)?;
            let sampler = Sampler::new(prompt.sampling)?.with_changes(self.checked(&prompt.logits)?);
            let sampler = sampler.with_restriction(restriction);
            let tokens = self.encode(prompt);
            check_tokens(&self.tokenizer, &tokens)?;
            host.emit(Event::PromptEncoded { tokens: tokens.len() as u32, context_tokens: self.model.kv_capacity() });
            Ok((tokens, sampler, AnswerLimits::of(prompt)))
        })
    }

    fn restriction(&self, prompt: &Prompt) -> Result<Option<Box<dyn Restriction>>, EngineError> {
        let Some(shape) = &prompt.shape else { return Ok(None) };
        let refused = |reason: &str| EngineError::Shape { reason: reason.into() };
        if prompt.format != PromptFormat::Harmony {
            return Err(refused("only conversations have shapes"));
        }
        let restrictions = self.restrictions.as_ref().ok_or_else(|| refused("there are no grammars here"))?;
        restrictions.begin(shape).map(Some)
    }

    /// Changes of logits, if all of them are of tokens of this vocabulary.
    fn checked(&self, changes: &LogitChanges) -> Result<LogitChanges, EngineError> {
        check_tokens(&self.tokenizer, changes.bias.iter().map(|(token, _)| token))?;
        Ok(changes.clone())
    }

    /// Continues token ids that end where the assistant begins.
    ///
    /// # Errors
    /// The errors are those of [`Engine::answer`].
    pub async fn answer_tokens(
        &mut self,
        prompt: &[u32],
        sampler: Sampler,
        limits: &AnswerLimits,
        host: &dyn Host,
    ) -> Result<Answer, StageError> {
        let mut answers = Answers::default();
        answers.begin(self, 0, (prompt.to_vec(), sampler, limits.clone()), Rc::new(host))?;
        loop {
            if let Some(ended) = answers.step(self, host).await.pop() {
                return ended.result;
            }
        }
    }

    /// A sequence for these tokens that is not among `busy` ones: of those that were used, the one that holds most of their
    /// beginning, if that is wanted; else a new one, or the one that was not used for longest.
    ///
    /// # Errors
    /// All sequences that there can be are busy.
    pub(super) fn sequence_for(
        &mut self,
        tokens: &[u32],
        reuse_prefix: bool,
        busy: &[SequenceId],
    ) -> Result<SequenceId, EngineError> {
        let common = |id: &SequenceId| {
            let held = self.model.tokens(*id);
            held.iter().zip(tokens).take_while(|(held, wanted)| held == wanted).count()
        };
        let idle = || self.conversations.iter().copied().filter(|id| !busy.contains(id));
        let similar = idle().map(|id| (common(&id), id)).filter(|(common, _)| reuse_prefix && *common > 0);
        let similar = similar.max_by_key(|(common, _)| *common);
        let oldest = idle().next();
        let sequence = match similar {
            // What it holds beyond the prompt stays for whoever goes on there, as long as there is another sequence.
            Some((common, similar)) if common < self.model.position(similar) as usize => {
                self.model.fork(similar).unwrap_or(similar)
            }
            Some((_, similar)) => similar,
            None => match self.model.open() {
                Ok(opened) => opened,
                Err(error) => oldest.ok_or(error)?,
            },
        };
        self.conversations.retain(|id| *id != sequence);
        self.conversations.push(sequence);
        Ok(sequence)
    }

    /// Forgets the sequence that was not used for longest and is not among `busy` ones; `false` if there is none.
    pub(super) fn forget_oldest(&mut self, busy: &[SequenceId]) -> bool {
        let Some(at) = self.conversations.iter().position(|id| !busy.contains(id)) else { return false };
        self.model.close(self.conversations.remove(at));
        true
    }
}
