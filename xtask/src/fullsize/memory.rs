//! Memory of the browser's processes while it works. Linux only; elsewhere nothing is claimed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(500);

/// The most bytes that processes of one kind had at one time: proportional set size, in which shared pages count once.
pub type Peaks = BTreeMap<String, u64>;

/// Looks at the processes of one browser until it is stopped.
pub struct Watch {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Peaks>,
}

impl Watch {
    /// `profile`: the folder that tells the browser's processes from all others.
    pub fn start(profile: &Path) -> Self {
        let (stopping, profile) = (Arc::new(AtomicBool::new(false)), profile.to_owned());
        let until = Arc::clone(&stopping);
        let thread = spawn(move || {
            let mut peaks = Peaks::new();
            while !until.load(Ordering::Relaxed) {
                for (kind, bytes) in by_kind(&profile) {
                    let peak = peaks.entry(kind).or_default();
                    *peak = bytes.max(*peak);
                }
                sleep(INTERVAL);
            }
            peaks
        });
        Self { stopping, thread }
    }

    /// `None` where the system tells nothing.
    pub fn stop(self) -> Option<Peaks> {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().ok().filter(|peaks| !peaks.is_empty())
    }
}

/// Bytes of each kind of process, and of all.
fn by_kind(profile: &Path) -> Peaks {
    let mut kinds = Peaks::new();
    for process in processes() {
        let Some(kind) = kind_of(&process, profile) else { continue };
        let Some(bytes) = proportional_bytes(&process) else { continue };
        *kinds.entry(kind).or_default() += bytes;
        *kinds.entry("all".to_owned()).or_default() += bytes;
    }
    kinds
}

/// Folders of all processes.
fn processes() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_process)).map(|entry| entry.path()).collect()
}

/// `browser`, or what a child process says it is; `None` for processes of others.
fn kind_of(process: &Path, profile: &Path) -> Option<String> {
    let line = std::fs::read(process.join("cmdline")).ok()?;
    let arguments: Vec<&str> =
        line.split(|byte| *byte == 0).filter_map(|part| std::str::from_utf8(part).ok()).collect();
    let own = format!("--user-data-dir={}", profile.display());
    if !arguments.iter().any(|argument| *argument == own) {
        return None;
    }
    let kind = arguments.iter().find_map(|argument| argument.strip_prefix("--type="));
    Some(kind.unwrap_or("browser").to_owned())
}

fn proportional_bytes(process: &Path) -> Option<u64> {
    let rollup = std::fs::read_to_string(process.join("smaps_rollup")).ok()?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<u64>().ok()? << 10)
}
