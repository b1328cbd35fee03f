//! The inputs: read into commands, filled from the address, marked when they cannot be used.

use gptoss_protocol::options::Kind;
use gptoss_protocol::{InputError, OptionId};
use wasm_bindgen::JsCast;
use web_sys::{File, HtmlElement, HtmlInputElement, HtmlSelectElement, HtmlTextAreaElement};

use super::dom::{document, element, report};
use super::picked::PickedFiles;
use crate::inputs::{Inputs, element_id};
use crate::query::Query;

/// What the user picked besides the inputs themselves.
pub struct Controls {
    picked: PickedFiles,
}

impl Controls {
    pub fn new() -> Self {
        Self { picked: PickedFiles::new("") }
    }

    /// What stands in every input; `today` is what that word means as a date.
    pub fn read(&self, today: String) -> Inputs {
        let mut inputs = Inputs::on(today);
        for field in OptionId::in_form() {
            inputs.set(field, value(field));
        }
        inputs
    }

    /// Puts the address's values into the inputs.
    pub fn fill(&self, query: &Query) {
        for &field in &query.named {
            set_value(field, query.inputs.get(field));
        }
    }

    pub fn set(&self, field: OptionId, text: &str) {
        set_value(field, text);
    }

    /// What stands in one input.
    pub fn text(&self, field: OptionId) -> String {
        value(field).trim().to_owned()
    }

    pub fn is_blank(&self, field: OptionId) -> bool {
        self.text(field).is_empty()
    }

    /// Marks the inputs that `errors` name and no others, with the words beside them; opens what hides the first, and puts the
    /// cursor into it.
    pub fn mark_invalid(&self, errors: &[InputError]) {
        for field in OptionId::in_form() {
            let input: HtmlElement = element(&element_id(field));
            let said: Vec<&str> =
                errors.iter().filter(|error| error.field == Some(field)).map(|error| error.message.as_str()).collect();
            say_beside(&input, &said.join(" "));
            if said.is_empty() {
                report(input.remove_attribute("aria-invalid"));
                continue;
            }
            report(input.set_attribute("aria-invalid", "true"));
        }
        if let Some(field) = errors.iter().find_map(|error| error.field) {
            let input: HtmlElement = element(&element_id(field));
            if let Ok(Some(group)) = input.closest("details") {
                report(group.set_attribute("open", ""));
            }
            if let Ok(Some(sheet)) = input.closest("[popover]:not(:popover-open)") {
                report(sheet.unchecked_into::<HtmlElement>().show_popover());
            }
            report(input.focus());
        }
    }

    pub fn files(&self) -> Vec<File> {
        self.picked.files()
    }

    /// Calls `pick` with files that are picked or dropped.
    pub fn listen_to_files(&self, pick: impl Fn(Vec<File>) + 'static) {
        self.picked.listen(pick);
    }

    /// Uses picked files instead of the address: one, or all of a split model. None goes back to the address.
    pub fn pick(&self, files: Vec<File>) {
        if !files.is_empty() {
            // What was dropped or picked is seen, and what else can be done with it.
            report(element::<HtmlElement>("source-more").set_attribute("open", ""));
        }
        // What is picked is on this machine's disk already.
        let keep = if files.is_empty() { "Download only" } else { "Cache in browser" };
        element::<HtmlElement>("download").set_text_content(Some(keep));
        self.picked.set(files);
    }
}

/// Writes what is wrong with an input under it, and ties the two together for those who listen; nothing for an empty text.
fn say_beside(input: &HtmlElement, text: &str) {
    let id = format!("{}-error", input.id());
    let there = document().get_element_by_id(&id);
    if text.is_empty() {
        if let Some(line) = there {
            line.remove();
            report(input.remove_attribute("aria-describedby"));
        }
        return;
    }
    let line = there.or_else(|| {
        let line = report(document().create_element("p"))?;
        line.set_id(&id);
        line.set_class_name("field-error");
        report(input.insert_adjacent_element("afterend", &line))?
    });
    if let Some(line) = line {
        line.set_text_content(Some(text));
        report(input.set_attribute("aria-describedby", &id));
    }
}

fn value(field: OptionId) -> String {
    let id = &element_id(field);
    match field.row().kind {
        Kind::Text { .. } => element::<HtmlTextAreaElement>(id).value(),
        Kind::Words { .. } => element::<HtmlSelectElement>(id).value(),
        _ => element::<HtmlInputElement>(id).value(),
    }
}

fn set_value(field: OptionId, text: &str) {
    let id = &element_id(field);
    match field.row().kind {
        Kind::Text { .. } => element::<HtmlTextAreaElement>(id).set_value(text),
        Kind::Words { .. } => {
            let select: HtmlSelectElement = element(id);
            let before = select.value();
            select.set_value(field.row().canonical(text));
            // A value that is no option leaves a list with nothing chosen.
            if select.selected_index() < 0 {
                select.set_value(&before);
            }
        }
        _ => element::<HtmlInputElement>(id).set_value(text),
    }
}
