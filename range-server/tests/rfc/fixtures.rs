//! The files that are served.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

pub const TINY: &str = "tiny.gguf";
pub const TINY_BYTES: &[u8; 24] = b"GGUF0123456789abcdefghij";
pub const MB: &str = "mb.gguf";
pub const MB_LEN: u64 = 1_000_000;
pub const BIG: &str = "big.gguf";
pub const BIG_LEN: u64 = 5 << 30;
pub const EMPTY: &str = "empty.gguf";
pub const HTML: &str = "html.gguf";
/// Content of a file outside that must not be read.
pub const SECRET: &[u8] = b"GGUF secret";

/// When all files were modified: long ago, so that the date is a strong validator; on a leap day.
pub const MODIFIED: &str = "Thu, 29 Feb 2024 12:34:56 GMT";
const MODIFIED_UNIX: u64 = 1_709_210_096;

pub fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_UNIX)
}

pub struct Fixtures {
    pub folder: TempDir,
    /// What is served.
    pub root: PathBuf,
    /// A cache of the Hugging Face hub.
    pub hub: PathBuf,
    /// The page.
    pub web: PathBuf,
}

/// The commit and the blob of the hub's cache.
pub const HUB_COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const HUB_BLOB: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
pub const HUB_BYTES: &[u8] = b"GGUF from the hub";

impl Fixtures {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, hub, web) = (folder.path().join("root"), folder.path().join("hub"), folder.path().join("web"));
        write_plain_files(&root);
        write_odd_names(&root);
        write_splits(&root);
        write_hub(&hub);
        write(&folder.path().join("outside/secret.gguf"), SECRET);
        write(&web.join("index.html"), b"<!DOCTYPE html><title>the page</title>");
        symlink("../outside/secret.gguf", root.join("outside-link.gguf")).unwrap();
        symlink(folder.path().join("outside/secret.gguf"), root.join("outside-absolute.gguf")).unwrap();
        symlink("outside-link.gguf", root.join("outside-chain.gguf")).unwrap();
        symlink("../outside", root.join("outside-folder")).unwrap();
        Self { folder, root, hub, web }
    }
}

/// What any server of files can serve.
pub fn write_plain_files(root: &Path) {
    write(&root.join(TINY), TINY_BYTES);
    write(&root.join(MB), &distinct(MB_LEN));
    write(&root.join(EMPTY), b"");
    write(&root.join(HTML), b"<html>not a model</html>");
    write(&root.join("sub/deep.gguf"), b"GGUF deep");
    write_big(&root.join(BIG));
}

fn write_odd_names(root: &Path) {
    for name in [
        "sub/deeper/still.gguf",
        "with space \u{e9}.gguf",
        "per%20cent.gguf",
        "plus+plus.gguf",
        "q?mark#hash.gguf",
        "angle<i>&quot.gguf",
        "folder.gguf/in.gguf",
        "gptoss.gguf",
        "gptoss/shadow.gguf",
        "api/models.gguf",
    ] {
        write(&root.join(name), format!("GGUF of {name}").as_bytes());
    }
    write(&root.join("notes.txt"), b"GGUF, but not by its name");
    symlink(TINY, root.join("inside-link.gguf")).unwrap();
    symlink("nowhere.gguf", root.join("dangling.gguf")).unwrap();
    symlink("circle.gguf", root.join("circle.gguf")).unwrap();
    symlink(".", root.join("loop")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("fifo.gguf")).status().unwrap().success());
}

/// A sparse file, with marks where 32 bits are not enough.
fn write_big(path: &Path) {
    let mut file = File::create(path).unwrap();
    file.set_len(BIG_LEN).unwrap();
    for (at, mark) in
        [(0, "GGUF"), ((4 << 30) - 4, "below|above"), ((4 << 30) + 12_345, "beyond"), (BIG_LEN - 6, "at end")]
    {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(mark.as_bytes()).unwrap();
    }
    file.set_modified(long_ago()).unwrap();
}

fn write_splits(root: &Path) {
    for part in 0..3 {
        write(&root.join(format!("split-0000{}-of-00003.gguf", part + 1)), &split_part(part, 3));
    }
    write(&root.join("lone-00001-of-00002.gguf"), &split_part(0, 2));
}

/// A GGUF file of version 3 without tensors, which says which part of a model it is.
pub fn split_part(number: u16, count: u16) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(3_u64.to_le_bytes());
    let key = |bytes: &mut Vec<u8>, name: &str, kind: u32, value: &[u8]| {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    };
    key(&mut bytes, "split.no", 2, &number.to_le_bytes());
    key(&mut bytes, "split.count", 2, &count.to_le_bytes());
    key(&mut bytes, "split.tensors.count", 5, &0_i32.to_le_bytes());
    bytes
}

fn write_hub(hub: &Path) {
    let repo = hub.join("models--org--name");
    write(&repo.join("refs/main"), HUB_COMMIT.as_bytes());
    write(&repo.join("blobs").join(HUB_BLOB), HUB_BYTES);
    let unfinished = "1".repeat(64);
    write(&repo.join("blobs").join(format!("{unfinished}.incomplete")), b"GGUF to be");
    let snapshot = repo.join("snapshots").join(HUB_COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    symlink(format!("../../blobs/{HUB_BLOB}"), snapshot.join("f.gguf")).unwrap();
    symlink(format!("../../blobs/{unfinished}"), snapshot.join("unfinished.gguf")).unwrap();
    symlink("../../../../outside/secret.gguf", snapshot.join("stolen.gguf")).unwrap();
}

/// Bytes that differ from place to place, so that a wrong slice shows; the first four are the magic.
pub fn distinct(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    SplitMix64::seed_from_u64(len).fill_bytes(&mut bytes);
    bytes[..4].copy_from_slice(b"GGUF");
    bytes
}

/// Writes a file as of long ago, making folders on the way.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(long_ago()).unwrap();
}
