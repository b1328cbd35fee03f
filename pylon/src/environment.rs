//! The `GPT_OSS_GGUF_*` variables: defaults for flags. A flag that is given wins.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use gptoss_protocol::PromptFormat;
use gptoss_protocol::options::Settings;

use crate::date;
use crate::error::CliError;

/// Help about the variables, for commands with all of these flags.
pub const HELP: &str = "\
Environment (flags win):
  GPT_OSS_GGUF_PATH            --gguf
  GPT_OSS_GGUF_MODEL_ID        --model; beside GPT_OSS_GGUF_PATH: the id of that file
  GPT_OSS_GGUF_MAX_KV          --max-kv
  GPT_OSS_GGUF_CONTEXT_LENGTH  --max-kv, where GPT_OSS_GGUF_MAX_KV is not set
  GPT_OSS_GGUF_MAX_TOKENS      --max-tokens
  GPT_OSS_GGUF_LAYER_LIMIT     --layers
  GPT_OSS_GGUF_THREADS         --threads
  GPT_OSS_GGUF_HARMONY         0 is --no-harmony
  GPT_OSS_GGUF_MOE_FALLBACK    1 is --moe-fallback";

/// The variables, each with the long name of the flag that it stands for.
const FLAGS: [(&str, &str); 9] = [
    ("gguf", "GPT_OSS_GGUF_PATH"),
    ("model", "GPT_OSS_GGUF_MODEL_ID"),
    ("max-kv", "GPT_OSS_GGUF_MAX_KV"),
    ("max-kv", "GPT_OSS_GGUF_CONTEXT_LENGTH"),
    ("max-tokens", "GPT_OSS_GGUF_MAX_TOKENS"),
    ("layers", "GPT_OSS_GGUF_LAYER_LIMIT"),
    ("threads", "GPT_OSS_GGUF_THREADS"),
    ("no-harmony", "GPT_OSS_GGUF_HARMONY"),
    ("moe-fallback", "GPT_OSS_GGUF_MOE_FALLBACK"),
];

/// Help about the variables of a command that has these flags alone.
pub fn help_of(flags: &[&str]) -> String {
    let is_about = |line: &str| FLAGS.iter().all(|(flag, variable)| !has_name(line, variable) || flags.contains(flag));
    HELP.lines().filter(|line| is_about(line)).collect::<Vec<_>>().join("\n")
}

/// Whether a line of the help is about this variable.
fn has_name(line: &str, variable: &str) -> bool {
    line.split_whitespace().next() == Some(variable)
}

/// The variables of this process that stand for none of these flags.
pub fn without_effect(flags: &[&str]) -> Vec<&'static str> {
    let others = FLAGS.iter().filter(|(flag, _)| !flags.contains(flag));
    others.map(|(_, variable)| *variable).filter(|variable| is_given(variable)).collect()
}

fn is_given(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Whether a variable of this process stands for a flag. Then it wins over a configuration file.
pub fn is_set(flag: &str) -> bool {
    FLAGS.iter().any(|(name, variable)| *name == flag && is_given(variable))
}

/// Values of the variables. An empty one counts as not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    pub path: Option<PathBuf>,
    pub model_id: Option<String>,
    /// Capacity of the KV cache in tokens: the first of `MAX_KV` and `CONTEXT_LENGTH` that is set.
    pub max_kv: Option<u32>,
    pub max_tokens: Option<u32>,
    pub layers: Option<u32>,
    pub moe_fallback: Option<bool>,
    pub harmony: Option<bool>,
    pub threads: Option<usize>,
}

impl Environment {
    /// Reads the variables of this process.
    ///
    /// # Errors
    /// [`CliError::Argument`] naming the variable whose value cannot be used.
    pub fn read() -> Result<Self, CliError> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, CliError> {
        let variables = Variables { lookup };
        let max_kv = variables.parsed("GPT_OSS_GGUF_MAX_KV", "a number of tokens")?;
        let context_length = variables.parsed("GPT_OSS_GGUF_CONTEXT_LENGTH", "a number of tokens")?;
        Ok(Self {
            path: variables.get("GPT_OSS_GGUF_PATH").map(PathBuf::from),
            model_id: variables.parsed("GPT_OSS_GGUF_MODEL_ID", "a name in UTF-8")?,
            max_kv: max_kv.or(context_length),
            max_tokens: variables.parsed("GPT_OSS_GGUF_MAX_TOKENS", "a number of tokens")?,
            layers: variables.parsed("GPT_OSS_GGUF_LAYER_LIMIT", "a number of layers")?,
            moe_fallback: variables.switch("GPT_OSS_GGUF_MOE_FALLBACK")?,
            harmony: variables.switch("GPT_OSS_GGUF_HARMONY")?,
            threads: variables.parsed("GPT_OSS_GGUF_THREADS", "a number of threads")?,
        })
    }

    /// Pylon's settings if no flag says otherwise.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings { today: date::today(), ..Settings::pylon() };
        settings.load.engine.layers = self.layers;
        settings.load.engine.max_kv_tokens = self.max_kv;
        if let Some(tokens) = self.max_tokens {
            settings.prompt.max_new_tokens = tokens;
        }
        if self.harmony == Some(false) {
            settings.prompt.format = PromptFormat::Text;
        }
        settings
    }
}

struct Variables<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    fn get(&self, name: &str) -> Option<OsString> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, CliError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let parsed = value.to_str().and_then(|text| text.trim().parse().ok());
        parsed.map(Some).ok_or_else(|| wrong(name, &value, expected))
    }

    fn switch(&self, name: &str) -> Result<Option<bool>, CliError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.to_string_lossy().trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(Some(true)),
            "0" | "false" | "no" | "off" => Ok(Some(false)),
            _ => Err(wrong(name, &value, "1, true, yes, on, 0, false, no or off")),
        }
    }
}

fn wrong(name: &str, value: &OsString, expected: &str) -> CliError {
    CliError::Argument {
        what: format!("the environment variable {name}"),
        got: format!("{:?}", value.to_string_lossy()),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Result<Environment, String> {
        Environment::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn every_variable_arrives_where_it_belongs() {
        let all = environment(&[
            ("GPT_OSS_GGUF_PATH", "m/a.gguf"),
            ("GPT_OSS_GGUF_MODEL_ID", "a"),
            ("GPT_OSS_GGUF_CONTEXT_LENGTH", "4096"),
            ("GPT_OSS_GGUF_MAX_TOKENS", "9"),
            ("GPT_OSS_GGUF_LAYER_LIMIT", "0"),
            ("GPT_OSS_GGUF_MOE_FALLBACK", "off"),
            ("GPT_OSS_GGUF_HARMONY", "0"),
            ("GPT_OSS_GGUF_THREADS", "3"),
        ]);
        let expected = Environment {
            path: Some("m/a.gguf".into()),
            model_id: Some("a".into()),
            max_kv: Some(4096),
            max_tokens: Some(9),
            layers: Some(0),
            moe_fallback: Some(false),
            harmony: Some(false),
            threads: Some(3),
        };
        assert_eq!(all, Ok(expected));
        let both = environment(&[("GPT_OSS_GGUF_CONTEXT_LENGTH", "4096"), ("GPT_OSS_GGUF_MAX_KV", "100")]);
        assert_eq!(both.map(|environment| environment.max_kv), Ok(Some(100)), "the cache's own variable wins");
        assert_eq!(environment(&[("GPT_OSS_GGUF_MAX_KV", "")]), Ok(Environment::default()), "empty is not set");
    }

    /// The same table three times: what is read, what the help says, what a configuration file gives way to.
    #[test]
    fn every_variable_stands_for_a_flag() {
        let read = std::cell::RefCell::new(Vec::new());
        Environment::from_lookup(|name| {
            read.borrow_mut().push(name.to_owned());
            None
        })
        .expect("nothing is set");
        let mut read = read.into_inner();
        read.sort();
        let mut listed: Vec<_> = FLAGS.iter().map(|(_, variable)| (*variable).to_owned()).collect();
        listed.sort();
        assert_eq!(read, listed);
        for (flag, variable) in FLAGS {
            let line = HELP.lines().find(|line| line.trim_start().starts_with(variable)).expect(variable);
            assert!(line.contains(&format!("--{flag}")), "{line}");
        }
    }

    #[test]
    fn the_help_of_a_command_has_its_own_variables() {
        let help = help_of(&["gguf", "threads"]);
        let variables: Vec<&str> = help.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(variables, ["GPT_OSS_GGUF_PATH", "GPT_OSS_GGUF_THREADS"]);
        assert_eq!(help_of(&FLAGS.map(|(flag, _)| flag)), HELP);
    }

    #[test]
    fn values_that_cannot_be_used_are_named() {
        for (name, value) in [
            ("GPT_OSS_GGUF_MAX_KV", "many"),
            ("GPT_OSS_GGUF_CONTEXT_LENGTH", "-1"),
            ("GPT_OSS_GGUF_HARMONY", "maybe"),
            ("GPT_OSS_GGUF_THREADS", "1.5"),
        ] {
            let message = environment(&[(name, value)]).expect_err("refused");
            assert!(message.contains(name) && message.contains(value), "{message}");
        }
    }
}
