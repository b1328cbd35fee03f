//! What a GGUF file is for, where it is not a model.

use std::fmt;

use crate::Gguf;

/// The purpose of a sound GGUF file that is not a model. Such files lie beside models and are opened by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// A LoRA adapter.
    Adapter,
    /// An importance matrix, which quantisers use.
    Imatrix,
    /// The part of a multimodal model that reads pictures or sound (mmproj).
    Projector,
    /// A control vector.
    ControlVector,
    /// Metadata and a tokenizer.
    VocabularyOnly,
    /// Metadata without a tokenizer.
    MetadataOnly,
}

impl Gguf {
    /// What the file is for, judged by its keys and tensor names; `None` for a model. For a split model only the joined
    /// header tells, because the first part may have metadata alone.
    ///
    /// Keys: `general.type` of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, and the architectures and
    /// tensor names that llama.cpp's tools write.
    pub fn role(&self) -> Option<Role> {
        let text = |key: &str| self.metadata.str(key).ok();
        let has_key = |prefix: &str| self.metadata.iter().any(|(key, _)| key.starts_with(prefix));
        match text("general.type") {
            Some("adapter") => return Some(Role::Adapter),
            Some("imatrix") => return Some(Role::Imatrix),
            Some("mmproj") => return Some(Role::Projector),
            _ => {}
        }
        match text("general.architecture") {
            Some("clip") => return Some(Role::Projector),
            Some("controlvector") => return Some(Role::ControlVector),
            _ => {}
        }
        if self.tensors.is_empty() {
            let has_tokens = self.metadata.string_array("tokenizer.ggml.tokens").is_ok();
            return Some(if has_tokens { Role::VocabularyOnly } else { Role::MetadataOnly });
        }
        let named = |test: fn(&str) -> bool| self.tensors.iter().all(|tensor| test(&tensor.name));
        if has_key("adapter.") || named(|name| name.ends_with(".lora_a") || name.ends_with(".lora_b")) {
            return Some(Role::Adapter);
        }
        if has_key("imatrix.") || named(|name| name.ends_with(".in_sum2") || name.ends_with(".counts")) {
            return Some(Role::Imatrix);
        }
        if named(|name| name.starts_with("direction.")) {
            return Some(Role::ControlVector);
        }
        let projects = |name: &str| ["v.", "a.", "mm.", "resampler."].iter().any(|prefix| name.starts_with(prefix));
        self.tensors.iter().all(|tensor| projects(&tensor.name)).then_some(Role::Projector)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adapter => "an adapter (LoRA), which changes a model and is none",
            Self::Imatrix => "an importance matrix (imatrix), which helps to quantise a model and is none",
            Self::Projector => {
                "a projector (mmproj), the part of a model that reads pictures or sound, without the model"
            }
            Self::ControlVector => "a control vector, which steers a model and is none",
            Self::VocabularyOnly => "a vocabulary only, the tokenizer of a model without its weights",
            Self::MetadataOnly => "metadata only, without a tokenizer or weights",
        })
    }
}

impl Role {
    /// What the user can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Adapter => {
                "Use the model itself, such as gpt-oss-20b-mxfp4.gguf from ggml-org. Adapters are not supported; llama-export-lora makes \
                 one file of model and adapter."
            }
            Self::VocabularyOnly => {
                "It does for pylon tokenize and harmony. To run a model, use one with weights, such as gpt-oss-20b-mxfp4.gguf from \
                 ggml-org."
            }
            _ => "Use the model itself, which usually lies beside it, such as gpt-oss-20b-mxfp4.gguf from ggml-org.",
        }
    }
}
