//! Which models are served, and what they are called.

use std::path::{Path, PathBuf};

use gptoss_api::ModelCard;
use gptoss_protocol::LoadOptions;

use crate::backend::{BackendChoice, LoadRequest};
use crate::environment::Environment;
use crate::error::CliError;
use crate::model_args::{CpuGroup, ModelArgs};
use crate::option_args::OptionArgs;

/// The models, and where they run.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ModelsArgs {
    /// GGUF file of a model; the bundled demo model if nothing says which. Repeated, several models are served, each with an engine
    /// of its own: options of the model, its memory and its sequences are of each of them
    #[arg(long, value_name = "P")]
    gguf: Vec<PathBuf>,
    /// Instead of a path: the id of a model that `pylon doctor` finds; may be repeated
    #[arg(long, value_name = "ID", conflicts_with = "gguf")]
    model: Vec<String>,
    /// Where to compute; auto takes the GPU if there is a real one that the model fits, else the CPU
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    #[command(flatten)]
    cpu: OptionArgs<CpuGroup>,
    /// Another name of the model, beside its id; of several models NAME=ID gives it to the one with that id; may be repeated
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
}

/// A model that is to be served.
pub struct Chosen {
    /// What it is called in `/v1/models`.
    pub id: String,
    /// Names that the user gave it.
    pub aliases: Vec<String>,
    pub request: LoadRequest,
}

/// What a header tells of a model that is called by its shape.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    pub architecture: &'a str,
    pub layers: u32,
    pub experts: u32,
}

impl ModelsArgs {
    /// What to load, and what to call it; `load` has what the command adds.
    ///
    /// # Errors
    /// There is no model of an id that is given, an alias is nobody's, two models have a name in common, or the demo model
    /// cannot be put anywhere.
    pub fn choose(&self, environment: &Environment, load: &LoadOptions) -> Result<Vec<Chosen>, CliError> {
        let chosen = self.each().into_iter().map(|one| {
            let request = one.request_or_demo(environment, load.clone())?;
            Ok(Chosen { id: id_of(&one, environment, &request.path), aliases: Vec::new(), request })
        });
        let mut chosen = chosen.collect::<Result<Vec<_>, CliError>>()?;
        for alias in &self.alias {
            give(alias, &mut chosen)?;
        }
        require_different_names(&chosen)?;
        Ok(chosen)
    }

    /// The arguments of each model as if it were the only one.
    fn each(&self) -> Vec<ModelArgs> {
        let one = |gguf, model| ModelArgs { gguf, model, backend: self.backend, cpu: self.cpu.clone() };
        let files = self.gguf.iter().map(|path| one(Some(path.clone()), None));
        let each: Vec<_> = files.chain(self.model.iter().map(|id| one(None, Some(id.clone())))).collect();
        if each.is_empty() { vec![one(None, None)] } else { each }
    }
}

impl Chosen {
    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.id).chain(&self.aliases)
    }

    fn is_called(&self, name: &str) -> bool {
        self.names().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Gives a name to the model that it is for.
fn give(alias: &str, chosen: &mut [Chosen]) -> Result<(), CliError> {
    let ids: Vec<String> = chosen.iter().map(|one| one.id.clone()).collect();
    let refused = |expected: &str| {
        let expected = format!("{expected}; the ids are {}", ids.join(", "));
        CliError::Argument { what: "--alias".into(), got: format!("{alias:?}"), expected }
    };
    let named = match (alias.split_once('='), &mut *chosen) {
        (None, [only]) => Some((alias, only)),
        (None, _) => return Err(refused("NAME=ID, which says whose name it is, since there are several models")),
        (Some((name, id)), all) => all.iter_mut().find(|one| one.id.eq_ignore_ascii_case(id)).map(|one| (name, one)),
    };
    match named {
        Some((name, one)) if !name.is_empty() => one.aliases.push(name.to_owned()),
        _ => return Err(refused("NAME or NAME=ID, with the id of a model that is served")),
    }
    Ok(())
}

/// Requests choose by name: no two models may have one in common.
fn require_different_names(chosen: &[Chosen]) -> Result<(), CliError> {
    for (at, one) in chosen.iter().enumerate() {
        for other in &chosen[..at] {
            if let Some(name) = one.names().find(|name| other.is_called(name)) {
                let [first, second] = [other, one].map(|one| one.request.path.display());
                return Err(CliError::Argument {
                    what: "the name of two models".into(),
                    got: format!("{name:?}, that of {first} and of {second}"),
                    expected: "another id or alias for each: the id is the file's name without its ending".into(),
                });
            }
        }
    }
    Ok(())
}

/// What a model is called: as the environment or `--model` does, or the file's name without its ending.
fn id_of(one: &ModelArgs, environment: &Environment, path: &Path) -> String {
    let named = one.model.clone().or_else(|| environment.model_id.clone().filter(|_| one.gguf.is_none()));
    named.unwrap_or_else(|| path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned())
}

/// The models as clients know them, from what is known of their headers and the tokens that their sequences have room for. One that
/// is alone in having the shape of a published model is called like that, too.
pub fn cards(chosen: Vec<Chosen>, known: &[(Shape<'_>, u32)]) -> Vec<ModelCard> {
    let usual: Vec<&[&str]> = known.iter().map(|(shape, _)| shape.usual_names()).collect();
    let is_free = |at: usize, name: &str| {
        let others = || (0..chosen.len()).filter(move |other| *other != at);
        others().all(|other| !usual[other].contains(&name) && !chosen[other].is_called(name))
    };
    let is_usual = |at: &usize| usual[*at].iter().all(|name| is_free(*at, name));
    let own: Vec<&[&str]> = (0..chosen.len()).map(|at| if is_usual(&at) { usual[at] } else { &[] }).collect();
    let card = |((one, usual), (_, context_tokens)): ((Chosen, &[&str]), &(Shape<'_>, u32))| {
        let usual = usual.iter().filter(|name| !one.is_called(name)).map(|name| (*name).to_owned());
        let usual: Vec<String> = usual.collect();
        let aliases = one.aliases.into_iter().chain(usual).collect();
        ModelCard { id: one.id, aliases, context_tokens: *context_tokens }
    };
    chosen.into_iter().zip(own).zip(known).map(card).collect()
}

impl Shape<'_> {
    /// The names of the published model of this shape, if there is one: the short one, and the one on the hub.
    fn usual_names(self) -> &'static [&'static str] {
        match (self.architecture, self.layers, self.experts) {
            ("gpt-oss", 24, 32) => &["gpt-oss-20b", "openai/gpt-oss-20b"],
            ("gpt-oss", 36, 128) => &["gpt-oss-120b", "openai/gpt-oss-120b"],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(paths: &[&str], aliases: &[&str]) -> Result<Vec<Chosen>, String> {
        let args = ModelsArgs {
            gguf: paths.iter().map(PathBuf::from).collect(),
            alias: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ..ModelsArgs::default()
        };
        args.choose(&Environment::default(), &LoadOptions::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_given_to_one_model_each() {
        let all = chosen(&["x/a.gguf", "x/b.gguf"], &["fast=A", "slow=b", "slower=b"]).expect("they differ");
        let names: Vec<_> = all.iter().map(|one| (one.id.as_str(), one.aliases.clone())).collect();
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(names, [("a", texts(&["fast"])), ("b", texts(&["slow", "slower"]))]);
        let one = chosen(&["a.gguf"], &["default", "m=a"]).expect("it is its own");
        assert_eq!(one[0].aliases, ["default", "m"]);
        for (paths, aliases, words) in [
            (&["a.gguf", "b.gguf"][..], &["fast"][..], &["--alias", "\"fast\"", "NAME=ID", "a, b"][..]),
            (&["a.gguf", "b.gguf"], &["fast=c"], &["--alias", "\"fast=c\"", "a, b"]),
            (&["a.gguf"], &["=a"], &["--alias", "\"=a\""]),
            (&["x/a.gguf", "y/A.gguf"], &[], &["\"A\"", "x/a.gguf", "y/A.gguf"]),
            (&["a.gguf", "b.gguf"], &["B=a"], &["\"b\"", "a.gguf", "b.gguf"]),
            (&["a.gguf", "b.gguf"], &["m=a", "M=b"], &["\"M\"", "a.gguf", "b.gguf"]),
        ] {
            let error = chosen(paths, aliases).err().expect("it is refused");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn a_shape_names_the_only_model_that_has_it() {
        let shape = |layers, experts| Shape { architecture: "gpt-oss", layers, experts };
        let (small, large, other) = (shape(24, 32), shape(36, 128), shape(2, 4));
        let aliases = |paths: &[&str], shapes: &[Shape<'static>]| {
            let known: Vec<_> = shapes.iter().map(|shape| (*shape, 9)).collect();
            let cards = cards(chosen(paths, &[]).expect("they differ"), &known);
            cards.into_iter().map(|card| card.aliases.join(" ")).collect::<Vec<_>>()
        };
        let expected = ["gpt-oss-20b openai/gpt-oss-20b", "", "gpt-oss-120b openai/gpt-oss-120b"];
        assert_eq!(aliases(&["a", "b", "c"], &[small, other, large]), expected);
        assert_eq!(aliases(&["a", "b"], &[small, small]), ["", ""], "neither is meant more than the other");
        assert_eq!(aliases(&["a", "GPT-OSS-20B"], &[small, other]), ["", ""], "another has the name");
    }
}
