//! `pylon logits`: everything a model thinks of a sequence of tokens, for comparing engines.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gptoss_model::Backend;
use gptoss_protocol::{LoadOptions, OptionId};

use crate::backend::{self, LoadRequest};
use crate::environment::{self, Environment};
use crate::error::CliError;
use crate::exit;
use crate::host::ConsoleHost;
use crate::interrupt::Interrupts;
use crate::model_args::{ActivationsArg, ModelArgs};
use crate::npy;
use crate::option_args::{Group, OptionArgs};
use crate::output::note;
use crate::part_file::{cannot, part_path};
use crate::text_input::read_text;

/// Write the logits of every position to a file
///
/// The file is an F32 NPY of [positions, vocabulary]: row i is what the model expects after token i. Without further
/// flags the settings are those for parity: F32 activations and F32 KV cache.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids separated by white space; - reads standard input
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// The NPY file to write
    #[arg(long, value_name = "FILE.npy")]
    out: PathBuf,
    #[command(flatten)]
    options: OptionArgs<LogitsGroup>,
    /// Precision of activations in products with quantised weights; int8 is the CPU backend's fast path
    #[arg(long, value_enum, default_value_t)]
    activations: ActivationsArg,
}

/// The options that change logits.
#[derive(Clone, Debug)]
struct LogitsGroup;

impl Group for LogitsGroup {
    const OPTIONS: &'static [OptionId] = &[OptionId::KvFormat, OptionId::Yarn, OptionId::Layers, OptionId::Tier];

    fn default_words(option: OptionId) -> &'static str {
        match option {
            // Engines are compared with this format.
            OptionId::KvFormat => "f32",
            other => other.row().default.pylon,
        }
    }
}

/// Runs `pylon logits`.
///
/// # Errors
/// The tokens or the model cannot be used, or the file cannot be written.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let environment = Environment::read()?;
    let tokens = read_tokens(&args.tokens)?;
    let request = request(&args, &environment, tokens.len())?;
    // It is found out before anything is computed whether the file can be written; what is there stays until there is
    // something to replace it with. A device or a pipe is written directly.
    let is_file = fs::metadata(&args.out).map_or(true, |metadata| metadata.is_file());
    let target = if is_file { part_path(&args.out) } else { args.out.clone() };
    let file = File::create(&target).map_err(cannot("write", &target))?;
    let written = compute(&request, &tokens).and_then(|(logits, columns)| {
        npy::write_f32(&mut BufWriter::new(file), &logits, columns).map_err(cannot("write", &target))?;
        if is_file {
            fs::rename(&target, &args.out).map_err(cannot("write", &args.out))?;
        }
        note(format_args!("pylon: wrote {} × {columns} logits to {}", tokens.len(), args.out.display()));
        Ok(exit::SUCCESS)
    });
    if written.is_err() && is_file {
        // The error that counts is the one before.
        drop(fs::remove_file(&target));
    }
    written
}

/// The logits, and their number in each row.
fn compute(request: &LoadRequest, tokens: &[u32]) -> Result<(Vec<f32>, usize), CliError> {
    let interrupts = Interrupts::catch();
    let host = ConsoleHost::text(None, &interrupts);
    let result = pollster::block_on(async {
        let mut opened = backend::open(request, &host).await?;
        opened.announce(request);
        let logits = opened.model.logits(tokens).await?;
        Ok((logits, opened.model.config().vocabulary as usize))
    });
    host.finish()?;
    result
}

fn request(args: &Args, environment: &Environment, tokens: usize) -> Result<LoadRequest, CliError> {
    let mut settings = environment.settings();
    settings.load.engine.kv_f32 = true;
    args.options.apply(&mut settings)?;
    // Engines take at least two.
    let max_kv_tokens = Some(u32::try_from(tokens.max(2)).unwrap_or(u32::MAX));
    let load = LoadOptions { max_kv_tokens, ..settings.load.engine };
    let request = LoadRequest { all_logits: true, gpu: settings.load.gpu, ..args.model.request(environment, load)? };
    args.activations.apply(request)
}

fn read_tokens(path: &Path) -> Result<Vec<u32>, CliError> {
    let text = if path == Path::new("-") {
        read_text(io::stdin()).map_err(cannot("read", Path::new("standard input")))?
    } else {
        File::open(path).and_then(read_text).map_err(cannot("read", path))?
    };
    let ids: Result<Vec<u32>, _> = text
        .split_whitespace()
        .enumerate()
        .map(|(index, word)| word.parse().map_err(|_reason| (index, word)))
        .collect();
    let refuse = |got: String| CliError::Argument {
        what: format!("the list of tokens in {}", path.display()),
        got,
        expected: "token ids, numbers separated by white space".into(),
    };
    match ids {
        Ok(ids) if ids.is_empty() => Err(refuse("empty".into())),
        Ok(ids) => Ok(ids),
        Err((index, word)) => Err(refuse(format!("{word:?} at place {}", index + 1))),
    }
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", environment::HELP)
}

const EXAMPLES: &str = "\
Exit status: 0 written, 1 failed, 2 could not run (arguments, file, GPU), 130 stopped by Ctrl-C

Example:
  echo 1275 272 1277 | pylon logits --gguf models/nano/gpt-oss-nano.gguf --tokens - --out logits.npy";
