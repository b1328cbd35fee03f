//! Random interleavings of many sequences on any backend: open, append, fork, rewind, mark, close, STOP. Every row of
//! logits is held against the scalar reference, which holds each sequence alone and in the plainest way; what is not
//! collected is followed by lists of tokens. Shared by the tests of both backends.
#![allow(dead_code, reason = "each test target uses a part of it")]

use std::cell::Cell;
use std::collections::BTreeMap;

use gptoss_model::reference::{ReferenceModel, ReferenceSequence};
use gptoss_model::sequences::BlocksInUse;
use gptoss_model::{Backend, EngineError, Host, Outcome, Quiet, Row, SequenceId, Ticket, Wanted};
use gptoss_protocol::Event;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Largest difference allowed in a logit, as on the F32 path of whole models.
const MAX_ABS: f32 = 2e-3;
/// Most rows that the test gives a sequence at once: more than a block has.
const MOST_ROWS: u64 = 80;

/// STOP before it was asked for the `left`th time.
struct StopAfter(Cell<u64>);

impl Host for StopAfter {
    fn emit(&self, _event: Event) {}

    fn cancelled(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left == 0
    }
}

/// A sequence as it must be.
#[derive(Clone)]
struct Expected {
    /// Those of batches that were collected.
    tokens: Vec<u32>,
    /// Behind them, those of batches that were not.
    tail: Vec<u32>,
    /// Logits after each of the committed tokens.
    logits: Vec<Vec<f32>>,
    reference: ReferenceSequence,
}

/// How often something happened: a test that never came to it shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Happened {
    pub collected: u32,
    pub rows: u32,
    pub shared_batches: u32,
    pub forks: u32,
    pub rewinds: u32,
    /// Which came no farther than a turn, a block or the beginning.
    pub rewound_farther: u32,
    pub stopped: u32,
    pub dropped: u32,
    pub full: u32,
    pub longest: u32,
}

/// One walk of random steps.
pub struct Walk<'a, B> {
    pub model: &'a mut B,
    reference: &'a ReferenceModel,
    random: Xoshiro256PlusPlus,
    expected: BTreeMap<SequenceId, Expected>,
    under_way: Vec<(Ticket, Vec<Row>)>,
    pub happened: Happened,
}

impl<'a, B: Backend> Walk<'a, B> {
    pub fn new(model: &'a mut B, reference: &'a ReferenceModel, seed: u64) -> Self {
        Self {
            model,
            reference,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            expected: BTreeMap::new(),
            under_way: Vec::new(),
            happened: Happened::default(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    fn any(&mut self) -> Option<SequenceId> {
        let ids: Vec<_> = self.expected.keys().copied().collect();
        let at = self.below(ids.len() as u64) as usize;
        ids.get(at).copied()
    }

    /// `before` may do something to the model before each step, such as to lose its device.
    pub async fn steps(&mut self, steps: u32, mut before: impl FnMut(u32, &mut B)) {
        for step in 0..steps {
            before(step, self.model);
            match self.below(20) {
                0..3 => self.open(),
                3..10 => self.append(),
                10..14 => self.collect(false).await,
                14 => self.collect(true).await,
                15..17 => self.fork(),
                17 => self.rewind(),
                18 => self.mark(),
                _ => self.close(),
            }
            self.compare_tokens();
        }
        while !self.under_way.is_empty() {
            self.collect(false).await;
        }
        self.compare_tokens();
        self.last_logits().await;
        while let Some(sequence) = self.any() {
            self.expected.remove(&sequence);
            self.model.close(sequence);
        }
        assert_eq!(self.model.sequences().cache.blocks_in_use(), BlocksInUse::default(), "every block was given back");
        assert!(self.model.sequences().pending().is_empty());
    }

    fn compare_tokens(&self) {
        for (&sequence, expected) in &self.expected {
            assert_eq!(self.model.tokens(sequence), expected.tokens, "{sequence:?}");
            let len = (expected.tokens.len() + expected.tail.len()) as u32;
            assert_eq!(self.model.sequences().cache.len(sequence), len, "{sequence:?} with its tail");
        }
    }

    fn open(&mut self) {
        let open = self.expected.len() as u32;
        match self.model.open() {
            Ok(sequence) => {
                let reference = self.reference.open();
                let empty = Expected { tokens: Vec::new(), tail: Vec::new(), logits: Vec::new(), reference };
                assert!(self.expected.insert(sequence, empty).is_none(), "ids are not used again");
            }
            Err(EngineError::TooManySequences { most }) => assert_eq!(open, most),
            Err(error) => panic!("open: {error}"),
        }
    }

    /// Rows of one to three sequences, mixed; some want something.
    fn append(&mut self) {
        let limits = self.model.sequences().limits();
        let mut tokens_of: BTreeMap<SequenceId, u64> = BTreeMap::new();
        for _ in 0..=self.below(3) {
            let Some(sequence) = self.any() else { return };
            // One token is as common as many.
            let rows = if self.below(2) == 0 { 1 } else { 1 + self.below(MOST_ROWS) };
            tokens_of.insert(sequence, rows);
        }
        let (mut rows, mut wanted) = (Vec::new(), 0);
        while !tokens_of.is_empty() && rows.len() < limits.rows as usize {
            let ids: Vec<_> = tokens_of.keys().copied().collect();
            let sequence = ids[self.below(ids.len() as u64) as usize];
            let left = tokens_of.get_mut(&sequence).expect("of these");
            *left -= 1;
            let is_last = *left == 0;
            if is_last {
                tokens_of.remove(&sequence);
            }
            let token = self.below(u64::from(self.reference.config.vocabulary)) as u32;
            let wants = (is_last || self.below(9) == 0) && wanted < limits.wanted;
            wanted += u32::from(wants);
            let inverse_temperature = 0.5 + self.below(4) as f32 * 0.5;
            let wanted = match (wants, self.below(3)) {
                (false, _) => Wanted::Nothing,
                (true, 0) => Wanted::Logits,
                (true, with) => Wanted::Prediction { inverse_temperature, candidates: with == 1 },
            };
            rows.push(Row { sequence, token, wanted });
        }
        let free = self.model.sequences().cache.blocks_in_use();
        match self.model.submit(&rows) {
            Ok(ticket) => {
                for row in &rows {
                    self.expected.get_mut(&row.sequence).expect("it is open").tail.push(row.token);
                }
                let several = rows.iter().any(|row| row.sequence != rows[0].sequence);
                self.happened.shared_batches += u32::from(several);
                self.under_way.push((ticket, rows));
            }
            Err(EngineError::CacheFull { .. } | EngineError::PromptTooLong { .. }) => {
                self.happened.full += 1;
                let now = self.model.sequences().cache.blocks_in_use();
                assert!(now.full == free.full && now.sliding <= free.sliding, "a refused batch takes nothing");
            }
            Err(error) => panic!("submit: {error}"),
        }
    }

    /// Any of the batches, not always the oldest.
    async fn collect(&mut self, stops: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let at = self.below(self.under_way.len() as u64) as usize;
        let ticket = self.under_way[at].0;
        let outcome = if stops {
            let host = StopAfter(Cell::new(self.below(7)));
            self.model.collect(ticket, &host).await
        } else {
            self.model.collect(ticket, &Quiet).await
        };
        // Those before it are computed on the way, whether it is or not.
        while let Some((first, _)) = self.under_way.first() {
            let sequences = self.model.sequences();
            if sequences.pending().iter().any(|batch| batch.ticket == *first) || (*first == ticket && outcome.is_err())
            {
                break;
            }
            let done = *first;
            let outcomes = if done == ticket {
                outcome.as_ref().expect("looked at above").clone()
            } else {
                match self.model.collect(done, &Quiet).await {
                    Ok(outcomes) => outcomes,
                    // This batch was dropped together with the stopped one.
                    Err(EngineError::BatchDropped) if outcome.is_err() => break,
                    Err(error) => panic!("it was computed: {error}"),
                }
            };
            let (_, rows) = self.under_way.remove(0);
            self.check(&rows, outcomes);
            if done == ticket {
                return;
            }
        }
        match outcome {
            Err(EngineError::Cancelled) if stops => {
                self.happened.stopped += 1;
                self.drop_with(ticket);
                let again = self.model.collect(ticket, &Quiet).await;
                assert!(matches!(again, Err(EngineError::BatchDropped)), "{again:?}");
            }
            Err(error) => panic!("collect: {error}"),
            Ok(_) => unreachable!("its turn was above"),
        }
    }

    /// What was collected is what the reference computes alone.
    fn check(&mut self, rows: &[Row], outcomes: Vec<Outcome>) {
        self.happened.collected += 1;
        let mut outcomes = outcomes.into_iter();
        for row in rows {
            self.happened.rows += 1;
            let expected = self.expected.get_mut(&row.sequence).expect("it is open");
            assert_eq!(expected.tail.remove(0), row.token);
            expected.tokens.push(row.token);
            let logits = self.reference.forward(&mut expected.reference, row.token);
            let what = format!("{:?} at {}", row.sequence, expected.tokens.len() - 1);
            match row.wanted {
                Wanted::Nothing => {}
                Wanted::Logits => same(&outcomes.next().expect("it was wanted").logits(), &logits, &what),
                Wanted::Prediction { inverse_temperature, candidates } => {
                    let got = outcomes.next().expect("it was wanted").prediction();
                    assert!((got.logit - logits[got.token as usize]).abs() <= MAX_ABS, "{what}: {got:?}");
                    let sum = |scale: f32| {
                        logits.iter().map(|&logit| f64::from(logit * scale).exp()).sum::<f64>().ln() as f32
                    };
                    let sums = [sum(1.0), sum(inverse_temperature)];
                    for (got, want) in [got.log_sum_exp, got.log_sum_exp_tempered].into_iter().zip(sums) {
                        assert!((got - want).abs() <= 2.0 * MAX_ABS, "{what}: {got}, expected {want}");
                    }
                    assert_eq!(got.candidates.is_empty(), !candidates);
                    let best = logits.iter().copied().fold(f32::MIN, f32::max);
                    assert!(best - got.logit <= MAX_ABS, "{what}: {}, expected {best}", got.logit);
                }
            }
            expected.logits.push(logits);
            self.happened.longest = self.happened.longest.max(expected.tokens.len() as u32);
        }
        assert!(outcomes.next().is_none(), "nothing else was wanted");
    }

    /// A batch is gone, with all others that its sequences are in, and those of theirs.
    fn drop_with(&mut self, ticket: Ticket) {
        let mut gone: Vec<SequenceId> =
            self.under_way.iter().filter(|it| it.0 == ticket).flat_map(|it| &it.1).map(|row| row.sequence).collect();
        loop {
            let touched = |rows: &[Row]| rows.iter().any(|row| gone.contains(&row.sequence));
            let (dropped, left): (Vec<_>, Vec<_>) = self.under_way.drain(..).partition(|it| touched(&it.1));
            self.under_way = left;
            self.happened.dropped += dropped.len() as u32;
            if dropped.is_empty() {
                break;
            }
            gone.extend(dropped.iter().flat_map(|it| &it.1).map(|row| row.sequence));
        }
        for sequence in gone {
            self.expected.get_mut(&sequence).expect("it is open").tail.clear();
        }
    }

    /// The batches of a sequence that is closed or rewound are gone.
    fn drop_batches_of(&mut self, sequence: SequenceId) {
        let of = |rows: &[Row]| rows.iter().any(|row| row.sequence == sequence);
        if let Some(ticket) = self.under_way.iter().find(|it| of(&it.1)).map(|it| it.0) {
            self.drop_with(ticket);
        }
    }

    fn fork(&mut self) {
        let Some(of) = self.any() else { return };
        match self.model.fork(of) {
            Ok(sequence) => {
                self.happened.forks += 1;
                let fork = Expected { tail: Vec::new(), ..self.expected[&of].clone() };
                assert!(self.expected.insert(sequence, fork).is_none(), "ids are not used again");
            }
            Err(EngineError::TooManySequences { most }) => assert_eq!(self.expected.len() as u32, most),
            Err(EngineError::CacheFull { .. }) => self.happened.full += 1,
            Err(error) => panic!("fork: {error}"),
        }
    }

    fn rewind(&mut self) {
        let Some(sequence) = self.any() else { return };
        self.drop_batches_of(sequence);
        let len = self.expected[&sequence].tokens.len() as u64;
        // Mostly a little, as when an answer is asked for again.
        let back = if self.below(2) == 0 { self.below(70) } else { self.below(len + 1) };
        let wished = len.saturating_sub(back) as u32;
        let cache = &self.model.sequences().cache;
        let (free, shape) = (cache.blocks_in_use(), *cache.shape());
        let is_scarce = free.full == shape.full_blocks || free.sliding == shape.sliding_blocks;
        let reached = self.model.rewind(sequence, wished);
        assert!(reached <= wished);
        assert!(back > 1 || is_scarce || reached == wished, "one token back is always possible");
        self.happened.rewinds += 1;
        self.happened.rewound_farther += u32::from(reached < wished);
        let expected = self.expected.get_mut(&sequence).expect("it is open");
        expected.tokens.truncate(reached as usize);
        expected.logits.truncate(reached as usize);
        expected.reference.rewind(reached as usize);
    }

    fn mark(&mut self) {
        if let Some(sequence) = self.any() {
            self.model.mark_turn(sequence);
        }
    }

    fn close(&mut self) {
        let Some(sequence) = self.any() else { return };
        self.drop_batches_of(sequence);
        self.expected.remove(&sequence);
        self.model.close(sequence);
    }

    async fn last_logits(&mut self) {
        let all: Vec<_> = self.expected.keys().copied().collect();
        for sequence in all {
            let Some(want) = self.expected[&sequence].logits.last().cloned() else { continue };
            match self.model.last_logits(sequence, &Quiet).await {
                Ok(got) => same(&got, &want, &format!("the last logits of {sequence:?}")),
                Err(EngineError::CacheFull { .. }) => self.happened.full += 1,
                Err(error) => panic!("the last logits: {error}"),
            }
        }
    }
}

fn same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    let worst = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
    assert!(worst <= MAX_ABS, "{what}: {worst}");
}
