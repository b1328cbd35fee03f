//! The pager: the one owner of expert slots. It reads experts from the file into them, those first that a batch waits
//! for, and goes on with that while the GPU computes.
//!
//! ```text
//! a batch missed some ──── fetch ──┐  Missed                 ┌ begin_reads ─ Source
//! the layer after it ──── expect ──┼─ Predicted ── Queue ────┤      ▲
//! nothing else to do ────── idle ──┘  Idle                   └ turn ┴ Uploads ─ Residency: the page table
//! ```
//!
//! A slot is free, loading, resident or pinned ([`Slot`](slots::Slot)). Only what a batch misses pushes anything out;
//! what is predicted, or read because there is nothing else to do, goes where nothing is. It would have come later
//! anyway: where all experts fit, no byte is read that would not have been.
//!
//! Slots may be filled while a batch is under way: the queue of the GPU keeps the order. Bytes and entries of the page
//! table that are written after a submission are not seen by it. When it halts, the host asks anew what its layer needs
//! and lacks.

mod queue;
mod residency;
pub(crate) mod slots;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::{Either, select};
use gptoss_kernels::Gpu;
use gptoss_model::{AwaitPoint, EngineError, Host, Inventory, until_stopped};
use gptoss_protocol::FileRange;
use gptoss_source::{Bytes, Source, SourceError};

use self::queue::{Queue, Reason, Request};
pub use self::residency::Residency;
use self::slots::Claim;
use crate::journal::Journal;
use crate::pieces::{self, Span};
use crate::upload::{READS_IN_FLIGHT, Streamed, Uploads};
use crate::weights::Weights;

/// How many reads are under way at once while a batch waits: as many as a browser has connections to an HTTP/1.1 host.
const MOST_READS_IN_FLIGHT: usize = 6;
/// How many experts that nobody waits for are read together: enough for a few reads at a time, and few enough that
/// little is lost when they are given up (53 MB of gpt-oss).
const EXPERTS_AT_ONCE: usize = 4;

/// Reads experts into slots, see the [module](self).
pub struct Pager {
    gpu: Rc<Gpu>,
    source: Rc<dyn Source>,
    inventory: Inventory,
    weights: Weights,
    /// Largest read, in bytes.
    span_bytes: u64,
    uploads: Uploads,
    residency: Residency,
    queue: Queue<Span>,
    reads: Vec<Read>,
    streamed: Streamed,
    journal: Journal,
}

/// A read under way.
struct Read {
    /// Id of its request.
    request: u64,
    range: FileRange,
    coming: Pin<Box<dyn Future<Output = Came>>>,
}

type Came = (Span, Result<Bytes, SourceError>);

/// What a turn brought.
pub enum Turned {
    /// A part of a request arrived.
    Came,
    /// The last part of a request arrived.
    Loaded,
}

impl Pager {
    /// `loaded`: what was read before, with the dense weights.
    pub fn new(
        gpu: Rc<Gpu>,
        source: Rc<dyn Source>,
        inventory: Inventory,
        weights: Weights,
        uploads: Uploads,
        residency: Residency,
        loaded: Streamed,
    ) -> Self {
        let span_bytes = weights.piece_bytes();
        let (queue, reads, journal) = (Queue::default(), Vec::new(), Journal::default());
        let streamed = loaded;
        Self { gpu, source, inventory, weights, span_bytes, uploads, residency, queue, reads, streamed, journal }
    }

    pub fn residency(&self) -> &Residency {
        &self.residency
    }

    pub fn residency_mut(&mut self) -> &mut Residency {
        &mut self.residency
    }

    /// What happened to reads and experts, for whoever can tell it.
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// What was read so far, including what was read before.
    pub fn streamed(&self) -> Streamed {
        self.streamed
    }

    /// File bytes of one expert.
    pub fn expert_file_bytes(&self, layer: usize) -> u64 {
        self.inventory.layers[layer].expert_file_bytes() / u64::from(self.residency.experts())
    }

    /// File bytes of the experts that all unfilled slots could take.
    pub fn missing_bytes(&self) -> u64 {
        let layers = 0..self.residency.layers();
        layers.map(|layer| self.residency.layer(layer).not_yet_filled() as u64 * self.expert_file_bytes(layer)).sum()
    }

    /// Reads experts that a batch waits for, and ends when they are there. Of the layer's other experts only `keep`,
    /// which are resident, stay in their slots: together they are no more than there are slots.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`]; what the source or the GPU fails with. The caller [gives up](Self::give_up) what is
    /// under way.
    pub async fn fetch(
        &mut self,
        layer: usize,
        experts: &[u32],
        keep: &[u32],
        host: &dyn Host,
    ) -> Result<(), EngineError> {
        // Pins of an earlier batch that was stopped end here.
        self.residency.pin(layer, keep);
        self.ask_for_missed(layer, experts);
        self.begin_reads();
        while !experts.iter().all(|&expert| self.residency.is_resident(layer, expert)) {
            self.journal.tell(host);
            until_stopped(host, AwaitPoint::Weights, self.turn()).await??;
        }
        Ok(())
    }

    fn ask_for_missed(&mut self, layer: usize, experts: &[u32]) {
        let slots = self.residency.layer(layer);
        let absent = slots.absent().filter(|expert| experts.contains(expert)).count();
        if absent > slots.claimable() {
            // Other experts that are on their way hold the slots.
            self.give_up_those(|request| request.layer == layer);
        }
        self.queue.promote(layer, experts);
        let absent = self.residency.layer(layer).absent().filter(|expert| experts.contains(expert)).collect();
        self.ask(layer, absent, Reason::Missed);
    }

    /// Reads what is missing of a layer into free slots, because a batch is likely to need all of it.
    pub fn expect(&mut self, layer: usize) {
        while self.ask_for_free(layer, Reason::Predicted) {}
    }

    /// Reads some expert into a free slot, lower layers first, if a read is available. `false` if nothing is under way
    /// and no slot is free.
    pub fn idle(&mut self) -> bool {
        self.begin_reads();
        while self.reads.len() < READS_IN_FLIGHT {
            let mut layers = 0..self.residency.layers();
            if !layers.any(|layer| self.ask_for_free(layer, Reason::Idle)) {
                break;
            }
            self.begin_reads();
        }
        !self.reads.is_empty()
    }

    /// Requests the first experts of a layer that have no slot, as many as there are free slots and as are read
    /// together. `false` if there are none.
    fn ask_for_free(&mut self, layer: usize, reason: Reason) -> bool {
        let slots = self.residency.layer(layer);
        let experts: Vec<u32> = slots.absent().take(slots.free().min(EXPERTS_AT_ONCE)).collect();
        let any = !experts.is_empty();
        self.ask(layer, experts, reason);
        any
    }

    /// Claims slots for absent experts, of which there are enough, and queues their reads.
    fn ask(&mut self, layer: usize, experts: Vec<u32>, reason: Reason) {
        if experts.is_empty() {
            return;
        }
        let mut all = Vec::new();
        for &expert in &experts {
            let claim = self.residency.claim(&self.gpu, layer, expert);
            let Claim { slot, evicted } = claim.expect("no more are asked for than can be claimed");
            evicted.into_iter().for_each(|old| self.journal.evicted(layer, old));
            self.journal.awaited(layer, expert);
            all.extend(self.weights.expert_pieces(layer, &self.inventory.layers[layer], expert, slot));
        }
        self.queue.add(layer, experts, reason, pieces::spans(all, self.span_bytes));
    }

    /// Awaits `awaited` while reads go on. `tell` is called when one began or ended.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub async fn beside<T>(
        &mut self,
        awaited: impl Future<Output = T>,
        tell: impl Fn(&mut Journal),
    ) -> Result<T, EngineError> {
        let mut awaited = pin!(awaited);
        self.begin_reads();
        loop {
            tell(&mut self.journal);
            // Natively a wait for the GPU blocks, so it begins only when there is nothing to read.
            match select(pin!(self.turn()), awaited.as_mut()).await {
                Either::Left((Ok(_), _)) => {}
                Either::Left((Err(error), _)) => return Err(error),
                Either::Right((outcome, _)) => return Ok(outcome),
            }
        }
    }

    /// Waits for the next read to end, and puts the bytes where they belong; waits forever if there is nothing to read.
    /// Dropping the future early loses nothing.
    ///
    /// # Errors
    /// Those of the source, for whatever reason it was read: a source has tried again what may pass, and what is left
    /// of it (a host that is gone, another file) is told at once. Those of the GPU.
    pub async fn turn(&mut self) -> Result<Turned, EngineError> {
        self.uploads.keep_pace().await?;
        self.begin_reads();
        let (id, (span, bytes)) = poll_fn(|context| self.poll_reads(context)).await;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.journal.ended(span.range());
                self.give_up_those(|request| request.id == id);
                return Err(error.into());
            }
        };
        self.streamed.fetched_bytes += bytes.len() as u64;
        self.uploads.deliver(&span, &bytes, |_, _| unreachable!("no expert stays on the host"))?;
        self.journal.came(span.range());
        let done = self.queue.came(id);
        self.begin_reads();
        let Some(Request { layer, experts, .. }) = done else { return Ok(Turned::Came) };
        let expert_bytes = self.expert_file_bytes(layer);
        for expert in experts {
            self.streamed.used_bytes += expert_bytes;
            self.residency.publish(&self.gpu, layer, expert, expert_bytes);
            self.journal.arrived(layer, expert);
        }
        self.gpu.check()?;
        Ok(Turned::Loaded)
    }

    /// Begins as many reads as may be under way.
    fn begin_reads(&mut self) {
        while let Some(reason) = self.queue.next_reason() {
            let most = if reason == Reason::Missed { MOST_READS_IN_FLIGHT } else { READS_IN_FLIGHT };
            if self.reads.len() >= most {
                return;
            }
            let (request, span) = self.queue.next().expect("there is a next one");
            let (source, range) = (Rc::clone(&self.source), span.range());
            let coming = async move {
                let bytes = source.read(span.offset_bytes, span.len_bytes).await;
                (span, bytes)
            };
            self.reads.push(Read { request, range, coming: Box::pin(coming) });
            self.journal.begins(range);
        }
    }

    fn poll_reads(&mut self, context: &mut Context<'_>) -> Poll<(u64, Came)> {
        for index in 0..self.reads.len() {
            if let Poll::Ready(came) = self.reads[index].coming.as_mut().poll(context) {
                return Poll::Ready((self.reads.remove(index).request, came));
            }
        }
        Poll::Pending
    }

    /// Gives up everything that is under way or queued: requests are aborted, slots become free.
    pub fn give_up(&mut self) {
        self.give_up_those(|_| true);
    }

    fn give_up_those(&mut self, which: impl Fn(&Request<Span>) -> bool) {
        for request in self.queue.take(which) {
            // Dropping a read aborts it.
            for dropped in self.reads.extract_if(.., |read| read.request == request.id) {
                self.journal.ended(dropped.range);
            }
            for expert in request.experts {
                self.residency.give_back(request.layer, expert);
                self.journal.evicted(request.layer, expert);
            }
        }
    }
}
