//! A canvas context that knows the page's colours, and does not tell the browser twice what it told it already.

use std::cell::Cell as StdCell;

use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement};

use crate::core::geometry::Rect;

/// A colour of the page's tokens file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Accent,
    AccentMid,
    Cool,
    Bad,
    Text,
    Dim,
    Line,
}

const PROPERTIES: [&str; 7] = ["--accent", "--accent-mid", "--cool", "--bad", "--text", "--text-dim", "--line-strong"];

/// Side of the picture of a glow, in pixels. It is drawn larger and smaller.
const GLOW_SIDE: u32 = 64;

/// What drawing depends on besides the picture.
pub struct Look {
    /// Width of the canvas in CSS pixels.
    pub width: f64,
    /// Height of the canvas in CSS pixels.
    pub height: f64,
    /// Device pixels of a CSS pixel.
    pub scale: f64,
    colours: [String; PROPERTIES.len()],
    mono: String,
    accent_glow: HtmlCanvasElement,
    bad_glow: HtmlCanvasElement,
    dots: Array,
    solid: Array,
}

impl Look {
    /// Asks the browser for it; `None` where there is no window, or no room.
    pub fn read(canvas: &HtmlCanvasElement) -> Option<Self> {
        let window = web_sys::window()?;
        let (width, height) = (f64::from(canvas.client_width()), f64::from(canvas.client_height()));
        if width < 1.0 || height < 1.0 {
            return None;
        }
        let styles = window.get_computed_style(canvas).ok().flatten()?;
        let value = |name: &str| styles.get_property_value(name).unwrap_or_default().trim().to_owned();
        let colours = PROPERTIES.map(value);
        let accent_glow = glow_picture(&window.document()?, &colours[Colour::Accent as usize])?;
        let bad_glow = glow_picture(&window.document()?, &colours[Colour::Bad as usize])?;
        let mono = Some(value("--mono")).filter(|mono| !mono.is_empty()).unwrap_or_else(|| "monospace".to_owned());
        let dots = Array::of2(&JsValue::from(1.0), &JsValue::from(3.0));
        let scale = window.device_pixel_ratio().max(1.0);
        Some(Self { width, height, scale, colours, mono, accent_glow, bad_glow, dots, solid: Array::new() })
    }

    /// The nearest rectangle of whole device pixels.
    pub fn snapped(&self, rect: Rect) -> Rect {
        let snap = |value: f64| (value * self.scale).round() / self.scale;
        let (x, y) = (snap(rect.x), snap(rect.y));
        let least = 1.0 / self.scale;
        Rect { x, y, width: (snap(rect.right()) - x).max(least), height: (snap(rect.bottom()) - y).max(least) }
    }
}

/// A spot that fades to its border. Drawing it costs far less than the shadow of every cell would.
fn glow_picture(document: &web_sys::Document, colour: &str) -> Option<HtmlCanvasElement> {
    let canvas: HtmlCanvasElement = document.create_element("canvas").ok()?.dyn_into().ok()?;
    canvas.set_width(GLOW_SIDE);
    canvas.set_height(GLOW_SIDE);
    let context: CanvasRenderingContext2d = canvas.get_context("2d").ok().flatten()?.dyn_into().ok()?;
    let middle = f64::from(GLOW_SIDE) / 2.0;
    context.set_fill_style_str(colour);
    const STEPS: u32 = 24;
    for step in 1..=STEPS {
        // Discs upon each other: the sum of many small opacities is a slope.
        context.set_global_alpha(0.055 * f64::from(step) / f64::from(STEPS));
        context.begin_path();
        let radius = middle * (1.0 - f64::from(step - 1) / f64::from(STEPS));
        context.arc(middle, middle, radius, 0.0, std::f64::consts::TAU).ok()?;
        context.fill();
    }
    Some(canvas)
}

/// The context while one picture is drawn.
pub struct Brush<'a> {
    /// The context itself, in CSS pixels.
    pub context: &'a CanvasRenderingContext2d,
    /// Sizes and colours.
    pub look: &'a Look,
    fill: StdCell<Option<Colour>>,
    stroke: StdCell<Option<Colour>>,
}

impl<'a> Brush<'a> {
    /// An empty canvas.
    pub fn begin(canvas: &HtmlCanvasElement, context: &'a CanvasRenderingContext2d, look: &'a Look) -> Self {
        let (width, height) = ((look.width * look.scale).round() as u32, (look.height * look.scale).round() as u32);
        if (canvas.width(), canvas.height()) != (width, height) {
            canvas.set_width(width);
            canvas.set_height(height);
        }
        let _ = context.set_transform(look.scale, 0.0, 0.0, look.scale, 0.0, 0.0);
        context.set_global_alpha(1.0);
        context.clear_rect(0.0, 0.0, look.width, look.height);
        Self { context, look, fill: StdCell::new(None), stroke: StdCell::new(None) }
    }

    /// Size of what is written, in CSS pixels.
    pub fn font(&self, size: f64) {
        self.context.set_font(&format!("{size}px {}", self.look.mono));
    }

    /// A colour as the tokens file has it.
    pub fn colour(&self, colour: Colour) -> &str {
        &self.look.colours[colour as usize]
    }

    /// Fills have this colour and opacity from here on.
    pub fn fill(&self, colour: Colour, alpha: f64) {
        if self.fill.replace(Some(colour)) != Some(colour) {
            self.context.set_fill_style_str(&self.look.colours[colour as usize]);
        }
        self.context.set_global_alpha(alpha.clamp(0.0, 1.0));
    }

    /// Lines have this colour, opacity and width from here on.
    pub fn stroke(&self, colour: Colour, alpha: f64, width: f64) {
        if self.stroke.replace(Some(colour)) != Some(colour) {
            self.context.set_stroke_style_str(&self.look.colours[colour as usize]);
        }
        self.context.set_global_alpha(alpha.clamp(0.0, 1.0));
        self.context.set_line_width(width);
    }

    /// A filled rectangle.
    pub fn rect(&self, rect: Rect) {
        self.context.fill_rect(rect.x, rect.y, rect.width, rect.height);
    }

    /// The border of a rectangle, inside it.
    pub fn frame(&self, rect: Rect, width: f64) {
        let (w, h) = ((rect.width - width).max(0.0), (rect.height - width).max(0.0));
        self.context.stroke_rect(rect.x + width / 2.0, rect.y + width / 2.0, w, h);
    }

    /// Text at a point of its baseline.
    pub fn text(&self, text: &str, x: f64, y: f64, align: Align) {
        self.context.set_text_align(match align {
            Align::Left => "left",
            Align::Centre => "center",
            Align::Right => "right",
        });
        // Nothing of what is drawn depends on whether a text could be.
        let _ = self.context.fill_text(text, x, y);
    }

    /// Lines are dotted from here on, or no longer.
    pub fn dotted(&self, is_dotted: bool) {
        let _ = self.context.set_line_dash(if is_dotted { &self.look.dots } else { &self.look.solid });
    }

    /// Light around a rectangle, added to what is there.
    pub fn glow(&self, rect: Rect, reach: f64, colour: Colour, alpha: f64) {
        let picture = if colour == Colour::Bad { &self.look.bad_glow } else { &self.look.accent_glow };
        let _ = self.context.set_global_composite_operation("lighter");
        self.context.set_global_alpha(alpha.clamp(0.0, 1.0));
        let (width, height) = (rect.width + 2.0 * reach, rect.height + 2.0 * reach);
        let _ = self.context.draw_image_with_html_canvas_element_and_dw_and_dh(
            picture,
            rect.x - reach,
            rect.y - reach,
            width,
            height,
        );
        let _ = self.context.set_global_composite_operation("source-over");
    }

    /// Fills a disc.
    pub fn disc(&self, x: f64, y: f64, radius: f64) {
        self.context.begin_path();
        let _ = self.context.arc(x, y, radius, 0.0, std::f64::consts::TAU);
        self.context.fill();
    }
}

/// Where a text is, compared with the point that it is written at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Centre,
    Right,
}
