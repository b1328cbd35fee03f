//! A batch on the GPU: started, read back, gone on with after experts were missed.

use gptoss_kernels::launch::record;
use gptoss_kernels::{Launch, Row, Sampled, Status, Step, Submission};
use gptoss_model::sequences::Pending;
use gptoss_model::{
    AwaitPoint, EngineError, Host, NonFinite, Outcome, Prediction, SequenceId, Ticket, Wanted, check_cancelled,
    require_finite_rows, until_stopped,
};
use gptoss_telemetry::{Event, Missing};

use crate::model::Model;
use crate::pieces;
use crate::program::Program;
use crate::upload;

/// A batch that the GPU was given.
pub(crate) struct Started {
    pub ticket: Ticket,
    step: Step,
    /// Where the submission that is read next began.
    resume: Resume,
    submission: Submission,
    /// Which of the readback buffers it has.
    readback: usize,
    /// What comes back of each row that wants something, in bytes.
    sampled_bytes: u64,
    /// Its logits will be read: no batch may write others before that.
    keeps_logits: bool,
}

/// What changes from batch to batch.
#[derive(Default)]
pub(crate) struct State {
    stamp: u32,
    /// Batches that the GPU was given, oldest first; some may have been dropped since.
    started: Vec<Started>,
    /// By slot: version of the tables that the rows buffer has.
    uploaded: Vec<u64>,
    /// Sequences and positions whose logits the buffer of logits has, once everything that was started is done.
    pub logit_rows: Vec<(SequenceId, u32)>,
    pub readbacks: Readbacks,
}

/// Bytes read back, by purpose.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readbacks {
    pub status_bytes: u64,
    pub sampling_bytes: u64,
}

impl Model {
    /// Gives the GPU the next batches, as far as nothing can come between: while experts can be missed one at a time.
    ///
    /// # Errors
    /// A row of the embedding that cannot be had.
    pub(crate) fn start_pending(&mut self) -> Result<(), EngineError> {
        let pending = self.sequences.pending();
        self.state.started.retain(|started| pending.iter().any(|batch| batch.ticket == started.ticket));
        loop {
            let started = self.state.started.len();
            let alone = !self.residency.is_complete() || self.state.started.iter().any(|batch| batch.keeps_logits);
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
            .find(|index| self.state.started.iter().all(|started| started.readback != *index))
            .expect("no more are started than there are readback buffers");
        let resume = Resume::FromStart;
        let submission = self.submit_from(&step, resume, readback, sampled_bytes);
        let keeps_logits = batch.rows.iter().any(|row| row.wanted == Wanted::Logits);
        Ok(Started { ticket: batch.ticket, step, resume, submission, readback, sampled_bytes, keeps_logits })
    }

    /// Where each row is, and the tables of their sequences that are not there as they are.
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

    /// The oldest batch through all layers. Starts optimistically; whenever a layer lacks experts, everything after it was
    /// skipped on the GPU: load them and go on from there. What a token computes does not depend on what was resident.
    pub(crate) async fn forward(&mut self, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        check_cancelled(host)?;
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
            let (readback, sampled_bytes) = (started.readback, started.sampled_bytes);
            let layer = report.status.halt_layer as usize;
            let missing: Vec<u32> = report.status.missed_experts().collect();
            let resume = self.bring_in(&step, layer, &missing, &report.stamps, host).await?;
            let submission = self.submit_from(&step, resume, readback, sampled_bytes);
            let started = &mut self.state.started[0];
            (started.resume, started.submission) = (resume, submission);
        }
    }

    /// What the batch whose report this is comes to; it is not started any more.
    async fn outcomes(&mut self, report: &Report, host: &dyn Host) -> Result<Vec<Outcome>, EngineError> {
        let batch = self.sequences.pending().front().expect("it was started");
        let first = batch.rows.len() - batch.wanted();
        let wanted: Vec<(Wanted, u32)> =
            batch.rows.iter().map(|row| row.wanted).zip(batch.positions.iter().copied()).skip(first).collect();
        let has_logits = wanted.iter().any(|(wanted, _)| *wanted == Wanted::Logits);
        // No later batch is started before they are read.
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

    /// Rows of the buffer of logits, as the last batch that wanted some left them.
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

    /// Loads what a halted layer needs and says where to go on. When the batch needs more experts than the layer has
    /// slots, they come in turns: each turn computes the pairs whose experts are there.
    async fn bring_in(
        &mut self,
        step: &Step,
        layer: usize,
        missing: &[u32],
        stamps: &[u32],
        host: &dyn Host,
    ) -> Result<Resume, EngineError> {
        let stamps = &stamps[layer * self.config.experts as usize..][..self.config.experts as usize];
        let resident: Vec<u32> = (0..self.config.experts)
            .filter(|&expert| stamps[expert as usize] == step.stamp && self.residency.is_resident(layer, expert))
            .collect();
        // A token of an answer is soon there, a prompt's first batch may wait for most of the model.
        let tells = step.tokens > 1;
        if tells {
            let experts = missing.len() as u32;
            let bytes = u64::from(experts) * self.expert_file_bytes(layer);
            host.emit(Event::Missing(Missing { layer: layer as u32, layers: self.plan.layers, experts, bytes }));
        }
        let resume = self.read_missing(step, layer, missing, &resident, stamps, host).await?;
        if tells {
            host.emit(Event::Experts(self.residency.counters()));
        }
        Ok(resume)
    }

    /// Reads what is missing, in turns where it has to be.
    async fn read_missing(
        &mut self,
        step: &Step,
        layer: usize,
        missing: &[u32],
        resident: &[u32],
        stamps: &[u32],
        host: &dyn Host,
    ) -> Result<Resume, EngineError> {
        let slots = self.residency.slots_per_layer();
        if resident.len() + missing.len() <= slots {
            self.load_experts(layer, missing, resident, stamps, host).await?;
            return Ok(Resume::Experts(layer));
        }
        // Those that are here go first, before their slots are needed.
        self.run_experts(step, layer);
        let mut turns = missing.chunks(slots).peekable();
        while let Some(turn) = turns.next() {
            self.load_experts(layer, turn, &[], stamps, host).await?;
            if turns.peek().is_some() {
                self.run_experts(step, layer);
            }
        }
        Ok(Resume::Experts(layer))
    }

    /// Bytes in the file of one expert.
    pub(crate) fn expert_file_bytes(&self, layer: usize) -> u64 {
        self.inventory.layers[layer].expert_file_bytes() / u64::from(self.config.experts)
    }

    /// As before a batch; what was found in the batch before it halted stays.
    fn reset_status(&self, resume: Resume) {
        let status = Status::running();
        let bytes = match resume {
            Resume::FromStart => bytemuck::bytes_of(&status),
            Resume::Experts(_) => &bytemuck::bytes_of(&status)[..Status::BEFORE_NOT_FINITE_BYTES],
        };
        self.gpu.write(self.buffer(self.shared.status), 0, bytes);
    }

    /// Computes the pairs of a halted layer whose experts are resident.
    fn run_experts(&self, step: &Step, layer: usize) {
        self.reset_status(Resume::Experts(layer));
        let mut encoder = self.gpu.encoder("experts");
        record(&self.gpu, &mut encoder, step, &self.program.layers[layer].experts);
        self.gpu.submit(encoder);
    }

    /// Gives experts slots, and reads them into these. `keep` stay where they are; `stamps`, [experts], say who goes where no
    /// slot is free.
    pub(crate) async fn load_experts(
        &mut self,
        layer: usize,
        experts: &[u32],
        keep: &[u32],
        stamps: &[u32],
        host: &dyn Host,
    ) -> Result<(), EngineError> {
        let mut keep = keep.to_vec();
        let mut all = Vec::new();
        for &expert in experts {
            let slot = self.residency.claim(&self.gpu, layer, expert, &keep, stamps);
            keep.push(expert);
            all.extend(self.weights.expert_pieces(layer, &self.inventory.layers[layer], expert, slot));
        }
        let spans = pieces::spans(all, self.plan.piece_bytes);
        let loaded = upload::stream(&self.gpu, &self.repack, self.source.as_ref(), spans, None, host, |_, _| {
            unreachable!("experts are not kept on the host")
        })
        .await;
        match loaded {
            Ok(streamed) => {
                self.streamed.fetched_bytes += streamed.fetched_bytes;
                self.streamed.used_bytes += streamed.used_bytes;
                let each = streamed.used_bytes / experts.len().max(1) as u64;
                for &expert in experts {
                    self.residency.publish(&self.gpu, layer, expert, each);
                }
                Ok(())
            }
            Err(error) => {
                for &expert in experts {
                    self.residency.abandon(layer, expert);
                }
                Err(error)
            }
        }
    }

    /// Records and submits from `resume` on, with copies of the status and of what else is wanted.
    fn submit_from(&mut self, step: &Step, resume: Resume, readback: usize, sampled_bytes: u64) -> Submission {
        self.reset_status(resume);
        let mut encoder = self.gpu.encoder("forward");
        record(&self.gpu, &mut encoder, step, launches(&self.program, resume));
        let staging = self.readbacks[readback].raw();
        let mut at = 0;
        let mut copy = |buffer, from, bytes: u64| {
            if bytes > 0 {
                encoder.copy_buffer_to_buffer(self.buffer(buffer).raw(), from, staging, at, bytes);
                at += bytes;
            }
        };
        copy(self.shared.status, 0, Status::SIZE_BYTES);
        for row in 0..u64::from(step.head_tokens) {
            copy(self.shared.sampled, row * Sampled::SIZE_BYTES, sampled_bytes);
        }
        copy(self.shared.last_used, 0, self.stamps_bytes());
        self.gpu.submit(encoder)
    }

    /// Bytes of the stamps that come back with a submission: none where nothing can be missed.
    fn stamps_bytes(&self) -> u64 {
        if self.residency.is_complete() { 0 } else { self.buffer(self.shared.last_used).size_bytes() }
    }

    /// Waits for the oldest submission, not for those after it. After STOP the GPU ends what it was given, and nobody looks at it.
    async fn read_oldest(&mut self, host: &dyn Host) -> Result<Report, EngineError> {
        let Started { step, resume, ref submission, readback, sampled_bytes, .. } = self.state.started[0];
        let all_sampled_bytes = u64::from(step.head_tokens) * sampled_bytes;
        let stamps_bytes = self.stamps_bytes();
        let layers = self.plan.layers - resume.first_layer() as u32;
        let bytes = Status::SIZE_BYTES + all_sampled_bytes + stamps_bytes;
        let units = u64::from(step.tokens) * u64::from(layers + 1);
        let read = self.gpu.read_work(&self.readbacks[readback], bytes, submission, units);
        let raw = until_stopped(host, AwaitPoint::Batch, read).await??;
        self.state.readbacks.status_bytes += Status::SIZE_BYTES + stamps_bytes;
        self.state.readbacks.sampling_bytes += all_sampled_bytes;

        let (status, rest) = raw.split_at(Status::SIZE_BYTES as usize);
        let (sampled, stamps) = rest.split_at(all_sampled_bytes as usize);
        let status: Status = bytemuck::pod_read_unaligned(status);
        self.residency.count_uses(status.hits, status.misses);
        Ok(Report {
            status,
            sampled: sampled_rows(sampled, sampled_bytes as usize),
            stamps: bytemuck::pod_collect_to_vec(stamps),
        })
    }
}

/// Bytes that come back of a row.
fn sampled_bytes(wanted: Wanted) -> u64 {
    match wanted {
        Wanted::Nothing | Wanted::Logits => 0,
        Wanted::Prediction { candidates: false, .. } => Sampled::SUMS_BYTES,
        Wanted::Prediction { candidates: true, .. } => Sampled::SIZE_BYTES,
    }
}

/// Rows of which the first `row_bytes` came back.
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
enum Resume {
    FromStart,
    /// The experts of this layer come next: its attention and routing are done.
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
    /// Of each row that wants something.
    sampled: Vec<Sampled>,
    /// [layers, experts]; empty when nothing can be missed.
    stamps: Vec<u32>,
}

fn launches(program: &Program, resume: Resume) -> impl Iterator<Item = &Launch> {
    let skip_attention = matches!(resume, Resume::Experts(_));
    let begin = if skip_attention { &[][..] } else { &program.begin[..] };
    let layers = program.layers[resume.first_layer()..].iter().enumerate().flat_map(move |(index, layer)| {
        let attend = if skip_attention && index == 0 { &[][..] } else { &layer.attend[..] };
        attend.iter().chain(&layer.experts).chain(&layer.combine)
    });
    begin.iter().chain(layers).chain(&program.head)
}

/// Refuses a batch in which an activation was not finite.
fn require_finite(status: &Status, batch: &Pending) -> Result<(), EngineError> {
    let (first_position, tokens) = batch.span();
    match status.not_finite() {
        None => Ok(()),
        Some(found) => Err(EngineError::NonFinite(NonFinite::Layer { found, first_position, tokens })),
    }
}
