//! The chat: turns with their channels told apart, every token with what it was drawn from.

pub mod file;
pub mod markdown;

use std::hash::{DefaultHasher, Hash, Hasher};

use gptoss_protocol::{Channel, ChatMessage, FinishReason, TokenInfo};

use self::markdown::{Tokens, blocks};
use crate::action::Action;
use crate::describe::{channel_name, experiment, stream_note};
use crate::format;
use crate::state::{Answer, Phase, Question, Said, State};
use crate::view::{Element, Node, element};

/// What the user has chosen to see of the chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Turn whose question is being written anew.
    pub editing: Option<usize>,
    /// Tokens are coloured by how unexpected they were.
    pub tinted: bool,
}

/// Below this probability a token is marked as unsure.
const UNSURE_BELOW: f32 = 0.5;

/// Whether an element with a key stands there in a version.
pub type Stands<'a> = &'a dyn Fn(&str, &str) -> bool;

/// Every turn of the conversation; those that stand there already are named only.
pub fn turns(state: &State, choices: Choices, stands: Stands<'_>) -> Vec<Node> {
    let count = state.all_turns().count();
    let busy = state.phase.busy();
    let mut nodes: Vec<Node> = state
        .all_turns()
        .enumerate()
        .map(|(at, (question, answer))| {
            let is_last = at + 1 == count;
            // The last turn is no longer under way once it has ended in whatever way.
            let under_way = is_last && state.phase == Phase::Generating;
            let turn = Turn { at, question, answer, choices, is_last, under_way, busy };
            turn.view(stands).into()
        })
        .collect();
    if let Some(question) = state.question_to_come() {
        nodes.push(element("article").class("turn").key("to-come").child(said_by_user(question)).into());
    }
    nodes
}

struct Turn<'a> {
    at: usize,
    question: &'a Question,
    answer: &'a Answer,
    choices: Choices,
    is_last: bool,
    under_way: bool,
    busy: bool,
}

impl Turn<'_> {
    fn view(&self, stands: Stands<'_>) -> Element {
        let Self { at, answer, choices, is_last, under_way, busy, .. } = self;
        let editing = choices.editing == Some(*at);
        let version = format!(
            "{} {} {:?} {} {is_last} {under_way} {busy} {editing} {}",
            answer.number,
            answer.tokens.len(),
            answer.finished.is_some(),
            choices.tinted,
            self.imported(),
        );
        let key = format!("turn {at}");
        let mut turn = element("article").class("turn").key(&*key);
        // What is being edited is the user's own.
        turn = turn.version(&version);
        if stands(&key, &version) {
            return turn;
        }
        turn.flag("data-last", *is_last).child(self.question(editing)).child(self.answer())
    }

    /// Tells turns from files apart, whose answers have neither tokens nor numbers; 0 for all others.
    fn imported(&self) -> u64 {
        if !self.answer.tokens.is_empty() {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        match self.question {
            Question::User(text) => text.hash(&mut hasher),
            Question::Results(results) => results.len().hash(&mut hasher),
        }
        self.answer.said.iter().for_each(|said| said.text.hash(&mut hasher));
        hasher.finish()
    }

    fn question(&self, editing: bool) -> Element {
        match self.question {
            Question::User(_) if editing => {
                let ask = button("Ask this", Action::AskEdited(self.at)).flag("disabled", self.busy);
                let actions = element("p").class("actions").child(ask).child(button("Leave it", Action::EndEdit));
                let Question::User(said) = self.question else { unreachable!("matched above") };
                let field = element("textarea").id("edited").with("rows", "3").with("aria-label", "The question anew");
                element("div").class("question editing").child(field.text(said)).child(actions)
            }
            Question::User(said) => {
                let tools = element("p").class("tools");
                let tools = tools.child(quiet("edit", Action::Edit(self.at)).flag("disabled", self.busy));
                let tools = tools.child(quiet("delete", Action::Delete(self.at)).flag("disabled", self.busy));
                said_by_user(said).child(tools)
            }
            Question::Results(results) => {
                element("div").class("question results").children(results.iter().map(|result| {
                    let ChatMessage::FunctionResult { name, result } = result else { return element("p") };
                    element("p").child(element("code").text(name)).text(format!(" gave {result}"))
                }))
            }
        }
    }

    fn answer(&self) -> Element {
        let Self { at, answer, is_last, under_way, busy, .. } = self;
        let mut all = element("div").class("answer");
        if let Some(options) = &answer.experiment {
            all = all.child(element("p").class("experiment").key("experiment").text(experiment(options)));
        }
        if *under_way && let Some(note) = stream_note(answer) {
            all = all.child(element("p").class("empty").key("note").text(note));
        }
        let last = answer.said.len().saturating_sub(1);
        for (number, said) in answer.said.iter().enumerate() {
            let writing = *under_way && number == last && !said.is_complete;
            all = all.child(self.message(said, writing).key(format!("said {number}")));
        }
        if answer.finished.as_ref().is_some_and(|finished| finished.reason == FinishReason::Call) && *is_last {
            all = all.child(self.calls().key("calls"));
        }
        if *under_way || answer.is_silent() && !is_last {
            return all;
        }
        let mut tools = element("p").class("tools").key("tools");
        if !answer.final_text.is_empty() {
            tools = tools.child(quiet("copy", Action::Copy(*at)));
        }
        if matches!(self.question, Question::User(_)) {
            tools = tools.child(quiet("again", Action::Again(*at)).flag("disabled", *busy));
        }
        all.child(tools.child(element("span").class("figures").text(figures(answer))))
    }

    /// A message on its channel. What the model thinks is folded once it has thought.
    fn message(&self, said: &Said, writing: bool) -> Element {
        let tokens = self.answer.tokens.as_slice();
        let tinted = self.choices.tinted;
        let span = |place: u32| tokens.get(place as usize).map(|token| span(self.at, place, token, tinted));
        let tokens = Tokens { ends: &said.ends, span: &span };
        let nodes = match said.channel {
            Channel::Final | Channel::Commentary => blocks(&said.text, &tokens, u64::from(tinted)),
            Channel::Analysis | Channel::ToolCall => tokens.spans(&said.text, 0..said.text.len()),
        };
        let count = format::plural(said.ends.len() as u64, "token");
        let name = match &said.recipient {
            Some(recipient) => format!("{} · {recipient}", channel_name(said.channel)),
            None => channel_name(said.channel).to_owned(),
        };
        let channel = match said.channel {
            Channel::Analysis => "analysis",
            Channel::Commentary => "commentary",
            Channel::ToolCall => "tool",
            Channel::Final => "final",
        };
        let body = element("div").class("said").children(nodes);
        let shell = match said.channel {
            Channel::Analysis => {
                // The tokens of an answer that came from a file are not known.
                let count = if said.ends.is_empty() { String::new() } else { count };
                let head = element("summary").child(element("h3").text(name)).child(element("small").text(count));
                element("details").flag("open", writing).child(head).child(body)
            }
            _ => element("section").child(element("h3").text(name)).child(body),
        };
        shell.class(format!("channel {channel}")).with("data-channel", channel).flag("data-writing", writing)
    }

    /// Where the user says what the functions gave that the model calls.
    fn calls(&self) -> Element {
        let calls = self.answer.said.iter().filter(|said| said.channel == Channel::ToolCall);
        let mut form = element("div").class("calls");
        for (number, call) in calls.enumerate() {
            let name = call.recipient.as_deref().unwrap_or("a function");
            let id = format!("result-{number}");
            let label = element("label").with("for", id.clone()).text(format!("What {name} gives"));
            let field = element("textarea").id(id).with("rows", "2").with("data-function", name.to_owned());
            form = form.child(label).child(field);
        }
        form.child(button("Give it to the model", Action::SendResults(self.at)).flag("disabled", self.busy))
    }
}

fn said_by_user(said: &str) -> Element {
    element("div").class("question").child(element("p").class("asked").text(said))
}

fn button(label: &str, action: Action) -> Element {
    element("button").with("type", "button").with("data-do", action.to_string()).text(label)
}

fn quiet(label: &str, action: Action) -> Element {
    button(label, action).class("quiet")
}

/// The span of a token; what it was drawn from is shown when it is looked at.
fn span(turn: usize, place: u32, token: &TokenInfo, tinted: bool) -> Element {
    let unsure = token.probability.is_some_and(|probability| probability < UNSURE_BELOW);
    let mut classes = String::from(if unsure { "t unsure" } else { "t" });
    if tinted {
        classes.push_str(surprise_class(token.probability));
    }
    element("span").class(classes).with("data-do", Action::Token(turn, place).to_string())
}

/// A class for how unexpected a token was; its information in bits, by the model's own probability.
fn surprise_class(probability: Option<f32>) -> &'static str {
    match probability.map(|probability| -probability.log2()) {
        None => " s4",
        Some(bits) if bits < 0.15 => "",
        Some(bits) if bits < 1.0 => " s1",
        Some(bits) if bits < 2.5 => " s2",
        Some(bits) if bits < 5.0 => " s3",
        Some(_) => " s4",
    }
}

/// What was measured of an answer, in one line.
fn figures(answer: &Answer) -> String {
    let Some(finished) = &answer.finished else { return String::new() };
    let mut parts = vec![format::plural(u64::from(finished.new_tokens), "token")];
    parts.extend(finished.decode_tokens_per_second.map(|rate| format!("{} tok/s", format::rate(Some(rate)))));
    if let Some(prefill) = answer.prefill.as_ref().filter(|prefill| prefill.reused_tokens > 0) {
        parts.push(format!("{} of {} prompt tokens reused", prefill.reused_tokens, prefill.total_tokens));
    }
    let cut = match finished.reason {
        FinishReason::Return | FinishReason::Call => None,
        FinishReason::MaxTokens => Some("cut off at the most that was allowed"),
        FinishReason::ContextFull => Some("cut off: the KV cache is full"),
        FinishReason::StopSequence => Some("ended by a stop text"),
        FinishReason::Stopped => Some("stopped"),
    };
    parts.extend(cut.map(str::to_owned));
    parts.join(" · ")
}

/// A token in words, for whoever looks at it.
pub fn token_words(token: &TokenInfo) -> String {
    let probability = token.probability.map_or(format::NOT_MEASURED.to_owned(), |p| format::percent(f64::from(p)));
    let elapsed = format::milliseconds(Some(token.elapsed_ms));
    format!("probability {probability}, entropy {:.2} nats, {elapsed}", token.entropy_nats)
}

#[cfg(test)]
mod tests;
