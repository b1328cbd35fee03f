//! Where a question is written: the prompt, examples, what was chosen besides, and what is known of the model to be loaded.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gptoss_protocol::OptionId;
use gptoss_protocol::options::Owner;
use web_sys::{Event, HtmlElement, HtmlTextAreaElement, KeyboardEvent, Url};

use super::dom::{element, listen, report, show, window};
use super::{App, memory};
use crate::panels::source;
use crate::query::Query;
use crate::state::{Phase, Question, State};
use crate::view::Mounted;

/// What the composer remembers of its last drawing.
pub struct Composer {
    facts: RefCell<Mounted>,
    /// Number of the last answer whose question was taken out of the prompt.
    taken: Cell<u32>,
    /// Number of the last answer that failed, whose question was written into the prompt again.
    returned: Cell<u32>,
}

impl Composer {
    pub fn new() -> Self {
        Self { facts: RefCell::new(Mounted::new(element("source-facts"))), taken: Cell::new(0), returned: Cell::new(0) }
    }

    /// Draws what is known of the model to be loaded, and empties the prompt once its question is being answered.
    pub fn draw(&self, state: &State) {
        let is_read = state.answer.prompt_tokens.is_some();
        if is_read && self.taken.replace(state.answer.number) != state.answer.number {
            let prompt = prompt();
            // What was written meanwhile stays.
            if matches!(&state.question, Some(Question::User(asked)) if asked.trim() == prompt.value().trim()) {
                prompt.set_value("");
                memory::remember_draft("");
            }
        }
        // What was not answered has to be asked again.
        let failed = state.phase == Phase::Error && state.answer.finished.is_none();
        if failed
            && self.taken.get() == state.answer.number
            && self.returned.replace(state.answer.number) != state.answer.number
        {
            let prompt = prompt();
            if let Some(Question::User(asked)) = state.question.as_ref().filter(|_| prompt.value().is_empty()) {
                prompt.set_value(asked);
                memory::remember_draft(asked);
            }
        }
        if !state.phase.busy() {
            let facts = if state.model_loaded { Vec::new() } else { source::facts(&state.cache, &chosen_address()) };
            self.facts.borrow_mut().draw(facts);
        }
    }

    /// Writes a text into the prompt, for the user to go on with.
    pub fn write(&self, text: &str) {
        let prompt = prompt();
        prompt.set_value(text);
        memory::remember_draft(text);
        report(prompt.focus());
    }
}

fn prompt() -> HtmlTextAreaElement {
    element("prompt")
}

/// The address of the chosen model as a whole; as it stands where it is none.
fn chosen_address() -> String {
    let address = element::<web_sys::HtmlInputElement>("gguf").value();
    let base = window().location().href().unwrap_or_default();
    Url::new_with_base(address.trim(), &base).map_or(address, |url| url.href())
}

impl App {
    /// Listens to what is written, and brings back what was written before the page was loaded anew.
    pub(super) fn start_composer(self: &Rc<Self>, query: &Query) {
        if !query.named.contains(&OptionId::Prompt)
            && let Some(draft) = memory::draft()
        {
            prompt().set_value(&draft);
        }
        self.show_chosen();
        let app = Rc::clone(self);
        listen(&prompt(), "input", move |_: Event| {
            memory::remember_draft(&prompt().value());
            // ASK can be pressed only while there is a prompt.
            app.request_frame();
        });
        let app = Rc::clone(self);
        listen(&prompt(), "keydown", move |event: KeyboardEvent| {
            if event.key() == "ArrowUp" && prompt().value().is_empty() {
                let state = app.state.borrow();
                let last = state.all_turns().filter_map(|(question, _)| match question {
                    Question::User(asked) => Some(asked),
                    Question::Results(_) => None,
                });
                if let Some(asked) = last.last() {
                    event.prevent_default();
                    app.composer.write(asked);
                }
            }
        });
        for sheet in ["sheet", "load-sheet"] {
            let app = Rc::clone(self);
            listen(&element::<HtmlElement>(sheet), "input", move |_: Event| app.show_chosen());
        }
    }

    /// Says beside the prompt, and beside LOAD, what was chosen in the sheets.
    pub(super) fn show_chosen(&self) {
        let inputs = self.controls.read(super::actions::today());
        let asking = inputs.chosen(&[Owner::Prompt, Owner::Sampling]);
        element::<HtmlElement>("chosen").set_text_content(Some(&asking.join(" · ")));
        show("chosen", !asking.is_empty());
        let loading = inputs.chosen(&[Owner::Engine, Owner::Gpu, Owner::Network, Owner::Cache]);
        let loading =
            if loading.is_empty() { "memory, context, cache, kernels".to_owned() } else { loading.join(" · ") };
        element::<HtmlElement>("load-chosen").set_text_content(Some(&loading));
    }
}
