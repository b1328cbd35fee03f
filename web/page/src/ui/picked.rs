//! Files that the user picked or dropped, which stand in place of an address: on the page and on the gate page alike.

use std::cell::RefCell;
use std::rc::Rc;

use wasm_bindgen::JsValue;
use web_sys::{DragEvent, Event, File, FileList, HtmlElement, HtmlInputElement};

use super::dom::{document, element, listen, report, show};
use crate::format;

/// Files, and the elements that pick and show them: `pick`, `file`, `picked`, `picked-name` and `unpick`, with a prefix.
pub struct PickedFiles {
    prefix: &'static str,
    files: RefCell<Vec<File>>,
}

impl PickedFiles {
    /// None, of the elements whose ids begin with `prefix`.
    pub fn new(prefix: &'static str) -> Self {
        Self { prefix, files: RefCell::default() }
    }

    /// The files; none where the address counts.
    pub fn files(&self) -> Vec<File> {
        self.files.borrow().clone()
    }

    /// Uses these files instead of the address: one, or all of a split model. None goes back to the address.
    pub fn set(&self, files: Vec<File>) {
        show(&self.id("picked"), !files.is_empty());
        if let Some(first) = files.first() {
            let total_bytes = files.iter().map(|file| file.size() as u64).sum();
            let text = format::picked(&first.name(), files.len(), total_bytes);
            element::<HtmlElement>(&self.id("picked-name")).set_text_content(Some(&text));
        }
        // Otherwise picking the same file again would not be noticed.
        element::<HtmlInputElement>(&self.id("file")).set_value("");
        *self.files.borrow_mut() = files;
    }

    fn id(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Calls `pick` with files that are picked or dropped, and with none when they are to be forgotten.
    pub fn listen(&self, pick: impl Fn(Vec<File>) + 'static) {
        let pick = Rc::new(pick);
        let file = self.id("file");
        let chooser = file.clone();
        listen(&element::<HtmlElement>(&self.id("pick")), "click", move |_: Event| {
            element::<HtmlElement>(&chooser).click();
        });
        let (forget, address) = (Rc::clone(&pick), self.id("gguf"));
        listen(&element::<HtmlElement>(&self.id("unpick")), "click", move |_: Event| {
            forget(Vec::new());
            report(element::<HtmlElement>(&address).focus());
        });
        let picked = Rc::clone(&pick);
        let input: HtmlInputElement = element(&file);
        listen(&input, "change", move |_: Event| {
            let files = listed(element::<HtmlInputElement>(&file).files());
            if !files.is_empty() {
                picked(files);
            }
        });
        listen(&document(), "dragover", |event: DragEvent| {
            if carries_files(&event) {
                event.prevent_default();
                show("drop", true);
            }
        });
        listen(&document(), "dragleave", |event: DragEvent| {
            // Leaving one element for another of the page is not leaving the page.
            if event.related_target().is_none() {
                show("drop", false);
            }
        });
        listen(&document(), "drop", move |event: DragEvent| {
            show("drop", false);
            if carries_files(&event) {
                event.prevent_default();
                pick(listed(event.data_transfer().and_then(|data| data.files())));
            }
        });
    }
}

fn carries_files(event: &DragEvent) -> bool {
    event.data_transfer().is_some_and(|data| data.types().includes(&JsValue::from_str("Files"), 0))
}

fn listed(files: Option<FileList>) -> Vec<File> {
    files.map_or_else(Vec::new, |files| (0..files.length()).filter_map(|index| files.get(index)).collect())
}
