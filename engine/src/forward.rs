//! A batch on the GPU: started, read back, and resumed after missing experts were read.

use gptoss_kernels::launch::record;
use gptoss_kernels::stopwatch::{Stopwatch, Timing};
use gptoss_kernels::{Launch, Row, Sampled, Status, Step, Submission};
use gptoss_model::sequences::Pending;
use gptoss_model::{
    AwaitPoint, EngineError, Host, NonFinite, Outcome, Prediction, SequenceId, Ticket, Wanted, check_cancelled,
    require_finite_rows, until_stopped,
};

use gptoss_protocol::{Event, OperationTime, Watch};

use crate::model::Model;
use crate::program::{LayerProgram, Program};
use crate::watching::{Places, Row as WatchedRow, Watched};

/// A batch that was given to the GPU.
pub(crate) struct Started {
    pub ticket: Ticket,
    step: Step,
    /// Where the submission that is read next began.
    resume: Resume,
    submission: Submission,
    /// Launches of that submission whose times it returns.
    timed: Vec<&'static str>,
    /// Times of the submissions that were read.
    timings: Vec<Timing>,
    returns: Returns,
    /// Whether its logits will be read: no batch may write others before that.
    keeps_logits: bool,
}

/// What a submission returns besides the status.
#[derive(Clone, Copy)]
struct Returns {
    /// Index of its readback buffer.
    readback: usize,
    /// Bytes returned for each row that wants something.
    sampled_bytes: u64,
    /// Bytes of the stamps of the experts' last uses; 0 if nothing could be missed when the batch began.
    stamps_bytes: u64,
    /// What is returned behind these.
    watched: Watched,
}

/// State that changes from batch to batch.
#[derive(Default)]
pub(crate) struct State {
    stamp: u32,
    /// Batches that were given to the GPU, oldest first; some may have been dropped since.
    started: Vec<Started>,
    /// For each slot, the version of the tables that the rows buffer has.
    uploaded: Vec<u64>,
    /// Sequences and positions of the rows in the buffer of logits, once everything that was started is done.
    pub logit_rows: Vec<(SequenceId, u32)>,
    pub readbacks: Readbacks,
    /// What somebody looks at, for batches that begin from now on.
    pub watch: Watch,
    /// Exists once somebody looked at times.
    stopwatch: Option<Stopwatch>,
}

/// Numbers of bytes read back, by purpose.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readbacks {
    pub status_bytes: u64,
    pub sampling_bytes: u64,
    pub watched_bytes: u64,
}

impl Model {
    /// Gives the next batches to the GPU if nothing can come between them: while experts can be missed, one at a time.
    ///
    /// # Errors
    /// A row of the embedding that cannot be had.
    pub(crate) fn start_pending(&mut self) -> Result<(), EngineError> {
        let pending = self.sequences.pending();
        self.state.started.retain(|started| pending.iter().any(|batch| batch.ticket == started.ticket));
        loop {
            let started = self.state.started.len();
            let alone = !self.pager.residency().is_complete()
                || self.state.started.iter().any(|batch| batch.keeps_logits || batch.may_miss());
            let most = if alone { 1 } else { self.readbacks.len() };
            let Some(next) = self.sequences.pending().get(started).filter(|_| started < most).cloned() else {
                return Ok(());
            };
            let begun = self.start(&next)?;
            self.state.started.push(begun);
        }
    }

    fn start(&mut self, batch: &Pending) -> Result<Started, EngineError> {
        let mut embedded = Vec::with_capacity(batch.rows.len() * self.config.hidden as usize);
        for row in &batch.rows {
            embedded.extend(self.embedding.row(row.token)?);
        }
        self.state.stamp = self.state.stamp.wrapping_add(1);
        let (tokens, head_tokens) = (batch.rows.len() as u32, batch.wanted() as u32);
        let step = Step { tokens, head_first: tokens - head_tokens, head_tokens, stamp: self.state.stamp };
        self.gpu.write(self.buffer(self.shared.x), 0, bytemuck::cast_slice(&embedded));
        self.gpu.write(self.buffer(self.shared.step), 0, bytemuck::bytes_of(&step));
        self.write_rows(batch);
        if head_tokens > 0 {
            let rows = batch.rows.iter().zip(&batch.positions).skip(step.head_first as usize);
            self.state.logit_rows = rows.map(|(row, &position)| (row.sequence, position)).collect();
        }
        let sampled_bytes = batch.rows.iter().map(|row| sampled_bytes(row.wanted)).max().unwrap_or(0);
        let readback = (0..self.readbacks.len())
            .find(|index| self.state.started.iter().all(|started| started.returns.readback != *index))
            .expect("no more are started than there are readback buffers");
        let resume = Resume::FromStart;
        let may_miss = !self.pager.residency().is_complete();
        let stamps_bytes = if may_miss { self.buffer(self.shared.last_used).size_bytes() } else { 0 };
        self.expect_experts(0, tokens);
        let position = *batch.positions.last().expect("batches have rows");
        let times = self.can_time();
        let watched = Watched { times, ..Watched::of(self.state.watch, position, &self.config, &self.plan) };
        if let Some(WatchedRow { head, .. }) = watched.attention {
            self.gpu.write(self.buffer(self.shared.watched_head), 0, &head.head.to_le_bytes());
        }
        let returns = Returns { readback, sampled_bytes, stamps_bytes, watched };
        let (submission, timed) = self.submit_from(&step, resume, returns);
        let keeps_logits = batch.rows.iter().any(|row| row.wanted == Wanted::Logits);
        let timings = Vec::new();
        Ok(Started { ticket: batch.ticket, step, resume, submission, timed, timings, returns, keeps_logits })
    }

    /// Writes where each row is, and the tables of its sequences that have changed.
    fn write_rows(&mut self, batch: &Pending) {
        let buffer = self.buffer(self.shared.rows).clone();
        let mut rows = Vec::with_capacity(batch.rows.len());
        for (row, &position) in batch.rows.iter().zip(&batch.positions) {
            let tables = self.sequences.cache.tables(row.sequence);
            let table = self.plan.tables_at(tables.slot);
            let inverse_temperature = match row.wanted {
                Wanted::Prediction { inverse_temperature, .. } => inverse_temperature,
                Wanted::Nothing | Wanted::Logits => 1.0,
            };
            rows.push(Row { position, table, inverse_temperature, padding: 0 });
            let slot = tables.slot as usize;
            if self.state.uploaded.len() <= slot {
                self.state.uploaded.resize(slot + 1, 0);
            }
            if self.state.uploaded[slot] != tables.version {
                self.state.uploaded[slot] = tables.version;
                for (first, blocks) in [(0, tables.full), (self.plan.kv.table_blocks(), tables.sliding)] {
                    self.gpu.write(&buffer, u64::from(table + first) * 4, bytemuck::cast_slice(blocks));
                }
            }
        }
        self.gpu.write(&buffer, 0, bytemuck::cast_slice(&rows));
    }

    /// Runs the oldest batch through all layers. It starts optimistically: if a layer lacks experts, the GPU skips
    /// everything after it, and the batch goes on from there once they are loaded. What a token computes does not
    /// depend on what was resident.
    pub(crate) async fn forward(&mut self, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        check_cancelled(host)?;
        self.state.watch = host.watch();
        self.start_pending()?;
        loop {
            let report = self.read_oldest(host).await?;
            let started = &self.state.started[0];
            let step = started.step;
            let batch = self.sequences.pending().front().expect("it was started");
            require_finite(&report.status, batch)?;
            if report.status.halt_layer == Status::RUNNING {
                return self.outcomes(&report, host).await;
            }
            check_cancelled(host)?;
            let returns = started.returns;
            let layer = report.status.halt_layer as usize;
            report.status.missed_experts().for_each(|expert| self.pager.journal().missed(layer, expert));
            debug_assert!(
                report
                    .status
                    .missed_experts()
                    .all(|expert| { self.pager.residency().used_by(layer, step.stamp).contains(&expert) })
            );
            self.bring_in(&step, layer, host).await?;
            let resume = Resume::Experts(layer);
            let (submission, timed) = self.submit_from(&step, resume, returns);
            // Later work in the GPU's queue does not disturb it.
            self.pager.residency_mut().pin(layer, &[]);
            let started = &mut self.state.started[0];
            (started.resume, started.submission, started.timed) = (resume, submission, timed);
        }
    }

    /// The results of the batch that `report` is of, which is no longer started afterwards.
    async fn outcomes(&mut self, report: &Report, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        let batch = self.sequences.pending().front().expect("it was started");
        let Started { step, returns, timings, .. } = &self.state.started[0];
        let position = *batch.positions.last().expect("batches have rows");
        returns.watched.tell(&self.config, &self.plan, (step, position), &report.watched, host);
        if returns.watched.times {
            host.emit(times(timings));
        }
        let first = batch.rows.len() - batch.wanted();
        let wanted: Vec<(Wanted, u32)> =
            batch.rows.iter().map(|row| row.wanted).zip(batch.positions.iter().copied()).skip(first).collect();
        let has_logits = wanted.iter().any(|(wanted, _)| *wanted == Wanted::Logits);
        // No later batch is started before the logits are read.
        let logits = if has_logits { self.read_logits(0, wanted.len(), host).await? } else { Vec::new() };
        let vocabulary = self.config.vocabulary as usize;
        let mut outcomes = Vec::with_capacity(wanted.len());
        for (row, (wanted, position)) in wanted.into_iter().enumerate() {
            outcomes.push(match wanted {
                Wanted::Nothing => unreachable!("those come first"),
                Wanted::Prediction { candidates, .. } => {
                    Outcome::Prediction(self.prediction(&report.sampled[row], candidates, position)?)
                }
                Wanted::Logits => {
                    let logits = &logits[row * vocabulary..][..vocabulary];
                    require_finite_rows(logits, self.config.vocabulary, position)?;
                    Outcome::Logits(logits.to_vec())
                }
            });
        }
        self.state.started.remove(0);
        self.pager.journal().tell_all(host);
        Ok(outcomes)
    }

    fn prediction(&self, sampled: &Sampled, candidates: bool, position: u32) -> Result<Prediction, EngineError> {
        if sampled.non_finite != 0 {
            return Err(EngineError::NonFinite(NonFinite::Logits { count: sampled.non_finite, position }));
        }
        let count = if candidates { self.config.vocabulary as usize } else { 0 };
        Ok(Prediction {
            token: sampled.top_token,
            logit: sampled.top_logit,
            log_sum_exp: sampled.log_sum_exp,
            log_sum_exp_tempered: sampled.log_sum_exp_tempered,
            entropy_nats: sampled.entropy_nats,
            candidates: sampled.candidates.iter().take(count).copied().collect(),
        })
    }

    /// Reads rows of the buffer of logits, as the last batch that wanted some left them.
    pub(crate) async fn read_logits(
        &mut self,
        first_row: usize,
        rows: usize,
        host: &dyn Host,
    ) -> Result<Vec<f32>, EngineError> {
        let row_bytes = u64::from(self.config.vocabulary) * 4;
        let (offset, bytes) = (first_row as u64 * row_bytes, rows as u64 * row_bytes);
        let read = self.gpu.read(&self.buffers[self.shared.logits], offset, bytes);
        let raw = until_stopped(host, AwaitPoint::Logits, read).await??;
        self.state.readbacks.sampling_bytes += bytes;
        Ok(bytemuck::pod_collect_to_vec(&raw))
    }

    /// Resets the status before a batch; when a halted batch goes on, its earlier findings stay.
    pub(crate) fn reset_status(&self, resume: Resume) {
        let status = Status::running();
        let bytes = match resume {
            Resume::FromStart => bytemuck::bytes_of(&status),
            Resume::Experts(_) => &bytemuck::bytes_of(&status)[..Status::BEFORE_NOT_FINITE_BYTES],
        };
        self.gpu.write(self.buffer(self.shared.status), 0, bytes);
    }

    /// Records and submits a batch from `resume` on, with copies of the status and of the other results.
    fn submit_from(&mut self, step: &Step, resume: Resume, returns: Returns) -> (Submission, Vec<&'static str>) {
        self.reset_status(resume);
        let mut encoder = self.gpu.encoder("forward");
        let timed = self.record_from(&mut encoder, step, resume, returns);
        let staging = self.readbacks[returns.readback].raw();
        let mut at = 0;
        let mut copy = |buffer, from, bytes: u64| {
            if bytes > 0 {
                encoder.copy_buffer_to_buffer(self.buffer(buffer).raw(), from, staging, at, bytes);
                at += bytes;
            }
        };
        copy(self.shared.status, 0, Status::SIZE_BYTES);
        for row in 0..u64::from(step.head_tokens) {
            copy(self.shared.sampled, row * Sampled::SIZE_BYTES, returns.sampled_bytes);
        }
        copy(self.shared.last_used, 0, returns.stamps_bytes);
        let places = self.places(step, returns);
        copy(self.shared.routes, 0, places.routes_bytes);
        copy(self.shared.attention_row, 0, places.attention_bytes);
        if returns.watched.residual {
            self.copy_squares(&mut encoder, step, (&self.readbacks[returns.readback], &places));
        }
        (self.gpu.submit(encoder), timed)
    }

    /// Records the launches of a batch from `resume` on.
    fn record_from(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        step: &Step,
        resume: Resume,
        returns: Returns,
    ) -> Vec<&'static str> {
        let mut stopwatch = self.stopwatch.take();
        let mut watched = self.state.stopwatch.take();
        let launches = launches(&self.program, resume, returns.watched);
        match (&mut stopwatch, &mut watched) {
            (Some(stopwatch), _) => stopwatch.record(&self.gpu, encoder, step, launches),
            (None, Some(watched)) if returns.watched.times => watched.time(&self.gpu, encoder, step, launches),
            (None, _) => record(&self.gpu, encoder, step, launches),
        }
        let end = self.places(step, returns).end();
        let resolve = |watched: &mut Stopwatch| watched.resolve(encoder, &self.readbacks[returns.readback], end);
        let timed = watched.as_mut().map(resolve).unwrap_or_default();
        (self.stopwatch, self.state.stopwatch) = (stopwatch, watched);
        timed
    }

    /// Whether the next batch's launches are timed for those who watch. Where all are timed anyway, they are not.
    fn can_time(&mut self) -> bool {
        let is_wanted = self.state.watch.times && self.stopwatch.is_none();
        if is_wanted && self.state.stopwatch.is_none() {
            self.state.stopwatch = Stopwatch::new(&self.gpu);
        }
        is_wanted && self.state.stopwatch.is_some()
    }

    /// Where a batch returns what is watched.
    fn places(&self, step: &Step, returns: Returns) -> Places {
        let Returns { sampled_bytes, stamps_bytes, watched, .. } = returns;
        let first = Status::SIZE_BYTES + u64::from(step.head_tokens) * sampled_bytes + stamps_bytes;
        watched.places(&self.config, &self.plan, step.tokens, first)
    }

    /// Waits for the oldest submission, but not for later ones; experts under way arrive meanwhile. After STOP the GPU
    /// finishes what it was given, and nobody looks at it.
    async fn read_oldest(&mut self, host: &dyn Host) -> Result<Report, EngineError> {
        let Started { step, resume, ref submission, ref timed, returns, .. } = self.state.started[0];
        let Returns { readback, sampled_bytes, stamps_bytes, .. } = returns;
        let all_sampled_bytes = u64::from(step.head_tokens) * sampled_bytes;
        let layers = self.plan.layers - resume.first_layer() as u32;
        let results_bytes = Status::SIZE_BYTES + all_sampled_bytes + stamps_bytes;
        let watched_end = self.places(&step, returns).end();
        let bytes = watched_end + timed.len() as u64 * Stopwatch::LAUNCH_BYTES;
        let units = u64::from(step.tokens) * u64::from(layers + 1);
        let read = self.gpu.read_work(&self.readbacks[readback], bytes, submission, units);
        let beside = self.pager.beside(read, |journal| journal.tell(host));
        let raw = until_stopped(host, AwaitPoint::Batch, beside).await???;
        self.state.readbacks.status_bytes += Status::SIZE_BYTES + stamps_bytes;
        self.state.readbacks.sampling_bytes += all_sampled_bytes;
        self.state.readbacks.watched_bytes += bytes - results_bytes;

        if let Some(stopwatch) = &self.state.stopwatch {
            let Started { timed, timings, .. } = &mut self.state.started[0];
            stopwatch.add(timings, timed, &raw[watched_end as usize..]);
        }
        let (results, watched) = raw[..watched_end as usize].split_at(results_bytes as usize);
        let (status, rest) = results.split_at(Status::SIZE_BYTES as usize);
        let (sampled, stamps) = rest.split_at(all_sampled_bytes as usize);
        let status: Status = bytemuck::pod_read_unaligned(status);
        let residency = self.pager.residency_mut();
        residency.count_uses(status.hits, status.misses);
        if stamps_bytes > 0 {
            residency.used(&bytemuck::pod_collect_to_vec(stamps));
        }
        Ok(Report { status, sampled: sampled_rows(sampled, sampled_bytes as usize), watched: watched.to_vec() })
    }
}

impl Started {
    /// Whether it can halt because an expert is missing.
    fn may_miss(&self) -> bool {
        self.returns.stamps_bytes > 0
    }
}

/// How long the operations of a batch took.
fn times(timings: &[Timing]) -> Event {
    let time = |timing: &Timing| OperationTime {
        operation: timing.name.to_owned(),
        dispatches: timing.launches,
        elapsed_ms: timing.nanoseconds / 1e6,
    };
    Event::OperationTimes { times: timings.iter().map(time).collect() }
}

/// Bytes returned for a row.
fn sampled_bytes(wanted: Wanted) -> u64 {
    match wanted {
        Wanted::Nothing | Wanted::Logits => 0,
        Wanted::Prediction { candidates: false, .. } => Sampled::SUMS_BYTES,
        Wanted::Prediction { candidates: true, .. } => Sampled::SIZE_BYTES,
    }
}

/// The rows, of which the first `row_bytes` were returned.
fn sampled_rows(bytes: &[u8], row_bytes: usize) -> Vec<Sampled> {
    let row = |bytes: &[u8]| {
        let mut sampled: Sampled = bytemuck::Zeroable::zeroed();
        bytemuck::bytes_of_mut(&mut sampled)[..row_bytes].copy_from_slice(bytes);
        sampled
    };
    if row_bytes == 0 { Vec::new() } else { bytes.chunks_exact(row_bytes).map(row).collect() }
}

/// Where a submission begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    FromStart,
    /// The pass stopped at the experts of this layer, whose attention and routing are done.
    Experts(usize),
}

impl Resume {
    fn first_layer(self) -> usize {
        match self {
            Self::FromStart => 0,
            Self::Experts(layer) => layer,
        }
    }
}

struct Report {
    status: Status,
    /// Statistics of each row that wants something.
    sampled: Vec<Sampled>,
    /// What is there for those who watch; of the whole batch once it did not halt.
    watched: Vec<u8>,
}

fn launches(program: &Program, resume: Resume, watched: Watched) -> impl Iterator<Item = &Launch> {
    let begin = if resume == Resume::FromStart { &program.begin[..] } else { &[] };
    let layers = resume.first_layer()..program.layers.len();
    let layers = layers.flat_map(move |layer| layer_launches(program, resume, layer, watched));
    begin.iter().chain(layers).chain(&program.head)
}

fn layer_launches(program: &Program, resume: Resume, layer: usize, watched: Watched) -> impl Iterator<Item = &Launch> {
    let LayerProgram { attend, experts, combine, attention_row } = &program.layers[layer];
    let is_attended = resume == Resume::Experts(layer);
    let attend = if is_attended { &[] } else { &attend[..] };
    let row = watched.attention.filter(|row| row.head.layer as usize == layer && !is_attended);
    attend.iter().chain(row.map(|_| attention_row)).chain(experts).chain(combine)
}

/// Refuses a batch in which an activation was not finite.
fn require_finite(status: &Status, batch: &Pending) -> Result<(), EngineError> {
    let (first_position, tokens) = batch.span();
    match status.not_finite() {
        None => Ok(()),
        Some(found) => Err(EngineError::NonFinite(NonFinite::Layer { found, first_position, tokens })),
    }
}
