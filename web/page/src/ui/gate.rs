//! The gate page in the browser: its form read, its buttons, its address.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gptoss_protocol::{Command, Event, GateSlice, InputError, ModelLocation};
use js_sys::encode_uri_component;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Element, HtmlDialogElement, HtmlInputElement, HtmlSelectElement, KeyboardEvent};

use super::actions::{file_only, is_typing, location};
use super::dom::{Texts, document, element, listen, report, show, window};
use super::picked::PickedFiles;
use super::view::enable;
use super::worker_link::WorkerLink;
use super::{App, catalog, clipboard, local_network};
use crate::action::GatePress;
use crate::catalog::{HostedModel, first_supported};
use crate::panels::gate::{self as panel, Field, GateInputs, Gates, Refused, parse};
use crate::state::{Phase, State};
use crate::view::Mounted;

/// What is known of gates, and what of it was drawn.
pub struct GateView {
    shared: Rc<Shared>,
}

struct Shared {
    gates: RefCell<Gates>,
    found: RefCell<Mounted>,
    tensors: RefCell<Mounted>,
    models: RefCell<Mounted>,
    texts: RefCell<Texts>,
    picked: PickedFiles,
    phase: Cell<Option<Phase>>,
    /// Number of tensors that are offered.
    offered: Cell<usize>,
}

/// Whether the page's address is that of the gate page: index.html looks at it, before anything is painted.
pub fn is_here() -> bool {
    document().document_element().and_then(|root| root.get_attribute("data-view")).as_deref() == Some("gate")
}

fn input(field: Field) -> HtmlInputElement {
    element(&field.id())
}

/// What stands in the form.
fn typed() -> GateInputs {
    let mut inputs = GateInputs::default();
    for field in Field::ALL {
        inputs.set(field, &input(field).value());
    }
    inputs
}

impl GateView {
    pub fn new() -> Self {
        let mounted = |id| RefCell::new(Mounted::new(element(id)));
        Self {
            shared: Rc::new(Shared {
                gates: RefCell::default(),
                found: mounted("gate-found"),
                tensors: mounted("gate-tensors"),
                models: mounted("gate-models"),
                texts: RefCell::default(),
                picked: PickedFiles::new("gate-"),
                phase: Cell::new(None),
                offered: Cell::new(0),
            }),
        }
    }

    /// Wires the gate page up, takes its address in, and looks at what the host has to offer.
    pub fn start(&self, app: &Rc<App>) {
        let (inputs, refused) = parse(&window().location().search().unwrap_or_default());
        for field in Field::ALL {
            input(field).set_value(inputs.get(field));
        }
        app.draw();
        app.listen_to_views();
        let again = Rc::clone(app);
        listen(&document(), "visibilitychange", move |_: web_sys::Event| again.next_frame());
        let keys = Rc::clone(app);
        listen(&document(), "keydown", move |event: KeyboardEvent| {
            if let Some(gates) = &keys.gate {
                key(gates, &keys, &event);
            }
        });
        let typing = Rc::clone(app);
        listen(&input(Field::Tensor), "input", move |_: web_sys::Event| typing.request_frame());
        let shared = Rc::clone(&self.shared);
        listen(&element::<HtmlSelectElement>("gate-models"), "change", move |_: web_sys::Event| {
            shared.picked.set(Vec::new());
            input(Field::Gguf).set_value(&element::<HtmlSelectElement>("gate-models").value());
        });
        let shared = Rc::clone(&self.shared);
        self.shared.picked.listen(move |files| shared.picked.set(files));
        WorkerLink::start(app);
        let shared = Rc::clone(&self.shared);
        spawn_local(async move {
            if let Ok(models) = catalog::ask().await {
                offer(&shared, &models);
            }
        });
        if !refused.is_empty() {
            refuse(app, &refused);
        }
    }

    /// Takes an event in.
    pub fn apply(&self, event: &Event) {
        self.shared.gates.borrow_mut().apply(event);
    }

    /// Draws the gates, and what can be done.
    pub fn draw(&self, state: &State) {
        let shared = &self.shared;
        let gates = shared.gates.borrow();
        shared.found.borrow_mut().draw(panel::found(state, &gates));
        if shared.offered.replace(gates.tensors.len()) != gates.tensors.len() {
            shared.tensors.borrow_mut().draw(panel::tensors(&gates));
        }
        let mut texts = shared.texts.borrow_mut();
        texts.set("gate-status", &panel::sentence(state, &gates));
        if let Some(adapter) = &state.adapter {
            texts.set("gate-adapter", &format!("{} · {} tier", adapter.name_or_backend(), adapter.tier));
        }
        if let Some(tensor) = gates.tensor(input(Field::Tensor).value().trim()) {
            for field in Field::ALL {
                if let Some(text) = panel::placeholder(field, tensor) {
                    input(field).set_placeholder(&text);
                }
            }
        }
        for press in [GatePress::Run, GatePress::Header, GatePress::EachType, GatePress::WholeModel] {
            enable(&format!("gate-{}", press.name()), !state.phase.busy());
        }
        enable("gate-stop", state.can_stop());
        if shared.phase.replace(Some(state.phase)) != Some(state.phase) {
            if let Some(body) = document().body() {
                report(body.set_attribute("data-state", state.phase.name()));
            }
            let doing = if state.phase.busy() { "running · " } else { "" };
            document().set_title(&format!("{doing}gates of gpt-oss"));
        }
    }

    /// Asks for what the form says, of the files that were picked or else of the address.
    fn begin(&self, app: &Rc<App>, press: GatePress) {
        if app.state.borrow().phase.busy() {
            return;
        }
        let (inputs, files) = (typed(), self.shared.picked.files());
        let mut refused: Vec<Refused> = Vec::new();
        let no = |error: InputError| (error.field.map(|_| Field::Gguf), error.message);
        let model = match files.first() {
            Some(file) => Some(ModelLocation::PickedFile { name: file.name() }),
            None => location(inputs.get(Field::Gguf)).and_then(file_only).map_err(|error| refused.push(no(error))).ok(),
        };
        let chosen = inputs.chosen().map_err(|errors| refused.extend(errors)).ok();
        mark(&refused);
        let (Some(model), Some((slice, whole))) = (model, chosen) else { return refuse(app, &refused) };
        let (slice, whole) = match press {
            GatePress::Header => (None, None),
            GatePress::WholeModel => (None, Some(whole)),
            GatePress::EachType => (Some(GateSlice { tensor: None, ..slice }), None),
            _ => (Some(slice), None),
        };
        if matches!(model, ModelLocation::Url { .. }) {
            show_in_address(&inputs);
        }
        local_network::ask_worker(app, Command::Gate { model, slice, whole }, files);
    }

    /// A button of the gate page was pressed.
    pub fn press(&self, app: &Rc<App>, press: GatePress, target: &Element) {
        match press {
            GatePress::Stop => app.stop(),
            GatePress::EndEngine => app.end_engine(),
            GatePress::Copy => clipboard::copy_from(target, self.shared.gates.borrow().to_json()),
            GatePress::Run | GatePress::Header | GatePress::EachType | GatePress::WholeModel => {
                self.begin(app, press);
            }
        }
    }
}

/// The models of this host; the first that runs stands in an address that is empty.
fn offer(shared: &Shared, models: &[HostedModel]) {
    let first = first_supported(models).map(|index| models[index].file_url.clone());
    if let Some(url) = first.filter(|_| input(Field::Gguf).value().trim().is_empty()) {
        input(Field::Gguf).set_value(&url);
    }
    shared.models.borrow_mut().draw(panel::models(models));
    show("gate-hosted", !models.is_empty());
    element::<HtmlSelectElement>("gate-models").set_value(&input(Field::Gguf).value());
}

fn key(gates: &GateView, app: &Rc<App>, event: &KeyboardEvent) {
    match event.key().as_str() {
        "Escape" => app.stop(),
        "?" if !is_typing(event) => drop(report(element::<HtmlDialogElement>("keys").show_modal())),
        "Enter" if event.ctrl_key() || event.meta_key() || is_in_form(event) => {
            event.prevent_default();
            gates.begin(app, GatePress::Run);
        }
        _ => {}
    }
}

fn refuse(app: &Rc<App>, refused: &[Refused]) {
    let errors = refused.iter().map(|(_, message)| InputError { field: None, message: message.clone() }).collect();
    mark(refused);
    app.tell(Event::InputsRefused { errors });
    if let Some(field) = refused.iter().find_map(|(field, _)| *field) {
        report(input(field).focus());
    }
}

/// Says at each input what is wrong with it, or that nothing is.
fn mark(refused: &[Refused]) {
    for field in Field::ALL {
        let error = refused.iter().find(|(wrong, _)| *wrong == Some(field)).map(|(_, text)| text.as_str());
        let id = format!("{}-error", field.id());
        element::<Element>(&id).set_text_content(error);
        show(&id, error.is_some());
        report(input(field).set_attribute("aria-invalid", if error.is_some() { "true" } else { "false" }));
    }
}

/// What runs stands in the address, to be passed on.
fn show_in_address(inputs: &GateInputs) {
    let pairs = Field::ALL.into_iter().filter(|field| !inputs.get(*field).is_empty());
    let pairs = pairs.map(|field| format!("{}={}", field.key(), String::from(encode_uri_component(inputs.get(field)))));
    let path = window().location().pathname().unwrap_or_default();
    let url = format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"));
    if let Some(history) = report(window().history()) {
        report(history.replace_state_with_url(&JsValue::NULL, "", Some(&url)));
    }
}

/// Whether the key was pressed in one of the form's inputs.
fn is_in_form(event: &KeyboardEvent) -> bool {
    let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
    target.is_some_and(|target| target.matches(".gate-form input").unwrap_or(false))
}
