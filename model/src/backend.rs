//! The seam between answering and arithmetic: what a loaded model can do, wherever it runs.

use std::collections::VecDeque;

use gptoss_protocol::{CacheCounters, OptionId, Watch, WorkCounters};

use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::host::{Host, Quiet};
use crate::prediction::Prediction;
use crate::sequences::{BatchLimits, BlockCopy, Outcome, Row, SequenceId, Sequences, Ticket, Wanted};

/// A model with its KV cache: on the GPU (crate `gptoss-engine`), on the CPU (crate `gptoss-cpu`), or the specification
/// ([`crate::reference`]).
///
/// Holds many sequences. Work is a batch of rows, each a token at the end of its sequence; [`Backend::submit`] gives a
/// ticket, [`Backend::collect`] what came of it, and more than one ticket may be under way. What a sequence has that is
/// not collected is its tail: an error, STOP or a lost device takes it back, and the tokens before it stay.
///
/// A sequence's logits are those that it has alone, within the rounding of F32 sums: how many rows a batch has decides
/// which kernel multiplies, and so in which order a sum is formed; who else is in it decides nothing.
#[expect(async_fn_in_trait, reason = "the browser's GPU objects keep every future on its thread")]
pub trait Backend {
    /// Shape of the loaded model.
    fn config(&self) -> &ModelConfig;

    /// Describes what computes: device, instruction set or API, precision of activations and cache.
    fn description(&self) -> String;

    /// Size of the KV cache in bytes, for all sequences together.
    fn kv_bytes(&self) -> u64;

    /// Hits and misses of the expert cache since the load.
    fn cache_counters(&self) -> CacheCounters;

    /// Work that was given to the device since the load.
    fn work_counters(&self) -> WorkCounters;

    /// The open sequences, and the batches under way.
    fn sequences(&self) -> &Sequences;

    /// The same, to be changed.
    fn sequences_mut(&mut self) -> &mut Sequences;

    /// Copies keys and values of whole blocks within the cache.
    fn copy_blocks(&mut self, copies: &[BlockCopy]);

    /// Called after a batch was submitted or is done: a backend that can begin the next batch does so.
    fn begin_pending(&mut self) {}

    /// What somebody looks at, for batches that are begun from now on. [`Backend::collect`] says it of its host, and so does
    /// whatever submits batches for one.
    fn set_watch(&mut self, _watch: Watch) {}

    /// Computes the oldest pending batch: one outcome for each row that wants one. The batch stays pending.
    ///
    /// # Errors
    /// STOP, a value that is not finite, or what the device fails with.
    async fn compute_oldest(&mut self, host: &dyn Host) -> Result<Vec<Outcome>, EngineError>;

    /// The logits after the last token of a sequence, if the latest computation gave them.
    ///
    /// # Errors
    /// What the device fails with.
    async fn logits_at_hand(&mut self, sequence: SequenceId, host: &dyn Host) -> Result<Option<Vec<f32>>, EngineError>;

    /// Whether it could compute now; `false` between a lost device and the next one.
    fn is_there(&self) -> bool {
        true
    }

    /// Whether experts are to be read when there is nothing else to do: [`Backend::prefetch`].
    fn wants_prefetch(&self) -> bool {
        false
    }

    /// Reads experts that nothing has needed so far. Whatever came of it, answers can be asked for.
    ///
    /// # Errors
    /// STOP; what the source or the device fails with.
    async fn prefetch(&mut self, _host: &dyn Host) -> Result<(), EngineError> {
        Ok(())
    }

    /// Opens an empty sequence.
    ///
    /// # Errors
    /// There are as many as there can be.
    fn open(&mut self) -> Result<SequenceId, EngineError> {
        self.sequences_mut().cache.open()
    }

    /// Opens a sequence with the tokens of another one; full blocks are shared.
    ///
    /// # Errors
    /// There are as many as there can be, or the cache is full.
    fn fork(&mut self, of: SequenceId) -> Result<SequenceId, EngineError> {
        let (sequence, copies) = self.sequences_mut().cache.fork(of)?;
        self.copy_blocks(&copies);
        Ok(sequence)
    }

    /// Opens a sequence that reuses what some other sequence has of the beginning of `tokens`. Also returns how many
    /// tokens that is.
    ///
    /// # Errors
    /// As [`Backend::fork`].
    fn open_like(&mut self, tokens: &[u32]) -> Result<(SequenceId, u32), EngineError> {
        let Some((like, common)) = self.sequences().cache.longest_prefix(tokens) else {
            return Ok((self.open()?, 0));
        };
        let sequence = self.fork(like)?;
        Ok((sequence, self.rewind(sequence, common)))
    }

    /// Forgets a sequence; its batches are dropped.
    fn close(&mut self, sequence: SequenceId) {
        self.sequences_mut().close(sequence);
    }

    /// Forgets everything from `position` on, and the sequence's batches. Sliding layers keep only recent positions and
    /// the ends of turns ([`Backend::mark_turn`]); if what the next token needs is gone, more is forgotten. Returns the
    /// position reached.
    fn rewind(&mut self, sequence: SequenceId, position: u32) -> u32 {
        let (reached, copies) = self.sequences_mut().rewind(sequence, position);
        self.copy_blocks(&copies);
        reached
    }

    /// Keeps what the next token needs at this position for as long as there is room: going back to the end of a turn
    /// then costs nothing.
    fn mark_turn(&mut self, sequence: SequenceId) {
        self.sequences_mut().cache.mark_turn(sequence);
    }

    /// Appends a batch to the queue.
    ///
    /// # Errors
    /// As [`Sequences::submit`].
    fn submit(&mut self, rows: &[Row]) -> Result<Ticket, EngineError> {
        let ticket = self.sequences_mut().submit(rows)?;
        self.begin_pending();
        Ok(ticket)
    }

    /// Returns the results of a batch: one outcome for each row that wants one, in the order of rows. Earlier batches
    /// are computed on the way.
    ///
    /// # Errors
    /// The batch failed, or it was dropped with another. The sequences of a batch that fails are where they were before
    /// it, and other batches of these are dropped. STOP drops this batch, not those before it.
    async fn collect(&mut self, ticket: Ticket, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        loop {
            self.set_watch(host.watch());
            let sequences = self.sequences_mut();
            if let Some(outcome) = sequences.take(ticket) {
                return outcome;
            }
            let Some(oldest) = sequences.oldest_before(ticket) else { return Err(EngineError::BatchDropped) };
            match self.compute_oldest(host).await {
                Ok(outcomes) => {
                    self.sequences_mut().finish(outcomes);
                    self.begin_pending();
                }
                Err(EngineError::Cancelled) => {
                    self.sequences_mut().drop_batch(ticket);
                    return Err(EngineError::Cancelled);
                }
                Err(error) => self.sequences_mut().fail(oldest, error),
            }
        }
    }

    /// The logits after the last token of a sequence, `[vocabulary]`, for sampling that needs more than the candidates.
    /// If another batch was computed since, the token is run again.
    ///
    /// # Errors
    /// The cache has no block for that: the last one is shared. As [`Backend::submit`] and [`Backend::collect`].
    async fn last_logits(&mut self, sequence: SequenceId, host: &dyn Host) -> Result<Vec<f32>, EngineError> {
        if let Some(logits) = self.logits_at_hand(sequence, host).await? {
            return Ok(logits);
        }
        let token = *self.tokens(sequence).last().expect("a sequence of which something is known has tokens");
        let position = self.position(sequence) - 1;
        let cache = &self.sequences().cache;
        if !cache.can_rewind(sequence, position) {
            return Err(cache.full(1, 0));
        }
        let (_, copies) = self.sequences_mut().rewind(sequence, position);
        self.copy_blocks(&copies);
        let ticket = self.submit(&[Row { sequence, token, wanted: Wanted::Logits }])?;
        Ok(self.collect(ticket, host).await?.remove(0).logits())
    }

    /// How many tokens a sequence can have.
    fn kv_capacity(&self) -> u32 {
        self.sequences().cache.shape().context_tokens
    }

    /// The committed tokens of a sequence.
    fn tokens(&self, sequence: SequenceId) -> &[u32] {
        self.sequences().cache.tokens(sequence)
    }

    /// The number of committed tokens of a sequence.
    fn position(&self, sequence: SequenceId) -> u32 {
        self.tokens(sequence).len() as u32
    }

    /// How many more tokens a sequence can take.
    fn room(&self, sequence: SequenceId) -> u32 {
        self.kv_capacity() - self.position(sequence)
    }

    /// Refuses an empty batch, and tokens that do not fit.
    fn require_room(&self, sequence: SequenceId, tokens: usize) -> Result<(), EngineError> {
        if tokens == 0 {
            return Err(EngineError::Option {
                option: OptionId::Prompt,
                expected: "at least one token",
                got: "none".into(),
            });
        }
        if tokens > self.room(sequence) as usize {
            let tokens = self.position(sequence) + tokens as u32;
            return Err(EngineError::PromptTooLong {
                tokens,
                capacity: self.kv_capacity(),
                longest: self.config().context_tokens,
            });
        }
        Ok(())
    }

    /// Appends `tokens` and predicts the token after them. `progress` receives the number of tokens done so far. While
    /// a batch is computed, the next one is under way.
    ///
    /// # Errors
    /// As [`Backend::submit`] and [`Backend::collect`]. Batches that were done are held.
    async fn prefill(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        asked: Asked,
        host: &dyn Host,
        mut progress: impl FnMut(u32),
    ) -> Result<Prediction, EngineError> {
        self.require_room(sequence, tokens.len())?;
        self.set_watch(host.watch());
        let batches = tokens.chunks(self.sequences().limits().rows as usize);
        let last = batches.len() - 1;
        let mut under_way = VecDeque::new();
        let mut done = 0;
        for (index, batch) in batches.enumerate() {
            let mut rows = rows_of(sequence, batch, Wanted::Nothing);
            if index == last {
                rows.last_mut().expect("chunks are not empty").wanted = asked.wanted();
            }
            let submitted = self.submit(&rows);
            let refused = match submitted {
                Ok(ticket) => {
                    under_way.push_back((ticket, batch.len()));
                    None
                }
                Err(error) => Some(error),
            };
            if under_way.len() > 1 || refused.is_some() && !under_way.is_empty() {
                done += self.next_done(&mut under_way, host).await?.1;
                progress(done);
            }
            if let Some(error) = refused {
                return Err(error);
            }
        }
        let (mut outcomes, tokens) = self.next_done(&mut under_way, host).await?;
        progress(done + tokens);
        Ok(outcomes.remove(0).prediction())
    }

    /// Collects the oldest of some tickets, which come with their numbers of tokens.
    #[doc(hidden)]
    async fn next_done(
        &mut self,
        under_way: &mut VecDeque<(Ticket, usize)>,
        host: &dyn Host,
    ) -> Result<(Vec<Outcome>, u32), EngineError> {
        let (ticket, tokens) = under_way.pop_front().expect("as many were submitted");
        Ok((self.collect(ticket, host).await?, tokens as u32))
    }

    /// Appends one token and predicts the next.
    ///
    /// # Errors
    /// As [`Backend::submit`] and [`Backend::collect`].
    async fn decode(
        &mut self,
        sequence: SequenceId,
        token: u32,
        asked: Asked,
        host: &dyn Host,
    ) -> Result<Prediction, EngineError> {
        self.require_room(sequence, 1)?;
        self.set_watch(host.watch());
        let ticket = self.submit(&[Row { sequence, token, wanted: asked.wanted() }])?;
        Ok(self.collect(ticket, host).await?.remove(0).prediction())
    }

    /// All logits of `tokens`, [tokens, vocabulary], computed in a temporary sequence.
    ///
    /// # Errors
    /// As [`Backend::open`], [`Backend::submit`] and [`Backend::collect`].
    async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let sequence = self.open()?;
        let logits = self.logits_in(sequence, tokens).await;
        self.close(sequence);
        logits
    }

    /// Appends `tokens` and returns all logits after each, [tokens, vocabulary].
    ///
    /// # Errors
    /// As [`Backend::submit`] and [`Backend::collect`].
    async fn logits_in(&mut self, sequence: SequenceId, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.require_room(sequence, tokens.len())?;
        let mut logits = Vec::with_capacity(tokens.len() * self.config().vocabulary as usize);
        let BatchLimits { rows, wanted } = self.sequences().limits();
        for batch in tokens.chunks(rows.min(wanted) as usize) {
            let ticket = self.submit(&rows_of(sequence, batch, Wanted::Logits))?;
            for outcome in self.collect(ticket, &Quiet).await? {
                logits.extend(outcome.logits());
            }
        }
        Ok(logits)
    }
}

/// What a prediction should contain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Factor of the logits in [`Prediction::log_sum_exp_tempered`]: 1 / temperature.
    pub inverse_temperature: f32,
    /// Whether to find the most likely tokens, for sampling.
    pub candidates: bool,
}

impl Asked {
    /// Asks for the most likely token alone.
    pub const TOP: Self = Self { inverse_temperature: 1.0, candidates: false };

    /// The same as a row's wish.
    pub fn wanted(self) -> Wanted {
        let Self { inverse_temperature, candidates } = self;
        Wanted::Prediction { inverse_temperature, candidates }
    }
}

/// Makes rows that append `tokens` in order, with `wanted` after the last one.
pub fn rows_of(sequence: SequenceId, tokens: &[u32], wanted: Wanted) -> Vec<Row> {
    tokens.iter().map(|&token| Row { sequence, token, wanted }).collect()
}
