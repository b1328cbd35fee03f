//! The worker at the other end: commands out, events in.

use std::cell::RefCell;
use std::rc::Rc;

use gptoss_protocol::{self as protocol, Command, Envelope, Failure, FailureKind, Request, RequestId};
use gptoss_source::words_of;
use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{ErrorEvent, Event, File, MessageEvent, Worker, WorkerOptions, WorkerType};

use super::dom::{document, listen};
use super::{App, local_network, memory};

/// What the page builder, as trunk, calls the worker's loader; it lies beside the page's own files.
const WORKER_SCRIPT: &str = "worker_loader.js";

/// A worker and the commands that wait for it to be up.
#[derive(Default)]
pub struct WorkerLink {
    worker: Option<Worker>,
    ready: bool,
    waiting: Vec<Array>,
}

impl WorkerLink {
    /// Takes note of a command and sends it, with the picked files beside it where there are any. Kept back until the worker says
    /// that it takes commands.
    pub fn ask(app: &Rc<App>, command: Command, files: &[File]) {
        let id = app.note(&command);
        Self::send(app, id, command, files);
    }

    fn send(app: &Rc<App>, id: RequestId, command: Command, files: &[File]) {
        let json = Request::new(id, command).to_json();
        let message: Array = std::iter::once(JsValue::from(json)).chain(files.iter().map(JsValue::from)).collect();
        Self::start(app);
        let mut link = app.worker.borrow_mut();
        link.waiting.push(message);
        link.flush();
    }

    /// Starts the worker if there is none.
    pub fn start(app: &Rc<App>) {
        if app.worker.borrow().worker.is_some() {
            return;
        }
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let base = document().base_uri().ok().flatten().unwrap_or_default();
        let started = web_sys::Url::new_with_base(WORKER_SCRIPT, &base)
            .and_then(|url| Worker::new_with_options(&url.href(), &options));
        match started {
            Ok(worker) => {
                Self::listen(app, &worker);
                *app.worker.borrow_mut() = Self { worker: Some(worker), ready: false, waiting: Vec::new() };
                app.tell(protocol::Event::HostStarted);
            }
            Err(error) => {
                let failure = internal(format!("the worker cannot be started: {}", words_of(&error)));
                app.tell(protocol::Event::WatcherFailed(failure));
            }
        }
    }

    /// Ends the worker, whatever it is doing, and starts another.
    pub fn replace(app: &Rc<App>) {
        Self::terminate(app);
        app.tell(protocol::Event::HostEnded);
        Self::start(app);
    }

    /// Another worker in place of this one, whose model is not wanted any more.
    pub fn renew(app: &Rc<App>) {
        Self::terminate(app);
        Self::start(app);
    }

    fn terminate(app: &Rc<App>) {
        let link = std::mem::take(&mut *app.worker.borrow_mut());
        if let Some(worker) = link.worker {
            worker.terminate();
        }
    }

    fn listen(app: &Rc<App>, worker: &Worker) {
        let (events, sender) = (Rc::clone(app), worker.clone());
        listen(worker, "message", move |message: MessageEvent| {
            // One that was ended may have sent something that is still on its way.
            let is_current = events.worker.borrow().worker.as_ref() == Some(&sender);
            if is_current {
                receive(&events, &message);
            }
        });
        let died = Rc::clone(app);
        listen(worker, "error", move |event: Event| {
            event.prevent_default();
            end(&died, worker_error(&event));
        });
        let unreadable = Rc::clone(app);
        listen(worker, "messageerror", move |_: MessageEvent| {
            end(&unreadable, "the engine's worker sent something that cannot be read".to_owned());
        });
    }

    fn flush(&mut self) {
        let Some(worker) = self.worker.as_ref().filter(|_| self.ready) else { return };
        for message in self.waiting.drain(..) {
            super::dom::report(worker.post_message(&message));
        }
    }

    fn set_ready(link: &RefCell<Self>) {
        let mut link = link.borrow_mut();
        link.ready = true;
        link.flush();
    }
}

fn receive(app: &Rc<App>, message: &MessageEvent) {
    let parsed = match message.data().as_string() {
        Some(text) => Envelope::from_json(&text).map_err(|error| error.to_string()),
        None => Err("the engine's worker sent something other than text".to_owned()),
    };
    match parsed {
        Ok(envelope) => {
            if let protocol::Event::Remember { key } = &envelope.event {
                memory::remember(key);
            }
            let event = envelope.event.clone();
            app.apply(envelope);
            local_network::look_at(app, &event);
            if app.state.borrow().host_ready && !app.worker.borrow().ready {
                WorkerLink::set_ready(&app.worker);
                app.watch_anew();
            }
        }
        Err(message) => end(app, message),
    }
}

/// A script that throws gives an `ErrorEvent`; one that cannot be loaded only a bare `Event`.
fn worker_error(event: &Event) -> String {
    match event.dyn_ref::<ErrorEvent>() {
        Some(error) => {
            format!("the engine's worker stopped: {} ({}, line {})", error.message(), error.filename(), error.lineno())
        }
        None => "the engine's worker could not be loaded".to_owned(),
    }
}

/// A worker that failed in a way of its own is not to be trusted: the next load starts a new one.
fn end(app: &Rc<App>, message: String) {
    WorkerLink::terminate(app);
    app.tell(protocol::Event::HostDied(internal(message)));
}

pub fn internal(message: String) -> Failure {
    let advice = "Reload the page and try again. If it happens again, please report it with the event log (copy or export below).";
    Failure { kind: FailureKind::Internal, message, advice: advice.to_owned(), parameter: None }
}
