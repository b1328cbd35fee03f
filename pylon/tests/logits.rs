//! `pylon logits`: the file it writes, against logits of an independent implementation, on both backends.

use std::fs::File;

use crate::goldens::{assert_f16_cache_parity, assert_f32_parity, distance, npy};
use crate::support::{Folder, Run, finish, nano, pylon, repository_file, run, run_with_input};
use gptoss_synth::Spec;

/// `tests/goldens/{prompt}.tokens.txt` and what Transformers made of it.
struct Golden {
    model: &'static str,
    prompt: &'static str,
    logits: &'static str,
    truncate: bool,
}

/// Prompts longer than the window, both YaRN modes, two shapes.
const GOLDENS: [Golden; 4] = [
    Golden { model: "tiny", prompt: "tiny.300", logits: "tiny.300.hf_f32.openai_yarn", truncate: false },
    Golden { model: "tiny", prompt: "tiny.300", logits: "tiny.300.hf_f32.llama_yarn", truncate: true },
    Golden { model: "odd", prompt: "odd.150", logits: "odd.150.hf_f32.openai_yarn", truncate: false },
    Golden { model: "odd", prompt: "odd.150", logits: "odd.150.hf_f32.llama_yarn", truncate: true },
];

fn golden_file(name: &str) -> String {
    repository_file(&format!("tests/goldens/{name}"))
}

impl Golden {
    /// Runs the command and compares what it wrote.
    fn distance(&self, backend: &str, flags: &[&str]) -> crate::goldens::Distance {
        let folder = Folder::new();
        let (model, tokens) =
            (golden_file(&format!("{}.gguf", self.model)), golden_file(&format!("{}.tokens.txt", self.prompt)));
        let out = folder.path("logits.npy");
        let mut arguments = vec!["logits", "--gguf", &model, "--tokens", &tokens, "--out", &out, "--backend", backend];
        arguments.extend(flags);
        arguments.extend(self.truncate.then_some("--yarn-truncate"));
        let run = run(&arguments);
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
        assert!(!std::fs::exists(folder.path("logits.npy.part")).expect("a folder"), "the unfinished file is gone");
        let (want, columns) = npy(&std::fs::read(golden_file(&format!("{}.npy", self.logits))).expect("a golden"));
        let (got, got_columns) = npy(&std::fs::read(&out).expect("it was written"));
        assert_eq!(got_columns, columns);
        distance(&got, &want, columns)
    }
}

#[test]
fn parity_is_the_default_on_the_cpu() {
    for golden in &GOLDENS {
        assert_f32_parity(golden.logits, golden.distance("cpu", &[]));
    }
}

#[test]
fn parity_is_the_default_on_the_gpu() {
    for golden in &GOLDENS[1..3] {
        assert_f32_parity(golden.logits, golden.distance("gpu", &[]));
    }
}

#[test]
fn a_cache_of_halves_and_activations_of_bytes_stay_within_their_bounds() {
    for golden in &GOLDENS {
        assert_f16_cache_parity(golden.logits, golden.distance("cpu", &["--kv", "f16"]));
        let bytes = golden.distance("cpu", &["--activations", "int8"]);
        assert!(bytes.nmse <= 2e-2, "{}: {bytes:?}; allowed nmse 2e-2", golden.logits);
        assert!(bytes.nmse > 1e-8, "{}: {bytes:?} is too good: these were F32 activations", golden.logits);
    }
    assert_f16_cache_parity("on the GPU", GOLDENS[2].distance("gpu", &["--kv", "f16"]));
}

#[test]
fn the_settings_are_said() {
    let folder = Folder::new();
    let tokens = folder.write("tokens.txt", b"1 2\n3\t4");
    let out = folder.path("out.npy");
    let with =
        |flags: &[&str]| run(&[&["logits", "--gguf", nano(), "--tokens", &tokens, "--out", &out], flags].concat());
    assert!(with(&["--backend", "cpu"]).stderr.contains("F32 activations, F32 cache"));
    let fast = with(&["--activations", "int8", "--kv", "f16"]);
    assert!(fast.stderr.contains("8-bit activations, F16 cache"), "int8 means the CPU: {}", fast.stderr);
    assert_eq!(npy(&std::fs::read(&out).expect("written")).0.len(), 4 * 1280);
}

/// What was there before a failed run stays.
#[track_caller]
fn refused(code: i32, words: &[&str], run: &Run) {
    assert_eq!(run.code, code, "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in: {}", run.stderr);
    }
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_the_file_alone() {
    let folder = Folder::new();
    let out = folder.write("out.npy", b"precious");
    let with = |tokens: &str, flags: &[&str]| {
        let base = ["logits", "--gguf", nano(), "--tokens", tokens, "--out", &out];
        run(&[&base, flags].concat())
    };
    let good = folder.write("good.txt", b"1 2 3");
    refused(2, &["absent.txt"], &with(&folder.path("absent.txt"), &[]));
    refused(2, &["empty"], &with(&folder.write("empty.txt", b" \n"), &[]));
    refused(2, &["\"x7\"", "place 3"], &with(&folder.write("words.txt", b"1 2 x7"), &[]));
    refused(1, &["1280", "vocabulary"], &with(&folder.write("large.txt", b"5 1280"), &[]));
    refused(2, &["--activations", "CPU"], &with(&good, &["--backend", "gpu", "--activations", "int8"]));
    refused(2, &["--kv"], &with(&good, &["--kv", "f64"]));
    refused(1, &["own context"], &with(&folder.write("long.txt", "7 ".repeat(140_000).as_bytes()), &[]));
    assert_eq!(std::fs::read(&out).expect("still there"), b"precious");
    let nowhere = folder.path("no/such/folder.npy");
    refused(2, &["folder.npy"], &run(&["logits", "--gguf", nano(), "--tokens", &good, "--out", &nowhere]));
    assert_eq!(std::fs::read_dir(folder.path("")).expect("a folder").count(), 6, "no leftovers");
}

#[test]
fn tokens_may_come_on_standard_input_and_logits_go_to_a_pipe() {
    let folder = Folder::new();
    let out = folder.path("out.npy");
    let arguments = ["logits", "--gguf", nano(), "--backend", "cpu", "--tokens", "-", "--out", &out];
    assert_eq!(run_with_input(&arguments, b"1 2 3").code, 0);
    assert_eq!(npy(&std::fs::read(&out).expect("written")).0.len(), 3 * 1280);
    if cfg!(unix) {
        let nothing = finish(pylon().args(&arguments[..7]).args(["--out", "/dev/null"]), b"1 2");
        assert_eq!(nothing.code, 0, "{}", nothing.stderr);
    }
}

/// A model in one file, and the same cut into three: given any part, all are read.
#[test]
fn a_split_model_is_one_model() {
    let folder = Folder::new();
    let model = Spec::tiny().build().expect("a shape");
    let whole = folder.path("whole.gguf");
    model.write(&mut File::create(&whole).expect("a file")).expect("written");
    let parts: Vec<String> = (0..3).map(|index| folder.path(&gptoss_synth::part_name("cut", index, 3))).collect();
    for (part, path) in model.split(3).expect("enough tensors").iter().zip(&parts) {
        part.write(&mut File::create(path).expect("a file")).expect("written");
    }
    let tokens = folder.write("tokens.txt", b"5 6 7 8");
    let logits = |gguf: &str, backend: &str| {
        let out = folder.path("out.npy");
        let run = run(&["logits", "--gguf", gguf, "--tokens", &tokens, "--out", &out, "--backend", backend]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        std::fs::read(&out).expect("written")
    };
    for backend in ["cpu", "gpu"] {
        assert!(logits(&parts[1], backend) == logits(&whole, backend), "{backend}: the parts are another model");
    }
    std::fs::remove_file(&parts[2]).expect("removed");
    let out = folder.path("none.npy");
    let incomplete = run(&["logits", "--gguf", &parts[0], "--tokens", &tokens, "--out", &out]);
    refused(2, &["cut-00003-of-00003.gguf"], &incomplete);
}
