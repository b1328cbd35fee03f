//! How far a command is: which of how many steps, what it does, and for how long it has been at it.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{announce, shown};

/// How often a terminal's line is written anew, and how often anything else (a log) gets one more.
const TERMINAL_PERIOD: Duration = Duration::from_secs(1);
const LOG_PERIOD: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Counts a command's steps.
#[derive(Debug)]
pub struct Progress {
    command: &'static str,
    steps: usize,
    step: usize,
}

impl Progress {
    pub fn new(command: &'static str, steps: usize) -> Self {
        Self { command, steps, step: 0 }
    }

    /// Does the next step, saying so before and after.
    pub fn step<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.step += 1;
        let start = Instant::now();
        println!("{}: [{}/{}] {what}", self.command, self.step, self.steps);
        let done = work()?;
        println!("{}: [{}/{}] {what}: done ({})", self.command, self.step, self.steps, clock(start.elapsed()));
        Ok(done)
    }
}

/// Minutes and seconds: `0:41`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Runs cargos side by side and gives back what each wrote to its standard output. What they say meanwhile is told in one
/// line, and in full for one that fails.
pub fn run_together<const COUNT: usize>(commands: [Command; COUNT]) -> Result<[String; COUNT]> {
    let start = Instant::now();
    let mut running = Vec::new();
    for command in commands {
        announce(&command);
        running.push(Running::start(command)?);
    }
    let mut line = StatusLine::new();
    while !running.iter_mut().all(Running::has_ended) {
        line.show(|| {
            let doing: Vec<_> = running.iter().filter_map(Running::doing).collect();
            format!("  {} {}", clock(start.elapsed()), doing.join(", "))
        });
        thread::sleep(POLL_INTERVAL);
    }
    line.clear();
    let outputs: Vec<_> = running.into_iter().map(Running::end).collect::<Result<_>>()?;
    outputs.try_into().ok().context("as many outputs as commands")
}

/// A cargo that runs.
struct Running {
    name: String,
    child: Child,
    /// Reads standard output to its end.
    stdout: JoinHandle<String>,
    /// The same of standard error, into `said`.
    stderr: JoinHandle<()>,
    said: Arc<Mutex<Vec<String>>>,
    has_ended: bool,
}

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        let name = shown(&command);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.with_context(|| format!("cannot run {name}"))?;
        let mut stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is all there is; a cargo that failed says so by its exit status.
            let _ = stdout.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        let stderr = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { name, child, stdout, stderr, said, has_ended: false })
    }

    fn has_ended(&mut self) -> bool {
        self.has_ended |= !matches!(self.child.try_wait(), Ok(None));
        self.has_ended
    }

    /// What it said it does, in short, unless it has ended.
    fn doing(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_ended { None } else { said.iter().rev().find_map(|line| doing(line)) }
    }

    /// Its standard output.
    fn end(mut self) -> Result<String> {
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        let (Ok(stdout), Ok(())) = (self.stdout.join(), self.stderr.join()) else {
            bail!("the output of {} could not be read", self.name);
        };
        if !status.success() {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            bail!("{} failed with {status}:\n{}", self.name, said.join("\n"));
        }
        Ok(stdout)
    }
}

/// `   Compiling serde v1.0.1 (/x)` → `serde`; `   Blocking waiting for …` whole.
fn doing(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    match words.next()? {
        "Compiling" | "Downloaded" => words.next().map(str::to_owned),
        "Blocking" => Some(line.trim().to_owned()),
        _ => None,
    }
}

/// One line that is written over on a terminal, and written now and then elsewhere.
struct StatusLine {
    is_terminal: bool,
    last: Instant,
    has_text: bool,
}

impl StatusLine {
    fn new() -> Self {
        Self { is_terminal: std::io::stdout().is_terminal(), last: Instant::now(), has_text: false }
    }

    fn show(&mut self, text: impl FnOnce() -> String) {
        let period = if self.is_terminal { TERMINAL_PERIOD } else { LOG_PERIOD };
        if self.last.elapsed() < period {
            return;
        }
        self.last = Instant::now();
        if self.is_terminal {
            // A line that the terminal would break could not be written over.
            let text: String = text().chars().take(78).collect();
            self.write(&format!("\r\x1b[K{text}"));
            self.has_text = true;
        } else {
            self.write(&format!("{}\n", text()));
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.has_text) {
            self.write("\r\x1b[K");
        }
    }

    fn write(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        // The terminal may be gone; the work is still worth finishing.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::cargo;

    fn cargo_with(argument: &str) -> Command {
        let mut command = Command::new(cargo());
        command.arg(argument).stdin(Stdio::null());
        command
    }

    #[test]
    fn times_are_written_as_clocks_have_them() {
        let written = [0, 41, 60, 3725].map(|seconds| clock(Duration::from_secs(seconds)));
        assert_eq!(written, ["0:00", "0:41", "1:00", "62:05"]);
    }

    #[test]
    fn steps_are_counted_and_failures_passed_on() {
        let mut progress = Progress::new("demo", 2);
        assert_eq!(progress.step("one", || Ok(1)).expect("works"), 1);
        let error = progress.step("two", || -> Result<()> { bail!("reason") }).expect_err("fails");
        assert_eq!((progress.step, error.to_string().as_str()), (2, "reason"));
    }

    #[test]
    fn each_command_has_its_own_output() {
        let [version, help] = run_together([cargo_with("--version"), cargo_with("--help")]).expect("both run");
        assert!(version.starts_with("cargo ") && help.contains("Usage"), "{version}{help}");
    }

    #[test]
    fn a_command_that_fails_is_named_with_what_it_said() {
        let error = run_together([cargo_with("--version"), cargo_with("no-such-subcommand")]).expect_err("one fails");
        let error = error.to_string();
        assert!(error.contains("cargo no-such-subcommand failed") && error.contains("no such command"), "{error}");
    }

    #[test]
    fn what_cargo_does_is_told_in_a_word() {
        assert_eq!(doing("   Compiling serde v1.0.1 (/x)").as_deref(), Some("serde"));
        let waits = "    Blocking waiting for file lock on build directory";
        assert_eq!(doing(waits).as_deref(), Some(waits.trim()));
        assert_eq!(doing("warning: unused"), None);
    }
}
