//! Two files in memory that go wrong in every way that files can: full, failing, cut by a crash, rotten.

use std::cell::RefCell;
use std::rc::Rc;

use super::{StoreFile, StoreFileError, StoreFiles};
use crate::Bytes;

/// The disk under the files of a store. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    files: [FileState; 2],
    /// Capacity of the disk in bytes; `None` is unlimited.
    room_bytes: Option<u64>,
    /// How many more changes and flushes succeed; `None` is all of them.
    changes_left: Option<u32>,
    changes: u32,
}

#[derive(Default)]
struct FileState {
    /// Contents as they are read.
    live: Vec<u8>,
    /// Contents that survive a crash.
    durable: Vec<u8>,
    /// Changes since the last flush.
    unflushed: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                file.resize(file.len().max(at + bytes.len()), 0);
                file[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(len) => file.truncate(*len),
        }
    }

    /// The part of a change that survives a crash: all of it at 1000, nothing at 0, its beginning between them, and its
    /// end above 1000, because disks write in any order. Truncation survives or not.
    fn survivor(&self, thousandths: u16) -> Option<Self> {
        let Self::Write { at, bytes } = self else { return (thousandths >= 500).then(|| self.clone()) };
        let part = |thousandths: u16| bytes.len() * usize::from(thousandths) / 1000;
        let (from, to) = match thousandths {
            0..=1000 => (0, part(thousandths)),
            _ => (part((thousandths - 1000).min(1000)), bytes.len()),
        };
        (from < to).then(|| Self::Write { at: at + from, bytes: bytes[from..to].to_vec() })
    }
}

pub const DATA: usize = 0;
pub const JOURNAL: usize = 1;

impl Disk {
    /// Opens both files.
    pub fn files(&self) -> StoreFiles {
        let file = |index| Box::new(DiskFile { disk: self.clone(), index });
        StoreFiles { data: file(DATA), journal: file(JOURNAL), guard: None }
    }

    /// Limits the disk to `room_bytes` bytes from now on.
    pub fn set_room(&self, room_bytes: Option<u64>) {
        self.0.borrow_mut().room_bytes = room_bytes;
    }

    /// Makes every change and flush fail after `changes` more; `None` repairs the disk.
    pub fn fail_after(&self, changes: Option<u32>) {
        self.0.borrow_mut().changes_left = changes;
    }

    /// Number of changes and flushes so far.
    pub fn changes(&self) -> u32 {
        self.0.borrow().changes
    }

    pub fn bytes(&self, file: usize) -> Vec<u8> {
        self.0.borrow().files[file].live.clone()
    }

    /// Replaces a file's contents, as rot or another program would.
    pub fn overwrite(&self, file: usize, bytes: Vec<u8>) {
        let state = &mut self.0.borrow_mut().files[file];
        *state = FileState { live: bytes.clone(), durable: bytes, unflushed: Vec::new() };
    }

    /// Loses power. For each change that was not flushed, `survives` says how much of it survives, in thousandths. The
    /// disk works again afterwards.
    pub fn crash(&self, mut survives: impl FnMut() -> u16) {
        let mut state = self.0.borrow_mut();
        for file in &mut state.files {
            let mut bytes = std::mem::take(&mut file.durable);
            for change in std::mem::take(&mut file.unflushed) {
                if let Some(change) = change.survivor(survives()) {
                    change.apply(&mut bytes);
                }
            }
            *file = FileState { live: bytes.clone(), durable: bytes, unflushed: Vec::new() };
        }
        state.changes_left = None;
    }
}

struct DiskFile {
    disk: Disk,
    index: usize,
}

impl DiskFile {
    fn change(&self, action: &'static str, change: Option<Change>) -> Result<(), StoreFileError> {
        let mut state = self.disk.0.borrow_mut();
        state.changes += 1;
        match &mut state.changes_left {
            Some(0) => return Err(StoreFileError::Failed { action, detail: "the disk is broken".to_owned() }),
            Some(left) => *left -= 1,
            None => {}
        }
        let others = state.files[1 - self.index].live.len() as u64;
        let room_bytes = state.room_bytes.map(|room| room.saturating_sub(others) as usize);
        let file = &mut state.files[self.index];
        let Some(mut change) = change else {
            file.durable.clone_from(&file.live);
            file.unflushed.clear();
            return Ok(());
        };
        let mut fits = true;
        if let (Change::Write { at, bytes }, Some(room)) = (&mut change, room_bytes)
            && *at + bytes.len() > room
        {
            // Like a real disk, it writes what fits all the same.
            bytes.truncate(room.saturating_sub(*at));
            fits = false;
        }
        change.apply(&mut file.live);
        file.unflushed.push(change);
        if fits { Ok(()) } else { Err(StoreFileError::Full { detail: "the test says so".to_owned() }) }
    }
}

impl StoreFile for DiskFile {
    fn len_bytes(&self) -> Result<u64, StoreFileError> {
        Ok(self.disk.0.borrow().files[self.index].live.len() as u64)
    }

    fn read_at(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, StoreFileError> {
        let state = self.disk.0.borrow();
        let range = offset_bytes as usize..(offset_bytes + len_bytes) as usize;
        let missing = || StoreFileError::Failed { action: "reading", detail: "the file is shorter".to_owned() };
        let bytes = state.files[self.index].live.get(range).ok_or_else(missing)?;
        Ok(Bytes::from_vec(bytes.to_vec()))
    }

    fn write_at(&self, offset_bytes: u64, bytes: &Bytes) -> Result<(), StoreFileError> {
        let change = Change::Write { at: offset_bytes as usize, bytes: bytes.as_slice().to_vec() };
        self.change("writing", Some(change))
    }

    fn truncate(&self, len_bytes: u64) -> Result<(), StoreFileError> {
        self.change("cutting", Some(Change::Truncate(len_bytes as usize)))
    }

    fn flush(&self) -> Result<(), StoreFileError> {
        self.change("flushing", None)
    }
}
