//! The processes of a browser, as far as Linux's /proc tells.

use std::collections::BTreeMap;
use std::path::Path;

/// One process of a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserProcess {
    /// Process id.
    pub id: u32,
    /// Kind of process: `browser`, or its task such as `renderer`, `gpu-process`, `utility` or `zygote`.
    pub kind: String,
}

/// The process that was started with this folder as its profile, and all below it. Empty where there is no /proc.
pub fn processes_of(profile: &Path) -> Vec<BrowserProcess> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process that ended since it was listed does not count.
    let all: BTreeMap<u32, Seen> = ids.filter_map(|id| Some((id, Seen::of(id)?))).collect();
    let own = format!("--user-data-dir={}", profile.display());
    let is_root = |seen: &Seen| seen.kind().is_none() && seen.arguments.contains(&own);
    let belongs = |id: u32| {
        // Ancestors, nearest first; they end at one that is not listed.
        let mut lineage = std::iter::successors(all.get(&id), |seen| all.get(&seen.parent));
        lineage.any(is_root)
    };
    let process = |(&id, seen): (&u32, &Seen)| BrowserProcess { id, kind: seen.kind().unwrap_or("browser").to_owned() };
    all.iter().filter(|(id, _)| belongs(**id)).map(process).collect()
}

struct Seen {
    parent: u32,
    arguments: Vec<String>,
}

impl Seen {
    fn of(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let line = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        // State and parent stand behind the name, which is in parentheses and may contain some itself.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\0');
        // Children of Chrome's zygote write all arguments into one.
        let separator = if text.contains('\0') { '\0' } else { ' ' };
        Some(Self { parent, arguments: text.split(separator).map(str::to_owned).collect() })
    }

    fn kind(&self) -> Option<&str> {
        self.arguments.iter().find_map(|argument| argument.strip_prefix("--type="))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_with_the_profile_and_its_children_are_found() {
        let profile = tempfile::tempdir().expect("a folder");
        let argument = format!("--user-data-dir={}", profile.path().display());
        // The outer shell stands for the browser, the inner one for a child process.
        let script = "sh -c 'read line' --type=renderer; exit 0";
        let mut browser = Command::new("sh");
        browser.args(["-c", script, &argument]).stdin(std::process::Stdio::piped());
        let mut browser = browser.spawn().expect("sh");
        let begin = std::time::Instant::now();
        // A child has its parent's arguments until it has become the program it is to run.
        let kinds = loop {
            let found = processes_of(profile.path());
            let kinds: Vec<_> = found.iter().map(|process| process.kind.clone()).collect();
            if kinds == ["browser", "renderer"] || begin.elapsed().as_secs() > 10 {
                assert_eq!(found[0].id, browser.id());
                break kinds;
            }
        };
        drop(browser.stdin.take());
        browser.wait().expect("it ends");
        assert_eq!(kinds, ["browser", "renderer"]);
        assert_eq!(processes_of(profile.path()), []);
    }
}
