// Its example is native, and would be tested in the browser, too.
#![cfg_attr(not(target_arch = "wasm32"), doc = include_str!("../README.md"))]
#![cfg_attr(target_arch = "wasm32", doc = "Where model bytes come from.")]

mod bytes;
mod error;
mod http;
mod hub_page;
mod joined;
mod memory;
mod observe;
mod pause;
mod platform;
pub mod retry;
pub mod store;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

pub use bytes::Bytes;
pub use error::SourceError;
pub use http::{
    AcceptedRange, AddressSpace, ByteRange, KnownFile, ResponseHead, address_space, check_http_url,
    check_range_response, is_loopback_url, sibling_url, url_file_name, url_host,
};
pub use hub_page::check_not_a_page;
pub use joined::{JoinedSource, OpenOutcome};
pub use memory::MemorySource;
pub use observe::{FetchNews, FetchObserver, FetchReport, HttpOptions};
pub use pause::pause;
#[cfg(not(target_arch = "wasm32"))]
pub use platform::FileSource;
#[cfg(target_arch = "wasm32")]
pub use platform::{
    BlobSource, CACHE_FOLDER, CachedModel, CachedModels, HttpSource, StorageRoom, storage_room, words_of,
};

/// A read under way. Dropping it cancels the read: on the web the request is aborted.
///
/// Not `Send`: the engine drives everything from one thread, and JavaScript objects belong to the thread that made
/// them.
pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<Bytes, SourceError>> + 'a>>;

/// A file that is read at positions.
pub trait Source {
    /// File name to show to the user.
    fn name(&self) -> &str;

    /// Length of the file in bytes, fixed when the source was opened.
    fn len_bytes(&self) -> u64;

    /// Identity of the contents: equal for two sources only if their bytes are the same as far as the host can tell. A
    /// strong ETag, or size and modification time, or at least the size.
    fn identity(&self) -> &str;

    /// Reads exactly `len_bytes` bytes from `offset_bytes` on.
    ///
    /// Fails with [`SourceError::OutOfBounds`] when the range does not lie inside the file, and with whatever else
    /// keeps those very bytes from being delivered. Never returns fewer bytes than were asked for. A length of zero
    /// costs no request.
    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_>;

    /// Requests made to whatever stands behind this source so far (HTTP requests, file reads), repeated ones included.
    fn requests(&self) -> u32;

    /// Bytes that came over the wire so far, useless ones included; `None` where there is no wire.
    fn wire_bytes(&self) -> Option<u64> {
        None
    }

    /// The files that this source joins; none for a source that is a single file.
    fn parts(&self) -> &[Rc<dyn Source>] {
        &[]
    }

    /// File and position of a byte of this source, for messages that lead a user to it.
    fn place(&self, offset_bytes: u64) -> Place {
        Place { file: self.name().to_owned(), host: None, offset_bytes }
    }

    /// Reports that the byte at `offset_bytes` makes no sense. Of its file the cache then drops everything that no
    /// published hash vouches for.
    fn distrust(&self, _offset_bytes: u64) {}
}

/// Position of a byte in a file, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the file.
    pub file: String,
    /// Host and port of a file that comes over a network.
    pub host: Option<String>,
    /// Position in bytes from the start of that file.
    pub offset_bytes: u64,
}

/// Checks that `offset_bytes .. offset_bytes + len_bytes` lies inside a file of `file_bytes` and fits into memory.
fn check_bounds(name: &str, offset_bytes: u64, len_bytes: u64, file_bytes: u64) -> Result<(), SourceError> {
    let inside = offset_bytes.checked_add(len_bytes).is_some_and(|end| end <= file_bytes);
    if inside && usize::try_from(len_bytes).is_ok() {
        return Ok(());
    }
    Err(SourceError::OutOfBounds { name: name.to_owned(), offset_bytes, len_bytes, file_bytes })
}
