//! The picture on a canvas, with Canvas 2D. It draws only when something changed or still glows.

use wasm_bindgen::JsCast;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, MediaQueryList};

use crate::state::State;

use super::geometry::{Arrow, Geometry, Hit, Rect, Shape};
use super::picture::{EventClock, Picture};
use super::{Cell, words};

mod around;
mod brush;
mod cells;

use self::brush::{Brush, Look};

/// Width of a part of the file on the strip, in CSS pixels.
const BIN_WIDTH: f64 = 2.0;

/// Draws the core on its canvas, see the [module](self).
pub struct CorePainter {
    canvas: HtmlCanvasElement,
    context: CanvasRenderingContext2d,
    calm: Option<MediaQueryList>,
    clock: EventClock,
    picture: Picture,
    geometry: Geometry,
    /// Cells where they are drawn: on whole device pixels. Asking the geometry for thousands of them takes longer than
    /// drawing.
    rects: Vec<Rect>,
    buckets: cells::Buckets,
    look: Option<Look>,
    drawn: Option<Drawn>,
}

/// What the canvas shows, besides what glows.
#[derive(Clone, Copy, PartialEq)]
struct Drawn {
    revision: u64,
    at_ms: f64,
    shape: Shape,
    selected: Option<Cell>,
    cumulative: bool,
}

impl CorePainter {
    /// A painter for this canvas, which fills its place on the page.
    ///
    /// # Panics
    /// The canvas has been given another context than a 2D one.
    pub fn new(canvas: HtmlCanvasElement) -> Self {
        let context = canvas.get_context("2d").ok().flatten().and_then(|context| context.dyn_into().ok());
        let calm =
            web_sys::window().and_then(|window| window.match_media("(prefers-reduced-motion: reduce)").ok().flatten());
        Self {
            context: context.expect("no other context was asked of it"),
            canvas,
            calm,
            clock: EventClock::default(),
            picture: Picture::default(),
            geometry: Geometry::default(),
            rects: Vec::new(),
            buckets: cells::Buckets::default(),
            look: None,
            drawn: None,
        }
    }

    /// Colours, size and pixel ratio may be others now: they are asked for again before the next drawing. Asking for
    /// them makes the browser lay out the page, so it is not done at each.
    pub fn restyle(&mut self) {
        (self.look, self.drawn) = (None, None);
    }

    /// Draws the state as it is at `now_ms` by the page's clock, if the canvas shows something else. In the cumulative
    /// view cells are as bright as this answer used them. Gives whether something still glows, so that it must be drawn
    /// again soon.
    pub fn draw(&mut self, state: &State, selected: Option<Cell>, cumulative: bool, now_ms: f64) -> bool {
        let inside = &state.inside;
        let shape = Shape { layers: inside.layers, experts: inside.experts };
        let event_ms = self.clock.event_ms(inside, now_ms);
        let drawn = Some(Drawn { revision: inside.revision, at_ms: inside.at_ms, shape, selected, cumulative });
        if self.drawn == drawn && !self.picture.moving {
            return false;
        }
        if self.drawn.map(|drawn| drawn.revision) != Some(inside.revision) {
            // A label that cannot be set is no reason not to draw.
            let _ = self.canvas.set_attribute("aria-label", &words::label(state));
        }
        let is_new_look = self.look.is_none();
        let Some(look) = self.look.take().or_else(|| Look::read(&self.canvas)) else { return false };
        if is_new_look || self.geometry.shape != shape {
            self.geometry = Geometry::new(look.width, look.height, shape);
            self.rects.clear();
            let all = (0..shape.layers).flat_map(|layer| (0..shape.experts).map(move |expert| Cell { layer, expert }));
            self.rects.extend(all.map(|cell| look.snapped(self.geometry.cell(cell))));
        }
        let reduced_motion = self.calm.as_ref().is_some_and(MediaQueryList::matches);
        let bins = (self.geometry.strip.width / BIN_WIDTH) as usize;
        self.picture.update(state, event_ms, reduced_motion, bins);
        self.paint(&look, state, selected, cumulative);
        (self.look, self.drawn) = (Some(look), drawn);
        self.picture.moving
    }

    /// The cell at a point of the canvas, in CSS pixels from its upper left corner.
    pub fn hit(&self, x: f64, y: f64) -> Option<Cell> {
        match self.geometry.hit(x, y) {
            Some(Hit::Cell(cell)) => Some(cell),
            _ => None,
        }
    }

    /// The part of the file at a point of the canvas, as shares of it from 0 to 1: for [`words::file_part`].
    pub fn hit_file(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        match self.geometry.hit(x, y) {
            Some(Hit::File { from, to }) => Some((from, to)),
            _ => None,
        }
    }

    /// The cell that an arrow key leads to.
    pub fn neighbour(&self, cell: Cell, arrow: Arrow) -> Cell {
        self.geometry.neighbour(cell, arrow)
    }

    fn paint(&mut self, look: &Look, state: &State, selected: Option<Cell>, cumulative: bool) {
        let brush = Brush::begin(&self.canvas, &self.context, look);
        let (geometry, picture) = (&self.geometry, &self.picture);
        brush.font(geometry.text_size);
        around::strip(&brush, geometry, &picture.strip, state);
        around::legend(&brush, geometry);
        if picture.shape.layers == 0 {
            return;
        }
        around::names(&brush, geometry, picture);
        around::kv(&brush, geometry, picture);
        let is_large = geometry.has_room_in_cells();
        cells::cells(&brush, picture, &self.rects, &mut self.buckets, cells::Way { cumulative, is_large });
        if !cumulative {
            cells::links(&brush, geometry, picture, &self.rects, selected.map(|cell| cell.layer));
        }
        if is_large {
            cells::numbers(&brush, geometry, &state.inside, &self.rects);
        }
        around::thread(&brush, geometry, picture);
        around::norms(&brush, geometry, picture, &state.inside);
        around::reads(&brush, geometry, picture, &self.rects);
        if let Some(cell) = selected {
            cells::selected(&brush, geometry, &state.inside, &self.rects, cell);
        }
        cells::miss(&brush, picture, &self.rects, geometry);
    }
}
