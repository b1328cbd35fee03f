mod blob;
mod body;
mod http_source;
mod promise;
mod surroundings;
mod transfer;

use std::ops::Range;

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};

use crate::SourceError;

pub use blob::BlobSource;
pub use http_source::HttpSource;

mod digest;
mod locks;
mod opfs;
#[cfg(test)]
mod tests;

pub use digest::sha256;
pub use opfs::{CACHE_FOLDER, CachedModel, CachedModels, StorageRoom, storage_room};
pub use surroundings::pause;

pub struct Bytes(Uint8Array);

impl Bytes {
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(Uint8Array::from(bytes.as_slice()))
    }

    fn from_buffer(buffer: &ArrayBuffer) -> Self {
        Self(Uint8Array::new(buffer))
    }

    pub fn len(&self) -> usize {
        self.0.length() as usize
    }

    pub fn to_vec(&self, range: Range<usize>) -> Vec<u8> {
        self.view(range).to_vec()
    }

    pub fn copy_to(&self, at: usize, target: &mut [u8]) {
        self.view(at..at + target.len()).copy_to(target);
    }

    pub fn slice(&self, range: Range<usize>) -> Self {
        Self(self.view(range))
    }

    pub fn as_uint8_array(&self) -> &Uint8Array {
        &self.0
    }

    /// Lengths of wasm32 allocations and of arrays made by this crate are below 2^32.
    fn view(&self, range: Range<usize>) -> Uint8Array {
        self.0.subarray(range.start as u32, range.end as u32)
    }
}

fn browser_error(action: &'static str) -> impl FnOnce(JsValue) -> SourceError {
    move |error| SourceError::Browser { action, detail: words_of(&error) }
}

/// What a JavaScript value that was thrown says, as part of a sentence: `TypeError: Failed to fetch`.
pub fn words_of(error: &JsValue) -> String {
    let said = |name: &str| js_sys::Reflect::get(error, &JsValue::from_str(name)).ok().and_then(|it| it.as_string());
    let text = match (error.as_string(), error.is_object()) {
        (Some(text), _) => text,
        (None, true) => match (said("name"), said("message")) {
            (Some(name), Some(message)) if !message.is_empty() => format!("{name}: {message}"),
            (Some(only), _) | (None, Some(only)) => only,
            (None, None) => error.unchecked_ref::<js_sys::Object>().to_string().into(),
        },
        (None, false) => match (error.as_f64(), error.as_bool()) {
            (Some(number), _) => number.to_string(),
            (None, Some(truth)) => truth.to_string(),
            (None, None) if error.is_null() => "null".to_owned(),
            (None, None) => "no reason was given".to_owned(),
        },
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}
