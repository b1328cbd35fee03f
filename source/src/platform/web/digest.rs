//! What the store needs of bytes in JavaScript's memory: joined, and their SHA-256.

use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use super::promise::{LATER, settled};
use super::{Bytes, browser_error};
use crate::SourceError;

#[wasm_bindgen]
extern "C" {
    /// Web Cryptography is the same on a page and in a worker; web-sys has it as a property of each of the two.
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = digest, catch)]
    fn subtle_digest(algorithm: &str, bytes: &Uint8Array) -> Result<Promise, JsValue>;
}

impl Bytes {
    pub fn joined<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let parts: Vec<_> = parts.collect();
        let joined = Uint8Array::new_with_length(parts.iter().map(|part| part.0.length()).sum());
        let mut at = 0;
        for part in parts {
            joined.set(&part.0, at);
            at += part.0.length();
        }
        Self(joined)
    }
}

/// SHA-256 of all bytes, computed by the browser on a thread of its own.
pub async fn sha256(bytes: &crate::Bytes) -> Result<[u8; 32], SourceError> {
    let digest = subtle_digest("SHA-256", bytes.as_uint8_array()).map_err(browser_error("crypto.subtle.digest"))?;
    let digest = settled(digest, LATER).await.map_err(browser_error("crypto.subtle.digest"))?;
    let digest = Uint8Array::new(digest.unchecked_ref());
    let mut sha256 = [0; 32];
    if digest.length() as usize != sha256.len() {
        let detail = format!("a SHA-256 of {} bytes", digest.length());
        return Err(SourceError::Browser { action: "crypto.subtle.digest", detail });
    }
    digest.copy_to(&mut sha256);
    Ok(sha256)
}
