use std::cell::Cell;
use std::fs::{File, Metadata};
use std::future::poll_fn;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::{JoinedSource, OpenOutcome, ReadFuture, Source, SourceError, check_bounds};

pub struct Bytes(Vec<u8>);

impl Bytes {
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn to_vec(&self, range: Range<usize>) -> Vec<u8> {
        self.0[range].to_vec()
    }

    pub fn copy_to(&self, at: usize, target: &mut [u8]) {
        target.copy_from_slice(&self.0[at..at + target.len()]);
    }

    pub fn slice(&self, range: Range<usize>) -> Self {
        Self(self.to_vec(range))
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub fn joined<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        Self(parts.map(Self::as_slice).collect::<Vec<_>>().concat())
    }
}

/// SHA-256 of all bytes.
pub async fn sha256(bytes: &crate::Bytes) -> Result<[u8; 32], SourceError> {
    Ok(Sha256::digest(bytes.as_slice()).into())
}

pub async fn pause(duration: Duration) {
    std::thread::sleep(duration);
    let mut had_others_turn = false;
    poll_fn(|context| {
        if std::mem::replace(&mut had_others_turn, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A file on disk, read at positions through one handle.
///
/// Reads block the thread that polls them. Before each read the open file is looked at again, so a file that was
/// rewritten or cut since it was opened is an error and not a mixture of two files.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    identity: String,
    file: File,
    len_bytes: u64,
    modified: Option<SystemTime>,
    requests: Cell<u32>,
}

impl FileSource {
    /// Opens `path` for reading. Fails with [`SourceError::Io`] when that is not possible and with
    /// [`SourceError::NotAFile`] for directories and devices.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        let file = File::open(path).map_err(io_error(&shown, "open"))?;
        let metadata = file.metadata().map_err(io_error(&shown, "look at"))?;
        if !metadata.is_file() {
            return Err(SourceError::NotAFile { name: shown });
        }
        let name = path.file_name().map_or(shown, |name| name.to_string_lossy().into_owned());
        let modified = modified(&metadata);
        let identity = match modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) {
            Some(since) => format!("file {} bytes modified {}", metadata.len(), since.as_nanos()),
            None => format!("file {} bytes", metadata.len()),
        };
        Ok(Self { name, identity, file, len_bytes: metadata.len(), modified, requests: Cell::new(0) })
    }

    /// Opens all files of one model, given in order: one file as it is, several as a [`JoinedSource`].
    ///
    /// # Errors
    /// [`SourceError::PartsMissing`] lists all of several files that are not there; else as [`FileSource::open`].
    pub fn open_all(paths: &[PathBuf]) -> OpenOutcome {
        let open = |path: &PathBuf| {
            let source = Self::open(path).map(|source| Rc::new(source) as Rc<dyn Source>);
            (path.display().to_string(), source)
        };
        JoinedSource::of_opened(paths.iter().map(open).collect())
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        let metadata = self.file.metadata().map_err(io_error(&self.name, "look at"))?;
        if metadata.len() < self.len_bytes {
            return Err(self.shrank(metadata.len()));
        }
        let detail = if metadata.len() > self.len_bytes {
            format!("it had {} bytes, now {}", self.len_bytes, metadata.len())
        } else if modified(&metadata) != self.modified {
            "its modification time is another".to_owned()
        } else {
            return Ok(());
        };
        Err(SourceError::FileChanged { name: self.name.clone(), detail })
    }

    fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<Vec<u8>, SourceError> {
        check_bounds(&self.name, offset_bytes, len_bytes, self.len_bytes)?;
        let mut bytes = vec![0; len_bytes as usize]; // fits: checked with the bounds
        if bytes.is_empty() {
            return Ok(bytes);
        }
        self.check_unchanged()?;
        self.requests.set(self.requests.get() + 1);
        let mut done = 0;
        while done < bytes.len() {
            match read_at(&self.file, &mut bytes[done..], offset_bytes + done as u64) {
                Ok(0) => return Err(self.shrank(offset_bytes + done as u64)),
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error(&self.name, "read")(error)),
            }
        }
        Ok(bytes)
    }

    fn shrank(&self, got_bytes: u64) -> SourceError {
        SourceError::FileShrank { name: self.name.clone(), expected_bytes: self.len_bytes, got_bytes }
    }
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(async move { self.read_now(offset_bytes, len_bytes).map(crate::Bytes::from_vec) })
    }

    fn requests(&self) -> u32 {
        self.requests.get()
    }
}

/// `None` where the file system keeps no modification time.
fn modified(metadata: &Metadata) -> Option<SystemTime> {
    metadata.modified().ok()
}

fn io_error(name: &str, action: &'static str) -> impl FnOnce(std::io::Error) -> SourceError {
    let name = name.to_owned();
    move |source| SourceError::Io { name, action, source }
}

#[cfg(unix)]
fn read_at(file: &File, target: &mut [u8], offset_bytes: u64) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, target, offset_bytes)
}

#[cfg(windows)]
fn read_at(file: &File, target: &mut [u8], offset_bytes: u64) -> std::io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, target, offset_bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    /// A file of its own for each test, removed at the end.
    struct TestFile(PathBuf);

    impl TestFile {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("gptoss-source-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).expect("temporary file");
            Self(path)
        }

        fn handle(&self) -> File {
            OpenOptions::new().write(true).open(&self.0).expect("writable")
        }
    }

    impl Drop for TestFile {
        fn drop(&mut self) {
            // Nothing can be done about a temporary file that stays behind.
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn read(source: &FileSource, offset_bytes: u64, len_bytes: u64) -> Result<Vec<u8>, SourceError> {
        pollster::block_on(source.read(offset_bytes, len_bytes)).map(|bytes| bytes.as_slice().to_vec())
    }

    #[test]
    fn reads_at_positions_in_any_order() {
        let bytes: Vec<u8> = (0..5000_u32).map(|index| (index % 251) as u8).collect();
        let file = TestFile::new("positions", &bytes);
        let source = FileSource::open(&file.0).expect("opens");
        assert_eq!(source.len_bytes(), 5000);
        assert!(source.name().ends_with("-positions"));
        for (at, len) in [(4000, 1000), (0, 1), (251, 502), (4999, 1), (5000, 0)] {
            assert_eq!(read(&source, at, len).expect("inside"), bytes[at as usize..(at + len) as usize], "{at}+{len}");
        }
        assert_eq!(source.requests(), 4, "an empty read costs nothing");
        assert!(matches!(read(&source, 4000, 1001), Err(SourceError::OutOfBounds { file_bytes: 5000, .. })));
    }

    #[test]
    fn offsets_past_four_gibibytes_are_exact() {
        let file = TestFile::new("sparse", &[]);
        let at = 5 * (1_u64 << 30) + 3;
        let mut handle = file.handle();
        handle.set_len(at).expect("sparse file");
        std::io::Seek::seek(&mut handle, std::io::SeekFrom::Start(at)).expect("seek");
        handle.write_all(b"GGUF").expect("write");
        let source = FileSource::open(&file.0).expect("opens");
        assert_eq!(source.len_bytes(), at + 4);
        assert_eq!(read(&source, at - 1, 5).expect("inside"), b"\0GGUF");
    }

    #[test]
    fn a_file_that_shrank_or_changed_is_an_error() {
        let file = TestFile::new("shrinks", &[1; 100]);
        let source = FileSource::open(&file.0).expect("opens");
        let identity = source.identity().to_owned();
        file.handle().set_len(60).expect("cut");
        let error = read(&source, 0, 10).expect_err("cut since");
        assert!(matches!(error, SourceError::FileShrank { expected_bytes: 100, got_bytes: 60, .. }), "{error}");
        file.handle().set_len(101).expect("grow");
        assert!(matches!(read(&source, 0, 10), Err(SourceError::FileChanged { .. })));
        file.handle().set_len(100).expect("same length again");
        file.handle().set_modified(SystemTime::now() + Duration::from_secs(5)).expect("touch");
        let error = read(&source, 0, 10).expect_err("other modification time");
        assert!(error.to_string().contains("modification time"), "{error}");
        assert_ne!(FileSource::open(&file.0).expect("opens").identity(), identity);
    }

    #[test]
    fn several_files_open_as_one_or_say_which_are_missing() {
        let files = [TestFile::new("one", b"one "), TestFile::new("two", b"two")];
        let mut paths: Vec<PathBuf> = files.iter().map(|file| file.0.clone()).collect();
        let joined = FileSource::open_all(&paths).expect("both are there");
        let bytes = pollster::block_on(joined.read(0, 7)).expect("inside");
        assert_eq!(bytes.as_slice(), b"one two");
        assert!(FileSource::open_all(&paths[..1]).expect("is there").parts().is_empty());
        paths.extend(["no-such-file".into(), "nor-this-one".into()]);
        let error = FileSource::open_all(&paths).err().expect("two are missing").to_string();
        assert!(
            error.contains("-one is one of the 4 files") && error.ends_with(": no-such-file, nor-this-one"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let missing = FileSource::open("no-such-file.gguf").expect_err("missing");
        assert!(missing.to_string().starts_with("cannot open no-such-file.gguf"), "{missing}");
        let directory = FileSource::open(std::env::temp_dir()).expect_err("directory");
        assert!(matches!(directory, SourceError::NotAFile { .. } | SourceError::Io { .. }), "{directory}");
    }
}
