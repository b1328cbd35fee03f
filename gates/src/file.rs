//! The file that gates look at.

use std::rc::Rc;

use gptoss_gguf::{Gguf, TensorInfo};
use gptoss_source::Source;

use crate::error::GateError;

/// A file with its header, or all files of a split model as one.
#[derive(Clone, Copy)]
pub struct GatedFile<'a> {
    /// All parts, laid one after the other.
    pub source: &'a Rc<dyn Source>,
    /// The joint header: offsets count from the first byte of the first part.
    pub gguf: &'a Gguf,
    /// All parts in order; one unless the model is split.
    pub parts: &'a [Part<'a>],
}

/// One file of a model.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Name of the file.
    pub name: &'a str,
    /// Header of the part.
    pub gguf: &'a Gguf,
}

impl<'a> GatedFile<'a> {
    /// The tensor called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn tensor(&self, name: &str) -> Result<&'a TensorInfo, GateError> {
        self.gguf.tensor(name).ok_or_else(|| GateError::NoTensor { tensor: name.to_owned() })
    }
}
