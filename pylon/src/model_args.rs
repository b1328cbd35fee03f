//! Which model, where it runs, and how much of it: arguments that several commands share.

use std::path::PathBuf;

use gptoss_cpu::Activations;
use gptoss_engine::EngineError;
use gptoss_finder::{DEMO_NAME, demo_file};
use gptoss_telemetry::{LoadOptions, units};

use crate::backend::{BackendChoice, LoadRequest};
use crate::catalogue;
use crate::environment::Environment;
use crate::error::CliError;
use crate::output::note;

/// The model and where it runs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ModelArgs {
    /// GGUF file of the model; infer and bench take the bundled demo model if nothing says which
    #[arg(long, value_name = "P")]
    pub gguf: Option<PathBuf>,
    /// Instead of a path: the id of a model that `pylon doctor` finds
    #[arg(long, value_name = "ID", conflicts_with = "gguf")]
    pub model: Option<String>,
    /// Where to compute; auto takes the GPU if there is a real one that the model fits, else the CPU
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    /// Threads of the CPU backend; as many as the machine has unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

impl ModelArgs {
    /// The file that is meant: by `--gguf`, `--model`, or the environment.
    ///
    /// # Errors
    /// Nothing says which, or there is no model of that id.
    pub fn path(&self, environment: &Environment) -> Result<PathBuf, CliError> {
        match (&self.gguf, &self.model, &environment.path, &environment.model_id) {
            (Some(path), ..) | (None, None, Some(path), _) => Ok(path.clone()),
            (None, Some(id), ..) | (None, None, None, Some(id)) => {
                catalogue::find(id, environment).ok_or_else(|| CliError::Argument {
                    what: "the model id".into(),
                    got: format!("{id:?}"),
                    expected: "one of those that `pylon doctor` lists".into(),
                })
            }
            (None, None, None, None) => Err(CliError::Argument {
                what: "--gguf".into(),
                got: "missing".into(),
                expected: "the path of a GGUF file, here or in GPT_OSS_GGUF_PATH".into(),
            }),
        }
    }

    /// What to load, with the environment's defaults; `load` is what the command adds.
    ///
    /// # Errors
    /// As [`ModelArgs::path`].
    pub fn request(&self, environment: &Environment, load: LoadOptions) -> Result<LoadRequest, CliError> {
        Ok(self.request_for(self.path(environment)?, environment, load))
    }

    /// As [`ModelArgs::request`], but where nothing says which model, it is the demo model, and standard error says so.
    ///
    /// # Errors
    /// There is no model of the id that is given, or the demo model cannot be put anywhere.
    pub fn request_or_demo(&self, environment: &Environment, load: LoadOptions) -> Result<LoadRequest, CliError> {
        let is_given = self.gguf.is_some() || self.model.is_some();
        if is_given || environment.path.is_some() || environment.model_id.is_some() {
            return self.request(environment, load);
        }
        note(format_args!(
            "pylon: no model was given (--gguf, --model or GPT_OSS_GGUF_PATH): taking the bundled demo model {DEMO_NAME}; `pylon \
             doctor` lists the models on this machine"
        ));
        let failed = |source| CliError::File { path: DEMO_NAME.into(), action: "unpack", source };
        let path = demo_file(|name| std::env::var_os(name).map(PathBuf::from)).map_err(failed)?;
        Ok(self.request_for(path, environment, load))
    }

    fn request_for(&self, path: PathBuf, environment: &Environment, load: LoadOptions) -> LoadRequest {
        LoadRequest {
            path,
            backend: self.backend,
            load,
            threads: self.threads.map(|threads| threads as usize).or(environment.threads),
            activations: Activations::Int8,
            all_logits: false,
            tokenizer: false,
        }
    }
}

/// Precision of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kv {
    #[default]
    F32,
    F16,
}

/// Precision of activations in products with quantised weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ActivationsArg {
    #[default]
    F32,
    Int8,
}

impl ActivationsArg {
    /// What this means for `request`: bytes are the CPU backend's, which they therefore choose.
    ///
    /// # Errors
    /// They are asked of the GPU.
    pub fn apply(self, request: LoadRequest) -> Result<LoadRequest, CliError> {
        match (self, request.backend) {
            (Self::F32, _) => Ok(LoadRequest { activations: Activations::F32, ..request }),
            (Self::Int8, BackendChoice::Gpu) => Err(CliError::Argument {
                what: "--activations".into(),
                got: "int8".into(),
                expected: "f32 on the GPU; 8-bit activations are of the CPU backend".into(),
            }),
            (Self::Int8, BackendChoice::Auto | BackendChoice::Cpu) => {
                Ok(LoadRequest { activations: Activations::Int8, backend: BackendChoice::Cpu, ..request })
            }
        }
    }
}

/// How much of the model runs, and how much it remembers.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LimitArgs {
    /// Run only the first N layers, for experiments: the output is not the model's
    #[arg(long, value_name = "N")]
    pub layers: Option<u32>,
    /// Tokens that the KV cache holds [default: 8192, or the model's context where that is less]
    #[arg(long, value_name = "N")]
    pub max_kv: Option<u32>,
    /// GPU memory for experts, such as 4GiB; less than all of them means that they are paged. The CPU backend reads them
    /// from the file and has no use for it
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub expert_memory: Option<u64>,
    /// GPU memory for everything, such as 8GiB: experts are paged and the default context is shortened until it suffices. The
    /// CPU backend has no use for it
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub gpu_memory: Option<u64>,
}

impl LimitArgs {
    /// As load options, with the environment's defaults.
    pub fn load_options(&self, environment: &Environment) -> LoadOptions {
        LoadOptions {
            layers: self.layers.or(environment.layers),
            max_kv_tokens: self.max_kv.or(environment.max_kv),
            expert_memory_bytes: self.expert_memory,
            gpu_memory_bytes: self.gpu_memory,
            ..LoadOptions::default()
        }
    }
}

/// An error of the engine in the words of the command line: options become flags.
pub fn in_flags(error: EngineError) -> CliError {
    match error {
        EngineError::Option { what, expected, got } => {
            let flag = if what.contains(' ') { what.to_owned() } else { format!("--{}", what.replace('_', "-")) };
            CliError::Argument { what: flag, got, expected: expected.into() }
        }
        other => other.into(),
    }
}

/// In the words of the other arguments' errors.
fn parse_bytes(text: &str) -> Result<u64, String> {
    units::parse_bytes(text).map_err(|expected| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_environment() {
        let environment = Environment { path: Some("env.gguf".into()), max_kv: Some(7), ..Environment::default() };
        let flag = ModelArgs { gguf: Some("flag.gguf".into()), ..ModelArgs::default() };
        assert_eq!(flag.path(&environment).expect("given"), PathBuf::from("flag.gguf"));
        assert_eq!(ModelArgs::default().path(&environment).expect("given"), PathBuf::from("env.gguf"));
        let error = ModelArgs::default().path(&Environment::default()).expect_err("nothing says which");
        assert!(error.to_string().contains("--gguf") && error.to_string().contains("GPT_OSS_GGUF_PATH"), "{error}");
        let limits = LimitArgs { max_kv: Some(9), ..LimitArgs::default() };
        assert_eq!(limits.load_options(&environment).max_kv_tokens, Some(9));
        assert_eq!(LimitArgs::default().load_options(&environment).max_kv_tokens, Some(7));
    }
}
