//! What is run, and why.

use std::path::Path;

use anyhow::{Context, Result};

use super::Arguments;
use super::results::Results;

const AS_NEEDED: &str = "experts as needed";

/// A part of the hour: each takes minutes, and can be run by itself once the model is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Make the model.
    Model,
    /// What the machine and its adapters are, and whether kernels and layers compute what the scalar reference does.
    Check,
    /// Prompts of 512 and 1024 tokens and what comes after: rates, share of the copy bandwidth, time of each operation.
    Bench,
    /// The same after a prompt of 8192 tokens.
    Long,
    /// The lowest tier of kernels, for comparison.
    Baseline,
    /// Half of the experts on the GPU: what a miss costs.
    Paged,
}

impl Part {
    pub const ALL: [Self; 6] = [Self::Model, Self::Check, Self::Bench, Self::Long, Self::Baseline, Self::Paged];
}

/// One command of a part.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Under which its results are kept.
    pub name: &'static str,
    pub program: &'static str,
    arguments: Vec<Word>,
    /// A program that finds something to say is none that failed.
    pub only_tells: bool,
}

/// An argument.
#[derive(Clone, Debug)]
enum Word {
    Text(String),
    /// Half of the bytes that experts take, as the command of this name reported them.
    HalfOfTheExperts(&'static str),
}

impl Planned {
    /// What to run, with what was found out before.
    pub fn arguments(&self, results: &Results) -> Result<Vec<String>> {
        let word = |word: &Word| match word {
            Word::Text(text) => Ok(text.clone()),
            Word::HalfOfTheExperts(of) => {
                let bytes = results.printed(of).and_then(|report| report["experts"]["slots_bytes"].as_u64());
                let bytes = bytes
                    .with_context(|| format!("\"{}\" needs what \"{of}\" reports, which did not succeed", self.name))?;
                Ok((bytes / 2).to_string())
            }
        };
        self.arguments.iter().map(word).collect()
    }
}

/// The commands of some parts, in order.
pub fn of(parts: &[Part], out: &Path, arguments: &Arguments) -> Vec<Planned> {
    let model = out.join("model.gguf").display().to_string();
    parts.iter().flat_map(|part| of_part(*part, &model, arguments)).collect()
}

fn of_part(part: Part, model: &str, arguments: &Arguments) -> Vec<Planned> {
    let words = |words: &[&str]| words.iter().map(|word| Word::Text((*word).to_owned())).collect::<Vec<_>>();
    let pylon = |name, texts: &[&str]| Planned { name, program: "pylon", arguments: words(texts), only_tells: false };
    let gate = |name, gate, more: &[&str]| pylon(name, &[&["gate", gate, model, "--json"], more].concat());
    let bench = |name, prompt_tokens: u32, more: &[&str]| {
        let prompt_tokens = prompt_tokens.min(arguments.longest).to_string();
        let texts = ["bench", "--json", "--gguf", model, "--backend", "gpu", "--prompt-tokens", &prompt_tokens];
        pylon(name, &[&texts, more].concat())
    };
    match part {
        Part::Model => {
            let mut texts = vec!["--shape", &arguments.shape, "--out", model];
            let layers = arguments.layers.map(|layers| layers.to_string());
            if let Some(layers) = &layers {
                texts.extend(["--layers", layers]);
            }
            vec![Planned { name: "model", program: "gptoss-synth", arguments: words(&texts), only_tells: false }]
        }
        Part::Check => vec![
            Planned { only_tells: true, ..pylon("doctor", &["doctor", "--json"]) },
            gate("gate c, output matrix", "c", &[]),
            gate("gate c, experts", "c", &["--tensor", "blk.0.ffn_gate_exps.weight"]),
            gate("gate d, two layers", "d", &["--layers", "2"]),
            gate("gate e", "e", &[]),
        ],
        Part::Bench => vec![bench("short prompt", 512, &[]), bench("medium prompt", 1024, &[])],
        Part::Long => vec![bench("long prompt", 8192, &["--repeat", "1"])],
        Part::Baseline => vec![bench("short prompt, baseline", 512, &["--tier", "baseline"])],
        Part::Paged => {
            let mut half = bench("half of the experts", 512, &["--repeat", "1", "--expert-memory"]);
            half.arguments.push(Word::HalfOfTheExperts(AS_NEEDED));
            vec![bench(AS_NEEDED, 512, &["--repeat", "1", "--experts", "needed"]), half]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every part is in `ALL`, and no two commands keep their results under one name.
    #[test]
    fn names_tell_commands_apart() {
        use clap::{Parser, ValueEnum};
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        assert_eq!(Part::value_variants(), Part::ALL);
        let Line { arguments } = Line::parse_from(["gpu-hour", "--layers", "2"]);
        let names: Vec<_> = of(&Part::ALL, Path::new("out"), &arguments).iter().map(|planned| planned.name).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }
}
