//! A desk at which requests are handed in, with a platform that does what a script says.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::{Rc, Weak};

use futures_util::future::{Either, select};
use gptoss_cpu::{CpuModel, CpuOptions};
use gptoss_model::{Engine, EngineError, Host, LoadProposal, Quiet, StageError, in_stage, read_gguf, tokenizer};
use gptoss_node::{Download, Downloaded, Gates, Load, Node, Platform, Teller};
use gptoss_protocol::{
    CacheAction, CacheOptions, Command, Effort, Envelope, Event, FinishReason, GateSlice, GateVerdict, LoadSettings,
    MemoryPlan, ModelLocation, NetworkOptions, Prompt, Request, RequestId, Stage,
};
use gptoss_source::MemorySource;
use tempfile::TempPath;

pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano/gpt-oss-nano.gguf");

/// What a load does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LoadAs {
    /// It loads the model.
    Model,
    /// It fails before it goes ahead.
    Fails,
    /// It never ends.
    Hangs,
    /// It never ends, in the middle of a stage.
    HangsInStage,
    /// It loads the model once somebody approves.
    AsksFirst,
}

/// How loads go.
pub struct Scripted {
    /// One after the other; the last of them for ever.
    pub load_as: Vec<LoadAs>,
    pub sequences: u32,
    pub max_kv_tokens: u32,
    pub path: Option<PathBuf>,
    /// Whether it is told how the KV cache is used.
    pub kv_blocks: bool,
}

impl Default for Scripted {
    fn default() -> Self {
        Self { load_as: vec![LoadAs::Model], sequences: 1, max_kv_tokens: 2048, path: None, kv_blocks: false }
    }
}

pub struct ScriptedPlatform {
    script: Scripted,
    loads: Cell<usize>,
    dropped: Rc<Cell<u32>>,
}

/// Counts futures that are dropped before their end.
struct Guard(Rc<Cell<u32>>, bool);

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.1 {
            self.0.set(self.0.get() + 1);
        }
    }
}

impl Platform for ScriptedPlatform {
    type Model = CpuModel;
    type Attachment = ();

    async fn load(&self, _wanted: Load<'_, ()>, host: &dyn Host) -> Result<Engine<CpuModel>, StageError> {
        let mut guard = Guard(Rc::clone(&self.dropped), false);
        let at = self.loads.replace(self.loads.get() + 1);
        let script = &self.script.load_as;
        match script[at.min(script.len() - 1)] {
            LoadAs::Hangs => pending().await,
            LoadAs::HangsInStage => in_stage(host, Stage::RangeCheck, pending()).await?,
            LoadAs::AsksFirst => {
                // Two of four experts, and nobody wished for fewer.
                let plan = MemoryPlan { paged: true, expert_slots_per_layer: 2, ..MemoryPlan::default() };
                let proposal = LoadProposal { plan: &plan, bytes_per_second: None, wished_expert_bytes: None };
                host.approve(proposal).await;
            }
            LoadAs::Fails => {
                guard.1 = true;
                return Err(StageError { stage: Stage::RangeCheck, error: EngineError::BatchDropped });
            }
            LoadAs::Model => {}
        }
        host.load_begins();
        let path = self.script.path.clone().unwrap_or_else(|| MODEL.into());
        let options = CpuOptions {
            threads: Some(1),
            sequences: Some(self.script.sequences),
            max_kv_tokens: Some(self.script.max_kv_tokens),
            ..CpuOptions::default()
        };
        let model = CpuModel::open(&path, &options, host).await?;
        let read = in_stage(host, Stage::Tokenizer, async { tokenizer(model.gguf()) }).await?;
        host.emit(Event::Ready { load_ms: 1.0 });
        guard.1 = true;
        Ok(Engine::new(model, read))
    }

    async fn download(&self, _wanted: Download<'_, ()>, _host: &dyn Host) -> Result<Downloaded, StageError> {
        pending().await
    }

    /// It ends at once for a header alone, and never for a slice.
    async fn gate(&self, wanted: Gates<'_, ()>, host: &dyn Host) -> Result<(), StageError> {
        let mut guard = Guard(Rc::clone(&self.dropped), false);
        host.emit(Event::GateTensors { tensors: Vec::new() });
        match wanted.slice {
            None => {
                guard.1 = true;
                host.emit(Event::GatesEnded { verdict: GateVerdict::Pass, elapsed_ms: 1.0 });
                Ok(())
            }
            Some(_) => pending().await,
        }
    }

    async fn cache(&self, _action: CacheAction, _host: &dyn Host) {}

    fn wants_kv_blocks(&self) -> bool {
        self.script.kv_blocks
    }
}

type Reaction = Box<dyn FnMut(&Envelope) -> Vec<(u64, Command)>>;

/// A node, what it told, and what is submitted when it tells something.
pub struct Desk {
    node: Rc<Node<ScriptedPlatform>>,
    events: Rc<RefCell<Vec<Envelope>>>,
    reaction: Rc<RefCell<Option<Reaction>>>,
    dropped: Rc<Cell<u32>>,
    stops: Cell<Option<u64>>,
}

impl Desk {
    pub fn new(script: Scripted) -> Self {
        let events = Rc::new(RefCell::new(Vec::new()));
        let reaction: Rc<RefCell<Option<Reaction>>> = Rc::default();
        let back: Rc<RefCell<Weak<Node<ScriptedPlatform>>>> = Rc::new(RefCell::new(Weak::new()));
        let (told, reacting, node) = (Rc::clone(&events), Rc::clone(&reaction), Rc::clone(&back));
        let teller = Teller::new(5, move |envelope: Envelope| {
            // What is submitted now may be told at once: the reaction is put back first.
            let Some(mut react) = reacting.borrow_mut().take() else { return told.borrow_mut().push(envelope) };
            let requests = react(&envelope);
            *reacting.borrow_mut() = Some(react);
            told.borrow_mut().push(envelope);
            let node = node.borrow().upgrade().expect("it tells this");
            for (id, command) in requests {
                node.submit(Request::new(RequestId(id), command), ());
            }
        });
        let dropped = Rc::new(Cell::new(0));
        let platform = ScriptedPlatform { script, loads: Cell::new(0), dropped: Rc::clone(&dropped) };
        let node = Rc::new(Node::new(Rc::new(platform), Rc::new(teller)));
        *back.borrow_mut() = Rc::downgrade(&node);
        Self { node, events, reaction, dropped, stops: Cell::new(None) }
    }

    pub fn submit(&self, id: u64, command: Command) {
        self.node.submit(Request::new(RequestId(id), command), ());
    }

    /// What is submitted when something is told.
    pub fn react(&self, reaction: impl FnMut(&Envelope) -> Vec<(u64, Command)> + 'static) {
        *self.reaction.borrow_mut() = Some(Box::new(reaction));
    }

    /// Whatever is waited for never comes: then this request is stopped.
    pub fn stop_when_nothing_happens(&self, id: u64) {
        self.stops.set(Some(id));
    }

    pub fn run(&self) {
        pollster::block_on(async {
            let running = pin!(self.node.run_until_idle());
            let Some(stopped) = self.stops.take() else { return running.await };
            // A future that waits for nothing comes to its turn only when the node waits.
            match select(running, pin!(std::future::ready(()))).await {
                Either::Left(((), _)) => panic!("nothing was waited for"),
                Either::Right(((), running)) => {
                    self.submit(99, stop(Some(stopped)));
                    running.await;
                }
            }
        });
    }

    pub fn events(&self) -> Vec<Envelope> {
        self.events.borrow().clone()
    }

    /// Loads that were dropped before their end.
    pub fn dropped_loads(&self) -> u32 {
        self.dropped.get()
    }
}

pub fn load() -> Command {
    load_with(None)
}

pub fn load_and_ask(prompt: Prompt) -> Command {
    load_with(Some(prompt))
}

fn load_with(prompt: Option<Prompt>) -> Command {
    let model = ModelLocation::PickedFile { name: "nano".into() };
    Command::Load { model, options: LoadSettings::default(), prompt, remembered: Vec::new() }
}

pub fn download() -> Command {
    let model = ModelLocation::PickedFile { name: "nano".into() };
    Command::Download { model, network: NetworkOptions::default(), cache: CacheOptions::default() }
}

pub fn gate(slice: Option<GateSlice>) -> Command {
    let model = ModelLocation::PickedFile { name: "nano".into() };
    Command::Gate { model, slice, whole: None }
}

pub fn generate(prompt: Prompt) -> Command {
    Command::Generate { prompt }
}

pub fn stop(request: Option<u64>) -> Command {
    Command::Stop { request: request.map(RequestId) }
}

pub fn prompt(user: &str) -> Prompt {
    let date = Some("2024-05-10".to_owned());
    Prompt { user: user.into(), effort: Effort::Low, date, max_new_tokens: 120, ..Prompt::default() }
}

/// How a request ended.
pub fn ended(events: &[Envelope], id: u64) -> Option<Event> {
    let of_request = events.iter().filter(|envelope| envelope.request == Some(RequestId(id)));
    let is_end = |event: &Event| {
        matches!(
            event,
            Event::Finished { .. }
                | Event::Stopped { .. }
                | Event::Failed { .. }
                | Event::Downloaded { .. }
                | Event::GatesEnded { .. }
                | Event::Counted { .. }
        )
    };
    of_request.map(|envelope| envelope.event.clone()).find(is_end)
}

pub fn answered(events: &[Envelope], id: u64) -> Option<(FinishReason, String)> {
    match ended(events, id)? {
        Event::Finished { reason, final_text, .. } => Some((reason, final_text)),
        _ => None,
    }
}

pub fn text(events: &[Envelope], id: u64) -> Option<String> {
    Some(answered(events, id)?.1)
}

/// A file, there as long as what is returned, of the model with an embedding of `text`, which is one token, that is no number.
pub fn broken_model(text: &str) -> TempPath {
    let mut file = std::fs::read(MODEL).expect("the demo model");
    let source = MemorySource::new("nano", file.clone());
    let gguf = pollster::block_on(read_gguf(&source, &Quiet)).expect("a header");
    let token = tokenizer(&gguf).expect("a tokenizer").encode_ordinary(text);
    let [token] = token[..] else { panic!("{text:?} is {token:?}") };
    let embeddings = gguf.tensor("token_embd.weight").expect("embeddings");
    let row_bytes = embeddings.size_bytes / embeddings.shape.last().expect("rows");
    let row = (embeddings.offset + row_bytes * u64::from(token)) as usize;
    // The scale of the row's first block of Q8_0.
    file[row..row + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    let mut written = tempfile::Builder::new().suffix(".gguf").tempfile().expect("a temporary file");
    written.write_all(&file).expect("room for the model");
    written.into_temp_path()
}
