//! The tree of commands. Everything about a command is in its own module; this is the list.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{api, bench, compute, doctor, gate, gguf, harmony, infer, logits, tokenize};
use crate::error::CliError;

/// gpt-oss from an unmodified GGUF file, on the command line.
#[derive(Debug, Parser)]
#[command(name = "pylon", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit status:
    0  done; of a gate or a check: passed
    1  failed: an unusable line of input, a damaged or unsupported file, a failed gate
    2  could not run: wrong arguments, an absent file, no GPU where one is needed
  130  stopped by Ctrl-C

Results go to standard output, everything else to standard error.

Examples:
  pylon infer --gguf models/nano/gpt-oss-nano.gguf --prompt \"What is 2 + 2?\"
  pylon gguf verify models/nano/gpt-oss-nano.gguf
  pylon gate c models/nano/gpt-oss-nano.gguf";

#[derive(Debug, Subcommand)]
pub enum Command {
    Infer(infer::Args),
    #[command(visible_alias = "start")]
    Api(Box<api::Args>),
    Logits(logits::Args),
    Tokenize(tokenize::Args),
    Harmony(harmony::Args),
    Gguf(gguf::Args),
    Gate(gate::Args),
    Bench(bench::Args),
    Doctor(doctor::Args),
    Compute(compute::Args),
}

impl Command {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// Whatever ended it early; `main` reports it.
    pub fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Self::Infer(args) => infer::run(args),
            Self::Api(args) => api::run(&args),
            Self::Logits(args) => logits::run(args),
            Self::Tokenize(args) => tokenize::run(args),
            Self::Harmony(args) => harmony::run(args),
            Self::Gguf(args) => gguf::run(args),
            Self::Gate(args) => gate::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Compute(args) => compute::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use serve_kit::config;

    use super::*;

    fn read(text: &str) -> Result<api::Args, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("api.toml");
        std::fs::write(&path, text).expect("a file");
        let arguments = ["pylon".into(), "api".into(), "--config".into(), path.into_os_string()];
        let (cli, _) = config::read::<Cli>(arguments.into(), &api::CONFIG).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Api(args) => Ok(*args),
            other => Err(format!("{other:?}")),
        }
    }

    /// The sample as it is, and with everything in it that is commented out.
    #[test]
    fn the_sample_file_can_be_used() {
        let sample = include_str!("../../ops/pylon-api.toml");
        read(sample).expect("the sample");
        let is_option = |line: &&str| {
            let key = line.split_once(" = ").map_or("", |(key, _)| key);
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        let uncommented: Vec<&str> =
            sample.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).filter(is_option).collect();
        assert!(uncommented.len() >= 15, "this looks at nothing: {uncommented:?}");
        let args = read(&uncommented.join("\n")).expect("the sample with all of its options");
        for part in ["bind: 127.0.0.1:9899", "\"models.lan\"", "\"/srv/models/gpt-oss-20b-mxfp4.gguf\""] {
            assert!(format!("{args:?}").contains(part), "{part}: {args:?}");
        }
        let wrong = read(&sample.replace("grace-seconds", "grace-second")).expect_err("no such option");
        assert!(wrong.contains("`grace-seconds`"), "{wrong}");
    }

    /// No option but these is of the command line only: a new one can stand in a file by itself.
    #[test]
    fn every_option_of_the_api_can_stand_in_a_file() {
        let command = <Cli as clap::CommandFactory>::command();
        let api = command.find_subcommand("api").expect("api");
        let mut only_typed = Vec::new();
        for arg in api.get_arguments() {
            let name = arg.get_long().expect("all of them have a long name");
            // No option takes a date, so that a known key complains of it.
            let error = read(&format!("{name} = 2026-11-30")).expect_err(name);
            if error.contains("command line only") {
                only_typed.push(name);
            } else {
                assert!(error.contains("a date, expected"), "{error}");
            }
        }
        only_typed.sort_unstable();
        assert_eq!(only_typed, ["config", "foreground"]);
    }
}
