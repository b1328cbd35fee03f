//! This process as a node: the terminal asks and watches, models come from files of this machine.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use gptoss_grammar::Grammars;
use gptoss_model::{Engine, EngineError, Host, StageError};
use gptoss_node::{Download, Downloaded, Gates, Load, Node, Platform, Teller};
use gptoss_protocol::{CacheAction, Command, LoadSettings, ModelLocation, OptionId, Prompt, Request, RequestId, Stage};

use crate::backend::{self, AnyModel, LoadRequest};
use crate::error::CliError;
use crate::gguf_file::Again;
use crate::host::{ConsoleHost, Outcome};

/// A node, and the console that watches it.
pub struct NativeNode {
    node: Node<NativePlatform>,
    console: Rc<RefCell<ConsoleHost>>,
    requests: Cell<u64>,
}

/// Models of this machine.
pub struct NativePlatform {
    is_interrupted: Box<dyn Fn() -> bool>,
    has_grammars: bool,
    wants_kv_blocks: bool,
}

impl NativePlatform {
    /// With what says that everything is to stop.
    pub fn new(is_interrupted: impl Fn() -> bool + 'static) -> Self {
        Self { is_interrupted: Box::new(is_interrupted), has_grammars: false, wants_kv_blocks: false }
    }

    /// The same, where prompts may ask for the shape of their answer.
    #[must_use]
    pub fn with_grammars(self) -> Self {
        Self { has_grammars: true, ..self }
    }

    /// The same, where it is told how the KV cache is used.
    #[must_use]
    pub fn with_kv_blocks(self) -> Self {
        Self { wants_kv_blocks: true, ..self }
    }
}

impl NativeNode {
    /// A node without a model, watched by `console`.
    pub fn new(console: ConsoleHost) -> Self {
        let console = Rc::new(RefCell::new(console));
        let watching = Rc::clone(&console);
        let teller = Rc::new(Teller::new(run_id(), move |envelope| watching.borrow().watch(&envelope)));
        let asked = Rc::clone(&console);
        let platform = Rc::new(NativePlatform::new(move || asked.borrow().cancelled()));
        Self { node: Node::new(platform, teller), console, requests: Cell::new(0) }
    }

    /// Has another console watch from now on; gives the one that did.
    pub fn watch_with(&self, console: ConsoleHost) -> ConsoleHost {
        self.console.replace(console)
    }

    /// What the console that watches knows.
    pub fn console(&self) -> std::cell::Ref<'_, ConsoleHost> {
        self.console.borrow()
    }

    /// Loads a model.
    ///
    /// # Errors
    /// What stopped the load.
    pub fn load(&self, request: &LoadRequest) -> Result<(), CliError> {
        // A file that is not there is no failure of the engine.
        backend::open_source(&request.path)?;
        let model = ModelLocation::PickedFile { name: request.path.display().to_string() };
        let options =
            LoadSettings { engine: request.load.clone(), gpu: request.gpu.clone(), ..LoadSettings::default() };
        let command = Command::Load { model, options, prompt: None, remembered: Vec::new() };
        self.run(command, Some(request.clone()))
    }

    /// Answers a prompt with the model that is loaded; the console has the answer.
    ///
    /// # Errors
    /// What stopped the answer.
    pub fn ask(&self, prompt: Prompt) -> Result<(), CliError> {
        self.run(Command::Generate { prompt }, None)
    }

    /// What `look` makes of the engine, if one is loaded.
    pub fn with_engine<T>(&self, look: impl FnOnce(&mut Engine<AnyModel>) -> T) -> Option<T> {
        self.node.with_engine(look)
    }

    fn run(&self, command: Command, attachment: Option<LoadRequest>) -> Result<(), CliError> {
        let id = RequestId(self.requests.replace(self.requests.get() + 1));
        self.node.submit(Request::new(id, command), attachment);
        pollster::block_on(self.node.run_until_idle());
        match self.console().outcome() {
            Some(Outcome::Stopped) => Err(EngineError::Cancelled.into()),
            Some(Outcome::Failed(failure)) => Err(failure.into()),
            Some(Outcome::Loaded | Outcome::Answered(_)) | None => Ok(()),
        }
    }
}

impl Platform for NativePlatform {
    type Model = AnyModel;
    /// What to open, and how; the command's options go first.
    type Attachment = Option<LoadRequest>;

    async fn load(
        &self,
        wanted: Load<'_, Option<LoadRequest>>,
        host: &dyn Host,
    ) -> Result<Engine<AnyModel>, StageError> {
        let Load { attachment: Some(request), options, .. } = wanted else {
            return Err(unsupported(OptionId::Gguf, "a file of this machine"));
        };
        let request = LoadRequest { load: options.engine.clone(), gpu: options.gpu.clone(), ..request.clone() };
        host.load_begins();
        let mut engine = backend::open_engine(&request, host).await?;
        if self.has_grammars {
            engine.restrictions = Some(Rc::new(Grammars::new(&engine.tokenizer)));
        }
        Ok(engine)
    }

    async fn download(
        &self,
        _wanted: Download<'_, Option<LoadRequest>>,
        _host: &dyn Host,
    ) -> Result<Downloaded, StageError> {
        Err(unsupported(OptionId::Cache, "nothing: files of this machine are read in place, without a download cache"))
    }

    async fn gate(&self, wanted: Gates<'_, Option<LoadRequest>>, host: &dyn Host) -> Result<(), StageError> {
        let Some(LoadRequest { path, .. }) = wanted.attachment else {
            return Err(unsupported(OptionId::Gguf, "a file of this machine"));
        };
        let opened = backend::open_source(path).map_err(EngineError::from);
        let source = opened.map_err(|error| StageError { stage: Stage::RangeCheck, error })?;
        let Gates { slice, whole, .. } = wanted;
        let (again, path) = (&Again(path), &*path.display().to_string());
        gptoss_gates::run(source, gptoss_gates::Wanted { path, slice, whole, again }, host).await.map(drop)
    }

    async fn cache(&self, _action: CacheAction, _host: &dyn Host) {}

    /// Whoever starts a command has said what there is; what came of it is told with the plan.
    fn approves(&self) -> bool {
        true
    }

    fn wants_kv_blocks(&self) -> bool {
        self.wants_kv_blocks
    }

    fn is_interrupted(&self) -> bool {
        (self.is_interrupted)()
    }
}

fn unsupported(option: OptionId, expected: &'static str) -> StageError {
    let error = EngineError::Option { option, expected, got: "something else".into() };
    StageError { stage: Stage::RangeCheck, error }
}

/// Milliseconds since 1970: another one for each run.
fn run_id() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
