//! The two dense pictures, on Canvas 2D. Each has its numbers in words as its label.

use std::collections::HashMap;
use std::rc::Rc;

use wasm_bindgen::{JsCast, JsValue};
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement};

use super::dom::{document, element, report, window};
use crate::format;
use crate::state::{Answer, State};

/// Cells of the weight stream, in CSS pixels.
const CELL: f64 = 8.0;
const CELL_GAP: f64 = 2.0;
/// One token of the entropy line, in CSS pixels.
const STEP: f64 = 3.0;
const LINE_HEIGHT: f64 = 56.0;
/// The entropy line's scale reaches at least this far, so that a sure model draws a flat line and not noise.
const LEAST_SCALE_NATS: f32 = 1.0;

/// A canvas sized to its place on the page, in device pixels. Asking for that place makes the browser lay the page out at
/// once, so it is asked again only after the window changed.
struct Canvas {
    element: HtmlCanvasElement,
    context: CanvasRenderingContext2d,
    place: Option<Place>,
    height: f64,
}

/// What drawing depends on besides the numbers.
#[derive(Clone)]
struct Place {
    width: f64,
    scale: f64,
    colours: Rc<HashMap<&'static str, String>>,
}

/// The colours of the tokens file that the canvases use.
const COLOURS: [&str; 5] = ["--accent", "--accent-mid", "--text", "--text-dim", "--line-strong"];

const WEIGHT_CELLS: &str = "weights-cells";
const ENTROPY_LINE: &str = "entropy-line";
/// Ids of all of them.
pub const CANVASES: [&str; 2] = [WEIGHT_CELLS, ENTROPY_LINE];

impl Canvas {
    fn new(id: &str) -> Self {
        let element: HtmlCanvasElement = element(id);
        let context = element.get_context("2d").ok().flatten().and_then(|context| context.dyn_into().ok());
        Self { element, context: context.expect("every canvas has a 2d context"), place: None, height: 0.0 }
    }

    fn place(&mut self) -> Place {
        let measure = || Place {
            width: f64::from(self.element.client_width()).max(1.0),
            scale: window().device_pixel_ratio().max(1.0),
            colours: Rc::new(colours()),
        };
        self.place.get_or_insert_with(measure).clone()
    }

    /// Clears the canvas, with this height in CSS pixels, and makes its units CSS pixels.
    fn prepare(&mut self, place: &Place, height: f64) {
        if self.height != height {
            report(self.element.style().set_property("height", &format!("{height}px")));
            self.height = height;
        }
        // Setting the size clears, and forgets the transformation.
        self.element.set_width((place.width * place.scale).round() as u32);
        self.element.set_height((height * place.scale).round() as u32);
        report(self.context.scale(place.scale, place.scale));
    }

    fn label(&self, text: &str) {
        report(self.element.set_attribute("aria-label", text));
    }
}

impl Place {
    fn colour(&self, name: &str) -> &str {
        self.colours.get(name).map_or("", String::as_str)
    }
}

fn colours() -> HashMap<&'static str, String> {
    let styles = document().document_element().and_then(|root| window().get_computed_style(&root).ok().flatten());
    let value = |name| styles.as_ref().and_then(|styles| styles.get_property_value(name).ok()).unwrap_or_default();
    COLOURS.into_iter().map(|name| (name, value(name))).collect()
}

/// How wide a stored weight is, for the colour of its cell.
fn format_colour(format: &str) -> &'static str {
    match format {
        "MXFP4" => "--accent",
        "Q8_0" => "--accent-mid",
        _ => "--text-dim",
    }
}

/// One cell per tensor: outlined before it arrives, filled when it is complete.
pub struct WeightCells {
    canvas: Canvas,
    drawn: Option<(usize, u32)>,
}

impl WeightCells {
    pub fn new() -> Self {
        Self { canvas: Canvas::new(WEIGHT_CELLS), drawn: None }
    }

    pub fn redraw(&mut self) {
        self.canvas.place = None;
        self.drawn = None;
    }

    pub fn draw(&mut self, state: &State) {
        let count = state.tensor_count.unwrap_or(0);
        if self.drawn == Some((state.tensors.len(), count)) {
            return;
        }
        self.drawn = Some((state.tensors.len(), count));
        let pitch = CELL + CELL_GAP;
        let page = self.canvas.place();
        let columns = ((page.width + CELL_GAP) / pitch).floor().max(1.0) as u32;
        let rows = count.div_ceil(columns).max(1);
        self.canvas.prepare(&page, f64::from(rows) * pitch - CELL_GAP);
        let place = |index: u32| (f64::from(index % columns) * pitch, f64::from(index / columns) * pitch);
        let context = &self.canvas.context;
        context.set_stroke_style_str(page.colour("--line-strong"));
        context.set_line_width(1.0);
        for index in 0..count {
            let (x, y) = place(index);
            context.stroke_rect(x + 0.5, y + 0.5, CELL - 1.0, CELL - 1.0);
        }
        for name in ["--accent", "--accent-mid", "--text-dim"] {
            context.set_fill_style_str(page.colour(name));
            for tensor in state.tensors.iter().filter(|tensor| format_colour(&tensor.format) == name) {
                let (x, y) = place(tensor.index);
                context.fill_rect(x, y, CELL, CELL);
            }
        }
        self.canvas.label(&match count {
            0 => "No tensor has arrived yet".to_owned(),
            count => format!("{} of {count} tensors are in place", state.tensors.len()),
        });
    }
}

/// Entropy of the latest tokens, newest at the right.
pub struct EntropyLine {
    canvas: Canvas,
    drawn: Option<(u32, usize)>,
}

impl EntropyLine {
    pub fn new() -> Self {
        Self { canvas: Canvas::new(ENTROPY_LINE), drawn: None }
    }

    pub fn redraw(&mut self) {
        self.canvas.place = None;
        self.drawn = None;
    }

    pub fn draw(&mut self, answer: &Answer) {
        if self.drawn == Some((answer.number, answer.entropies.len())) {
            return;
        }
        self.drawn = Some((answer.number, answer.entropies.len()));
        let page = self.canvas.place();
        self.canvas.prepare(&page, LINE_HEIGHT);
        let shown = ((page.width - 8.0) / STEP).max(2.0) as usize;
        let values = &answer.entropies[answer.entropies.len().saturating_sub(shown)..];
        let Some(&last) = values.last() else { return self.canvas.label("Entropy was not measured yet") };
        let highest = values.iter().copied().fold(LEAST_SCALE_NATS, f32::max);
        let y = |value: f32| LINE_HEIGHT - 4.0 - f64::from(value / highest) * (LINE_HEIGHT - 8.0);
        let context = &self.canvas.context;
        context.set_stroke_style_str(page.colour("--accent"));
        context.set_line_width(1.5);
        context.begin_path();
        for (index, &value) in values.iter().enumerate() {
            context.line_to(2.0 + index as f64 * STEP, y(value));
        }
        context.stroke();
        context.set_fill_style_str(page.colour("--text"));
        let end = 2.0 + (values.len() - 1) as f64 * STEP;
        context.fill_rect(end - 1.5, y(last) - 1.5, 3.0, 3.0);
        self.canvas.label(&format!(
            "Entropy of the last {}: now {last:.2} nats, at most {:.2}",
            format::plural(values.len() as u64, "token"),
            values.iter().copied().fold(0.0, f32::max)
        ));
    }
}

/// Sets a custom property that a style sheet draws from, as a share of one.
pub fn set_share(target: &JsValue, property: &str, share: f64) {
    if let Some(element) = target.dyn_ref::<web_sys::HtmlElement>() {
        report(element.style().set_property(property, &format!("{:.2}%", share.clamp(0.0, 1.0) * 100.0)));
    }
}
