//! One request and what it brings: checked from status to the last body byte, and kept as far as it came.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::{Either, select};
use gloo_timers::future::TimeoutFuture;
use js_sys::{Promise, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, Headers, Request, RequestCache, RequestInit, RequestMode, Response};

use super::body::Body;
use super::surroundings::{now, parse_date, since_1970, sleep, start_fetch};
use super::{Bytes, browser_error, words_of};
use crate::SourceError;
use crate::http::{ByteRange, KnownFile, ResponseHead, check_range_response};
use crate::retry::{RetryPolicy, parse_retry_after};

/// How long a complete body may take to end, so that one with too many bytes is noticed.
const END_GRACE: Duration = Duration::from_secs(1);

/// A busy thread may see the alarm before the bytes that came meanwhile; this is how long it then looks for them.
const LAST_CHANCE: Duration = Duration::from_millis(50);

/// State that all requests of one source share.
pub struct Line {
    pub url: String,
    pub retry: RetryPolicy,
    pub requests: Cell<u32>,
    /// Body bytes so far, useless ones included.
    pub received_bytes: Cell<u64>,
    /// When the last of them arrived, or the source was opened.
    last_byte: Cell<Duration>,
}

impl Line {
    pub fn new(url: &str, retry: RetryPolicy) -> Self {
        Self {
            url: url.to_owned(),
            retry,
            requests: Cell::new(0),
            received_bytes: Cell::new(0),
            last_byte: Cell::new(now()),
        }
    }
}

/// The bytes of one read: what has arrived so far, from one answer or from several.
pub struct Filling {
    range: ByteRange,
    /// What earlier answers said about the file.
    known: Option<KnownFile>,
    /// Buffer as long as the range, once the file is known to have the range.
    target: Uint8Array,
    filled_bytes: u64,
}

impl Filling {
    /// Starts a read of a range that the known file has. The first bytes may be `kept` already.
    pub fn of_known(range: ByteRange, file: &KnownFile, kept: Option<&crate::Bytes>) -> Self {
        let target = array_for(range);
        let filled_bytes = kept.map_or(0, |kept| {
            target.set(kept.as_uint8_array(), 0);
            kept.len() as u64
        });
        Self { range, known: Some(file.clone()), target, filled_bytes }
    }

    /// Starts the first read of an unknown file; the range may end beyond the file.
    pub fn probe(range: ByteRange) -> Self {
        Self { range, known: None, target: Uint8Array::new_with_length(0), filled_bytes: 0 }
    }

    pub fn was_read(&self) -> bool {
        self.known.is_some()
    }

    pub fn missing_bytes(&self) -> u64 {
        self.range.len_bytes() - self.filled_bytes
    }

    pub fn first(&self) -> u64 {
        self.range.first
    }

    /// The bytes that are still to be asked for.
    fn missing(&self) -> ByteRange {
        ByteRange { first: self.range.first + self.filled_bytes, last: self.range.last }
    }

    /// The file and the bytes; no file if there never was a good answer.
    pub fn into_parts(self) -> (Option<KnownFile>, crate::Bytes) {
        (self.known, crate::Bytes(Bytes(self.target)))
    }

    /// Takes in the head of a good answer.
    fn accept(&mut self, range: ByteRange, file: KnownFile) {
        if self.known.is_none() {
            self.range = range;
            self.target = array_for(range);
            self.known = Some(file);
        }
    }

    fn push(&mut self, url: &str, piece: &Uint8Array) -> Result<(), SourceError> {
        let got_bytes = self.filled_bytes + u64::from(piece.length());
        if got_bytes > self.range.len_bytes() {
            return Err(self.wrong_length(url, got_bytes));
        }
        self.target.set(piece, self.filled_bytes as u32);
        self.filled_bytes = got_bytes;
        Ok(())
    }

    fn wrong_length(&self, url: &str, got_bytes: u64) -> SourceError {
        let (ByteRange { first, last }, expected_bytes) = (self.range, self.range.len_bytes());
        SourceError::BodyLength { url: url.to_owned(), first, last, expected_bytes, got_bytes }
    }
}

/// Allocates the buffer; a range that does not fit into memory never gets here.
fn array_for(range: ByteRange) -> Uint8Array {
    Uint8Array::new_with_length(range.len_bytes() as u32)
}

/// Why an attempt ended early.
pub struct Fault {
    pub error: SourceError,
    /// Wait that the host asked for with `Retry-After`.
    pub asked_wait: Option<Duration>,
}

impl From<SourceError> for Fault {
    fn from(error: SourceError) -> Self {
        Self { error, asked_wait: None }
    }
}

/// Aborts the request when dropped, so that giving up on a read also stops the transfer, as does refusing its head.
/// Once the body is there, aborting does nothing.
pub struct AbortOnDrop(pub AbortController);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks for the missing bytes and takes them in; `on_bytes` is called for every piece. Bytes that arrived before a
/// fault stay.
pub async fn attempt(line: &Line, filling: &mut Filling, mut on_bytes: impl FnMut(&Filling)) -> Result<(), Fault> {
    let abort = AbortOnDrop(AbortController::new().map_err(browser_error("creating an AbortController"))?);
    let asked = filling.missing();
    let request = range_request(&line.url, asked, &abort.0).map_err(browser_error("creating a Request"))?;
    line.requests.set(line.requests.get() + 1);
    let mut watch = Watch::new(line, filling.was_read());
    let response = watch
        .wait(start_fetch(&request)?, asked)
        .await?
        .map_err(|error| SourceError::Network { url: line.url.clone(), detail: words_of(&error) })?;
    let response: Response = response.dyn_into().map_err(browser_error("reading a Response"))?;
    check_head(line, asked, filling, &response)?;
    watch.answered();

    // A body without bytes may have no stream.
    let Some(body) = response.body() else {
        return if filling.missing_bytes() == 0 { Ok(()) } else { Err(short(line, filling)) };
    };
    let mut body = Body::new(&body, filling.missing_bytes());
    while filling.missing_bytes() > 0 {
        let asked = filling.missing();
        let read = watch.wait(body.read(), asked).await?.map_err(|error| SourceError::BodyInterrupted {
            url: line.url.clone(),
            first: asked.first,
            last: asked.last,
            detail: words_of(&error),
        })?;
        let Some(piece) = body.piece(read)? else { return Err(short(line, filling)) };
        watch.received(&piece);
        filling.push(&line.url, &piece)?;
        on_bytes(filling);
    }
    check_end(line, filling, &mut body).await
}

fn short(line: &Line, filling: &Filling) -> Fault {
    filling.wrong_length(&line.url, filling.filled_bytes).into()
}

fn check_head(line: &Line, asked: ByteRange, filling: &mut Filling, response: &Response) -> Result<(), Fault> {
    let headers = response.headers();
    let head = ResponseHead {
        status: response.status(),
        content_range: headers.get("content-range").map_err(browser_error("reading Content-Range"))?,
        etag: headers.get("etag").map_err(browser_error("reading ETag"))?,
        content_type: headers.get("content-type").map_err(browser_error("reading Content-Type"))?,
    };
    match check_range_response(&line.url, asked, filling.known.as_ref(), &head) {
        Ok(accepted) => {
            filling.accept(accepted.range, accepted.file);
            Ok(())
        }
        Err(error) => {
            let text = headers.get("retry-after").map_err(browser_error("reading Retry-After"))?;
            let asked_wait = text.and_then(|text| parse_retry_after(&text, since_1970(), parse_date));
            Err(Fault { error, asked_wait })
        }
    }
}

/// Checks the end of a complete body. More bytes would mean that they are not those of the range; a connection that
/// breaks now, or lingers, does not matter.
async fn check_end(line: &Line, filling: &Filling, body: &mut Body) -> Result<(), Fault> {
    let end = select(JsFuture::from(body.read()), sleep(END_GRACE)).await;
    if let Either::Left((Ok(read), _)) = end
        && let Some(piece) = body.piece(read)?
    {
        let more = u64::from(piece.length());
        line.received_bytes.set(line.received_bytes.get() + more);
        return Err(filling.wrong_length(&line.url, filling.filled_bytes + more).into());
    }
    Ok(())
}

/// Waits, but for no longer silence than the policy allows.
struct Watch<'l> {
    line: &'l Line,
    was_read: bool,
    last_byte: Duration,
    /// Rings when silence would be too long as judged when it was set. It is checked when it rings, instead of being
    /// moved with every byte.
    alarm: TimeoutFuture,
    is_last_chance: bool,
}

impl<'l> Watch<'l> {
    fn new(line: &'l Line, was_read: bool) -> Self {
        let last_byte = now();
        let left = line.retry.silence_left(last_byte, last_byte, line.last_byte.get(), was_read);
        Self { line, was_read, last_byte, alarm: sleep(left), is_last_chance: false }
    }

    /// Notes that the head of the answer arrived.
    fn answered(&mut self) {
        self.was_read = true;
        self.last_byte = now();
    }

    fn received(&mut self, piece: &Uint8Array) {
        let line = self.line;
        line.received_bytes.set(line.received_bytes.get() + u64::from(piece.length()));
        self.last_byte = now();
        line.last_byte.set(self.last_byte);
    }

    /// Awaits `promise`; [`SourceError::Stalled`] after too long a silence. `missing` is for the message.
    async fn wait(&mut self, promise: Promise, missing: ByteRange) -> Result<Result<JsValue, JsValue>, SourceError> {
        let mut future = JsFuture::from(promise);
        loop {
            match select(&mut future, &mut self.alarm).await {
                Either::Left((outcome, _)) => return Ok(outcome),
                Either::Right(_) => {
                    let (now, line) = (now(), self.line);
                    let left = line.retry.silence_left(now, self.last_byte, line.last_byte.get(), self.was_read);
                    if left.is_zero() && self.is_last_chance {
                        let ByteRange { first, last } = missing;
                        let seconds = now.saturating_sub(self.last_byte).as_secs_f64();
                        return Err(SourceError::Stalled { url: line.url.clone(), first, last, seconds });
                    }
                    self.is_last_chance = left.is_zero();
                    self.alarm = sleep(left.max(LAST_CHANCE));
                }
            }
        }
    }
}

fn range_request(url: &str, asked: ByteRange, abort: &AbortController) -> Result<Request, JsValue> {
    let headers = Headers::new()?;
    headers.set("Range", &asked.header_value())?;
    let init = RequestInit::new();
    init.set_method("GET");
    init.set_mode(RequestMode::Cors);
    // Chromium runs parallel ranges of one URL one after another through its HTTP cache, and has answered from it with
    // short bodies. The download cache takes its place.
    init.set_cache(RequestCache::NoStore);
    init.set_headers(&headers);
    init.set_signal(Some(&abort.signal()));
    Request::new_with_str_and_init(url, &init)
}
