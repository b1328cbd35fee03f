//! The core and the attention map: what goes on inside the model, and telling the worker that somebody looks.

use std::rc::Rc;

use gptoss_protocol::{Command, Head, Watch};
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{Element, Event, HtmlElement, HtmlInputElement, KeyboardEvent, MouseEvent, ResizeObserver};

use super::dom::{document, element, listen, report, show, window};
use super::tunnel_link;
use super::{App, now_ms};
use crate::action::Tab;
use crate::core::geometry::Arrow;
use crate::core::paint::CorePainter;
use crate::core::{Cell, words};
use crate::panels::attention;
use crate::state::State;
use crate::view::{Mounted, Node, element as dom_element, text};

/// The core's painter, and what of the core is looked at.
pub struct CoreView {
    painter: CorePainter,
    twin: Mounted,
    /// Cell that was pressed or reached by arrow keys.
    selected: Option<Cell>,
    pointed: Option<Cell>,
    /// Part of the file under the pointer, as shares.
    pointed_file: Option<(f64, f64)>,
    cumulative: bool,
    has_twin: bool,
    watched: Watch,
    pub head: Option<Head>,
    /// Why the head that was asked for cannot be watched; empty where it can.
    pub head_problem: String,
}

impl CoreView {
    pub fn new() -> Self {
        Self {
            painter: CorePainter::new(element("core-canvas")),
            twin: Mounted::new(element("core-twin")),
            selected: None,
            pointed: None,
            pointed_file: None,
            cumulative: false,
            has_twin: false,
            watched: Watch::default(),
            head: None,
            head_problem: String::new(),
        }
    }

    /// The place on the page or the theme is another.
    pub fn restyle(&mut self) {
        self.painter.restyle();
    }

    /// Draws; whether something still glows.
    fn draw(&mut self, state: &State) -> bool {
        let looked_at = self.pointed.or(self.selected);
        self.painter.draw(state, looked_at, self.cumulative, now_ms())
    }

    /// The words around the picture.
    pub fn draw_words(&mut self, state: &State, texts: &mut super::dom::Texts) {
        texts.set("core-title", &words::title(state));
        texts.set("core-line", &words::readout(state));
        let looked_at = self.pointed.or(self.selected).and_then(|cell| words::cell(&state.inside, cell));
        let file = self.pointed_file.and_then(|(from, to)| words::file_part(&state.inside, from, to));
        texts.set("core-cell", looked_at.or(file).as_deref().unwrap_or_default());
        if self.has_twin {
            self.twin.draw(vec![twin(state)]);
        }
    }
}

fn twin(state: &State) -> Node {
    let table = words::table(state);
    let cells = |tag, cells: &[String]| -> Node {
        dom_element("tr").children(cells.iter().map(|cell| dom_element(tag).text(cell))).into()
    };
    let head = cells("th", &table.header.map(str::to_owned));
    let rows = table.rows.iter().map(|row| cells("td", row));
    if table.rows.is_empty() {
        return text("Nothing is known of a model yet.");
    }
    dom_element("table").child(dom_element("thead").child(head)).child(dom_element("tbody").children(rows)).into()
}

impl App {
    /// Draws the core now and, while something glows, again with every frame.
    pub(super) fn draw_core(self: &Rc<Self>) {
        if self.core_frame.replace(true) {
            return;
        }
        let app = Rc::clone(self);
        let frame = Closure::once_into_js(move |_: f64| {
            app.core_frame.set(false);
            let glows = {
                let state = app.state.borrow();
                let looking = app.looking.borrow();
                app.core.borrow_mut().draw(looking.inside(&state))
            };
            if glows {
                app.draw_core();
            }
        });
        report(window().request_animation_frame(frame.unchecked_ref()));
    }

    /// Tells the worker what is looked at, if that is another than before.
    pub(super) fn watch(self: &Rc<Self>) {
        let seen = !document().hidden();
        let head = self.core.borrow().head;
        let times = self.looking.borrow().tab == Some(Tab::Work);
        let watch = match seen {
            true => Watch { routes: true, residual: true, attention: head, times },
            false => Watch::default(),
        };
        let is_new = std::mem::replace(&mut self.core.borrow_mut().watched, watch) != watch;
        if is_new {
            tunnel_link::ask(self, Command::Watch { watch });
        }
    }

    /// A new worker knows nothing of what is looked at.
    pub(super) fn watch_anew(self: &Rc<Self>) {
        self.core.borrow_mut().watched = Watch::default();
        self.watch();
    }

    pub(super) fn listen_to_core(self: &Rc<Self>) {
        let canvas: HtmlElement = element("core-canvas");
        // Not only the window takes room from it: the table below does, rows and all.
        let app = Rc::clone(self);
        let resized = Closure::<dyn FnMut()>::new(move || {
            app.core.borrow_mut().restyle();
            app.draw_core();
        });
        if let Some(observer) = report(ResizeObserver::new(resized.as_ref().unchecked_ref())) {
            observer.observe(&canvas);
        }
        resized.forget();
        for name in ["mousemove", "mouseleave", "click"] {
            let app = Rc::clone(self);
            listen(&canvas, name, move |event: MouseEvent| {
                {
                    let mut core = app.core.borrow_mut();
                    let (x, y) = (f64::from(event.offset_x()), f64::from(event.offset_y()));
                    let left = name == "mouseleave";
                    core.pointed = core.painter.hit(x, y).filter(|_| !left);
                    core.pointed_file = core.painter.hit_file(x, y).filter(|_| !left);
                    if name == "click" {
                        core.selected = core.pointed.filter(|_| core.selected != core.pointed);
                    }
                }
                app.request_frame();
            });
        }
        let app = Rc::clone(self);
        listen(&canvas, "keydown", move |event: KeyboardEvent| {
            let Some(arrow) = Arrow::of_key(&event.key()) else { return };
            event.prevent_default();
            {
                let mut core = app.core.borrow_mut();
                let from = core.selected;
                let to = from.map_or(Cell { layer: 0, expert: 0 }, |cell| core.painter.neighbour(cell, arrow));
                core.selected = Some(to);
            }
            app.request_frame();
        });
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>("core-cumulative"), "click", move |_: Event| {
            let on = !app.core.borrow().cumulative;
            app.core.borrow_mut().cumulative = on;
            press("core-cumulative", "aria-pressed", on);
            app.request_frame();
        });
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>("core-twin-button"), "click", move |_: Event| {
            let on = !app.core.borrow().has_twin;
            app.core.borrow_mut().has_twin = on;
            press("core-twin-button", "aria-expanded", on);
            show("core-twin", on);
            app.request_frame();
        });
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>("attention-on"), "click", move |_: Event| app.press_attention());
    }

    /// Watches the head that was chosen, or no longer.
    fn press_attention(self: &Rc<Self>) {
        let value = |id: &str| element::<HtmlInputElement>(id).value();
        let chosen = {
            let state = self.state.borrow();
            attention::head(&value("attention-layer"), &value("attention-head"), state.model.as_ref())
        };
        let now = self.core.borrow().head;
        let (head, said) = match chosen {
            // A press for another head than before watches that one.
            Ok(head) if now != Some(head) => (Some(head), String::new()),
            Ok(_) => (None, String::new()),
            Err(expected) => (now, expected),
        };
        {
            let mut core = self.core.borrow_mut();
            (core.head, core.head_problem) = (head, said);
        }
        self.watch();
        self.request_frame();
    }
}

fn press(id: &str, attribute: &str, on: bool) {
    report(element::<Element>(id).set_attribute(attribute, if on { "true" } else { "false" }));
}
