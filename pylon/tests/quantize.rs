//! `pylon gguf quantize`: its bytes against gguf-py's, what it carries over, refuses and leaves behind.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use gptoss_gguf::{Gguf, Progress, TensorType, WeightType};
use gptoss_synth::edit::{Edit, RawValue};
use gptoss_synth::{Spec, TypeMix};
use serde_json::json;

use crate::goldens::{Distance, assert_f32_parity, distance, npy, token_ids};
use crate::support::{Folder, Mortal, Run, nano, pylon, run, write_split};

/// `tests/goldens/quantise_model.py`, which says how it was made.
const GOLDENS: &str = include_str!("../../tests/goldens/quantised.tiny.sha256");

/// Tokens that every vocabulary has.
const TOKENS: &str = "5 17 255 301 42 42 9 120 88 3 276 311 64 199 230 7 150 33 91 2 260 18 77 140";

/// The model that the goldens are of, with all matrices in one type.
fn tiny(kind: TensorType) -> Spec {
    Spec::tiny().layers(2).seed(5).types(TypeMix::Uniform(kind))
}

fn parsed(bytes: &[u8]) -> Gguf {
    match gptoss_gguf::parse(bytes, bytes.len() as u64).unwrap() {
        Progress::Ready(gguf) => *gguf,
        Progress::NeedMore { .. } => panic!("the whole file is there"),
    }
}

fn quantize(input: &str, output: &str, flags: &[&str]) -> Run {
    run(&[&["gguf", "quantize", input, output], flags].concat())
}

fn sha256(folder: &Folder, bytes: &[u8]) -> String {
    let path = folder.write("hashed", bytes);
    let hash = run(&["gguf", "hash", &path, "--whole"]).expect(0).stdout;
    hash.split_whitespace().next().expect("a hash").to_owned()
}

/// Logits of both files for the same tokens, on the CPU.
fn compared(folder: &Folder, got: &str, want: &str) -> Distance {
    let tokens = folder.write("tokens.txt", TOKENS.as_bytes());
    let [got, want] = [got, want].map(|model| {
        let out = folder.path("logits.npy");
        let run = run(&["logits", "--gguf", model, "--tokens", &tokens, "--out", &out, "--backend", "cpu"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        npy(&fs::read(&out).unwrap())
    });
    assert_eq!(got.0.len(), token_ids(TOKENS).len() * got.1);
    distance(&got.0, &want.0, got.1)
}

#[test]
fn a_whole_file_has_gguf_pys_bytes_and_answers_as_before() {
    let folder = Folder::new();
    let input = tiny(TensorType::F32).to_bytes().unwrap();
    let (from, to) = (folder.write("f32.gguf", &input), folder.path("mxfp4.gguf"));
    let mut lines = GOLDENS.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap()[0], sha256(&folder, &input), "synth makes another file: make the goldens anew");
    let said = quantize(&from, &to, &[]).expect(0).stdout;
    assert!(said.contains("6 tensors from F32 to MXFP4, 10 tensors from F32 to Q8_0, 25 as they were"), "{said}");

    let output = fs::read(&to).unwrap();
    let gguf = parsed(&output);
    let mut compared_tensors = 0;
    for (line, tensor) in lines.zip(&gguf.tensors) {
        let data = &output[tensor.offset as usize..][..tensor.size_bytes as usize];
        assert_eq!(line, [&sha256(&folder, data), tensor.kind.name(), &tensor.name], "{}", tensor.name);
        compared_tensors += 1;
    }
    assert_eq!((compared_tensors, gguf.tensors.len()), (41, 41));
    run(&["gguf", "verify", &to]).expect(0);

    // MXFP4 keeps one bit after the first: 1.8e-2 was measured on these random weights, 2.5e-3 with experts in Q8_0, and
    // 1.7 between logits of different tokens.
    let apart = compared(&folder, &to, &from);
    assert!(apart.nmse > 1e-6 && apart.nmse < 5e-2, "{apart:?}");
}

#[test]
fn metadata_are_carried_over_byte_for_byte() {
    let folder = Folder::new();
    let mut edit = Edit::read(&tiny(TensorType::BF16).to_bytes().unwrap());
    edit.set("general.name", RawValue::string_of_bytes(b"caf\xe9")).set("general.alignment", 64u32);
    edit.set("general.file_type", 32u32).remove("general.quantization_version");
    let (from, to) = (folder.write("bf16.gguf", &edit.write()), folder.path("out.gguf"));
    let report = quantize(&from, &to, &["--json"]).expect(0).json();
    let written = fs::read(&to).unwrap();
    assert_eq!(report["bytes_written"], json!(written.len()));
    assert_eq!((&report["file_type"], &report["copied"]), (&json!(38), &json!(25)));
    let changed = json!([
        {"from": "BF16", "to": "MXFP4", "tensors": 6},
        {"from": "BF16", "to": "Q8_0", "tensors": 10},
    ]);
    assert_eq!(report["changed"], changed);

    edit.set("general.file_type", 38u32).set("general.quantization_version", 2u32);
    let out = Edit::read(&written);
    assert_eq!(out.keys, edit.keys);
    assert_eq!((out.version, parsed(&written).alignment), (3, 64));
    for (before, after) in edit.tensors.iter().zip(&out.tensors) {
        assert_eq!((&before.name, &before.shape), (&after.name, &after.shape));
        assert!(before.kind != after.kind || before.data == after.data, "{}", before.name);
    }
}

#[test]
fn halves_and_parts_and_chosen_types_give_what_the_same_weights_in_f32_give() {
    let folder = Folder::new();
    let out = folder.path("out.gguf");
    let result = |input: &str, flags: &[&str]| {
        quantize(input, &out, &[&["--force"], flags].concat()).expect(0);
        Edit::read(&fs::read(&out).unwrap())
    };
    for kind in [TensorType::F16, TensorType::BF16] {
        let halves = tiny(kind).to_bytes().unwrap();
        let mut widened = Edit::read(&halves);
        widened.retype_all(|name| name.ends_with(".weight"), TensorType::F32);
        let (halves, widened) = (folder.write("halves.gguf", &halves), folder.write("f32.gguf", &widened.write()));
        assert!(result(&halves, &[]) == result(&widened, &[]), "{kind}");
        let mixed = result(&halves, &["--experts", "q8_0", "--dense", "bf16"]);
        let kind_of = |name: &str| mixed.tensors.iter().find(|tensor| tensor.name == name).unwrap().kind;
        assert_eq!(kind_of("blk.1.ffn_up_exps.weight"), TensorType::Q8_0.id());
        assert_eq!(kind_of("blk.1.attn_k.weight"), TensorType::BF16.id());
        assert_eq!(kind_of("blk.1.ffn_gate_inp.weight"), TensorType::F32.id());
        assert_eq!(mixed.value("general.file_type"), &RawValue::from(WeightType::Q8_0.file_type()));
    }
    let parts = write_split(&folder, "split", &tiny(TensorType::F32), 3);
    let whole = folder.write("whole.gguf", &tiny(TensorType::F32).to_bytes().unwrap());
    assert!(result(&parts[1], &[]) == result(&whole, &[]));
}

#[test]
fn the_way_back_changes_no_weight() {
    let folder = Folder::new();
    let (wide, again) = (folder.path("f32.gguf"), folder.path("again.gguf"));
    quantize(nano(), &wide, &["--experts", "f32", "--dense", "F32"]).expect(0);
    quantize(&wide, &again, &[]).expect(0);
    let [nano_file, wide_file, again_file] = [nano(), &wide, &again].map(|path| Edit::read(&fs::read(path).unwrap()));
    assert!(wide_file.tensors.iter().all(|tensor| tensor.kind == TensorType::F32.id()));
    assert_eq!(wide_file.value("general.file_type"), &RawValue::from(0u32));
    for ((nano, wide), again) in nano_file.tensors.iter().zip(&wide_file.tensors).zip(&again_file.tensors) {
        assert!(nano.values() == wide.values() && nano.values() == again.values(), "{}", nano.name);
        assert_eq!(nano.kind, again.kind);
    }
    assert_f32_parity("nano in F32", compared(&folder, &wide, nano()));
}

/// What is refused leaves what was there, and nothing else.
#[track_caller]
fn refused(folder: &Folder, input: &str, flags: &[&str], code: i32, words: &[&str]) {
    let out = folder.write("out/precious.gguf", b"precious");
    let run = quantize(input, &out, &[&["--force"], flags].concat());
    assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in: {}", run.stderr);
    }
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    assert_eq!(fs::read_dir(folder.path("out")).unwrap().count(), 1, "no leftovers");
}

#[test]
fn weights_and_files_that_cannot_be_quantised_are_named() {
    let folder = Folder::new();
    let whole = Edit::read(&tiny(TensorType::F32).to_bytes().unwrap());
    let changed = |change: &dyn Fn(&mut Edit)| {
        let mut edit = whole.clone();
        change(&mut edit);
        folder.write("in.gguf", &edit.write())
    };
    let with_weight = |tensor: &'static str, index: usize, value: f32| {
        changed(&move |edit| edit.tensor(tensor).data[4 * index..][..4].copy_from_slice(&value.to_le_bytes()))
    };
    // The last weight of half a million, which the last thread has; one in the first block, and one that is copied.
    for (tensor, index, value, word) in [
        ("blk.1.ffn_down_exps.weight", 8 * 256 * 256 - 1, f32::NAN, "NaN"),
        ("blk.0.attn_q.weight", 33, f32::NEG_INFINITY, "-inf"),
        ("blk.0.attn_norm.weight", 7, f32::INFINITY, "inf"),
    ] {
        let words = [&format!("weight {index} of {tensor} is {word}"), "finite"];
        refused(&folder, &with_weight(tensor, index, value), &[], 1, &words);
    }
    let large = with_weight("blk.0.attn_q.weight", 70, -9e6);
    refused(&folder, &large, &[], 1, &["weight 70 of blk.0.attn_q.weight is -9e6", "Q8_0", "8.319008e6", "--dense"]);
    refused(&folder, &large, &["--dense", "f16"], 1, &["weight 70 of blk.0.attn_q.weight", "6.5504e4"]);
    quantize(&large, &folder.path("large.gguf"), &["--dense", "bf16"]).expect(0);
    let router = with_weight("blk.1.ffn_gate_inp.bias", 3, f32::NEG_INFINITY);
    quantize(&router, &folder.path("router.gguf"), &[]).expect(0);

    let narrow = changed(&|edit| edit.tensor("blk.1.attn_v.weight").shape = vec![16, 2048]);
    refused(&folder, &narrow, &[], 1, &["blk.1.attn_v.weight", "rows of 16", "multiple of 32", "Q8_0"]);
    refused(&folder, nano(), &["--experts", "q8_0"], 1, &["_exps.weight is MXFP4", "already quantised", "--experts"]);
    let foreign = changed(&|edit| _ = edit.set("general.architecture", "llama"));
    refused(&folder, &foreign, &[], 1, &["in.gguf", "\"llama\"", "\"gpt-oss\""]);
    refused(&folder, nano(), &["--experts", "q4_k"], 2, &["q4_k", "MXFP4"]);
    refused(&folder, &folder.path("absent.gguf"), &[], 2, &["absent.gguf"]);
}

#[test]
fn what_is_there_stays() {
    let folder = Folder::new();
    let precious = folder.write("precious.gguf", b"precious");
    let copy = folder.write("nano.gguf", &fs::read(nano()).unwrap());
    fs::create_dir(folder.path("folder")).unwrap();
    for (input, output, flags, words) in [
        (nano(), &precious, &[][..], &["precious.gguf is there already", "--force"][..]),
        (&copy, &copy, &["--force"], &["the file that is read"]),
        (nano(), &folder.path("folder"), &["--force"], &["no file"]),
        (nano(), &folder.path("m-00001-of-00002.gguf"), &[], &["split"]),
        (nano(), &folder.path("absent/out.gguf"), &[], &["cannot write", "out.gguf.part"]),
    ] {
        let run = quantize(input, output, flags).expect(2);
        assert!(words.iter().all(|word| run.stderr.contains(word)), "{}", run.stderr);
    }
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    let part = folder.write("new.gguf.part", b"of somebody else");
    let run = quantize(nano(), &folder.path("new.gguf"), &[]).expect(2);
    assert!(run.stderr.contains("new.gguf.part") && run.stderr.contains("removed"), "{}", run.stderr);
    assert_eq!(fs::read(part).unwrap(), b"of somebody else");
    quantize(nano(), &precious, &["--force"]).expect(0);
    assert_eq!(parsed(&fs::read(&precious).unwrap()).tensors.len(), 117);
}

/// A file of 3.2 GB of zeros that takes no room on the disk.
#[cfg(target_os = "linux")]
fn large_file(folder: &Folder) -> String {
    let spec = Spec::tiny().layers(1).hidden(2880).ff(2880).experts(32).types(TypeMix::Uniform(TensorType::F32));
    let model = spec.build().unwrap();
    let path = folder.write("large.gguf", &model.header());
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(model.file_bytes()).unwrap();
    assert!(model.file_bytes() > 3_000_000_000);
    path
}

/// Most memory that a process had at once, in bytes.
#[cfg(target_os = "linux")]
fn peak_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the system counts memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of kB") << 10
}

/// The file is 3.2 GB, and a process that held even one of its three tensors would have more than a gigabyte.
#[cfg(target_os = "linux")]
#[test]
fn a_large_file_takes_little_memory_and_stopping_leaves_nothing() {
    let folder = Folder::new();
    let input = large_file(&folder);
    let (output, part) = (folder.path("out.gguf"), folder.path("out.gguf.part"));
    let mut command = pylon();
    command.args(["gguf", "quantize", &input, &output]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Mortal(command.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(120);
    // The other matrices have 7 MB then, so that a tensor of experts is under way.
    while fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 16 << 20 {
        assert!(child.0.try_wait().unwrap().is_none(), "it ended before it was stopped");
        assert!(Instant::now() < deadline, "it writes nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    let peak = peak_bytes(child.0.id());
    assert!(std::process::Command::new("kill").args(["-INT", &child.0.id().to_string()]).status().unwrap().success());
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    assert!(peak < 128 << 20, "{peak} bytes");
    assert!(!Path::new(&part).exists() && !Path::new(&output).exists());
}
