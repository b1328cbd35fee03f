//! Canvas 2D, sized to its place on the page in device pixels.

use std::collections::HashMap;
use std::rc::Rc;

use wasm_bindgen::JsCast;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement};

use super::dom::{document, element, report, window};

/// A canvas and what drawing on it depends on. Asking for its place makes the browser lay the page out at once, so it is asked
/// again only after the window changed.
pub struct Canvas {
    element: HtmlCanvasElement,
    pub context: CanvasRenderingContext2d,
    place: Option<Place>,
    label: String,
}

/// What drawing depends on besides the numbers; in CSS pixels.
#[derive(Clone)]
pub struct Place {
    pub width: f64,
    pub height: f64,
    scale: f64,
    colours: Rc<HashMap<&'static str, String>>,
}

/// The colours of the tokens file that the canvases use.
const COLOURS: [&str; 9] = [
    "--accent",
    "--accent-mid",
    "--accent-low",
    "--bad",
    "--cool",
    "--raised",
    "--text",
    "--text-dim",
    "--line-strong",
];

impl Canvas {
    pub fn new(id: &str) -> Self {
        let element: HtmlCanvasElement = element(id);
        let context = element.get_context("2d").ok().flatten().and_then(|context| context.dyn_into().ok());
        let context = context.expect("every canvas has a 2d context");
        Self { element, context, place: None, label: String::new() }
    }

    /// Forgets its place: the window or the theme is another.
    pub fn forget_place(&mut self) {
        self.place = None;
    }

    /// Where it is; nothing can be drawn where it has no room, since its panel is not shown.
    pub fn place(&mut self) -> Option<Place> {
        if self.place.is_none() {
            let (width, height) = (f64::from(self.element.client_width()), f64::from(self.element.client_height()));
            let scale = window().device_pixel_ratio().max(1.0);
            self.place =
                (width > 0.0 && height > 0.0).then(|| Place { width, height, scale, colours: Rc::new(colours()) });
        }
        self.place.clone()
    }

    /// Clears it and makes its units CSS pixels.
    pub fn clear(&self, place: &Place) {
        // Setting the size clears, and forgets the transformation.
        self.element.set_width((place.width * place.scale).round() as u32);
        self.element.set_height((place.height * place.scale).round() as u32);
        report(self.context.scale(place.scale, place.scale));
    }

    /// Gives it another height, in CSS pixels; its place is another then.
    pub fn set_height(&mut self, height: f64) {
        if self.place.as_ref().is_none_or(|place| place.height != height) {
            report(self.element.style().set_property("height", &format!("{height}px")));
            self.place = None;
        }
    }

    /// What it shows, in words, for those who do not see it.
    pub fn label(&mut self, text: &str) {
        if self.label != text {
            report(self.element.set_attribute("aria-label", text));
            text.clone_into(&mut self.label);
        }
    }
}

impl Place {
    pub fn colour(&self, name: &str) -> &str {
        self.colours.get(name).map_or("", String::as_str)
    }
}

fn colours() -> HashMap<&'static str, String> {
    let styles = document().document_element().and_then(|root| window().get_computed_style(&root).ok().flatten());
    let value = |name| styles.as_ref().and_then(|styles| styles.get_property_value(name).ok()).unwrap_or_default();
    COLOURS.into_iter().map(|name| (name, value(name))).collect()
}
