//! Runs one test program in cargo's place (cargo calls it a runner): with a limit to its time, and with the time of each
//! test, which stable test programs only print when they are told that this is not a stable compiler's business.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::fuzz;
use crate::process::Toolbox;

/// Begins the line that says that a program took too long.
pub const ENDED: &str = "xtask: ended after";

/// For all tests of a program together. The longest takes minutes; CI machines have two cores, and others use them.
const LIMIT_SECONDS: &str = "2400";

const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// End the program after so many seconds.
    #[arg(long)]
    limit: u64,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// The words before a test program's own that make this run it.
pub fn words(toolbox: &Toolbox) -> Result<Vec<String>> {
    let this = toolbox.this().to_str().context("xtask lies in a folder whose name is not UTF-8")?;
    Ok([this, "run-test-program", "--limit", LIMIT_SECONDS].map(str::to_owned).into())
}

/// cargo's arguments that make it run test programs with this.
pub fn runner(toolbox: &Toolbox) -> Result<Vec<String>> {
    let words = words(toolbox)?;
    // JSON writes a list of strings as TOML does.
    let words = serde_json::to_string(&words).context("cannot write the runner's words")?;
    Ok(vec!["--config".to_owned(), format!("target.{}.runner={words}", fuzz::host(toolbox)?)])
}

/// Runs the program; its exit status becomes this program's.
pub fn run(arguments: &Arguments) -> Result<()> {
    let [program, rest @ ..] = arguments.command.as_slice() else { bail!("no program") };
    let mut command = Command::new(program);
    command.args(["-Zunstable-options", "--report-time"]).args(rest).env("RUSTC_BOOTSTRAP", "1");
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
    let child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    match wait(child, Duration::from_secs(arguments.limit))? {
        Some(status) => std::process::exit(status.code().unwrap_or(1)),
        None => {
            println!("{ENDED} {} s: {name}", arguments.limit);
            bail!("{name} took longer than it may")
        }
    }
}

/// Waits for `child`, and ends it and what it has started when it takes longer than `limit`.
fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a test program")? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            break;
        }
        thread::sleep(POLL_INTERVAL);
    }
    // Asked first: what has no parent any more cannot be told from others.
    let started = descendants(child.id());
    child.kill().context("cannot end a test program")?;
    child.wait().context("cannot wait for a test program")?;
    started.into_iter().for_each(end);
    Ok(None)
}

/// Processes that `process` has started, and those that they have: browsers, their drivers, servers.
fn descendants(process: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    // Where there is no /proc only the program itself is ended.
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent_of(&stat) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = BTreeSet::new();
    let mut open = vec![process];
    while let Some(next) = open.pop() {
        let new = children.remove(&next).unwrap_or_default();
        found.extend(&new);
        open.extend(new);
    }
    found
}

/// `123 (a name) S 45 …` → 45; a name may have brackets in it.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(unix)]
fn end(process: u32) {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    // It may have ended by itself.
    let _ = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::KILL));
}

#[cfg(not(unix))]
fn end(_process: u32) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read_whatever_a_program_is_called() {
        assert_eq!(parent_of("123 (a) b (c) S 45 123 123"), Some(45));
        assert_eq!(parent_of(""), None);
    }

    #[test]
    fn the_runner_is_written_as_cargo_reads_it() {
        let words = serde_json::to_string(&[r"C:\a b\xtask.exe", "x"]).expect("JSON");
        let table: toml::Table = toml::from_str(&format!("runner={words}")).expect("TOML");
        assert_eq!(table["runner"][0].as_str(), Some(r"C:\a b\xtask.exe"));
    }

    /// A shell that waits for another, as a test program for a browser.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_takes_too_long_is_ended_with_all_it_started() {
        let shell = |script: &str| Command::new("sh").args(["-c", script]).spawn().expect("sh");
        let quick = wait(shell("exit 3"), Duration::from_secs(60)).expect("waits").expect("ends by itself");
        assert_eq!(quick.code(), Some(3));

        let folder = tempfile::tempdir().expect("temp folder");
        let file = folder.path().join("id");
        let child = shell(&format!("sh -c 'echo $$ > {0}.new; mv {0}.new {0}; sleep 600; :'; :", file.display()));
        while !file.exists() {
            thread::sleep(POLL_INTERVAL);
        }
        let inner: u32 = std::fs::read_to_string(&file).expect("id").trim().parse().expect("a number");
        assert!(descendants(child.id()).contains(&inner));
        let status = wait(child, Duration::from_millis(50)).expect("waits");
        assert_eq!(status, None);
        // Its new parent may take a moment to notice.
        let start = Instant::now();
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{inner}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z")
        };
        while runs() {
            assert!(start.elapsed() < Duration::from_secs(10), "{inner} still runs");
            thread::sleep(POLL_INTERVAL);
        }
    }
}
