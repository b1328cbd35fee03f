//! The few things this page does to the document, each written once.

use std::collections::HashMap;

use gloo_events::{EventListener, EventListenerOptions};
use gloo_timers::callback::Timeout;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Document, Element, EventTarget, HtmlElement, Window};

pub fn window() -> Window {
    web_sys::window().expect("this program is started by a page")
}

pub fn document() -> Document {
    window().document().expect("a page has a document")
}

/// The element with this id. index.html and this program are built together, so it is there.
pub fn element<T: JsCast>(id: &str) -> T {
    document()
        .get_element_by_id(id)
        .and_then(|element| element.dyn_into().ok())
        .unwrap_or_else(|| panic!("index.html has no fitting element with the id {id}"))
}

/// Listens for as long as the page lives. `E` is what the browser hands to listeners of this event.
pub fn listen<E: JsCast>(target: &EventTarget, event: &'static str, mut handler: impl FnMut(E) + 'static) {
    // Some handlers prevent the default action.
    let options = EventListenerOptions::enable_prevent_default();
    EventListener::new_with_options(target, event, options, move |event| handler(event.clone().unchecked_into()))
        .forget();
}

/// Calls once, so many milliseconds later.
pub fn after(wait_ms: f64, call: impl FnOnce() + 'static) {
    Timeout::new(wait_ms.ceil() as u32, call).forget();
}

/// A new element with a class and text, added at the end of `parent`.
pub fn append(parent: &Element, tag: &str, class: &str, text: &str) -> Option<Element> {
    let child = report(document().create_element(tag))?;
    if !class.is_empty() {
        child.set_class_name(class);
    }
    if !text.is_empty() {
        child.set_text_content(Some(text));
    }
    report(parent.append_child(&child))?;
    Some(child)
}

/// DOM calls fail only on misuse; such a fault must not stay unseen, and must not stop the page.
pub fn report<T>(result: Result<T, JsValue>) -> Option<T> {
    result.map_err(|error| web_sys::console::error_1(&error)).ok()
}

/// Writes to the document only what is not there already, so that a frame in which nothing changed costs nothing.
#[derive(Default)]
pub struct Texts {
    written: HashMap<&'static str, (Element, String)>,
}

impl Texts {
    /// Sets the text of an element; `true` when it is another than before.
    pub fn set(&mut self, id: &'static str, text: &str) -> bool {
        let (element, written) = self.written.entry(id).or_insert_with(|| {
            let element: Element = element(id);
            let written = element.text_content().unwrap_or_default();
            (element, written)
        });
        if written == text {
            return false;
        }
        element.set_text_content(Some(text));
        text.clone_into(written);
        true
    }

    /// Sets a measured value; `None` shows `otherwise`, set apart from numbers.
    pub fn value(&mut self, id: &'static str, value: Option<String>, otherwise: &str) {
        if self.set(id, value.as_deref().unwrap_or(otherwise)) {
            let class = if value.is_some() { "measured" } else { "unmeasured" };
            let list = self.written[id].0.class_list();
            report(list.remove_2("measured", "unmeasured"));
            report(list.add_1(class));
        }
    }
}

pub fn show(id: &str, shown: bool) {
    let element: HtmlElement = element(id);
    if element.hidden() == shown {
        element.set_hidden(!shown);
    }
}
