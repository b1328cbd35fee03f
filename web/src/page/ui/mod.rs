//! The page in the browser: state into the document once per frame, the user's actions into commands.

mod actions;
mod catalog;
mod charts;
mod clipboard;
mod controls;
mod dom;
mod local_network;
mod log;
mod long_tasks;
mod memory;
mod storage;
mod stream;
mod view;
mod worker_link;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;

use self::controls::Controls;
use self::local_network::LocalNetworkLink;
use self::long_tasks::LongTasks;
use self::view::View;
use self::worker_link::WorkerLink;
use super::inputs::InputError;
use super::state::State;

/// Everything that lives as long as the page.
pub struct App {
    state: RefCell<State>,
    view: RefCell<View>,
    controls: Controls,
    worker: RefCell<WorkerLink>,
    local_network: LocalNetworkLink,
    long_tasks: Rc<LongTasks>,
    frame_requested: Cell<bool>,
    drawn_at_ms: Cell<f64>,
    frame: OnceCell<Closure<dyn FnMut(f64)>>,
    later: OnceCell<Closure<dyn FnMut()>>,
}

/// About 15 drawings per second: as fast as numbers can be read, and the rest of the machine is for the model.
const LEAST_MS_BETWEEN_DRAWINGS: f64 = 66.0;

/// Starts the page. Called once, by `bin/page.rs`.
pub fn run() {
    crate::panic::report(|_| {});
    let app = Rc::new(App {
        state: RefCell::new(State::default()),
        view: RefCell::new(View::new()),
        controls: Controls::default(),
        worker: RefCell::new(WorkerLink::default()),
        local_network: LocalNetworkLink::default(),
        long_tasks: LongTasks::observe(),
        frame_requested: Cell::new(false),
        drawn_at_ms: Cell::new(f64::NEG_INFINITY),
        frame: OnceCell::new(),
        later: OnceCell::new(),
    });
    app.start();
}

impl App {
    /// Changes the state and has it drawn soon: in an animation frame, once for however many events came until then.
    fn change(self: &Rc<Self>, change: impl FnOnce(&mut State)) {
        change(&mut self.state.borrow_mut());
        self.request_frame();
    }

    fn request_frame(self: &Rc<Self>) {
        if self.frame_requested.replace(true) {
            return;
        }
        let wait_ms = self.drawn_at_ms.get() + LEAST_MS_BETWEEN_DRAWINGS - now_ms();
        if wait_ms <= 0.0 {
            return self.next_frame();
        }
        let later = self.later.get_or_init(|| {
            let app = Rc::clone(self);
            Closure::new(move || app.next_frame())
        });
        let callback = later.as_ref().unchecked_ref();
        dom::report(
            dom::window().set_timeout_with_callback_and_timeout_and_arguments_0(callback, wait_ms.ceil() as i32),
        );
    }

    /// A hidden page gets no animation frames; what it draws is there when it is looked at, and its title can be seen.
    fn next_frame(self: &Rc<Self>) {
        let frame = self.frame.get_or_init(|| {
            let app = Rc::clone(self);
            Closure::new(move |_| app.draw())
        });
        let callback = frame.as_ref().unchecked_ref();
        if dom::document().hidden() {
            dom::report(dom::window().set_timeout_with_callback(callback));
        } else {
            dom::report(dom::window().request_animation_frame(callback));
        }
    }

    fn draw(self: &Rc<Self>) {
        self.frame_requested.set(false);
        self.drawn_at_ms.set(now_ms());
        let state = self.state.borrow();
        self.long_tasks.set_busy(state.phase.busy());
        let complete = self.view.borrow_mut().draw(&state, &self.controls, &self.long_tasks);
        if !complete {
            self.request_frame();
        }
    }

    /// Shows what is wrong with inputs or address, at the inputs themselves and in words.
    fn refuse(self: &Rc<Self>, errors: &[InputError]) {
        self.change(|state| state.refuse(errors));
    }
}

/// Milliseconds since the page was opened.
fn now_ms() -> f64 {
    dom::window().performance().map_or(0.0, |performance| performance.now())
}
