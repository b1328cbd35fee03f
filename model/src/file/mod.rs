//! From a GGUF's header to what the model is: read and checked before anything big is fetched.

mod header;
mod notes;
mod progress;
mod sensible;
mod vocabulary;

pub use self::header::{Header, announce, read_gguf, read_header, read_parts};
pub use self::notes::file_notes;
pub use self::sensible::{SensibleSource, nonsense_error};
pub use self::vocabulary::tokenizer;
