//! The page in the browser: state into the document once per frame, the user's actions into commands.

mod actions;
mod canvas;
mod catalog;
mod charts;
mod chat;
mod clipboard;
mod composer;
mod controls;
pub(crate) mod dom;
mod files;
mod gate;
mod inside;
mod local_network;
mod long_tasks;
mod looking;
mod memory;
mod panels;
mod picked;
mod storage;
mod time;
mod tunnel_link;
mod view;
mod worker_link;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;

use self::composer::Composer;
use self::controls::Controls;
use self::gate::GateView;
use self::inside::CoreView;
use self::local_network::LocalNetworkLink;
use self::long_tasks::LongTasks;
use self::looking::Looking;
use self::tunnel_link::TunnelLink;
use self::view::{Scene, View};
use self::worker_link::WorkerLink;
use gptoss_protocol::{Command, Envelope, Event, InputError, Recording, Replay, RequestId, Sequencer};

use super::panels::page::{Counted, Drawings};
use super::state::{RECORDED_EVENTS, State};

/// Everything that lives as long as the page.
pub struct App {
    state: RefCell<State>,
    /// All that `state` was worked out from.
    recording: RefCell<Recording<State>>,
    /// Numbers the page's own events.
    sequencer: RefCell<Sequencer>,
    requests: Cell<u64>,
    view: RefCell<View>,
    looking: RefCell<Looking>,
    /// What is shown in place of all this, where something is.
    /// The gate page, where that is what was opened: it takes the page's place.
    gate: Option<GateView>,
    core: RefCell<CoreView>,
    /// The core is drawn with the next frame.
    core_frame: Cell<bool>,
    controls: Controls,
    composer: Composer,
    /// The conversation is kept in this browser.
    keeping: Cell<bool>,
    worker: RefCell<WorkerLink>,
    tunnel: TunnelLink,
    local_network: LocalNetworkLink,
    long_tasks: Rc<LongTasks>,
    drawings: Cell<Drawings>,
    frame_requested: Cell<bool>,
    drawn_at_ms: Cell<f64>,
    frame: OnceCell<Closure<dyn FnMut(f64)>>,
    later: OnceCell<Closure<dyn FnMut()>>,
}

/// About 15 drawings per second: as fast as numbers can be read, and the rest of the machine is for the model.
const LEAST_MS_BETWEEN_DRAWINGS: f64 = 66.0;

/// Starts the page. Called once, by its program.
pub fn run() {
    console_error_panic_hook::set_once();
    let app = Rc::new(App {
        state: RefCell::new(State::default()),
        recording: RefCell::new(Recording::new(RECORDED_EVENTS)),
        sequencer: RefCell::new(Sequencer::new(js_sys::Date::now() as u64)),
        requests: Cell::new(0),
        view: RefCell::new(View::new()),
        looking: RefCell::default(),
        gate: gate::is_here().then(GateView::new),
        core: RefCell::new(CoreView::new()),
        core_frame: Cell::new(false),
        controls: Controls::new(),
        composer: Composer::new(),
        keeping: Cell::new(false),
        worker: RefCell::new(WorkerLink::default()),
        tunnel: TunnelLink::default(),
        local_network: LocalNetworkLink::default(),
        long_tasks: LongTasks::observe(),
        drawings: Cell::default(),
        frame_requested: Cell::new(false),
        drawn_at_ms: Cell::new(f64::NEG_INFINITY),
        frame: OnceCell::new(),
        later: OnceCell::new(),
    });
    app.start();
}

impl App {
    /// Takes an event into the state and has it drawn soon: in an animation frame, once for however many events came until then.
    fn apply(self: &Rc<Self>, envelope: Envelope) {
        self.state.borrow_mut().apply(&envelope);
        let changes_talk = matches!(envelope.event, Event::Finished { .. } | Event::ConversationTaken { .. });
        if let Some(gate) = &self.gate {
            gate.apply(&envelope.event);
        }
        self.recording.borrow_mut().push(envelope);
        if changes_talk {
            self.keep();
        }
        self.request_frame();
    }

    /// An event of the page's own.
    fn tell(self: &Rc<Self>, event: Event) {
        self.tell_of(None, event);
    }

    fn tell_of(self: &Rc<Self>, request: Option<RequestId>, event: Event) {
        let envelope = self.sequencer.borrow_mut().wrap(now_ms(), request, event);
        self.apply(envelope);
    }

    /// The page takes note of a command; gives the request that it is sent as.
    fn note(self: &Rc<Self>, command: &Command) -> RequestId {
        if self.looking.borrow().is_idle_picture
            && matches!(command, Command::Load { .. } | Command::Download { .. } | Command::Generate { .. })
        {
            self.looking.borrow_mut().go_live();
        }
        let id = RequestId(self.requests.get());
        self.requests.set(id.0 + 1);
        self.tell_of(Some(id), Event::Asked { command: command.clone() });
        id
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
        let elapsed_ms = now_ms() - self.drawn_at_ms.replace(now_ms());
        let state = self.state.borrow();
        if let Some(gate) = &self.gate {
            return gate.draw(&state);
        }
        self.long_tasks.set_busy(state.phase.busy());
        let recording = self.recording.borrow();
        let mut looking = self.looking.borrow_mut();
        let playing = time::go_on(&mut looking, &recording, elapsed_ms);
        looking.find_moments(&recording, &state);
        self.composer.draw(&state);
        let mut view = self.view.borrow_mut();
        let mut core = self.core.borrow_mut();
        let counted = Counted {
            long_tasks: self.long_tasks.counts(),
            drawings: self.drawings.get(),
            events: recording.dropped() + recording.events().len() as u64,
            heap_bytes: heap_bytes(),
        };
        let (live, looking, controls) = (&*state, &*looking, &self.controls);
        let begun_ms = now_ms();
        let complete = view.draw(Scene { live, recording: &recording, looking, controls, counted }, &mut core);
        drop(core);
        let mut drawings = self.drawings.get();
        drawings.add(now_ms() - begun_ms);
        self.drawings.set(drawings);
        self.draw_core();
        // Nobody sees what plays on a hidden page; it goes on when the page is seen again.
        if !complete || playing && !dom::document().hidden() {
            self.request_frame();
        }
    }

    /// Shows what is wrong with inputs or address, at the inputs themselves and in words.
    fn refuse(self: &Rc<Self>, errors: &[InputError]) {
        self.tell(Event::InputsRefused { errors: errors.to_vec() });
    }
}

/// Size of this program's own heap.
fn heap_bytes() -> u64 {
    let memory: js_sys::WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
    u64::from(memory.buffer().unchecked_into::<js_sys::ArrayBuffer>().byte_length())
}

/// Milliseconds since the page was opened.
fn now_ms() -> f64 {
    dom::window().performance().map_or(0.0, |performance| performance.now())
}
