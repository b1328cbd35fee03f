//! Streaming: source → host buffer → GPU, a few reads ahead, no weight through the wasm heap.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::StreamExt;
use gptoss_kernels::repack::{Destination, Repack};
use gptoss_kernels::{Gpu, Mark};
use gptoss_model::{AwaitPoint, EngineError, GpuError, Host, check_cancelled, until_stopped};
use gptoss_protocol::{Event, ExpertPlace};
use gptoss_source::{Bytes, Source};
use web_time::Instant;

use crate::journal::Journal;
use crate::pieces::{Sink, Span};
use crate::platform;

/// How many reads are under way at once. Browsers allow six connections to an HTTP/1.1 host; this leaves room for
/// others.
pub const READS_IN_FLIGHT: usize = 4;
/// The GPU is never more than two of these behind, so that staging copies cannot pile up. It works on one while the
/// next arrives.
const BYTES_BETWEEN_MARKS: u64 = 32 << 20;

/// Puts pieces where they belong on the GPU, without getting too far ahead of it.
pub struct Uploads {
    gpu: Rc<Gpu>,
    repack: Repack,
    since_mark_bytes: u64,
    latest: Option<Mark>,
    /// Mark that the GPU must reach before more is uploaded.
    behind: Option<Mark>,
}

/// What a load comes to, for reports of how far it is.
#[derive(Clone, Copy)]
pub struct Progress {
    pub needed_bytes: u64,
    pub tensor_count: u32,
}

/// How much of the file was read, and how much of that was used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Streamed {
    pub fetched_bytes: u64,
    pub used_bytes: u64,
}

impl Uploads {
    pub fn new(gpu: Rc<Gpu>, repack: Repack) -> Self {
        Self { gpu, repack, since_mark_bytes: 0, latest: None, behind: None }
    }

    /// Waits until the GPU is near enough. If the future is dropped early, it can be called again.
    ///
    /// # Errors
    /// Those of the GPU.
    pub async fn keep_pace(&mut self) -> Result<(), GpuError> {
        if let Some(mark) = &mut self.behind {
            self.gpu.reached(mark).await?;
            self.behind = None;
        }
        Ok(())
    }

    /// Puts the pieces of a span where they belong. `keep` receives the bytes of [`Sink::Host`] pieces. Returns the
    /// number of bytes of the pieces.
    ///
    /// # Errors
    /// Those of the GPU.
    pub fn deliver(&mut self, span: &Span, bytes: &Bytes, mut keep: impl FnMut(u64, Bytes)) -> Result<u64, GpuError> {
        let mut used_bytes = 0;
        for piece in &span.pieces {
            let from = (piece.offset_bytes - span.offset_bytes) as usize;
            let part = bytes.slice(from..from + piece.len_bytes as usize);
            used_bytes += piece.len_bytes;
            match &piece.sink {
                Sink::Host => keep(piece.offset_bytes, part),
                sink => self.upload(sink, &part)?,
            }
        }
        self.since_mark_bytes += span.len_bytes;
        if self.since_mark_bytes >= BYTES_BETWEEN_MARKS {
            self.since_mark_bytes = 0;
            self.behind = self.latest.replace(self.gpu.mark());
        }
        Ok(used_bytes)
    }

    fn upload(&self, sink: &Sink, bytes: &Bytes) -> Result<(), GpuError> {
        let gpu = &self.gpu;
        match sink {
            Sink::Copy { buffer, offset_bytes } => platform::write_bytes(gpu, buffer, *offset_bytes, bytes)?,
            Sink::Widen { buffer, offset_bytes, tensor } => {
                let values = tensor.decode(&bytes.to_vec(0..bytes.len()));
                gpu.write(buffer, *offset_bytes, bytemuck::cast_slice(&values));
            }
            Sink::Repack { buffer, planes_offset_bytes, planes, rows, first_row, row_step, codes } => {
                platform::write_bytes(gpu, self.repack.staging(), 0, bytes)?;
                let destination = Destination {
                    buffer,
                    planes_offset_bytes: *planes_offset_bytes,
                    planes: *planes,
                    first_row: *first_row,
                    row_step: *row_step,
                    codes: *codes,
                };
                self.repack.submit(gpu, *rows, &destination);
            }
            Sink::Host => unreachable!("is not for the GPU"),
        }
        Ok(())
    }
}

/// What is told of reads and experts while weights are streamed.
struct Telling<'a> {
    host: &'a dyn Host,
    journal: RefCell<Journal>,
    /// Experts that are not complete yet: bytes still to come, and whether some are on their way.
    experts: RefCell<BTreeMap<ExpertPlace, (u64, bool)>>,
    /// How many reads are under way at once.
    at_once: usize,
}

impl<'a> Telling<'a> {
    fn new(spans: &[Span], host: &'a dyn Host) -> Self {
        let mut experts = BTreeMap::new();
        for piece in spans.iter().flat_map(|span| &span.pieces) {
            if let Some(expert) = piece.expert {
                experts.entry(expert).or_insert((0, false)).0 += piece.len_bytes;
            }
        }
        let at_once = spans.len().min(READS_IN_FLIGHT);
        Self { host, journal: RefCell::default(), experts: RefCell::new(experts), at_once }
    }

    fn begins(&self, span: &Span) {
        let (mut journal, mut experts) = (self.journal.borrow_mut(), self.experts.borrow_mut());
        journal.begins(span.range());
        for expert in span.pieces.iter().filter_map(|piece| piece.expert) {
            let (_, is_coming) = experts.get_mut(&expert).expect("all are in it");
            if !std::mem::replace(is_coming, true) {
                journal.awaited(expert.layer as usize, expert.expert);
            }
        }
        // The first ones begin together, and are told together.
        if journal.under_way() == self.at_once {
            journal.tell(self.host);
        }
    }

    fn came(&self, span: &Span) {
        let (mut journal, mut experts) = (self.journal.borrow_mut(), self.experts.borrow_mut());
        journal.came(span.range());
        for piece in &span.pieces {
            let Some(expert) = piece.expert else { continue };
            let (missing_bytes, _) = experts.get_mut(&expert).expect("all are in it");
            *missing_bytes -= piece.len_bytes;
            if *missing_bytes == 0 {
                journal.arrived(expert.layer as usize, expert.expert);
            }
        }
        journal.tell(self.host);
    }

    /// Nothing more comes, whatever the reason: reads that are under way are dropped.
    fn end(self) {
        let mut journal = self.journal.into_inner();
        journal.none_is_read();
        journal.tell_all(self.host);
    }
}

/// Fetches the spans in order and puts each piece where it belongs. `keep` receives the bytes of [`Sink::Host`] pieces.
pub async fn stream(
    uploads: &mut Uploads,
    source: &dyn Source,
    spans: Vec<Span>,
    progress: Progress,
    host: &dyn Host,
    keep: impl FnMut(u64, Bytes),
) -> Result<Streamed, EngineError> {
    let telling = Telling::new(&spans, host);
    let streamed = stream_spans(uploads, source, spans, (progress, &telling), host, keep).await;
    telling.end();
    streamed
}

async fn stream_spans(
    uploads: &mut Uploads,
    source: &dyn Source,
    spans: Vec<Span>,
    (Progress { needed_bytes, tensor_count }, telling): (Progress, &Telling<'_>),
    host: &dyn Host,
    mut keep: impl FnMut(u64, Bytes),
) -> Result<Streamed, EngineError> {
    let begin = Instant::now();
    let mut done = Streamed::default();
    let mut tensors = 0;
    let reads = spans.into_iter().map(|span| async move {
        telling.begins(&span);
        let bytes = source.read(span.offset_bytes, span.len_bytes).await?;
        Ok::<_, EngineError>((span, bytes))
    });
    let mut arriving = futures_util::stream::iter(reads).buffered(READS_IN_FLIGHT);
    loop {
        // After STOP, dropping the reads under way aborts them.
        let Some(arrived) = until_stopped(host, AwaitPoint::Weights, arriving.next()).await? else { break };
        check_cancelled(host)?;
        let (span, bytes) = arrived?;
        done.fetched_bytes += bytes.len() as u64;
        done.used_bytes += uploads.deliver(&span, &bytes, &mut keep)?;
        for completed in span.pieces.iter().filter_map(|piece| piece.completes.as_ref()) {
            host.emit(Event::Tensor {
                name: completed.name.clone(),
                format: completed.format.to_owned(),
                bytes: completed.size_bytes,
                index: tensors,
                count: tensor_count,
            });
            tensors += 1;
        }
        let seconds = begin.elapsed().as_secs_f64();
        telling.came(&span);
        host.emit(Event::Fetch {
            fetched_bytes: done.fetched_bytes,
            needed_bytes,
            requests: source.requests(),
            wire_bytes: source.wire_bytes(),
            bytes_per_second: (seconds > 0.0).then(|| done.fetched_bytes as f64 / seconds),
        });
        until_stopped(host, AwaitPoint::Uploads, uploads.keep_pace()).await??;
    }
    uploads.gpu.check()?;
    Ok(done)
}
