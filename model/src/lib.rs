// Its example is native, and would be tested in the browser, too.
#![cfg_attr(not(target_arch = "wasm32"), doc = include_str!("../README.md"))]
#![cfg_attr(target_arch = "wasm32", doc = "What gpt-oss is, without a GPU and without a browser.")]

mod answering;
mod backend;
mod cache_format;
mod config;
mod error;
mod file;
mod gpu_error;
mod host;
mod inventory;
mod non_finite;
pub mod ops;
mod prediction;
pub mod reference;
pub mod sequences;
mod waiting;
mod watched;

pub use answering::{
    AllowedTokens, Answer, AnswerLimits, Answers, Draw, Ended, Engine, Likelihood, Reading, Restriction, Restrictions,
    Sampler, Utterance, check_prompt_fits, check_tokens, encode_prompt, require_room_for_answer,
};
pub use backend::{Asked, Backend, rows_of};
pub use cache_format::CacheFormat;
pub use config::{DEFAULT_CONTEXT_TOKENS, MAX_EXPERTS, ModelConfig};
pub use error::{EngineError, MemoryShortage, StageError};
pub use file::{
    Header, SensibleSource, announce, file_notes, nonsense_error, read_gguf, read_header, read_parts, tokenizer,
};
pub use gpu_error::{GpuError, WrongResult};
pub use host::{Host, LoadProposal, Quiet, check_cancelled, in_stage, milliseconds_since};
pub use inventory::{ExpertTensor, GateUp, Inventory, LayerTensors, MatrixTensor, PlainTensor, RowOrder};
pub use non_finite::{NonFinite, NotFinite, Place, require_finite_rows};
pub use prediction::{LogitsPart, Prediction};
pub use sequences::{BLOCK_TOKENS, BatchLimits, Outcome, Row, SequenceId, Sequences, Ticket, Wanted};
pub use waiting::{AwaitPoint, until_stopped};
pub use watched::routes_of_layer;
