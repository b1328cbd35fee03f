//! Which model, and where it runs: arguments that several commands share.

use std::path::PathBuf;

use gptoss_cpu::Activations;
use gptoss_finder::{DEMO_NAME, demo_file};
use gptoss_protocol::options::Settings;
use gptoss_protocol::{DeviceOptions, LoadOptions, OptionId};

use crate::backend::{BackendChoice, LoadRequest};
use crate::catalogue;
use crate::environment::Environment;
use crate::error::CliError;
use crate::option_args::{Group, OptionArgs};
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
    #[command(flatten)]
    pub cpu: OptionArgs<CpuGroup>,
}

/// The options of the CPU backend.
#[derive(Clone, Debug)]
pub struct CpuGroup;

impl Group for CpuGroup {
    const OPTIONS: &'static [OptionId] = &[OptionId::Threads];
}

impl ModelArgs {
    /// The model file: from `--gguf`, `--model`, or the environment.
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

    /// What to load, with the environment's defaults; `load` has what the command adds.
    ///
    /// # Errors
    /// As [`ModelArgs::path`].
    pub fn request(&self, environment: &Environment, load: LoadOptions) -> Result<LoadRequest, CliError> {
        self.request_for(self.path(environment)?, environment, load)
    }

    /// Like [`ModelArgs::request`], but falls back to the demo model if nothing says which, and says so on standard
    /// error.
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
        self.request_for(path, environment, load)
    }

    fn request_for(
        &self,
        path: PathBuf,
        environment: &Environment,
        load: LoadOptions,
    ) -> Result<LoadRequest, CliError> {
        let mut settings = Settings::pylon();
        self.cpu.apply(&mut settings)?;
        Ok(LoadRequest {
            path,
            backend: self.backend,
            load,
            gpu: DeviceOptions::default(),
            threads: settings.threads.map(|threads| threads as usize).or(environment.threads),
            activations: Activations::Int8,
            isa: None,
            all_logits: false,
            tokenizer: false,
            sequences: 1,
        })
    }
}

/// Precision of activations in products with quantised weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ActivationsArg {
    #[default]
    F32,
    Int8,
}

impl ActivationsArg {
    /// Applies the precision to `request`. Only the CPU backend has 8-bit activations, so asking for them selects it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_environment() {
        let environment = Environment { path: Some("env.gguf".into()), ..Environment::default() };
        let flag = ModelArgs { gguf: Some("flag.gguf".into()), ..ModelArgs::default() };
        assert_eq!(flag.path(&environment).expect("given"), PathBuf::from("flag.gguf"));
        assert_eq!(ModelArgs::default().path(&environment).expect("given"), PathBuf::from("env.gguf"));
        let error = ModelArgs::default().path(&Environment::default()).expect_err("nothing says which");
        assert!(error.to_string().contains("--gguf") && error.to_string().contains("GPT_OSS_GGUF_PATH"), "{error}");
    }

    #[derive(Clone, Debug)]
    struct Limits;

    impl Group for Limits {
        const OPTIONS: &'static [OptionId] = &[OptionId::MaxKvTokens, OptionId::Layers];
    }

    #[test]
    fn an_option_wins_over_the_environment() {
        let environment = Environment { max_kv: Some(7), layers: Some(2), ..Environment::default() };
        let mut settings = environment.settings();
        assert_eq!((settings.load.engine.max_kv_tokens, settings.load.engine.layers), (Some(7), Some(2)));
        let flags = OptionArgs::<Limits>::of(&[(OptionId::MaxKvTokens, "9"), (OptionId::Layers, "all")]);
        flags.apply(&mut settings).expect("good");
        assert_eq!((settings.load.engine.max_kv_tokens, settings.load.engine.layers), (Some(9), None));
    }
}
