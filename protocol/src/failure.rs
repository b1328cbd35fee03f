//! What cannot be done, in words for the user.

use serde::{Deserialize, Serialize};

use crate::options::OptionId;

/// A choice that cannot be used, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputError {
    /// The option it is about; `None` for an address parameter that is none.
    pub field: Option<OptionId>,
    /// What is wrong and what was expected.
    pub message: String,
}

/// An option that cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOption {
    /// Option that the refused value was given for.
    pub option: OptionId,
    /// What was given, where that is all that is wrong.
    #[serde(default)]
    pub got: Option<String>,
    /// What was expected instead, where that is all that is wrong.
    #[serde(default)]
    pub expected: Option<String>,
}

/// An error in plain words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort of failure it is, for programs.
    pub kind: FailureKind,
    /// What happened, naming the thing, what was expected and what was got.
    pub message: String,
    /// What the user can do about it.
    pub advice: String,
    /// The option that cannot be used, where it is one.
    #[serde(default)]
    pub parameter: Option<RefusedOption>,
}

/// What sort of failure it is: each needs other advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// There is no WebGPU, or no adapter.
    NoGpu,
    /// The source cannot be read: it does not exist, does not do byte ranges, or failed.
    Source,
    /// Nothing came back from the source that could be read: no network, no host, no CORS, or no permission.
    Unreachable,
    /// The file is not GGUF, or it is truncated.
    File,
    /// Bytes of the file cannot be what they are said to be: it was damaged on its way, or where it is stored.
    Damaged,
    /// Numbers came out that are none: a damaged file, or a driver that computes wrongly now and then.
    NotFinite,
    /// The file is GGUF, but not a model that this engine runs.
    Model,
    /// There is not enough GPU memory.
    Memory,
    /// The browser could not cache what it was to cache.
    Storage,
    /// The GPU or its driver computes wrongly: nothing was run.
    WrongResults,
    /// The prompt or an option cannot be used.
    Request,
    /// The GPU went away or refused work.
    DeviceLost,
    /// Nothing that could compute is to be reached now; it may be a moment later.
    Unavailable,
    /// What computes elsewhere answered with something that is no answer, or broke off.
    Upstream,
    /// A fault of ours.
    Internal,
}
