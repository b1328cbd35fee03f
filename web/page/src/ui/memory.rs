//! What this browser remembers from one visit to the next. For the engine a few short texts, such as that the kernels passed
//! their self-check on this adapter: without them everything works, and takes a moment longer. For the user the conversation,
//! if they want that, and the prompt that was begun, as long as the tab lives.

use std::rc::Rc;

use gptoss_protocol::Event;

use web_sys::{Element, Storage};

use super::App;
use super::dom::{element, report, window};
use crate::panels::chat::file;

const ITEM: &str = "gptoss-remembered";
/// The oldest is forgotten first.
const MOST: usize = 16;

/// A browser may refuse; then nothing is remembered. (`gloo-storage` panics then.)
fn storage() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

pub fn remembered() -> Vec<String> {
    let text = storage().and_then(|storage| storage.get_item(ITEM).ok().flatten());
    // What cannot be read is of another version of the page.
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

pub fn remember(key: &str) {
    let mut keys = remembered();
    keys.retain(|known| known != key);
    keys.push(key.to_owned());
    keys.drain(..keys.len().saturating_sub(MOST));
    if let (Some(storage), Ok(text)) = (storage(), serde_json::to_string(&keys)) {
        // A full storage is none.
        let _ = storage.set_item(ITEM, &text);
    }
}

/// Where the conversation is kept; that it is there says that the user wants it.
const TALK: &str = "gptoss-conversation";
const DRAFT: &str = "gptoss-prompt";

/// The prompt that was begun before the page was loaded anew.
pub fn draft() -> Option<String> {
    let storage = window().session_storage().ok().flatten()?;
    storage.get_item(DRAFT).ok().flatten().filter(|text| !text.trim().is_empty())
}

pub fn remember_draft(text: &str) {
    if let Ok(Some(storage)) = window().session_storage() {
        let _ = storage.set_item(DRAFT, text);
    }
}

impl App {
    /// Takes up the conversation that is kept here.
    pub(super) fn take_up_kept(self: &Rc<Self>) {
        let Some(text) = storage().and_then(|storage| storage.get_item(TALK).ok().flatten()) else { return };
        self.show_keeping(true);
        match file::read(&text) {
            Ok(history) if history.is_empty() => {}
            Ok(history) => self.tell(Event::ConversationTaken { history }),
            Err(error) => self.cannot_open("the conversation that is kept in this browser", &error),
        }
    }

    /// Whether the conversation is to be kept.
    fn keeps(&self) -> bool {
        self.keeping.get()
    }

    fn show_keeping(&self, keeping: bool) {
        self.keeping.set(keeping);
        let pressed = if keeping { "true" } else { "false" };
        report(element::<Element>("keep-talk").set_attribute("aria-pressed", pressed));
    }

    /// Begins to keep the conversation in this browser, or forgets what is kept.
    pub(super) fn keep_or_forget(self: &Rc<Self>) {
        if self.keeps() {
            if let Some(storage) = storage() {
                report(storage.remove_item(TALK));
            }
            return self.show_keeping(false);
        }
        self.show_keeping(true);
        self.keep();
    }

    /// Writes the conversation down, if it is to be kept.
    pub(super) fn keep(self: &Rc<Self>) {
        if !self.keeps() {
            return;
        }
        let history = self.state.borrow().history_of(usize::MAX);
        let kept = storage().is_some_and(|storage| storage.set_item(TALK, &file::write(&history)).is_ok());
        if !kept {
            self.show_keeping(false);
            self.cannot_keep();
        }
    }
}
