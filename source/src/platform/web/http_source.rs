use std::rc::Rc;

use super::surroundings::{is_online, now, online, random, sleep};
use super::transfer::{Fault, Filling, Line, attempt};
use crate::http::{ByteRange, KnownFile, check_http_url, is_loopback_url, url_file_name, url_host};
use crate::hub_page::check_not_a_page;
use crate::observe::{FetchNews, FetchObserver, FetchReport, HttpOptions};
use crate::retry::{Moment, Next, Patience};
use crate::{Place, ReadFuture, Source, SourceError, check_bounds};

/// Size of the first request: enough to prove that ranges work and to see what kind of file it is. The bytes stay in
/// memory, so that the first reads need not ask again.
pub(super) const PROBE_BYTES: u64 = 64 * 1024;

/// A file behind an http(s) URL, read by range requests. Works on a page and in a worker.
///
/// Requests carry no header but `Range: bytes=first-last`, which needs no CORS preflight, and bypass the HTTP cache.
/// Every answer is checked (see [`crate::check_range_response`]) and so is the number of bytes in its body.
///
/// A read survives faults that pass, as [`crate::retry`] decides: what had arrived is kept and the rest is asked for
/// again, at the original URL, so that redirects to addresses that expire are followed anew.
pub struct HttpSource {
    name: String,
    file: KnownFile,
    identity: String,
    /// The first bytes of the file, from the probe.
    head: crate::Bytes,
    line: Line,
    observer: Option<Rc<dyn FetchObserver>>,
}

impl HttpSource {
    /// Asks for the first bytes and proves by the answer that the host honours ranges and lets this page see the
    /// headers it needs. The bytes are kept and handed to the reads that ask for them.
    pub async fn open(url: &str, options: &HttpOptions) -> Result<Self, SourceError> {
        check_http_url(url)?;
        check_not_a_page(url)?;
        Self::probe(url, options).await
    }

    pub(super) async fn probe(url: &str, options: &HttpOptions) -> Result<Self, SourceError> {
        let name = Some(url_file_name(url)).filter(|name| !name.is_empty()).unwrap_or(url);
        let line = Line::new(url, options.retry.clone());
        let filling = Filling::probe(ByteRange { first: 0, last: PROBE_BYTES - 1 });
        let (file, head) = fill(&line, name, options.observer.as_deref(), filling).await?;
        let identity = file.identity();
        Ok(Self { name: name.to_owned(), file, identity, head, line, observer: options.observer.clone() })
    }

    /// The address that was given; redirects are followed anew by every request.
    pub(super) fn url(&self) -> &str {
        &self.line.url
    }

    /// What the first answer said about the file.
    pub(super) fn known(&self) -> &KnownFile {
        &self.file
    }

    async fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<crate::Bytes, SourceError> {
        check_bounds(&self.name, offset_bytes, len_bytes, self.file.len_bytes)?;
        let kept_end = (offset_bytes + len_bytes).min(self.head.len() as u64);
        let kept = (offset_bytes < kept_end).then(|| self.head.slice(offset_bytes as usize..kept_end as usize));
        let Some(range) = ByteRange::new(offset_bytes, len_bytes) else {
            return Ok(crate::Bytes::from_vec(Vec::new()));
        };
        match kept {
            Some(kept) if kept.len() as u64 == len_bytes => Ok(kept),
            kept => {
                let filling = Filling::of_known(range, &self.file, kept.as_ref());
                Ok(fill(&self.line, &self.name, self.observer.as_deref(), filling).await?.1)
            }
        }
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
        self.line.requests.get()
    }

    fn wire_bytes(&self) -> Option<u64> {
        Some(self.line.received_bytes.get())
    }

    fn place(&self, offset_bytes: u64) -> Place {
        Place { file: self.name.clone(), host: url_host(&self.line.url).map(str::to_owned), offset_bytes }
    }
}

/// One read, in as many attempts as it takes.
async fn fill(
    line: &Line,
    file: &str,
    observer: Option<&dyn FetchObserver>,
    mut filling: Filling,
) -> Result<(KnownFile, crate::Bytes), SourceError> {
    let offset_bytes = filling.first();
    let report = |missing_bytes: u64, news: FetchNews| {
        if let Some(observer) = observer {
            observer.fetching(&FetchReport { file, offset_bytes, missing_bytes, news });
        }
    };
    let mut patience = Patience::new(&line.retry, now());
    loop {
        let attempted = attempt(line, &mut filling, |filling| {
            if let Some(recovery) = patience.received(now()) {
                let news = FetchNews::GoingOn { attempts: recovery.attempts, elapsed: recovery.elapsed };
                report(filling.missing_bytes(), news);
            }
        });
        let Err(Fault { error, asked_wait }) = attempted.await else { break };
        let moment = Moment {
            now: now(),
            random: random(),
            online: is_online() || is_loopback_url(&line.url),
            was_read: filling.was_read(),
            asked_wait,
        };
        match patience.failed(error, &moment) {
            Next::TryAgain { kind, wait, attempt, attempts } => {
                report(filling.missing_bytes(), FetchNews::TryingAgain { kind, wait, attempt, attempts });
                sleep(wait).await;
            }
            Next::WaitForNetwork => {
                report(filling.missing_bytes(), FetchNews::Offline);
                online().await;
            }
            Next::GiveUp(error) => return Err(error),
        }
    }
    match filling.into_parts() {
        (Some(known), bytes) => Ok((known, bytes)),
        // No attempt succeeds without an answer that says what the file is.
        (None, _) => Err(SourceError::ContentRangeUnreadable { url: line.url.clone() }),
    }
}
