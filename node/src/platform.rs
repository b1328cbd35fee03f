//! What a node needs from where it runs.

use gptoss_model::{Backend, Engine, Host, StageError};
use gptoss_protocol::{
    CacheAction, CacheOptions, GateSlice, GateWhole, LoadSettings, ModelLocation, NetworkOptions, Prompt,
};

/// A model that is to be loaded.
pub struct Load<'a, A> {
    /// Where it is.
    pub model: &'a ModelLocation,
    /// What came beside the command: picked files, say.
    pub attachment: &'a A,
    /// How it is to be loaded.
    pub options: &'a LoadSettings,
    /// What is to be answered first; one that could not be asked is refused before anything big is fetched.
    pub prompt: Option<&'a Prompt>,
}

/// A model of which all is to be read into the download cache.
pub struct Download<'a, A> {
    /// Where it is.
    pub model: &'a ModelLocation,
    /// What came beside the command.
    pub attachment: &'a A,
    /// How patient reads are.
    pub network: &'a NetworkOptions,
    /// What becomes of bytes that are cached already.
    pub cache: &'a CacheOptions,
}

/// What a download came to, in bytes.
pub struct Downloaded {
    /// Bytes of the model that are cached now.
    pub cached_bytes: u64,
    /// Bytes of the model.
    pub model_bytes: u64,
}

/// Gates that are to be run.
pub struct Gates<'a, A> {
    /// Where the file is.
    pub model: &'a ModelLocation,
    /// What came beside the command.
    pub attachment: &'a A,
    /// What is looked at beside the header.
    pub slice: Option<&'a GateSlice>,
    /// What is run of the whole model, if any.
    pub whole: Option<&'a GateWhole>,
}

/// A browser's worker, a native process, a test: where models come from and what is remembered.
///
/// Futures of these functions may be dropped wherever they wait: that is how STOP ends a load, a download or a gate.
#[expect(async_fn_in_trait, reason = "futures here never leave their thread: the browser's GPU objects cannot")]
pub trait Platform {
    /// A loaded model.
    type Model: Backend;
    /// What travels beside a command and is no text.
    type Attachment;

    /// Opens a model, and tells [`gptoss_protocol::Event::Ready`].
    ///
    /// # Errors
    /// What stopped the load, and at which stage.
    async fn load(
        &self,
        wanted: Load<'_, Self::Attachment>,
        host: &dyn Host,
    ) -> Result<Engine<Self::Model>, StageError>;

    /// Reads all of a model into the download cache.
    ///
    /// # Errors
    /// What stopped the download, and at which stage.
    async fn download(&self, wanted: Download<'_, Self::Attachment>, host: &dyn Host)
    -> Result<Downloaded, StageError>;

    /// Runs gates, and tells a report of each and [`gptoss_protocol::Event::GatesEnded`]. What is loaded is not touched.
    ///
    /// # Errors
    /// The file cannot be reached, and STOP; everything else is in the reports.
    async fn gate(&self, wanted: Gates<'_, Self::Attachment>, host: &dyn Host) -> Result<(), StageError>;

    /// Does what was asked for with the download cache, and tells [`gptoss_protocol::Event::Cache`].
    async fn cache(&self, action: CacheAction, host: &dyn Host);

    /// A load, a download or a prefetch is over, well or not: whatever there is to tell of it is told now. Ends by itself within a
    /// moment, since nothing else is done meanwhile.
    async fn settled(&self, _host: &dyn Host) {}

    /// Whether it is told how the KV cache is used, with [`gptoss_protocol::Event::KvBlocks`]: where many ask, and somebody
    /// counts. Elsewhere it would be the last word of a command that has its answer.
    fn wants_kv_blocks(&self) -> bool {
        false
    }

    /// Whether a load goes ahead although not all of what is wanted fits: where nobody watches who could approve it.
    fn approves(&self) -> bool {
        false
    }

    /// Whether everything is to stop: asked by the engine between steps, where a user can say so while this thread is busy.
    fn is_interrupted(&self) -> bool {
        false
    }

    /// Keys that were remembered by earlier runs.
    fn recall(&self, _keys: Vec<String>) {}

    /// Whether a key was remembered, in this run or an earlier one.
    fn remembered(&self, _key: &str) -> bool {
        false
    }

    /// Remembers a key; returns what is to be told, so that the next run can recall it.
    fn remember(&self, _key: &str) -> Option<String> {
        None
    }
}
