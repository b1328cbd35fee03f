//! Memory of the browser's processes while it works. Linux only; elsewhere nothing is claimed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use browser_driver::processes_of;

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
    for process in processes_of(profile) {
        let Some(bytes) = proportional_bytes(process.id) else { continue };
        *kinds.entry(process.kind).or_default() += bytes;
        *kinds.entry("all".to_owned()).or_default() += bytes;
    }
    kinds
}

fn proportional_bytes(process: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<u64>().ok()? << 10)
}
