//! What the user does in the chat: turns into prompts, conversations into files and back.

use std::rc::Rc;

use gptoss_protocol::{ChatMessage, Command, Event, Failure, FailureKind, Prompt};
use wasm_bindgen::JsCast;
use web_sys::{Element, File, HtmlElement, HtmlInputElement, HtmlTextAreaElement, MouseEvent};

use super::dom::{document, element, listen, report};
use super::tunnel_link;
use super::{App, clipboard, files};
use crate::action::Action;
use crate::panels::chat::file;
use crate::state::Question;

impl App {
    /// One listener for everything that views offer to press.
    pub(super) fn listen_to_views(self: &Rc<Self>) {
        let app = Rc::clone(self);
        listen(&document(), "click", move |event: MouseEvent| {
            if let Some((target, action)) = action_of(&event) {
                app.act(action, &target);
            }
        });
        for (name, is_over) in [("mouseover", true), ("mouseout", false)] {
            let app = Rc::clone(self);
            listen(&document(), name, move |event: MouseEvent| {
                if let Some((_, Action::Token(turn, place))) = action_of(&event) {
                    app.looking.borrow_mut().pointed = is_over.then_some((turn, place));
                    app.request_frame();
                }
            });
        }
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>("log-filter"), "input", move |_: web_sys::Event| {
            let text = element::<HtmlInputElement>("log-filter").value();
            app.view.borrow_mut().log.change_filter(|filter| filter.type_text(&text));
            app.request_frame();
        });
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>("talk-file"), "change", move |_: web_sys::Event| {
            let input: HtmlInputElement = element("talk-file");
            if let Some(file) = input.files().and_then(|files| files.get(0)) {
                app.open_talk(file);
            }
            input.set_value("");
        });
    }

    fn act(self: &Rc<Self>, action: Action, target: &Element) {
        match action {
            Action::Edit(turn) => {
                self.looking.borrow_mut().chat.editing = Some(turn);
                self.draw();
                if let Some(field) = document().get_element_by_id("edited") {
                    report(field.unchecked_into::<HtmlElement>().focus());
                }
            }
            Action::EndEdit => self.looking.borrow_mut().chat.editing = None,
            Action::AskEdited(turn) => {
                let text =
                    document().get_element_by_id("edited").map(|field| field.unchecked_into::<HtmlTextAreaElement>());
                if let Some(text) = text.map(|field| field.value().trim().to_owned()).filter(|text| !text.is_empty()) {
                    self.looking.borrow_mut().chat.editing = None;
                    self.ask_in_place(turn, text);
                }
            }
            Action::Again(turn) => {
                let question = self.state.borrow().all_turns().nth(turn).map(|(question, _)| question.clone());
                if let Some(Question::User(text)) = question {
                    self.ask_in_place(turn, text);
                }
            }
            Action::Copy(turn) => {
                let text = self.state.borrow().all_turns().nth(turn).map(|(_, answer)| answer.final_text.clone());
                clipboard::copy_from(target, text.unwrap_or_default());
            }
            Action::CopyCode => {
                let figure = target.closest("figure").ok().flatten();
                let code = figure.and_then(|figure| figure.query_selector("code").ok().flatten());
                clipboard::copy_from(target, code.and_then(|code| code.text_content()).unwrap_or_default());
            }
            Action::Delete(turn) => {
                let history = self.state.borrow().history_of(turn);
                self.take_up(history);
            }
            Action::New => self.take_up(Vec::new()),
            Action::SendResults(turn) => self.send_results(turn),
            Action::Token(turn, place) => {
                let mut looking = self.looking.borrow_mut();
                looking.pinned = (looking.pinned != Some((turn, place))).then_some((turn, place));
            }
            Action::Tint => {
                let tinted = !self.looking.borrow().chat.tinted;
                self.looking.borrow_mut().chat.tinted = tinted;
                report(element::<Element>("tint").set_attribute("aria-pressed", if tinted { "true" } else { "false" }));
            }
            Action::Keep => self.keep_or_forget(),
            Action::Example => self.composer.write(&target.text_content().unwrap_or_default()),
            Action::SaveTalk => {
                let history = self.state.borrow().history_of(usize::MAX);
                files::save("gpt-oss-conversation.json", "application/json", file::write(&history));
            }
            Action::OpenTalk => element::<HtmlElement>("talk-file").click(),
            Action::Tab(tab) => {
                {
                    let mut looking = self.looking.borrow_mut();
                    looking.tab = (looking.tab != Some(tab)).then_some(tab);
                }
                self.watch();
            }
            Action::Gate(press) => {
                if let Some(gate) = &self.gate {
                    gate.press(self, press, target);
                }
            }
            Action::Moment(moment) => self.go_to(moment),
            Action::SaveRecording => {
                let own = self.recording.borrow();
                files::export(self.looking.borrow().recording(&own));
            }
            Action::OpenRecording => element::<HtmlElement>("recording-file").click(),
            Action::CopyLog => {
                let text = self.view.borrow().log.log().as_text(&self.recording.borrow());
                clipboard::copy_from(target, text);
            }
            Action::ExportLog => files::export(&self.recording.borrow()),
            Action::LogGroup(group) => self.view.borrow_mut().log.change_filter(|filter| {
                filter.group = (filter.group != Some(group)).then_some(group);
            }),
        }
        self.request_frame();
    }

    /// What was said before a question that is asked now.
    pub(super) fn history(&self, alone: bool) -> Vec<ChatMessage> {
        if alone { Vec::new() } else { self.state.borrow().history_of(usize::MAX) }
    }

    /// Asks in place of a turn and all after it.
    fn ask_in_place(self: &Rc<Self>, turn: usize, user: String) {
        let history = self.state.borrow().history_of(turn);
        self.ask_with(|prompt| Prompt { history, user, ..prompt });
    }

    /// Gives the model what the functions gave that it called.
    fn send_results(self: &Rc<Self>, turn: usize) {
        let mut history = self.state.borrow().history_of(turn + 1);
        let fields = report(document().query_selector_all(".calls textarea"));
        for index in 0..fields.as_ref().map_or(0, web_sys::NodeList::length) {
            let Some(field) = fields.as_ref().and_then(|fields| fields.item(index)) else { continue };
            let field: HtmlTextAreaElement = field.unchecked_into();
            let name = field.get_attribute("data-function").unwrap_or_default();
            let name = name.strip_prefix("functions.").unwrap_or(&name).to_owned();
            history.push(ChatMessage::FunctionResult { name, result: field.value() });
        }
        self.ask_with(|prompt| Prompt { history, user: String::new(), ..prompt });
    }

    /// Asks what stands in the inputs, as `change` changes it.
    pub(super) fn ask_with(self: &Rc<Self>, change: impl FnOnce(Prompt) -> Prompt) {
        {
            let state = self.state.borrow();
            if state.phase.busy() || !state.model_loaded {
                return;
            }
        }
        self.looking.borrow_mut().go_live();
        match self.controls.read(super::actions::today()).prompt_of("-") {
            Ok(prompt) => tunnel_link::ask(self, Command::Generate { prompt: change(prompt) }),
            Err(errors) => self.refuse(&errors),
        }
    }

    fn take_up(self: &Rc<Self>, history: Vec<ChatMessage>) {
        if !self.state.borrow().phase.busy() {
            self.looking.borrow_mut().go_live();
            self.tell(Event::ConversationTaken { history });
        }
    }

    fn open_talk(self: &Rc<Self>, picked: File) {
        let app = Rc::clone(self);
        files::read_text(picked, move |name, text| match file::read(&text) {
            Ok(history) => app.take_up(history),
            Err(error) => app.cannot_open(&name, &error),
        });
    }

    /// The browser does not take what was to be kept.
    pub(super) fn cannot_keep(self: &Rc<Self>) {
        let message =
            "This browser does not keep the conversation: it allows this page no storage, or has no more room.";
        let advice = "Save the conversation as a file, with \u{201c}save\u{201d} above it.".to_owned();
        let message = message.to_owned();
        self.tell(Event::WatcherFailed(Failure { kind: FailureKind::Request, message, advice, parameter: None }));
    }

    /// A file that the user picked is not what it was to be.
    pub(super) fn cannot_open(self: &Rc<Self>, name: &str, why: &str) {
        let message = format!("{name} cannot be opened: {why}");
        let advice = "Pick a file that this page has saved.".to_owned();
        self.tell(Event::WatcherFailed(Failure { kind: FailureKind::Request, message, advice, parameter: None }));
    }
}

/// What the press is on, if it is on something that a view offers.
fn action_of(event: &MouseEvent) -> Option<(Element, Action)> {
    let target: Element = event.target()?.dyn_into().ok()?;
    let target = target.closest("[data-do]").ok().flatten()?;
    if target.has_attribute("disabled") {
        return None;
    }
    let action = Action::parse(&target.get_attribute("data-do")?)?;
    Some((target, action))
}
