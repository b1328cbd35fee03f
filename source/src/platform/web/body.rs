//! The body of an answer, piece by piece.

use js_sys::{ArrayBuffer, Function, IteratorNext, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{ReadableStream, ReadableStreamByobReader, ReadableStreamDefaultReader};

use super::browser_error;
use crate::SourceError;

/// Buffer size for one piece; browsers hand over about this much at once.
const PIECE_BYTES: u64 = 1 << 20;

/// A reader of a response body.
pub enum Body {
    /// Reads into the same memory again and again. Reading a gigabyte so takes as long as discarding it, whereas fresh
    /// memory for every piece takes a third longer (Chromium 156).
    Reusing { reader: ReadableStreamByobReader, room: ArrayBuffer },
    /// Reads each piece into memory of its own, where the browser has no byte streams.
    Fresh { reader: ReadableStreamDefaultReader },
}

impl Body {
    /// The body of `stream`, of which `expected_bytes` are wanted.
    pub fn new(stream: &ReadableStream, expected_bytes: u64) -> Self {
        match byob_reader(stream) {
            Ok(reader) => {
                let room = ArrayBuffer::new(expected_bytes.clamp(1, PIECE_BYTES) as u32);
                Self::Reusing { reader, room }
            }
            Err(_) => Self::Fresh { reader: stream.get_reader().unchecked_into() },
        }
    }

    /// Asks for the next piece; pass the promise's result to [`Body::piece`] before reading again.
    pub fn read(&self) -> Promise {
        match self {
            Self::Reusing { reader, room } => reader.read_with_array_buffer_view(&Uint8Array::new(room)),
            Self::Fresh { reader } => reader.read(),
        }
    }

    /// What a read resolved to; `None` at the end of the body. It is overwritten by the next read.
    pub fn piece(&mut self, read: JsValue) -> Result<Option<Uint8Array>, SourceError> {
        // The object has the same shape as an iterator's result.
        let read: IteratorNext = read.unchecked_into();
        let piece: Result<Uint8Array, JsValue> = read.value().dyn_into();
        if let (Self::Reusing { room, .. }, Ok(piece)) = (self, &piece) {
            // A read detaches the memory and returns it under another name, even at the end, with nothing in it.
            *room = piece.buffer();
        }
        if read.done() {
            return Ok(None);
        }
        piece.map(Some).map_err(browser_error("reading a piece of a body"))
    }
}

/// Fails if the stream is not a byte stream. The method is called by name because the typed binding does not expect an
/// exception.
fn byob_reader(stream: &ReadableStream) -> Result<ReadableStreamByobReader, JsValue> {
    let options = js_sys::Object::new();
    Reflect::set(&options, &JsValue::from_str("mode"), &JsValue::from_str("byob"))?;
    let get_reader: Function = Reflect::get(stream, &JsValue::from_str("getReader"))?.dyn_into()?;
    get_reader.call1(stream, &options)?.dyn_into()
}
