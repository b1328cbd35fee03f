//! The conversation: turns in the order in which they were asked, worked out from the prompts alone. A prompt carries the history
//! that it goes on from; turns that are not in it are gone: that is how a question is edited, and an answer made anew.

use gptoss_protocol::{ChatMessage, Prompt};
use serde::{Deserialize, Serialize};

use super::{Answer, State};

/// What an answer answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// The user said something.
    User(String),
    /// Functions that the model had called gave something.
    Results(Vec<ChatMessage>),
}

/// A question and what was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// What was asked.
    pub question: Question,
    /// What came of it, be it nothing.
    pub answer: Answer,
}

impl Turn {
    /// What the history of the conversation has of it; a question that nothing was answered to is not part of it.
    pub fn history(&self) -> Vec<ChatMessage> {
        let answer = self.answer.history();
        if answer.is_empty() {
            return answer;
        }
        let mut said = match &self.question {
            Question::User(text) => vec![ChatMessage::User { text: text.clone() }],
            Question::Results(results) => results.clone(),
        };
        said.extend(answer);
        said
    }
}

/// Turns made of a history that is not this page's own: one that was imported.
fn turns_of(history: &[ChatMessage]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for message in history {
        let begun = |question| Turn { question, answer: Answer::default() };
        match (message, turns.last_mut()) {
            (ChatMessage::User { text }, _) => turns.push(begun(Question::User(text.clone()))),
            (ChatMessage::FunctionResult { .. }, Some(Turn { question: Question::Results(results), answer }))
                if answer.messages.is_empty() =>
            {
                results.push(message.clone());
            }
            (ChatMessage::FunctionResult { .. }, _) => turns.push(begun(Question::Results(vec![message.clone()]))),
            // Nobody says such on this page.
            (ChatMessage::Developer { .. }, _) => {}
            (ChatMessage::Assistant { .. }, Some(turn)) => turn.answer.take_message(message.clone()),
            (ChatMessage::Assistant { .. }, None) => {
                let mut turn = begun(Question::User(String::new()));
                turn.answer.take_message(message.clone());
                turns.push(turn);
            }
        }
    }
    turns
}

fn is_result(message: &ChatMessage) -> bool {
    matches!(message, ChatMessage::FunctionResult { .. })
}

impl State {
    /// Every turn, the one under way included.
    pub fn all_turns(&self) -> impl Iterator<Item = (&Question, &Answer)> {
        let now = self.question.as_ref().map(|question| (question, &self.answer));
        self.turns.iter().map(|turn| (&turn.question, &turn.answer)).chain(now)
    }

    /// History of the first so many turns, for a question that goes on from there.
    pub fn history_of(&self, turns: usize) -> Vec<ChatMessage> {
        let all = self.all_turns().take(turns);
        all.flat_map(|(question, answer)| Turn { question: question.clone(), answer: answer.clone() }.history())
            .collect()
    }

    /// A prompt was asked: keeps the turns that it goes on from.
    pub(super) fn talk_on(&mut self, prompt: &Prompt) {
        let results = prompt.history.iter().rev().take_while(|message| is_result(message)).count();
        let (said, results) = prompt.history.split_at(prompt.history.len() - results);
        self.turns = self.turns_up_to(said);
        self.question = Some(match results {
            [] => Question::User(prompt.user.clone()),
            results => Question::Results(results.to_vec()),
        });
    }

    /// The user took up another conversation.
    pub(super) fn take_up(&mut self, history: &[ChatMessage]) {
        self.turns = self.turns_up_to(history);
        self.question = None;
        self.answer = Answer { number: self.answer.number + 1, ..Answer::default() };
    }

    /// The turns whose history this is, as far as they are known.
    fn turns_up_to(&mut self, history: &[ChatMessage]) -> Vec<Turn> {
        let mut known = std::mem::take(&mut self.turns);
        if let Some(question) = self.question.take() {
            known.push(Turn { question, answer: self.answer.clone() });
        }
        known.retain(|turn| !turn.history().is_empty());
        let mut rest = history;
        let kept = known.iter().take_while(|turn| {
            let after = rest.strip_prefix(&turn.history()[..]);
            rest = after.unwrap_or(rest);
            after.is_some()
        });
        let kept = kept.count();
        known.truncate(kept);
        match rest {
            [] => known,
            // It is not what was said here.
            _ => turns_of(history),
        }
    }

    /// The last question and its answer are over: another model may go on from them.
    pub(super) fn end_turn(&mut self) {
        let number = self.answer.number + 1;
        let answer = std::mem::replace(&mut self.answer, Answer { number, ..Answer::default() });
        let turn = self.question.take().map(|question| Turn { question, answer });
        self.turns.extend(turn.filter(|turn| !turn.history().is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{Command, Envelope, Event, FinishReason, Replay, Sequencer};

    use super::*;

    fn apply(state: &mut State, event: Event) {
        let envelope: Envelope = Sequencer::new(1).wrap(0.0, None, event);
        state.apply(&envelope);
    }

    fn finished(final_text: &str, messages: Vec<ChatMessage>) -> Event {
        Event::Finished {
            reason: FinishReason::Return,
            stopped_by: None,
            new_tokens: 3,
            reused_tokens: Some(0),
            junk_tokens: 0,
            final_text: final_text.to_owned(),
            analysis_text: String::new(),
            tool_calls: Vec::new(),
            messages,
            prefill_tokens_per_second: None,
            decode_tokens_per_second: None,
            time_to_first_token_ms: None,
        }
    }

    /// Asks and answers.
    fn turn(state: &mut State, history: Vec<ChatMessage>, user: &str, answer: &str) {
        ask(state, history, user);
        apply(state, finished(answer, vec![ChatMessage::said(answer)]));
    }

    fn ask(state: &mut State, history: Vec<ChatMessage>, user: &str) {
        let prompt = Prompt { history, user: user.into(), ..Prompt::default() };
        apply(state, Event::Asked { command: Command::Generate { prompt } });
    }

    fn texts(state: &State) -> Vec<(String, String)> {
        let shown = |question: &Question| match question {
            Question::User(text) => text.clone(),
            Question::Results(results) => format!("{} results", results.len()),
        };
        state.all_turns().map(|(question, answer)| (shown(question), answer.final_text.clone())).collect()
    }

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(question, answer)| ((*question).to_owned(), (*answer).to_owned())).collect()
    }

    fn three_turns() -> State {
        let mut state = State::default();
        for (at, (user, answer)) in [("One?", "1"), ("Two?", "2"), ("Three?", "3")].into_iter().enumerate() {
            let history = state.history_of(at);
            turn(&mut state, history, user, answer);
        }
        state
    }

    #[test]
    fn a_question_goes_on_from_what_was_said() {
        let state = three_turns();
        assert_eq!(texts(&state), of(&[("One?", "1"), ("Two?", "2"), ("Three?", "3")]));
        assert_eq!(state.history_of(9).len(), 6);
    }

    #[test]
    fn an_edited_question_takes_the_place_of_what_came_after() {
        let mut state = three_turns();
        let history = state.history_of(1);
        turn(&mut state, history, "Zwei?", "zwei");
        assert_eq!(texts(&state), of(&[("One?", "1"), ("Zwei?", "zwei")]));
        // Alone.
        turn(&mut state, Vec::new(), "Four?", "4");
        assert_eq!(texts(&state), of(&[("Four?", "4")]));
    }

    #[test]
    fn a_question_without_an_answer_goes_when_the_next_is_asked() {
        let mut state = three_turns();
        let history = state.history_of(3);
        ask(&mut state, history, "Four?");
        apply(&mut state, Event::Stopped { model_loaded: true });
        assert_eq!(texts(&state).len(), 4, "it can be seen that it was asked");
        let history = state.history_of(4);
        assert_eq!(history.len(), 6);
        turn(&mut state, history, "Five?", "5");
        assert_eq!(texts(&state).last(), Some(&("Five?".to_owned(), "5".to_owned())));
        assert_eq!(texts(&state).len(), 4);
    }

    #[test]
    fn a_refused_question_leaves_the_conversation_as_it_was() {
        let mut state = three_turns();
        let before = texts(&state);
        let history = state.history_of(1);
        ask(&mut state, history, "Too long");
        let (kind, message) = (gptoss_protocol::FailureKind::Request, "the prompt is too long".to_owned());
        let failure = gptoss_protocol::Failure { kind, message, advice: String::new(), parameter: None };
        apply(&mut state, Event::Failed { stage: gptoss_protocol::Stage::PromptEncode, failure });
        assert_eq!(texts(&state), before);
    }

    #[test]
    fn results_of_functions_are_turns_of_their_own() {
        let mut state = State::default();
        turn(&mut state, Vec::new(), "Weather?", "calling");
        let mut history = state.history_of(1);
        history.push(ChatMessage::FunctionResult { name: "get_weather".into(), result: "sun".into() });
        turn(&mut state, history, "", "It is sunny.");
        assert_eq!(texts(&state), of(&[("Weather?", "calling"), ("1 results", "It is sunny.")]));
        let history = state.history_of(2);
        turn(&mut state, history, "Thanks", "!");
        assert_eq!(texts(&state).len(), 3);
    }

    #[test]
    fn another_conversation_can_be_taken_up() {
        let mut state = three_turns();
        let all = state.history_of(3);
        apply(&mut state, Event::ConversationTaken { history: all[..4].to_vec() });
        assert_eq!(texts(&state), of(&[("One?", "1"), ("Two?", "2")]));
        apply(&mut state, Event::ConversationTaken { history: Vec::new() });
        assert_eq!(texts(&state), []);
        // From a file: no tokens are known.
        apply(&mut state, Event::ConversationTaken { history: all.clone() });
        assert_eq!(texts(&state), of(&[("One?", "1"), ("Two?", "2"), ("Three?", "3")]));
        assert_eq!(state.history_of(3), all);
    }
}
