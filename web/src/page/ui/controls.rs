//! The inputs: read into commands, filled from the address, marked when they cannot be used.

use std::cell::RefCell;

use web_sys::{File, HtmlElement, HtmlInputElement, HtmlSelectElement, HtmlTextAreaElement};

use super::dom::{document, element, report, show};
use crate::page::format;
use crate::page::inputs::{Field, InputError, Inputs};
use crate::page::query::Query;

/// What the user picked besides the inputs themselves.
#[derive(Default)]
pub struct Controls {
    files: RefCell<Vec<File>>,
}

impl Controls {
    /// What stands in every input.
    pub fn read(&self) -> Inputs {
        let mut inputs = Inputs::default();
        for field in Field::ALL {
            inputs.set(field, value(field));
        }
        inputs
    }

    /// Puts the address's values into the inputs, and opens the folded groups that hold one of them.
    pub fn fill(&self, query: &Query) {
        for &field in &query.named {
            set_value(field, query.inputs.get(field));
            let input: HtmlElement = element(field.element_id());
            if let Ok(Some(group)) = input.closest("details") {
                report(group.set_attribute("open", ""));
            }
        }
    }

    pub fn set(&self, field: Field, text: &str) {
        set_value(field, text);
    }

    pub fn is_blank(&self, field: Field) -> bool {
        value(field).trim().is_empty()
    }

    /// Marks the inputs that `errors` name and no others, with the words beside them; opens the group of each and puts the cursor
    /// into the first.
    pub fn mark_invalid(&self, errors: &[InputError]) {
        for field in Field::ALL {
            let input: HtmlElement = element(field.element_id());
            let said: Vec<&str> =
                errors.iter().filter(|error| error.field == Some(field)).map(|error| error.message.as_str()).collect();
            say_beside(&input, &said.join(" "));
            if said.is_empty() {
                report(input.remove_attribute("aria-invalid"));
                continue;
            }
            report(input.set_attribute("aria-invalid", "true"));
            if let Ok(Some(group)) = input.closest("details") {
                report(group.set_attribute("open", ""));
            }
        }
        if let Some(field) = errors.iter().find_map(|error| error.field) {
            report(element::<HtmlElement>(field.element_id()).focus());
        }
    }

    pub fn files(&self) -> Vec<File> {
        self.files.borrow().clone()
    }

    /// Uses picked files instead of the address: one, or all of a split model. None goes back to the address.
    pub fn pick(&self, files: Vec<File>) {
        show("picked", !files.is_empty());
        // What is picked is on this machine's disk already.
        let keep = if files.is_empty() { "Download only" } else { "Keep in browser" };
        element::<HtmlElement>("download").set_text_content(Some(keep));
        if let Some(first) = files.first() {
            let total_bytes = files.iter().map(|file| file.size() as u64).sum();
            let text = format::picked(&first.name(), files.len(), total_bytes);
            element::<HtmlElement>("picked-name").set_text_content(Some(&text));
        }
        // Otherwise picking the same file again would not be noticed.
        element::<HtmlInputElement>("file").set_value("");
        *self.files.borrow_mut() = files;
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

fn value(field: Field) -> String {
    let id = field.element_id();
    match field {
        Field::Prompt | Field::Instructions => element::<HtmlTextAreaElement>(id).value(),
        _ if field.is_list() => element::<HtmlSelectElement>(id).value(),
        _ => element::<HtmlInputElement>(id).value(),
    }
}

fn set_value(field: Field, text: &str) {
    let id = field.element_id();
    match field {
        Field::Prompt | Field::Instructions => element::<HtmlTextAreaElement>(id).set_value(text),
        _ if field.is_list() => {
            let select: HtmlSelectElement = element(id);
            let before = select.value();
            // The one alias that is not an option of its own.
            select.set_value(if (field, text) == (Field::Attention, "model") { "full" } else { text });
            // A value that is no option leaves a list with nothing chosen.
            if select.selected_index() < 0 {
                select.set_value(&before);
            }
        }
        _ => element::<HtmlInputElement>(id).set_value(text),
    }
}
