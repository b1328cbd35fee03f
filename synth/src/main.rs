//! `cargo xtask synth`: writes a synthetic model from the command line.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use gptoss_protocol::units;
use gptoss_synth::{
    GOLDEN_20B_DATA_OFFSET, Model, Publisher, SUPPORTED_TYPES, Spec, SynthError, TensorType, TypeMix, Vocabulary,
    parse_type, part_name,
};

const EXAMPLES: &str = "\
Examples:
  cargo xtask synth --shape 20b --layers 2 --out 20b-2layers.gguf
  cargo xtask synth --shape tiny --types q4_k_m --hidden 512 --ff 512 --out mix.gguf
  cargo xtask synth --shape tiny --types f16 --type '*_exps.weight=q5_1' --seed 3 --out experts.gguf
  cargo xtask synth --shape 120b --split 3 --out gpt-oss-120b.gguf";

/// Writes a GGUF file with the metadata, tensor names, order, shapes and types of a public gpt-oss file and made-up
/// weights. Equal arguments give equal bytes.
#[derive(Debug, Parser)]
#[command(name = "synth", bin_name = "cargo xtask synth", after_help = EXAMPLES)]
struct Arguments {
    /// The model whose numbers are taken where no other is given.
    #[arg(long, value_enum)]
    shape: Shape,
    /// Where to write; with --split the stem of the parts' names.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Width of the residual, a multiple of 32.
    #[arg(long, value_name = "N")]
    hidden: Option<u32>,
    /// Width of an expert, a multiple of 32.
    #[arg(long, value_name = "N")]
    ff: Option<u32>,
    /// Query heads of 64 elements, a multiple of the KV heads.
    #[arg(long, value_name = "N")]
    query_heads: Option<u32>,
    #[arg(long, value_name = "N")]
    kv_heads: Option<u32>,
    #[arg(long, value_name = "N")]
    experts: Option<u32>,
    #[arg(long, value_name = "N")]
    experts_per_token: Option<u32>,
    /// Keys that a query of an even layer sees, itself included.
    #[arg(long, value_name = "TOKENS")]
    window: Option<u32>,
    /// The context length that the file states.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    #[arg(long, value_name = "TYPES", help = types_help())]
    types: Option<TypeMix>,
    /// The type of the tensors whose names are like PATTERN, in which * stands for anything. May be repeated; the last
    /// that matches decides.
    #[arg(long = "type", value_name = "PATTERN=TYPE", value_parser = parse_override)]
    overrides: Vec<(String, TensorType)>,
    /// o200k for 20b and 120b, tiny for the others, where not given.
    #[arg(long, value_enum)]
    vocab: Option<VocabularyName>,
    /// Ids of the tiny vocabulary; those beyond the named ones are unused.
    #[arg(long, value_name = "N")]
    vocab_size: Option<u32>,
    /// Metadata and tokenizer only, no tensors: what llama.cpp's ggml-vocab-*.gguf files are.
    #[arg(long)]
    vocab_only: bool,
    /// Gate and up of an expert in one tensor
    #[arg(long)]
    fuse_gate_up: bool,
    /// Whose metadata keys and tensor names to use.
    #[arg(long, value_enum, default_value_t = PublisherName::GgmlOrg)]
    publisher: PublisherName,
    /// The architecture's name; --publisher ollama implies gptoss.
    #[arg(long, value_name = "NAME", value_parser = ["gpt-oss", "gptoss"])]
    arch: Option<String>,
    /// A Jinja chat template to put in place of the project's own.
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Pads the chat template so that tensor data begin here. A complete 20b has 13008832 where nothing else decides.
    #[arg(long, value_name = "BYTES")]
    data_offset: Option<u64>,
    /// Writes N files of about equal size, named -00001-of-0000N.gguf.
    #[arg(long, value_name = "N")]
    split: Option<usize>,
    /// Decides all weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    #[value(name = "tiny")]
    Tiny,
    #[value(name = "nano")]
    Nano,
    #[value(name = "20b")]
    B20,
    #[value(name = "120b")]
    B120,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum VocabularyName {
    #[value(name = "tiny")]
    Tiny,
    #[value(name = "o200k")]
    O200k,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PublisherName {
    GgmlOrg,
    Unsloth,
    Ollama,
}

/// Sets one number of a specification.
type Setter = fn(Spec, u32) -> Spec;

/// Names every type that weights can be made in.
fn types_help() -> String {
    let names = SUPPORTED_TYPES.map(|kind| kind.name().to_lowercase()).join(", ");
    format!(
        "Types of the matrices: mxfp4 (the public files: experts MXFP4, the rest Q8_0), mxfp4_bf16, q4_k_m, or one type for all: \
         {names}"
    )
}

fn parse_override(text: &str) -> Result<(String, TensorType), String> {
    let (pattern, kind) = text.rsplit_once('=').ok_or("expected PATTERN=TYPE, as in '*_exps.weight=q4_0'")?;
    Ok((pattern.to_owned(), parse_type(kind).map_err(|error| error.to_string())?))
}

impl Arguments {
    fn spec(&self) -> Result<Spec> {
        let mut spec = match self.shape {
            Shape::Tiny => Spec::tiny(),
            Shape::Nano => Spec::nano(),
            Shape::B20 => Spec::gpt_oss_20b(),
            Shape::B120 => Spec::gpt_oss_120b(),
        };
        for (number, set) in self.numbers() {
            if let Some(number) = number {
                spec = set(spec, number);
            }
        }
        let complete_20b = spec == Spec::gpt_oss_20b();
        spec = spec.publisher(match self.publisher {
            PublisherName::GgmlOrg => Publisher::GgmlOrg,
            PublisherName::Unsloth => Publisher::Unsloth,
            PublisherName::Ollama => Publisher::Ollama,
        });
        spec = spec.seed(self.seed).vocabulary_only(self.vocab_only).fused_gate_up(self.fuse_gate_up);
        if let Some(types) = self.types {
            spec = spec.types(types);
        }
        for (pattern, kind) in &self.overrides {
            spec = spec.tensor_type(pattern, *kind);
        }
        if let Some(vocabulary) = self.vocabulary()? {
            spec = spec.vocabulary(vocabulary);
        }
        if let Some(name) = &self.arch {
            spec = spec.architecture(name);
        }
        if let Some(path) = &self.chat_template {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            spec = spec.chat_template(text);
        }
        let golden = (complete_20b && self.keeps_the_20b_header()).then_some(GOLDEN_20B_DATA_OFFSET);
        Ok(match self.data_offset.or(golden) {
            Some(bytes) => spec.data_offset(bytes),
            None => spec,
        })
    }

    /// The numbers of the shape that may be given, and what each one sets.
    fn numbers(&self) -> [(Option<u32>, Setter); 9] {
        [
            (self.layers, Spec::layers),
            (self.hidden, Spec::hidden),
            (self.ff, Spec::ff),
            (self.query_heads, Spec::query_heads),
            (self.kv_heads, Spec::kv_heads),
            (self.experts, Spec::experts),
            (self.experts_per_token, Spec::experts_per_token),
            (self.window, Spec::window_tokens),
            (self.context, Spec::context_tokens),
        ]
    }

    fn vocabulary(&self) -> Result<Option<Vocabulary>> {
        Ok(match (self.vocab, self.vocab_size) {
            (Some(VocabularyName::O200k), Some(_)) => {
                bail!("--vocab-size is for the tiny vocabulary; o200k has 201088")
            }
            (None, Some(_)) if matches!(self.shape, Shape::B20 | Shape::B120) => {
                bail!("--vocab-size is for the tiny vocabulary; add --vocab tiny")
            }
            (Some(VocabularyName::O200k), None) => Some(Vocabulary::O200k),
            (_, Some(tokens)) => Some(Vocabulary::Tiny { tokens }),
            (Some(VocabularyName::Tiny), None) => Some(Vocabulary::Tiny { tokens: Vocabulary::TINY_TOKENS }),
            (None, None) => None,
        })
    }

    /// Whether a complete 20b still is one whose data can begin where the golden file's do: in one file, with all its
    /// tensors and tokens, and with a chat template that may be padded.
    fn keeps_the_20b_header(&self) -> bool {
        self.vocab != Some(VocabularyName::Tiny)
            && self.publisher != PublisherName::Ollama
            && self.chat_template.is_none()
            && !self.vocab_only
            && self.split.is_none()
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let start = Instant::now();
    let bytes = run(&arguments)?;
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{} in {seconds:.1} s, {}", units::bytes(bytes), units::bytes_per_second(bytes as f64 / seconds));
    Ok(())
}

/// Writes what the arguments describe; returns the bytes of all files.
fn run(arguments: &Arguments) -> Result<u64> {
    let model = arguments.spec()?.build()?;
    match arguments.split {
        None => write(&arguments.out, model.tensors().len(), model.file_bytes(), |file| model.write(file)),
        Some(count) => write_parts(&arguments.out, &model, count),
    }
}

fn write_parts(out: &Path, model: &Model, count: usize) -> Result<u64> {
    let name = out.file_name().and_then(|name| name.to_str()).context("--out names no file")?;
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let mut bytes = 0;
    for (index, part) in model.split(count)?.iter().enumerate() {
        let path = out.with_file_name(part_name(stem, index, count));
        bytes += write(&path, part.tensors().len(), part.file_bytes(), |file| part.write(file))?;
    }
    Ok(bytes)
}

/// Writes one file, says what it is on standard error, and returns its length. What a failure leaves behind is removed:
/// half a model helps nobody.
fn write(
    path: &Path,
    tensors: usize,
    bytes: u64,
    content: impl FnOnce(&mut File) -> Result<(), SynthError>,
) -> Result<u64> {
    let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    if let Err(error) = content(&mut file) {
        drop(file);
        // Never a device or a link. The first error is the one to report.
        if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            let _ = std::fs::remove_file(path);
        }
        return Err(error).with_context(|| format!("in {}", path.display()));
    }
    eprintln!("{}: {bytes} bytes, {tensors} tensors", path.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments as typed, with a name to write to.
    fn arguments(words: &str) -> Arguments {
        let words = words.split_whitespace();
        Arguments::try_parse_from(["synth", "--out", "unused.gguf"].into_iter().chain(words)).expect("valid arguments")
    }

    fn model(words: &str) -> Model {
        arguments(words).spec().and_then(|spec| Ok(spec.build()?)).expect(words)
    }

    #[test]
    fn a_complete_20b_has_the_golden_data_offset() {
        for words in ["", "--layers 24 --experts 32", "--publisher unsloth", "--types q4_k_m", "--seed 9 --arch gptoss"]
        {
            assert_eq!(model(&format!("--shape 20b {words}")).data_offset(), 13_008_832, "{words}");
        }
        assert_eq!(model("--shape 20b --data-offset 13008224").data_offset(), 13_008_224, "where ggml-org's has it");
        let shortened = model("--shape 20b --layers 2");
        assert!(shortened.data_offset() < 13_008_224, "no padding");
        assert_eq!(shortened.tensors().len(), 2 * 19 + 3);
    }

    #[test]
    fn arguments_reach_the_model() {
        let model = model(
            "--shape tiny --layers 3 --hidden 320 --ff 96 --query-heads 6 --kv-heads 3 --experts 12 \
             --experts-per-token 2 --window 32 --context 4096 --vocab-size 400 --types f16 --type *_exps.weight=q4_0",
        );
        let tensor = |name: &str| model.tensors().iter().find(|tensor| tensor.name == name).expect(name);
        assert_eq!(tensor("token_embd.weight").shape, [320, 400]);
        assert_eq!(
            (&tensor("blk.2.attn_q.weight").shape[..], tensor("blk.2.attn_q.weight").kind),
            (&[320, 384][..], TensorType::F16)
        );
        assert_eq!(tensor("blk.2.attn_k.bias").shape, [192]);
        let expert = tensor("blk.2.ffn_down_exps.weight");
        assert_eq!((&expert.shape[..], expert.kind), (&[96, 320, 12][..], TensorType::Q4_0));
        let header = String::from_utf8_lossy(&model.header()).into_owned();
        assert!(header.contains("gpt-oss.attention.sliding_window\u{4}\0\0\0\u{20}\0\0\0"), "the window is 32");
        assert!(header.contains("gpt-oss.expert_used_count\u{4}\0\0\0\u{2}\0\0\0"));
        assert!(header.contains("gpt-oss.context_length\u{4}\0\0\0\0\u{10}\0\0"));
    }

    #[test]
    fn files_and_parts_are_written_where_they_were_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |words: &str| {
            let mut arguments = arguments(&format!("--shape tiny --layers 1 {words}"));
            arguments.out = folder.path().join("a.gguf");
            run(&arguments).expect("writing works")
        };
        let length = |name: &str| std::fs::metadata(folder.path().join(name)).expect(name).len();
        assert_eq!(write(""), length("a.gguf"));
        assert_eq!(write("--split 2"), length("a-00001-of-00002.gguf") + length("a-00002-of-00002.gguf"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (words, reason) in [
            ("--shape 20b --vocab-size 400", "add --vocab tiny"),
            ("--shape tiny --vocab o200k --vocab-size 400", "o200k has 201088"),
            ("--shape tiny --chat-template /nonexistent/file", "cannot read /nonexistent/file"),
        ] {
            let error = arguments(words).spec().expect_err(words);
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
        for words in ["--type attn=q9", "--type q8_0", "--types q2_k", "--arch llama"] {
            let words = format!("synth --out x --shape tiny {words}");
            assert!(Arguments::try_parse_from(words.split_whitespace()).is_err(), "{words}");
        }
    }
}
