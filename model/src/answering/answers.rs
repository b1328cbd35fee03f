//! Several answers at once: each in a sequence of its own, their tokens computed in common batches.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{FutureExt, select_all};
use gptoss_protocol::{Event, KvBlocks, Prompt, Stage, Watch};

use super::answer::{Answer, AnswerLimits, Engine};
use super::sampling::Sampler;
use super::under_way::UnderWay;
use crate::backend::Backend;
use crate::error::{EngineError, StageError};
use crate::host::{Host, LoadProposal};
use crate::sequences::{BatchLimits, Outcome, Row, SequenceId, Ticket, Wanted};
use crate::waiting::AwaitPoint;

/// While one batch is computed, the next is on its way, if it does not depend on what comes of the first.
const BATCHES_UNDER_WAY: usize = 2;

/// The answers that are under way.
///
/// A batch takes one row of every answer that is past its prompt, and as much of the prompts as fits beside them, so that a long
/// prompt delays other answers by no more than a batch. Where the cache has no room for all, the youngest answer gives up what its
/// sequence holds and catches up when another one has ended.
#[derive(Default)]
pub struct Answers<'h> {
    /// Answers in the order in which they began.
    running: Vec<Running<'h>>,
    batches: VecDeque<Batch>,
    /// Answers of a batch with a value that is not finite: each is computed alone until it is known whose that was.
    suspects: Vec<u64>,
    /// Counts batches, so that another answer is first in line each time.
    turn: usize,
}

struct Running<'h> {
    /// What the caller knows the answer by.
    tag: u64,
    answer: UnderWay<'h>,
    /// Whether the answer waits until another one has ended and there is room.
    paused: bool,
}

/// A batch that was submitted.
struct Batch {
    ticket: Ticket,
    parts: Vec<Part>,
}

/// The rows of one answer in a batch. Something is wanted of the last one at most.
struct Part {
    tag: u64,
    rows: Vec<Row>,
}

impl Part {
    fn wants(&self) -> bool {
        self.rows.last().is_some_and(|row| row.wanted != Wanted::Nothing)
    }
}

/// An answer that is over.
pub struct Ended {
    /// What the caller knows the answer by, as given when it began.
    pub tag: u64,
    /// The answer, or why there is none.
    pub result: Result<Answer, StageError>,
}

impl<'h> Answers<'h> {
    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether another one could begin now: the backend has a sequence for it.
    pub fn has_room<B: Backend>(&self, engine: &Engine<B>) -> bool {
        self.running.len() < engine.model.sequences().cache.shape().sequences as usize
    }

    /// Begins to answer a prompt. Its events go to `host`, which can stop it; `tag` tells it from others.
    ///
    /// # Errors
    /// The prompt cannot be answered; there is no sequence for it.
    pub fn begin_prompt<B: Backend>(
        &mut self,
        engine: &mut Engine<B>,
        tag: u64,
        prompt: &Prompt,
        host: Rc<dyn Host + 'h>,
    ) -> Result<(), StageError> {
        let asked = engine.read_prompt(prompt, host.as_ref())?;
        self.begin(engine, tag, asked, host)
    }

    /// Begins to continue token ids that end where the assistant begins.
    ///
    /// # Errors
    /// The errors are those of [`Answers::begin_prompt`].
    pub fn begin<B: Backend>(
        &mut self,
        engine: &mut Engine<B>,
        tag: u64,
        asked: (Vec<u32>, Sampler, AnswerLimits),
        host: Rc<dyn Host + 'h>,
    ) -> Result<(), StageError> {
        let sequence = engine.sequence_for(&asked.0, asked.2.reuse_prefix, &self.busy());
        let sequence = sequence.map_err(|error| StageError { stage: Stage::Prefill, error })?;
        let answer = UnderWay::begin(&mut engine.model, &engine.tokenizer, sequence, asked, host)?;
        self.running.push(Running { tag, answer, paused: false });
        Ok(())
    }

    /// How the KV cache is used, with these answers under way and no others.
    pub fn kv_usage<B: Backend>(&self, engine: &Engine<B>) -> KvBlocks {
        engine.model.sequences().cache.usage(&self.busy())
    }

    fn busy(&self) -> Vec<SequenceId> {
        self.running.iter().map(|running| running.answer.sequence).collect()
    }

    /// Computes a batch. Gives the answers that ended with it, in no particular order. What happens on the way and belongs to no
    /// single answer (a lost GPU, experts that are read) goes to `host`; it, too, can stop everything.
    pub async fn step<B: Backend>(&mut self, engine: &mut Engine<B>, host: &dyn Host) -> Vec<Ended> {
        let mut ended = self.end_stopped(engine);
        engine.model.set_watch(host.watch());
        self.submit(engine, &mut ended);
        let Some(Batch { ticket, parts }) = self.batches.pop_front() else { return ended };
        let members = self.members(&parts);
        let together = Together { common: host, members };
        match engine.model.collect(ticket, &together).await {
            Ok(outcomes) => self.distribute(engine, parts, outcomes, &mut ended).await,
            Err(EngineError::Cancelled) => {
                self.drop_batches(engine);
                if host.cancelled() {
                    self.end_where(&mut ended, |_| Some(EngineError::Cancelled));
                }
                ended.extend(self.end_stopped(engine));
            }
            Err(error) => self.failed(engine, &parts, error, &mut ended),
        }
        ended
    }

    fn members(&self, parts: &[Part]) -> Vec<Rc<dyn Host + 'h>> {
        let of_batch = |running: &&Running<'h>| parts.iter().any(|part| part.tag == running.tag);
        self.running.iter().filter(of_batch).map(|running| Rc::clone(&running.answer.host)).collect()
    }

    /// Ends answers that somebody wants to stop.
    fn end_stopped<B: Backend>(&mut self, engine: &mut Engine<B>) -> Vec<Ended> {
        let mut ended = Vec::new();
        if self.running.iter().any(|running| running.answer.host.cancelled()) {
            self.drop_batches(engine);
            self.end_where(&mut ended, |running| running.answer.host.cancelled().then_some(EngineError::Cancelled));
        }
        ended
    }

    /// Ends those that `why` has an error for.
    fn end_where(&mut self, ended: &mut Vec<Ended>, mut why: impl FnMut(&Running<'h>) -> Option<EngineError>) {
        self.running.retain(|running| match why(running) {
            None => true,
            Some(error) => {
                ended.push(Ended { tag: running.tag, result: Err(running.answer.failed(error)) });
                false
            }
        });
        self.after_ends(ended);
    }

    fn after_ends(&mut self, ended: &[Ended]) {
        if !ended.is_empty() {
            self.running.iter_mut().for_each(|running| running.paused = false);
            self.suspects.retain(|tag| ended.iter().all(|ended| ended.tag != *tag));
        }
    }

    /// Takes back batches that are not computed: what they held of sequences is submitted again.
    fn drop_batches<B: Backend>(&mut self, engine: &mut Engine<B>) {
        for batch in self.batches.drain(..) {
            engine.model.sequences_mut().drop_batch(batch.ticket);
            // One that was computed on the way to another has its outcome there, and nobody who takes it.
            engine.model.sequences_mut().take(batch.ticket);
        }
        for running in &self.running {
            running.answer.run_last_again(&mut engine.model);
        }
    }

    /// Submits batches until enough are under way.
    fn submit<B: Backend>(&mut self, engine: &mut Engine<B>, ended: &mut Vec<Ended>) {
        while self.batches.len() < BATCHES_UNDER_WAY {
            let parts = self.next_parts(engine);
            if parts.is_empty() {
                return;
            }
            let rows: Vec<Row> = parts.iter().flat_map(|part| &part.rows).copied().collect();
            match engine.model.submit(&rows) {
                Ok(ticket) => {
                    self.turn += 1;
                    self.batches.push_back(Batch { ticket, parts });
                }
                // What is under way may end an answer, and with it make room.
                Err(_) if !self.batches.is_empty() => return,
                Err(EngineError::CacheFull { .. }) if self.make_room(engine) => {}
                Err(error) => self.failed(engine, &parts, error, ended),
            }
        }
    }

    /// The rows of the next batch: one of each answer that is past its prompt, then as much of prompts as fits.
    fn next_parts<B: Backend>(&self, engine: &Engine<B>) -> Vec<Part> {
        let BatchLimits { rows, wanted } = engine.model.sequences().limits();
        let (mut rows_left, mut wanted_left) = (rows as usize, wanted as usize);
        let count = self.running.len();
        let in_turn = (0..count).map(|at| &self.running[(self.turn + at) % count]);
        let is_able = |tag: &u64| self.running.iter().any(|running| running.tag == *tag && !running.paused);
        let alone = self.suspects.iter().find(|tag| is_able(tag));
        let may_run = |running: &&Running| !running.paused && alone.is_none_or(|suspect| *suspect == running.tag);
        let able: Vec<_> = in_turn.filter(may_run).collect();
        let (decoding, reading): (Vec<_>, Vec<_>) = able.into_iter().partition(|running| running.answer.decodes());
        let mut parts = Vec::new();
        for Running { tag, answer, .. } in decoding.into_iter().chain(reading) {
            let part = Part { tag: *tag, rows: answer.rows(&engine.model, rows_left) };
            let wants = usize::from(part.wants());
            if !part.rows.is_empty() && wants <= wanted_left {
                rows_left -= part.rows.len();
                wanted_left -= wants;
                parts.push(part);
            }
        }
        parts
    }

    /// Frees blocks of the cache: those of a conversation that nobody goes on with, or else of the youngest answer, which waits.
    fn make_room<B: Backend>(&mut self, engine: &mut Engine<B>) -> bool {
        if engine.forget_oldest(&self.busy()) {
            return true;
        }
        let mut able = self.running.iter_mut().filter(|running| !running.paused);
        let (Some(_), Some(youngest)) = (able.next(), able.next_back()) else { return false };
        youngest.paused = true;
        youngest.answer.give_up_sequence(&mut engine.model);
        true
    }

    /// Hands out what came of a batch.
    async fn distribute<B: Backend>(
        &mut self,
        engine: &mut Engine<B>,
        parts: Vec<Part>,
        outcomes: Vec<Outcome>,
        ended: &mut Vec<Ended>,
    ) {
        let mut outcomes = outcomes.into_iter();
        for part in parts {
            let outcome = if part.wants() { outcomes.next() } else { None };
            let Some(at) = self.running.iter().position(|running| running.tag == part.tag) else { continue };
            self.suspects.retain(|tag| *tag != part.tag);
            let Running { tag, answer, .. } = &mut self.running[at];
            answer.progressed(&engine.model);
            let Some(outcome) = outcome else { continue };
            let (model, tokenizer) = (&mut engine.model, &engine.tokenizer);
            let result = match answer.predicted(model, tokenizer, &outcome.prediction()).await {
                Ok(None) => continue,
                Ok(Some(answer)) => Ok(answer),
                Err(error) => Err(answer.failed(error)),
            };
            ended.push(Ended { tag: *tag, result });
            self.running.remove(at);
            self.after_ends(ended);
        }
    }

    /// A batch failed. If several answers have a value that is not finite, only one is to blame; anything else ends
    /// them all.
    fn failed<B: Backend>(
        &mut self,
        engine: &mut Engine<B>,
        parts: &[Part],
        error: EngineError,
        ended: &mut Vec<Ended>,
    ) {
        self.drop_batches(engine);
        let is_one = parts.len() == 1;
        if matches!(error, EngineError::NonFinite(_)) && !is_one {
            self.suspects = parts.iter().map(|part| part.tag).collect();
            return;
        }
        let mut whole = Some(error);
        let shared = if is_one { None } else { whole.take().map(Arc::new) };
        self.end_where(ended, |running| {
            let is_part = parts.iter().any(|part| part.tag == running.tag);
            let error = || shared.clone().map(EngineError::Together).or_else(|| whole.take());
            is_part.then(error).flatten()
        });
    }
}

/// The hosts of a batch: any of them can stop it, and what it tells belongs to none of them.
struct Together<'a, 'h> {
    common: &'a dyn Host,
    members: Vec<Rc<dyn Host + 'h>>,
}

impl Host for Together<'_, '_> {
    fn emit(&self, event: Event) {
        self.common.emit(event);
    }

    fn cancelled(&self) -> bool {
        self.common.cancelled() || self.members.iter().any(|host| host.cancelled())
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        let all = self.members.iter().map(|host| host.until_cancelled()).chain([self.common.until_cancelled()]);
        Box::pin(select_all(all).map(drop))
    }

    fn awaiting(&self, at: AwaitPoint) {
        self.common.awaiting(at);
    }

    fn watch(&self) -> Watch {
        self.common.watch()
    }

    fn approve<'a>(&'a self, proposal: LoadProposal<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        self.common.approve(proposal)
    }

    fn load_begins(&self) {
        self.common.load_begins();
    }

    fn remembered(&self, key: &str) -> bool {
        self.common.remembered(key)
    }

    fn remember(&self, key: &str) {
        self.common.remember(key);
    }
}
