//! `cargo xtask gpu-hour`: everything that is to be known of a GPU, in parts of a few minutes each, for a machine that may have
//! nothing but that GPU.
//!
//! Programs are built here, or carried there (`--pack`, then `--binaries`); the model is made on the spot. What each command
//! printed is kept as soon as it ends, so that a machine that goes away leaves what was measured.

mod commands;
mod results;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::value_parser;

use crate::process;
use crate::workspace::{Workspace, cargo};
use commands::{Part, Planned};
use results::{Outcome, Results};

/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What is needed beside this program.
const PROGRAMS: [&str; 2] = ["pylon", "gptoss-synth"];

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the model and gpu-hour.json go; target/gpu-hour by default. Results of earlier parts there are kept.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Build the programs, this one included, into a folder that can be carried elsewhere, and stop.
    #[arg(long, value_name = "FOLDER")]
    pack: Option<PathBuf>,
    /// Use the programs of such a folder. Needs neither cargo nor a checkout.
    #[arg(long, value_name = "FOLDER", conflicts_with = "pack")]
    binaries: Option<PathBuf>,
    /// Run only these parts.
    #[arg(long, value_enum, value_name = "PART")]
    part: Vec<Part>,
    /// The shape of the model that is made: tiny, nano, 20b or 120b.
    #[arg(long, default_value = "20b")]
    shape: String,
    /// Make so many layers; all that the shape has if not given.
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Prompts are at most this long, in tokens: for adapters that are slow.
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = value_parser!(u32).range(16..))]
    longest: u32,
    /// End a command that takes longer than this, and go on with the next.
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = value_parser!(u64).range(1..))]
    minutes: u64,
}

impl Arguments {
    /// Whether a checkout is needed.
    pub fn needs_workspace(&self) -> bool {
        self.binaries.is_none()
    }
}

/// Runs the parts, or packs what they need.
pub fn run(workspace: Option<&Workspace>, arguments: &Arguments) -> Result<()> {
    let built = workspace.map(|workspace| workspace.target.join("release"));
    if let Some(workspace) = workspace {
        build(workspace)?;
    }
    if let (Some(folder), Some(built)) = (&arguments.pack, &built) {
        return pack(built, folder);
    }
    let out = match (&arguments.out, workspace) {
        (Some(out), _) => out.clone(),
        (None, Some(workspace)) => workspace.target.join("gpu-hour"),
        (None, None) => PathBuf::from("gpu-hour"),
    };
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let binaries = arguments.binaries.clone().or(built).expect("built where they are not given");
    for program in PROGRAMS {
        let path = program_in(&binaries, program);
        ensure!(path.is_file(), "{} is not there; `cargo xtask gpu-hour --pack FOLDER` makes it", path.display());
    }
    let parts = if arguments.part.is_empty() { Part::ALL.to_vec() } else { arguments.part.clone() };
    let mut results = Results::open(&out.join("gpu-hour.json"))?;
    let mut failed = Vec::new();
    for planned in commands::of(&parts, &out, arguments) {
        let words = match planned.arguments(&results) {
            Ok(words) => words,
            Err(error) => {
                println!("{}: not run: {error}", planned.name);
                failed.push(planned.name);
                continue;
            }
        };
        let outcome = one(&binaries, &planned, &words, Duration::from_secs(arguments.minutes * 60))?;
        println!("{}: {} after {:.1} s", planned.name, outcome.ended, outcome.seconds);
        if !outcome.succeeded && !planned.only_tells {
            failed.push(planned.name);
        }
        results.keep(outcome)?;
    }
    println!("{}", results.path().display());
    if !failed.is_empty() {
        bail!("{} did not succeed; what they said is in {}", failed.join(", "), results.path().display());
    }
    Ok(())
}

fn build(workspace: &Workspace) -> Result<()> {
    let mut command = Command::new(cargo());
    command.current_dir(&workspace.root).args(["build", "--release", "--package", "xtask"]);
    process::run(command.args(PROGRAMS.iter().flat_map(|program| ["--package", program])))
}

fn pack(built: &Path, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for program in PROGRAMS.into_iter().chain(["xtask"]) {
        let (from, to) = (program_in(built, program), program_in(folder, program));
        std::fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    let shown = folder.display();
    println!("carry {shown}, and run there: {shown}/xtask gpu-hour --binaries {shown} --out FOLDER");
    Ok(())
}

fn program_in(folder: &Path, program: &str) -> PathBuf {
    folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX))
}

/// Runs a command to its end, or ends it when its time is up.
fn one(binaries: &Path, planned: &Planned, words: &[String], limit: Duration) -> Result<Outcome> {
    let mut command = Command::new(program_in(binaries, planned.program));
    command.args(words).stdin(Stdio::null());
    let shown = process::shown(&command);
    println!("$ {shown}");
    let (printed, said) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdout(printed.try_clone()?).stderr(said.try_clone()?);
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {shown}"))?;
    let status = within(&mut child, begin + limit)?;
    let ended = status.map_or_else(|| format!("ended after {} minutes", limit.as_secs() / 60), |it| it.to_string());
    Outcome::new(planned.name, shown, begin.elapsed(), ended, status.is_some_and(|it| it.success()), (printed, said))
}

fn within(child: &mut Child, end: Instant) -> Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill().context("cannot end a program")?;
            child.wait().context("cannot wait for a program")?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}
