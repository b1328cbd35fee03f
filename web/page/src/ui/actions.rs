//! What the user does: clicks, keys, files.

use std::rc::Rc;

use gptoss_protocol::{
    CacheMode, CacheOptions, Command, Failure, FailureKind, InputError, ModelLocation, OptionId, PromptFormat,
};
use gptoss_source::store::CACHED_SCHEME;
use js_sys::Reflect;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Event, File, HtmlDialogElement, HtmlElement, HtmlSelectElement, KeyboardEvent, MouseEvent};

use super::dom::{after, document, element, listen, report, window};
use super::tunnel_link::TunnelLink;
use super::worker_link::WorkerLink;
use super::{App, catalog, charts, local_network, memory, storage, tunnel_link};
use crate::inputs::{Inputs, element_id};
use crate::node_address::{self, NodeAddress, without_key};
use crate::state::STOP_PATIENCE_MS;
use crate::{inputs, query};

impl App {
    /// Wires everything up, takes the address in, and looks at what the host has to offer.
    pub(super) fn start(self: &Rc<Self>) {
        if let Some(gate) = &self.gate {
            return gate.start(self);
        }
        self.listen_to_buttons();
        self.listen_to_keys();
        self.listen_to_files();
        self.listen_to_views();
        self.listen_to_time();
        self.listen_to_ribbon();
        self.listen_to_core();
        let app = Rc::clone(self);
        // A frame that was asked for before the page was hidden does not come.
        listen(&document(), "visibilitychange", move |_: Event| {
            app.watch();
            app.next_frame();
        });
        let query = query::parse(&window().location().search().unwrap_or_default());
        self.controls.set(OptionId::Date, &today());
        self.controls.fill(&query);
        self.start_composer(&query);
        self.take_up_kept();
        WorkerLink::start(self);
        storage::listen_to_cache(self);
        if !query.errors.is_empty() {
            self.refuse(&query.errors);
        } else if !has_webgpu() {
            self.tell(gptoss_protocol::Event::WatcherFailed(no_webgpu()));
        }
        if !query.recording.is_empty() {
            self.open_recording_at(query.recording.clone());
        } else if query.errors.is_empty() && !query.autostart {
            self.play_idle_picture();
        }
        let autostart = query.autostart && query.errors.is_empty();
        if query.named.contains(&OptionId::Gguf) {
            catalog::want_address();
            if autostart {
                self.load();
            }
        } else {
            catalog::offer(self, autostart);
        }
        report(element::<HtmlElement>("load").remove_attribute("disabled"));
        self.request_frame();
    }

    /// LOAD MODEL: loads, and then answers the prompt if there is one.
    pub(super) fn load(self: &Rc<Self>) {
        self.load_with(|_| {});
    }

    /// Delete and fetch again: what failed is done once more, without what is cached.
    fn refetch(self: &Rc<Self>) {
        let anew = |cache: &mut CacheOptions| cache.mode = CacheMode::Refetch;
        let was_downloading = self.state.borrow().downloading;
        if was_downloading { self.download_with(anew) } else { self.load_with(anew) }
    }

    fn load_with(self: &Rc<Self>, change: impl FnOnce(&mut CacheOptions)) {
        if self.state.borrow().phase.busy() {
            return;
        }
        let inputs = self.controls.read(today());
        let files = self.controls.files();
        let mut errors = Vec::new();
        let model = self.model_location(&inputs, &files).map_err(|error| errors.push(error)).ok();
        let asked = inputs.load_and_ask().map_err(|wrong| errors.extend(wrong)).ok();
        match (model, asked) {
            (Some(model), Some((mut options, mut prompt))) => {
                change(&mut options.cache);
                if let Some(prompt) = &mut prompt {
                    prompt.history = self.history(inputs.alone() || prompt.format != PromptFormat::Harmony);
                }
                self.looking.borrow_mut().go_live();
                let remembered = memory::remembered();
                let command = Command::Load { model, options, prompt, remembered };
                local_network::ask_worker(self, command, files);
            }
            _ => self.refuse(&errors),
        }
    }

    fn model_location(&self, inputs: &Inputs, files: &[File]) -> Result<ModelLocation, InputError> {
        match files.first() {
            Some(file) => Ok(ModelLocation::PickedFile { name: file.name() }),
            None => location(inputs.get(OptionId::Gguf)),
        }
    }

    /// Uses an address in place of whatever was chosen before.
    pub(super) fn use_address(&self, address: &str) {
        self.controls.pick(Vec::new());
        self.controls.set(OptionId::Gguf, address);
        report(element::<HtmlElement>(&element_id(OptionId::Gguf)).focus());
    }

    /// Keeps the model for later, the one that was picked or that behind the address.
    fn download(self: &Rc<Self>) {
        self.download_with(|_| {});
    }

    fn download_with(self: &Rc<Self>, change: impl FnOnce(&mut CacheOptions)) {
        if self.state.borrow().phase.busy() {
            return;
        }
        let inputs = self.controls.read(today());
        let files = self.controls.files();
        let model = self.model_location(&inputs, &files).and_then(file_only);
        match (model, inputs.load_options()) {
            (Ok(model), Ok(mut options)) => {
                change(&mut options.cache);
                let command = Command::Download { model, network: options.network, cache: options.cache };
                local_network::ask_worker(self, command, files);
            }
            (model, options) => {
                let errors: Vec<_> = model.err().into_iter().chain(options.err().unwrap_or_default()).collect();
                self.refuse(&errors);
            }
        }
    }

    /// ASK: another question to the model that is loaded.
    pub(super) fn ask(self: &Rc<Self>) {
        {
            let state = self.state.borrow();
            if state.phase.busy() || !state.model_loaded {
                return;
            }
        }
        let inputs = self.controls.read(today());
        match inputs.prompt() {
            Ok(mut prompt) => {
                prompt.history = self.history(inputs.alone() || prompt.format != PromptFormat::Harmony);
                self.looking.borrow_mut().go_live();
                tunnel_link::ask(self, Command::Generate { prompt });
            }
            Err(errors) => self.refuse(&errors),
        }
    }

    pub(super) fn stop(self: &Rc<Self>) {
        if self.state.borrow().can_stop() {
            tunnel_link::ask(self, Command::Stop { request: None });
            let app = Rc::clone(self);
            // A timer may be a little early by another clock.
            after(STOP_PATIENCE_MS + 50.0, move || {
                let is_late = app.state.borrow().stopping();
                if is_late {
                    app.tell(gptoss_protocol::Event::TimePassed);
                }
            });
        }
    }

    /// End the engine: for when STOP did not help.
    pub(super) fn end_engine(self: &Rc<Self>) {
        if self.state.borrow().offers_end() {
            if TunnelLink::is_in_use(self) {
                TunnelLink::end(self);
            } else {
                WorkerLink::replace(self);
            }
            // The button goes, and the focus must not go with it.
            if self.gate.is_none() {
                report(element::<HtmlElement>("load").focus());
            }
        }
    }

    /// APPROVE: with a load that waits, because not all of the model fits.
    fn approve(self: &Rc<Self>) {
        let load = self.state.borrow().load_that_asks();
        if let Some(load) = load {
            tunnel_link::ask(self, Command::Approve { load });
        }
    }

    /// Sizes or colours are others, or pictures were lost.
    fn redraw_pictures(self: &Rc<Self>) {
        self.view.borrow_mut().redraw_pictures();
        self.core.borrow_mut().restyle();
        self.request_frame();
    }

    fn on_click(self: &Rc<Self>, id: &str, action: fn(&Rc<Self>)) {
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>(id), "click", move |_: Event| action(&app));
    }

    fn listen_to_buttons(self: &Rc<Self>) {
        self.on_click("load", Self::load);
        self.on_click("refetch", Self::refetch);
        self.on_click("ask", Self::ask);
        self.on_click("stop", Self::stop);
        self.on_click("download", Self::download);
        self.on_click("use-node", Self::use_node);
        self.on_click("approve", Self::approve);
        self.on_click("decline", Self::stop);
        self.on_click("end-engine", Self::end_engine);
        let app = Rc::clone(self);
        listen(&window(), "resize", move |_: Event| {
            app.redraw_pictures();
        });
        // Canvases do not draw themselves anew when the page's faces have come.
        let app = Rc::clone(self);
        listen(&document().fonts(), "loadingdone", move |_: Event| app.redraw_pictures());
        // The theme is another.
        if let Ok(Some(light)) = window().match_media("(prefers-color-scheme: light)") {
            let app = Rc::clone(self);
            listen(&light, "change", move |_: Event| app.redraw_pictures());
        }
        for id in charts::CANVASES {
            // Pictures are on the GPU, and lost with it. Chrome draws a broken image in their place until it restores them.
            let set_visibility = move |value| {
                report(element::<HtmlElement>(id).style().set_property("visibility", value));
            };
            listen(&element::<HtmlElement>(id), "contextlost", move |_: Event| set_visibility("hidden"));
            let app = Rc::clone(self);
            listen(&element::<HtmlElement>(id), "contextrestored", move |_: Event| {
                set_visibility("visible");
                app.redraw_pictures();
            });
        }
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>("model-select"), "change", move |_: Event| {
            app.controls.pick(Vec::new());
            app.controls.set(OptionId::Gguf, &element::<HtmlSelectElement>("model-select").value());
            app.request_frame();
        });
    }

    /// Pointing at the ribbon looks at a token, a press stays there, arrow keys go on from it.
    fn listen_to_ribbon(self: &Rc<Self>) {
        let ribbon: HtmlElement = element("ribbon");
        let looked_at = |app: &Rc<Self>, event: &MouseEvent| {
            let state = app.state.borrow();
            let looking = app.looking.borrow();
            let turns = looking.shown(&state);
            let turn = looking.pinned.map_or(turns.all_turns().count().saturating_sub(1), |(turn, _)| turn);
            let (_, answer) = turns.all_turns().nth(turn)?;
            let (x, y) = (f64::from(event.offset_x()), f64::from(event.offset_y()));
            let place = app.view.borrow_mut().ribbon_hit(&answer.tokens, x, y)?;
            Some((turn, place))
        };
        for name in ["mousemove", "mouseleave", "click"] {
            let app = Rc::clone(self);
            listen(&ribbon, name, move |event: MouseEvent| {
                let token = if name == "mouseleave" { None } else { looked_at(&app, &event) };
                {
                    let mut looking = app.looking.borrow_mut();
                    looking.pointed = token;
                    if name == "click" {
                        looking.pinned = token.filter(|_| looking.pinned != token);
                    }
                }
                app.request_frame();
            });
        }
        let app = Rc::clone(self);
        listen(&ribbon, "keydown", move |event: KeyboardEvent| {
            let step: i64 = match event.key().as_str() {
                "ArrowLeft" => -1,
                "ArrowRight" => 1,
                _ => return,
            };
            event.prevent_default();
            {
                let state = app.state.borrow();
                let mut looking = app.looking.borrow_mut();
                let counts: Vec<usize> =
                    looking.shown(&state).all_turns().map(|(_, answer)| answer.tokens.len()).collect();
                let Some(last) = counts.len().checked_sub(1) else { return };
                let (turn, place) = looking.pinned.unwrap_or((last, counts[last] as u32));
                let most = counts.get(turn).map_or(0, |count| count.saturating_sub(1)) as i64;
                looking.pinned = Some((turn, (i64::from(place) + step).clamp(0, most) as u32));
            }
            app.request_frame();
        });
    }

    /// Escape stops, Ctrl+Enter asks (or loads, before there is a model), Enter in the address loads.
    fn listen_to_keys(self: &Rc<Self>) {
        let app = Rc::clone(self);
        listen(&document(), "keydown", move |event: KeyboardEvent| match event.key().as_str() {
            "Escape" => app.stop(),
            "?" if !is_typing(&event) => {
                report(element::<HtmlDialogElement>("keys").show_modal());
            }
            "Enter" if event.ctrl_key() || event.meta_key() => {
                event.prevent_default();
                if app.state.borrow().model_loaded { app.ask() } else { app.load() }
            }
            _ => {}
        });
        let app = Rc::clone(self);
        // Whether a node answers is said above.
        listen(&element::<HtmlElement>(&element_id(OptionId::Gguf)), "input", move |_: Event| app.request_frame());
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>(&element_id(OptionId::Gguf)), "keydown", move |event: KeyboardEvent| {
            if event.key() == "Enter" && !event.ctrl_key() && !event.meta_key() {
                app.load();
            }
        });
    }

    /// USE PYLON: a node takes the page's questions, the one in the address field or that of this machine.
    fn use_node(self: &Rc<Self>) {
        let typed = self.controls.text(OptionId::Gguf);
        match node_address::to_use(&typed) {
            Ok(address) => {
                if address != typed {
                    self.use_address(address);
                }
                self.controls.pick(Vec::new());
                self.load();
            }
            Err(refused) => self.refuse(&[refused]),
        }
    }

    fn listen_to_files(self: &Rc<Self>) {
        let app = Rc::clone(self);
        self.controls.listen_to_files(move |files| app.controls.pick(files));
    }
}

/// Whether the key goes into a text.
pub(super) fn is_typing(event: &KeyboardEvent) -> bool {
    let target = event.target().and_then(|target| target.dyn_into::<web_sys::Element>().ok());
    target.is_some_and(|target| target.matches("input, textarea, select").unwrap_or(false))
}

/// The address as the worker takes it: absolute, a path being one on this page's host.
pub(super) fn location(text: &str) -> Result<ModelLocation, InputError> {
    let field = Some(OptionId::Gguf);
    if text.is_empty() {
        let message =
            "There is no model to load: give the address of a GGUF file, pick one, or drop one here.".to_owned();
        return Err(InputError { field, message });
    }
    inputs::check(OptionId::Gguf, text)?;
    if let Some(name) = text.strip_prefix(CACHED_SCHEME) {
        return Ok(ModelLocation::Cached { name: name.to_owned() });
    }
    let page = window().location().href().unwrap_or_default();
    if node_address::is_meant(text) {
        let address = NodeAddress::parse(text).ok_or_else(|| node_address::refusal(text))?;
        return Ok(ModelLocation::Node { address: address.public() });
    }
    match web_sys::Url::new_with_base(text, &page) {
        Ok(url) => Ok(ModelLocation::Url { url: url.href() }),
        Err(_) => {
            Err(InputError { field, message: format!("The address \"{}\" is not a valid URL.", without_key(text)) })
        }
    }
}

/// The same place, unless it is no file's.
pub(super) fn file_only(model: ModelLocation) -> Result<ModelLocation, InputError> {
    match model {
        ModelLocation::Node { .. } => {
            let message =
                "A node has its model where it runs, and this is about a file that the page reads.".to_owned();
            Err(InputError { field: Some(OptionId::Gguf), message })
        }
        model => Ok(model),
    }
}

/// Today where the user is, as the system message writes it.
pub(super) fn today() -> String {
    let now = js_sys::Date::new_0();
    format!("{:04}-{:02}-{:02}", now.get_full_year(), now.get_month() + 1, now.get_date())
}

fn has_webgpu() -> bool {
    Reflect::get(&window().navigator(), &JsValue::from_str("gpu")).is_ok_and(|gpu| gpu.is_object())
}

fn no_webgpu() -> Failure {
    let (message, advice) = if window().is_secure_context() {
        (
            "This browser offers no WebGPU, which the model runs on.",
            "Use Chrome or Edge 113 or newer, Safari 26, or Firefox where WebGPU is on; hardware acceleration has to be enabled in the settings.",
        )
    } else {
        (
            "Browsers offer WebGPU only to secure pages, and this one came over plain http from another machine.",
            "Open it over https, or as http://127.0.0.1 or http://localhost on the machine that serves it.",
        )
    };
    let (message, advice) = (message.to_owned(), advice.to_owned());
    Failure { kind: FailureKind::NoGpu, message, advice, parameter: None }
}
