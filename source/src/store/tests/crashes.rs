//! Whatever happens and whenever the power goes: the store opens, and holds exactly what a first part of its records
//! says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// An operation of the store's user.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u32),
    Commit,
    MarkVerified(u32),
    Forget(u32),
    /// Closes the store in order and opens it again.
    Reopen,
}

/// Chunks that are held, and whether they are verified.
type Held = BTreeMap<u32, bool>;

/// What the store should hold after each record that it wrote or may have written.
struct Model {
    /// State after no record, after one, after two, …
    states: Vec<Held>,
    /// Number of records that are certainly on the disk.
    sure: usize,
}

impl Model {
    fn new(held: Held) -> Self {
        Self { states: vec![held], sure: 0 }
    }

    fn now(&self) -> &Held {
        &self.states[self.states.len() - 1]
    }

    /// A record that makes a chunk held, verified or not, or lets go of it.
    fn push(&mut self, chunk: u32, verified: Option<bool>) {
        let mut next = self.now().clone();
        match verified {
            Some(verified) => next.insert(chunk, verified),
            None => next.remove(&chunk),
        };
        self.states.push(next);
    }

    /// What was not yet on record of a chunk that is let go of is never written.
    fn take_back(&mut self, chunk: u32) {
        let on_record = self.states[self.sure].get(&chunk).copied();
        for held in &mut self.states[self.sure + 1..] {
            match on_record {
                Some(verified) => held.insert(chunk, verified),
                None => held.remove(&chunk),
            };
        }
        self.states.dedup();
    }

    fn all_sure(&mut self) {
        self.sure = self.states.len() - 1;
    }

    /// Follows a step that succeeded.
    fn follow(&mut self, step: Step) {
        match step {
            Step::Put(chunk) if !self.now().contains_key(&chunk) => self.push(chunk, Some(false)),
            Step::MarkVerified(chunk) if self.now().get(&chunk) == Some(&false) => {
                self.push(chunk, Some(true));
            }
            Step::Forget(chunk) if self.now().contains_key(&chunk) => {
                self.take_back(chunk);
                if self.now().contains_key(&chunk) {
                    self.push(chunk, None);
                    self.all_sure();
                }
            }
            Step::Commit | Step::Reopen => self.all_sure(),
            Step::Put(_) | Step::MarkVerified(_) | Step::Forget(_) => {}
        }
    }
}

/// Reads what is held and verified, and compares every byte of it.
fn read_held(store: &mut ChunkStore) -> Result<Held, TestCaseError> {
    let mut found = Held::new();
    for chunk in 0..CHUNKS {
        match store.read(chunk, whole(chunk)) {
            ChunkRead::Bytes { bytes, verified } => {
                let right = chunk_bytes(chunk);
                prop_assert_eq!(bytes.as_slice(), right.as_slice(), "wrong bytes for chunk {}", chunk);
                found.insert(chunk, verified);
            }
            ChunkRead::Absent => {}
            ChunkRead::Damaged(detail) => return Err(TestCaseError::fail(format!("chunk {chunk}: {detail}"))),
        }
    }
    prop_assert_eq!(found.keys().copied().collect::<Vec<_>>(), store.held());
    Ok(found)
}

/// Takes steps until the disk fails or they end; the model of what may be on the disk then.
fn live(disk: &Disk, steps: &[Step], begin: Held) -> Model {
    let mut model = Model::new(begin);
    // Opening changes the disk as well, and may fail like anything else.
    let opened = |disk: &Disk| ChunkStore::open(disk.files(), &cached_file(), CHUNK, 0);
    let Ok((mut store, _)) = opened(disk) else { return model };
    for &step in steps {
        match step {
            Step::Put(chunk) => drop(store.put(chunk, &chunk_bytes(chunk), false)),
            Step::Commit => drop(store.commit()),
            Step::MarkVerified(chunk) => store.mark_verified(chunk),
            Step::Forget(chunk) => store.forget(chunk),
            Step::Reopen => {
                let pending = store.commit();
                drop(store);
                match opened(disk) {
                    Ok((reopened, _)) if pending.is_ok() => store = reopened,
                    Ok(_) => return model,
                    Err(_) => {
                        if pending.is_ok() {
                            model.follow(Step::Commit);
                        }
                        return model;
                    }
                }
            }
        }
        let failed = !store.is_writable();
        if failed {
            // A forget that could not be recorded may be on the disk or not; so may all that was pending.
            if let Step::Forget(chunk) = step {
                model.take_back(chunk);
                model.push(chunk, None);
            }
            std::mem::forget(store);
            return model;
        }
        model.follow(step);
    }
    // Power goes while it is open: nothing is committed on the way out.
    std::mem::forget(store);
    model
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let chunk = 0..CHUNKS;
    let step = prop_oneof![
        8 => chunk.clone().prop_map(Step::Put),
        3 => Just(Step::Commit),
        2 => chunk.clone().prop_map(Step::MarkVerified),
        2 => chunk.prop_map(Step::Forget),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 0..30)
}

/// One life of the store, and how it ends: the changes after which the disk fails, and what survives of the last ones.
fn lives() -> impl Strategy<Value = Vec<(Vec<Step>, Option<u32>, Vec<u16>)>> {
    let survives = proptest::collection::vec(prop_oneof![Just(0), Just(1000), 0..2000_u16], 12);
    proptest::collection::vec((steps(), proptest::option::of(0..40_u32), survives), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_leaves_a_first_part_of_what_was_committed(lives in lives()) {
        let disk = Disk::default();
        let mut known = Held::new();
        for (steps, fails_after, survives) in lives {
            disk.fail_after(fails_after);
            let model = live(&disk, &steps, known);
            let mut survives = survives.into_iter();
            disk.crash(|| survives.next().unwrap_or(0));
            let (mut store, _) = ChunkStore::open(disk.files(), &cached_file(), CHUNK, 0)
                .map_err(|error| TestCaseError::fail(format!("it does not open: {error}")))?;
            known = read_held(&mut store)?;
            let allowed = &model.states[model.sure..];
            prop_assert!(allowed.contains(&known), "holds {:?}, which is none of {:?}", known, allowed);
            // It can be written again.
            store.put(0, &chunk_bytes(0), false).map_err(|error| TestCaseError::fail(error.to_string()))?;
            store.commit().map_err(|error| TestCaseError::fail(error.to_string()))?;
            known.entry(0).or_insert(false);
        }
    }
}

/// The same test, exhaustive for one life: every change that may fail, every part of it that may survive.
#[test]
fn every_cut_of_one_life_opens() {
    let steps = [
        Step::Put(5),
        Step::Put(2),
        Step::Commit,
        Step::Put(0),
        Step::MarkVerified(2),
        Step::Commit,
        Step::Forget(2),
        Step::Put(3),
        Step::Put(2),
        Step::Commit,
        Step::MarkVerified(5),
        Step::Put(1),
        Step::Forget(5),
        Step::Reopen,
        Step::Put(1),
        Step::Commit,
    ];
    let whole = Disk::default();
    live(&whole, &steps, Held::new());
    let changes = whole.changes();
    assert!(changes > 20, "{changes} changes are too few to show anything");
    let mut seen = 0;
    for fails_after in 0..=changes {
        for survives in (0..2000).step_by(25) {
            let disk = Disk::default();
            disk.fail_after(Some(fails_after));
            let model = live(&disk, &steps, Held::new());
            disk.crash(|| survives);
            let (mut store, _) = open(&disk);
            let known = read_held(&mut store).expect("right bytes");
            let allowed = &model.states[model.sure..];
            assert!(allowed.contains(&known), "{fails_after}, {survives}: {known:?} is none of {allowed:?}");
            seen += known.len();
        }
    }
    assert!(seen > 1000, "hardly anything was ever held");
}

/// Power goes while what is cached gives way to a new version of the file.
#[test]
fn a_change_of_the_file_leaves_nothing_of_both() {
    let changed = CachedFile { etag: "\"two\"".into(), ..cached_file() };
    for fails_after in 0..10 {
        for survives in (0..2000).step_by(25) {
            let disk = Disk::default();
            put_all(&mut open(&disk).0, &[1, 4, 5]);
            disk.fail_after(Some(fails_after));
            drop(ChunkStore::open(disk.files(), &changed, CHUNK, 0));
            disk.crash(|| survives);
            let before = Disk::default();
            before.overwrite(DATA, disk.bytes(DATA));
            before.overwrite(JOURNAL, disk.bytes(JOURNAL));
            let known = read_held(&mut open(&before).0).expect("right bytes");
            assert!(known.is_empty() || known.len() == 3, "{fails_after}, {survives}: {known:?}");
            assert!(open_as(&disk, &changed).0.held().is_empty(), "{fails_after}, {survives}");
        }
    }
}
