//! Runs every example on the demo model, and compares what it prints with what is known of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    level: String,
    prompt: String,
    #[serde(rename = "final")]
    answer: Option<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn nano() -> String {
    repository().join("models/nano/gpt-oss-nano.gguf").display().to_string()
}

/// A recorded question with the answer that Transformers gave. Only questions at the default effort, without instructions:
/// the examples set neither.
fn recorded(question: &str) -> String {
    let text = std::fs::read_to_string(repository().join("models/nano/cases.json")).expect("cases.json");
    let cases: Cases = serde_json::from_str(&text).expect("cases.json");
    let asks = format!("<|start|>user<|message|>{question}<|end|><|start|>assistant");
    let is_plain = |case: &Case| case.level == "medium" && !case.prompt.contains("developer");
    let case = cases.cases.into_iter().find(|case| is_plain(case) && case.prompt.ends_with(&asks));
    case.and_then(|case| case.answer).unwrap_or_else(|| panic!("{question:?} is not among the plain cases"))
}

/// Standard output of a program that must succeed, and standard error.
fn run(program: &str, arguments: &[&str]) -> (String, String) {
    // Drivers look for a display there, and complain where there is none.
    let output = Command::new(program).args(arguments).env_remove("XDG_RUNTIME_DIR").output().expect("it starts");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    (stdout, stderr)
}

const QUESTIONS: [&str; 3] = ["Add 0 and 890.", "Reverse this word: mil", "Name the capital of Hungary."];

#[test]
fn answer_gives_the_recorded_answers_on_both_devices() {
    for device in ["cpu", "gpu"] {
        for question in QUESTIONS {
            let (stdout, _) = run(env!("CARGO_BIN_EXE_answer"), &[device, &nano(), question]);
            assert_eq!(stdout, format!("{}\n", recorded(question)), "{question} on {device}");
        }
    }
}

#[test]
fn stream_prints_the_answer_and_the_reasoning_apart() {
    for question in QUESTIONS {
        let (stdout, stderr) = run(env!("CARGO_BIN_EXE_stream"), &[&nano(), question]);
        assert_eq!(stdout, format!("{}\n", recorded(question)), "{question}");
        assert!(stderr.ends_with(" tokens/s\n") && stderr.len() > 40, "reasoning, then the rate: {stderr}");
    }
}

#[test]
fn header_lists_what_gguf_py_lists() {
    let (stdout, _) = run(env!("CARGO_BIN_EXE_header"), &[&nano()]);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines[0], "GGUF version 3, 34 keys, 117 tensors");
    assert_eq!(lines.len(), 1 + 34 + 117, "one line for each");
    for expected in [
        "general.architecture = \"gpt-oss\"",
        "gpt-oss.block_count = U32(6)",
        "tokenizer.ggml.tokens = array of 1280 x string",
    ] {
        assert!(lines.contains(&expected), "{expected} is not in\n{stdout}");
    }
    // As gguf-py's GGUFReader has it: name, type, shape, offset and size.
    let experts = "blk.0.ffn_gate_exps.weight MXFP4 [192, 96, 8] at 472384, 78336 bytes";
    assert!(lines.contains(&experts), "{stdout}");
}

#[test]
fn range_reads_a_served_header_and_no_more() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let options = gguf_serve::Options { paths: vec![nano().into()], port: 0, ..gguf_serve::Options::default() };
    let server = runtime.block_on(gguf_serve::serve(options)).expect("a server");
    let url = format!("http://{}/gpt-oss-nano.gguf", server.addr());
    let (stdout, _) = run(env!("CARGO_BIN_EXE_range"), &[&url]);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines[0], "gpt-oss-nano.gguf: 6 layers, 8 experts, 1280 tokens");
    assert_eq!(lines[1], "117 tensors, data from byte 44032");
    assert!(lines[2].starts_with("3054208 bytes, 2 requests, etag "), "{}", lines[2]);
}

/// Commands in the programs' own comments and in the README name programs that exist.
#[test]
fn the_readme_names_every_program_with_its_command() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("README.md");
    for program in ["answer", "stream", "header", "range"] {
        let command = format!("cargo run --release -p gptoss-examples --bin {program} -- ");
        let source = std::fs::read_to_string(folder.join(format!("{program}.rs"))).expect("its source");
        for (place, text) in [("README.md", &readme), (program, &source)] {
            assert!(text.contains(&command), "{place} does not say how to run {program}");
        }
    }
}
