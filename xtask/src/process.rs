//! Running other programs: announced, with the project's tools first in `PATH`, failing by name.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::{Workspace, cargo};

/// Makes commands that run in the checkout and find the project's own tools before others of the same name.
#[derive(Clone, Debug)]
pub struct Toolbox {
    root: PathBuf,
    path: OsString,
    /// Where xtask itself lies. Found at the start: another cargo may compile it anew meanwhile, and then this process's own
    /// file is gone, but the path is good.
    this: PathBuf,
}

impl Toolbox {
    pub fn new(workspace: &Workspace) -> Self {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(workspace.tools_root().join("bin")).chain(std::env::split_paths(&inherited));
        // Only a folder with the separator in its name cannot be joined; then the tools must be in PATH already.
        let path = std::env::join_paths(folders).unwrap_or(inherited);
        let this = std::env::current_exe().unwrap_or_default();
        Self { root: workspace.root.clone(), path, this }
    }

    /// The program that this is.
    pub fn this(&self) -> &Path {
        &self.this
    }

    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("PATH", &self.path).stdin(Stdio::null());
        command
    }

    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(cargo());
        command.args(arguments);
        command
    }

    /// Full path of `program` in the toolbox's `PATH`.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
        std::env::split_paths(&self.path).map(|folder| folder.join(&name)).find(|full| full.is_file())
    }

    /// Version that `program --version` prints last on its first line; `None` when it is not there or does not run.
    pub fn version_of(&self, program: &str) -> Option<String> {
        let output = self.command(self.find(program)?).arg("--version").stderr(Stdio::null()).output().ok()?;
        if !output.status.success() {
            return None;
        }
        parse_version(&String::from_utf8_lossy(&output.stdout))
    }
}

/// Runs `command` to its end with its output on the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed with {status}", shown(command));
    }
    Ok(())
}

/// A line that a program wrote, and how long after its start it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Duration,
    pub text: String,
}

/// Runs `command` to its end, passing its output on as it comes and giving it back: standard output and error in one,
/// in the order in which they were written.
pub fn run_and_read(command: &mut Command) -> Result<(ExitStatus, Vec<Line>)> {
    announce(command);
    read_lines(command, |_| true)
}

/// Passes only those lines on that are worth it, and gives all back as one text.
pub fn run_and_read_where(
    command: &mut Command,
    is_worth_showing: impl FnMut(&str) -> bool,
) -> Result<(ExitStatus, String)> {
    announce(command);
    read(command, is_worth_showing)
}

/// Says nothing of the command, passes only those lines on that are worth it, and gives all back.
pub fn read_lines(
    command: &mut Command,
    mut is_worth_showing: impl FnMut(&str) -> bool,
) -> Result<(ExitStatus, Vec<Line>)> {
    let mut lines = Vec::new();
    let start = Instant::now();
    let (status, _) = read(command, |line| {
        lines.push(Line { at: start.elapsed(), text: line.trim_end().to_owned() });
        is_worth_showing(line)
    })?;
    Ok((status, lines))
}

fn read(command: &mut Command, mut is_worth_showing: impl FnMut(&str) -> bool) -> Result<(ExitStatus, String)> {
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", shown(command)))?;
    // The command keeps its copies of the writing end; only without them does the reader see the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut text = String::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("cannot read a program's output")? > 0 {
        let decoded = String::from_utf8_lossy(&line);
        if is_worth_showing(&decoded) {
            let mut stdout = std::io::stdout().lock();
            // A closed terminal must not stop the tests.
            let _ = stdout.write_all(decoded.as_bytes()).and_then(|()| stdout.flush());
        }
        text.push_str(&decoded);
        line.clear();
    }
    let status = child.wait().with_context(|| format!("cannot wait for {}", shown(command)))?;
    Ok((status, text))
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Prints the command before it is run.
pub fn announce(command: &Command) {
    println!("$ {}", shown(command));
}

/// `trunk 0.21.14`, `wasm-bindgen 0.2.130 (0123abc)` → the version.
fn parse_version(text: &str) -> Option<String> {
    let is_version =
        |word: &&str| word.split('.').count() >= 2 && word.starts_with(|first: char| first.is_ascii_digit());
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_tools_print() {
        assert_eq!(parse_version("trunk 0.21.14\n").as_deref(), Some("0.21.14"));
        assert_eq!(parse_version("wasm-bindgen 0.2.130 (6c2b0e5a1 2026-09-01)").as_deref(), Some("0.2.130"));
        assert_eq!(parse_version("trunk 0.22.0-beta.1").as_deref(), Some("0.22.0-beta.1"));
        assert_eq!(parse_version("no version at all"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn output_is_passed_on_whole_and_in_order() {
        let mut command = Command::new(cargo());
        let (status, lines) = run_and_read(command.arg("--version")).expect("cargo runs");
        assert!(status.success());
        assert!(lines[0].text.starts_with("cargo "), "{lines:?}");

        let (status, lines) = run_and_read(Command::new(cargo()).arg("no-such-subcommand")).expect("cargo runs");
        assert!(!status.success());
        assert!(lines.iter().any(|line| line.text.contains("no-such-subcommand")), "{lines:?}");
        assert!(lines.windows(2).all(|pair| pair[0].at <= pair[1].at), "{lines:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/nonexistent/tool")).expect_err("no such file");
        assert!(format!("{error:#}").contains("tool"), "{error:#}");
    }

    #[test]
    fn the_projects_tools_come_first() {
        let folder = tempfile::tempdir().expect("temp folder");
        let workspace = Workspace {
            root: folder.path().into(),
            target: folder.path().join("target"),
            wasm_bindgen_version: "0.0.0".to_owned(),
        };
        let bin = workspace.tools_root().join("bin");
        std::fs::create_dir_all(&bin).expect("folders");
        let tool = bin.join(format!("cargo{}", std::env::consts::EXE_SUFFIX));
        std::fs::write(&tool, "").expect("write");
        assert_eq!(Toolbox::new(&workspace).find("cargo"), Some(tool));
    }
}
