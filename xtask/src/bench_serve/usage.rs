//! What a server has used so far, as far as Linux's /proc tells.

use std::fs;
use std::path::Path;

/// Linux gives times in these units to programs, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// Sums over a process and its children, such as nginx's workers.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    cpu_ticks: u64,
    /// `VmHWM`: the most that was resident at once.
    pub peak_bytes: Option<f64>,
}

impl Usage {
    /// `None` where there is no /proc, or no such process in it.
    pub fn of(process_id: u32) -> Option<Self> {
        Self::read(Path::new("/proc"), process_id)
    }

    fn read(proc: &Path, process_id: u32) -> Option<Self> {
        let processes = fs::read_dir(proc).ok()?.flatten().filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            // A process that has ended since it was listed is not one of a server that still serves.
            let stat = Stat::parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?;
            (id == process_id || stat.parent == process_id).then_some((id, entry.path(), stat))
        });
        let processes: Vec<_> = processes.collect();
        if !processes.iter().any(|(id, ..)| *id == process_id) {
            return None;
        }
        let peak = |path: &Path| peak_bytes(&fs::read_to_string(path.join("status")).ok()?);
        Some(Self {
            cpu_ticks: processes.iter().map(|(.., stat)| stat.cpu_ticks).sum(),
            peak_bytes: processes.iter().map(|(_, path, _)| peak(path)).sum(),
        })
    }

    pub fn cpu_seconds_since(&self, before: &Self) -> f64 {
        self.cpu_ticks.saturating_sub(before.cpu_ticks) as f64 / TICKS_PER_SECOND
    }
}

/// What matters of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// In the program and in the system for it, all threads together.
    cpu_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, and may itself have parentheses and spaces.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        // Counted from 1 in proc(5), where the first one here is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { parent: field(4)?.try_into().ok()?, cpu_ticks: field(14)? + field(15)? })
    }
}

/// `VmHWM:   9876 kB` in `/proc/PID/status`.
fn peak_bytes(status: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(id: u32, name: &str, parent: u32, user: u64, system: u64) -> String {
        format!("{id} ({name}) S {parent} 1 1 0 -1 4194304 5 6 7 8 {user} {system} 90 91 20 0 1 0 100 200 300\n")
    }

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        for name in ["nginx", "a b", ") S 9 9 (x"] {
            assert_eq!(Stat::parse(&stat(7, name, 3, 20, 5)), Some(Stat { parent: 3, cpu_ticks: 25 }), "{name}");
        }
        assert_eq!(Stat::parse("7 (nginx) S 3 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn children_count_and_strangers_do_not() {
        let proc = tempfile::tempdir().expect("temp folder");
        let add = |id: u32, parent, ticks, status: &str| {
            let folder = proc.path().join(id.to_string());
            fs::create_dir(&folder).expect("a folder");
            fs::write(folder.join("stat"), stat(id, "x", parent, ticks, 1)).expect("stat");
            fs::write(folder.join("status"), status).expect("status");
        };
        add(10, 1, 100, "Name:\tx\nVmHWM:\t    8 kB\n");
        add(11, 10, 20, "VmHWM:\t    2 kB\n");
        add(12, 11, 3, "VmHWM:\t    1 kB\n");
        add(13, 1, 4000, "VmHWM:\t    1 kB\n");
        fs::create_dir(proc.path().join("sys")).expect("a folder");
        let before = Usage::read(proc.path(), 10).expect("process 10");
        assert_eq!(before, Usage { cpu_ticks: 122, peak_bytes: Some(10240.0) });
        assert_eq!(Usage::read(proc.path(), 14), None);

        // A kernel thread's status has no VmHWM; half a sum would be wrong.
        add(15, 10, 99, "Name:\tx\n");
        let after = Usage::read(proc.path(), 10).expect("process 10");
        assert_eq!(after, Usage { cpu_ticks: 222, peak_bytes: None });
        assert_eq!(after.cpu_seconds_since(&before), 1.0);
    }
}
