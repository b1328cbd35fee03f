//! The page in the browser: state into the document once per frame, the user's actions into commands.

mod actions;
mod catalog;
mod charts;
mod controls;
mod dom;
mod log;
mod long_tasks;
mod stream;
mod view;
mod worker_link;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;

use self::controls::Controls;
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
    long_tasks: Rc<LongTasks>,
    frame_requested: Cell<bool>,
    frame: OnceCell<Closure<dyn FnMut(f64)>>,
}

/// Starts the page. Called once, by `bin/page.rs`.
pub fn run() {
    crate::panic::report(|_| {});
    let app = Rc::new(App {
        state: RefCell::new(State::default()),
        view: RefCell::new(View::new()),
        controls: Controls::default(),
        worker: RefCell::new(WorkerLink::default()),
        long_tasks: LongTasks::observe(),
        frame_requested: Cell::new(false),
        frame: OnceCell::new(),
    });
    app.start();
}

impl App {
    /// Changes the state and has it drawn in the next frame. At most one drawing per frame, however many events come.
    fn change(self: &Rc<Self>, change: impl FnOnce(&mut State)) {
        change(&mut self.state.borrow_mut());
        self.request_frame();
    }

    fn request_frame(self: &Rc<Self>) {
        if self.frame_requested.replace(true) {
            return;
        }
        let frame = self.frame.get_or_init(|| {
            let app = Rc::clone(self);
            Closure::new(move |_| app.draw())
        });
        dom::report(dom::window().request_animation_frame(frame.as_ref().unchecked_ref()));
    }

    fn draw(&self) {
        self.frame_requested.set(false);
        let state = self.state.borrow();
        self.long_tasks.set_busy(state.phase.busy());
        self.view.borrow_mut().draw(&state, &self.controls, &self.long_tasks);
    }

    /// Shows what is wrong with inputs or address, at the inputs themselves and in words.
    fn refuse(self: &Rc<Self>, errors: &[InputError]) {
        self.controls.mark_invalid(errors);
        self.change(|state| state.fail(controls::request_failure(errors)));
    }
}
