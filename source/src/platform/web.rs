use std::cell::Cell;
use std::ops::Range;

use js_sys::{ArrayBuffer, Promise, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, Blob, File, Headers, Request, RequestCache, RequestInit, RequestMode, Response, Window,
    WorkerGlobalScope,
};

use crate::http::{
    AcceptedRange, ByteRange, KnownFile, ResponseHead, check_http_url, check_range_response, url_file_name,
};
use crate::{ReadFuture, Source, SourceError, check_bounds};

/// How much the first request asks for: enough to prove ranges and to see what kind of file it is; kept, so that the
/// first reads need not ask again.
const PROBE_BYTES: u64 = 64 * 1024;

mod digest;
mod locks;
mod opfs;
#[cfg(test)]
mod tests;

pub use digest::sha256;
pub use opfs::{KEPT_FOLDER, KeptModel, KeptModels, StorageRoom, storage_room};

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

/// A file behind an http(s) URL, read by range requests. Works on a page and in a worker.
///
/// Requests carry no header but `Range: bytes=first-last`, which needs no CORS preflight, and bypass the HTTP cache.
/// Every answer is checked (see [`check_range_response`]) and so is the number of bytes in its body.
pub struct HttpSource {
    name: String,
    url: String,
    file: KnownFile,
    identity: String,
    /// The first bytes of the file, from the probe.
    head: crate::Bytes,
    requests: Cell<u32>,
}

impl HttpSource {
    /// Asks for the first bytes and proves by the answer that the host honours ranges and lets this page see the
    /// headers it needs. The bytes are kept and handed to the reads that ask for them.
    pub async fn open(url: &str) -> Result<Self, SourceError> {
        check_http_url(url)?;
        Self::probe(url).await
    }

    async fn probe(url: &str) -> Result<Self, SourceError> {
        let probe = ByteRange { first: 0, last: PROBE_BYTES - 1 };
        let (accepted, head) = fetch_range(url, probe, None).await?;
        let name = Some(url_file_name(url)).filter(|name| !name.is_empty()).unwrap_or(url).to_owned();
        let identity = accepted.file.identity();
        Ok(Self { name, url: url.to_owned(), file: accepted.file, identity, head, requests: Cell::new(1) })
    }

    async fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<crate::Bytes, SourceError> {
        check_bounds(&self.name, offset_bytes, len_bytes, self.file.len_bytes)?;
        let end = offset_bytes + len_bytes;
        let kept_end = end.min(self.head.len() as u64);
        let kept = (offset_bytes < kept_end).then(|| self.head.slice(offset_bytes as usize..kept_end as usize));
        let kept_len = kept.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let Some(range) = ByteRange::new(offset_bytes + kept_len, len_bytes - kept_len) else {
            return Ok(kept.unwrap_or_else(|| crate::Bytes::from_vec(Vec::new())));
        };
        self.requests.set(self.requests.get() + 1);
        let (_, rest) = fetch_range(&self.url, range, Some(&self.file)).await?;
        let Some(kept) = kept else { return Ok(rest) };
        // The read straddles the end of what the probe brought: join the two.
        let joined = Uint8Array::new_with_length(len_bytes as u32);
        joined.set(kept.as_uint8_array(), 0);
        joined.set(rest.as_uint8_array(), kept_len as u32);
        Ok(crate::Bytes(Bytes(joined)))
    }
}

impl Source for HttpSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len_bytes(&self) -> u64 {
        self.file.len_bytes
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(self.read_now(offset_bytes, len_bytes))
    }

    fn requests(&self) -> u32 {
        self.requests.get()
    }
}

/// Aborts the request when dropped, so that giving up on a read also stops the transfer, as does refusing its head.
/// Once the body is there, aborting does nothing.
struct AbortOnDrop(AbortController);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One range request, checked from status to the last body byte.
async fn fetch_range(
    url: &str,
    asked: ByteRange,
    known: Option<&KnownFile>,
) -> Result<(AcceptedRange, crate::Bytes), SourceError> {
    let abort = AbortOnDrop(AbortController::new().map_err(browser_error("creating an AbortController"))?);
    let request = range_request(url, asked, &abort.0).map_err(browser_error("creating a Request"))?;
    let response = JsFuture::from(start_fetch(&request)?)
        .await
        .map_err(|error| SourceError::Network { url: url.to_owned(), detail: describe(&error) })?;
    let response: Response = response.dyn_into().map_err(browser_error("reading a Response"))?;
    let headers = response.headers();
    let head = ResponseHead {
        status: response.status(),
        content_range: headers.get("content-range").map_err(browser_error("reading Content-Range"))?,
        etag: headers.get("etag").map_err(browser_error("reading ETag"))?,
    };
    let accepted = check_range_response(url, asked, known, &head)?;
    let ByteRange { first, last } = accepted.range;
    let body = response.array_buffer().map_err(browser_error("Response.arrayBuffer"))?;
    let buffer = JsFuture::from(body).await.map_err(|error| SourceError::BodyInterrupted {
        url: url.to_owned(),
        first,
        last,
        detail: describe(&error),
    })?;
    let bytes = Bytes::from_buffer(&buffer.dyn_into().map_err(browser_error("reading a body"))?);
    let (expected_bytes, got_bytes) = (accepted.range.len_bytes(), bytes.len() as u64);
    if got_bytes != expected_bytes {
        return Err(SourceError::BodyLength { url: url.to_owned(), first, last, expected_bytes, got_bytes });
    }
    Ok((accepted, crate::Bytes(bytes)))
}

fn range_request(url: &str, asked: ByteRange, abort: &AbortController) -> Result<Request, JsValue> {
    let headers = Headers::new()?;
    headers.set("Range", &asked.header_value())?;
    let init = RequestInit::new();
    init.set_method("GET");
    init.set_mode(RequestMode::Cors);
    // Chromium runs parallel ranges of one URL one after another through its cache, and has answered from it with
    // short bodies; what is worth keeping is kept by other means.
    init.set_cache(RequestCache::NoStore);
    init.set_headers(&headers);
    init.set_signal(Some(&abort.signal()));
    Request::new_with_str_and_init(url, &init)
}

/// The global `fetch` of wherever this runs.
fn start_fetch(request: &Request) -> Result<Promise, SourceError> {
    let global = js_sys::global();
    if let Some(worker) = global.dyn_ref::<WorkerGlobalScope>() {
        return Ok(worker.fetch_with_request(request));
    }
    match global.dyn_ref::<Window>() {
        Some(window) => Ok(window.fetch_with_request(request)),
        None => Err(SourceError::Browser {
            action: "looking for fetch",
            detail: "this is neither a page nor a worker".to_owned(),
        }),
    }
}

/// A file that the user picked or dropped: read in place, nothing is copied or uploaded.
pub struct BlobSource {
    name: String,
    identity: String,
    blob: Blob,
    len_bytes: u64,
    requests: Cell<u32>,
}

impl BlobSource {
    /// A file with a name and a modification time.
    pub fn from_file(file: &File) -> Self {
        let identity = format!("file {} {} bytes modified {}", file.name(), file.size(), file.last_modified());
        Self::with_identity(file.name(), identity, file.clone().into())
    }

    /// Bytes without a modification time; `name` stands for them in messages.
    pub fn from_blob(name: impl Into<String>, blob: Blob) -> Self {
        let name = name.into();
        let identity = format!("blob {name} {} bytes", blob.size());
        Self::with_identity(name, identity, blob)
    }

    fn with_identity(name: String, identity: String, blob: Blob) -> Self {
        let len_bytes = blob.size() as u64; // a whole number, below 2^53
        Self { name, identity, blob, len_bytes, requests: Cell::new(0) }
    }

    async fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<crate::Bytes, SourceError> {
        check_bounds(&self.name, offset_bytes, len_bytes, self.len_bytes)?;
        if len_bytes == 0 {
            return Ok(crate::Bytes::from_vec(Vec::new()));
        }
        self.requests.set(self.requests.get() + 1);
        let part = self
            .blob
            .slice_with_f64_and_f64(offset_bytes as f64, (offset_bytes + len_bytes) as f64)
            .map_err(browser_error("Blob.slice"))?;
        let buffer = JsFuture::from(part.array_buffer()).await.map_err(|error| self.read_error(&error))?;
        let bytes = Bytes::from_buffer(&buffer.dyn_into().map_err(browser_error("reading a Blob"))?);
        if bytes.len() as u64 != len_bytes {
            return Err(SourceError::FileShrank {
                name: self.name.clone(),
                expected_bytes: self.len_bytes,
                got_bytes: offset_bytes + bytes.len() as u64,
            });
        }
        Ok(crate::Bytes(bytes))
    }

    /// Browsers refuse to read a picked file once its size or modification time is another (File API §4.1).
    fn read_error(&self, error: &JsValue) -> SourceError {
        let detail = describe(error);
        if detail.starts_with("NotReadableError") || detail.starts_with("NotFoundError") {
            return SourceError::FileChanged { name: self.name.clone(), detail };
        }
        SourceError::Browser { action: "Blob.arrayBuffer", detail }
    }
}

impl Source for BlobSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(self.read_now(offset_bytes, len_bytes))
    }

    fn requests(&self) -> u32 {
        self.requests.get()
    }
}

fn browser_error(action: &'static str) -> impl FnOnce(JsValue) -> SourceError {
    move |error| SourceError::Browser { action, detail: describe(&error) }
}

/// `TypeError: Failed to fetch`, or whatever else was thrown.
fn describe(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Object>() {
        Some(object) => object.to_string().into(),
        None => format!("{error:?}"),
    }
}
