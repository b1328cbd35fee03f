//! `pylon gate`: every gate passes on the demo model, fails when something is wrong, and says when it could not look.

use crate::support::{Folder, finish, nano, nano_bytes, pylon, run, write_split};
use gptoss_synth::TensorType;
use gptoss_synth::{Spec, TypeMix};
use serde_json::{Value, json};

/// What a gate finds, and that its exit status is that of its verdict.
#[track_caller]
fn gate(gate: &str, path: &str, flags: &[&str], verdict: &str) -> Value {
    let code = match verdict {
        "pass" => 0,
        "fail" => 1,
        _ => 2,
    };
    let json = run(&[&["gate", gate, path, "--json"], flags].concat()).expect(code).json();
    assert_eq!((&json["gate"], &json["verdict"]), (&json!(gate), &json!(verdict)), "{json}");
    json
}

#[test]
fn the_demo_model_passes_every_gate() {
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        let json = gate(name, nano(), &[], "pass");
        let looked = json["checks"].as_array().unwrap().len() + json["comparisons"].as_array().unwrap().len();
        assert!(looked >= 2, "{json}");
        let text = run(&["gate", name, nano()]).expect(0).stdout;
        assert!(text.ends_with(&format!("gate {name}: PASS\n")), "{text}");
        assert!(!text.contains("FAIL"), "{text}");
    }
}

#[test]
fn gate_c_compares_the_matrix_that_was_asked_for() {
    let json = gate("c", nano(), &["--tensor", "blk.3.ffn_down_exps.weight"], "pass");
    assert_eq!(json["facts"]["multiplied"], "1536 rows of 96 columns");
    let [same, control] = json["comparisons"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!((&same["shape"], &same["values"], &same["expect"]), (&json!([1536]), &json!(1536), &json!("equal")));
    assert!(same["relative_error"].as_f64().unwrap() < 1e-6 && control["relative_error"].as_f64().unwrap() > 0.1);
    let part = gate("c", nano(), &["--rows", "77", "--columns", "64"], "pass");
    assert_eq!(part["comparisons"][0]["shape"], json!([77]));
    // A tolerance that arithmetic in F32 cannot hold: the comparison can fail.
    let strict = gate("c", nano(), &["--tolerance", "1e-12"], "fail");
    assert_eq!(strict["comparisons"][0]["ok"], false);

    for (flags, expected) in [
        (&["--columns", "100"][..], "a multiple of 32"),
        (&["--rows", "5000"], "at most 1280"),
        (&["--tensor", "output_norm.weight"], "expected a matrix"),
        (&["--tensor", "output.wait"], "output.wait"),
    ] {
        let refused = run(&[&["gate", "c", nano()], flags].concat()).expect(2);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

#[test]
fn gate_c_decodes_every_format_alike() {
    let folder = Folder::new();
    for kind in gptoss_synth::SUPPORTED_TYPES {
        let spec = Spec::tiny().layers(1).types(TypeMix::Uniform(kind));
        let path = folder.write("model.gguf", &spec.to_bytes().unwrap());
        let json = gate("c", &path, &["--tensor", "blk.0.attn_q.weight"], "pass");
        assert!(json["facts"]["tensor"].as_str().unwrap().contains(kind.name()), "{json}");
    }
}

#[test]
fn gates_d_and_g_say_what_they_cut() {
    let json = gate("d", nano(), &["--layers", "2", "--tokens", "3"], "pass");
    assert_eq!(json["facts"]["layers"], "2 of 6");
    assert_eq!(json["comparisons"][0]["shape"], json!([3, 1280]));
    let against = json["comparisons"][0]["against"].as_str().unwrap();
    assert!(against.contains("first 2 of 6 layers"), "{against}");
    let whole = gate("d", nano(), &["--prompt", "Hello there"], "pass");
    assert!(whole["comparisons"][0]["against"].as_str().unwrap().contains("all 6 layers"), "{whole}");
    assert_eq!(whole["comparisons"][0]["shape"], json!([64 + 8, 1280]), "beyond the window of 64");
    let strict = gate("d", nano(), &["--layers", "1", "--tolerance", "1e-12"], "fail");
    assert_eq!(strict["comparisons"][0]["ok"], false);
    let none = gate("g", nano(), &["--layers", "0"], "pass");
    assert_eq!(none["facts"]["top 5 on the CPU"].as_array().unwrap().len(), 5);
    for gate in ["d", "g"] {
        let refused = run(&["gate", gate, nano(), "--layers", "7"]).expect(2);
        assert!(refused.stderr.contains("at most 6"), "{}", refused.stderr);
        let refused = run(&["gate", gate, nano(), "--prompt", ""]).expect(2);
        assert!(refused.stderr.contains("--prompt"), "{}", refused.stderr);
    }
}

/// Weights that are not numbers reach the logits.
#[test]
fn damage_fails_the_gates_that_can_see_it() {
    let folder = Folder::new();
    let mut bytes = nano_bytes();
    bytes.truncate(bytes.len() - 1000);
    let short = folder.write("short.gguf", &bytes);
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        let json = run(&["gate", name, &short, "--json"]).expect(1).json();
        assert!(json["checks"][0]["found"].as_str().unwrap().contains("truncated"), "{json}");
    }
    // A tensor too many: one byte more than the table accounts for.
    let mut bytes = nano_bytes();
    bytes.push(0);
    let json = gate("a", &folder.write("long.gguf", &bytes), &[], "fail");
    assert!(
        json["checks"].as_array().unwrap().iter().any(|check| check["check"] == "sizes add up" && check["ok"] == false)
    );
}

#[test]
fn gate_f_does_not_pass_without_mxfp4() {
    let folder = Folder::new();
    let spec = Spec::tiny().layers(1).types(TypeMix::Uniform(TensorType::Q8_0));
    let path = folder.write("q8_0.gguf", &spec.to_bytes().unwrap());
    let json = gate("f", &path, &[], "could_not_run");
    assert!(json["not_run"].as_str().unwrap().contains("no tensor of type 39"), "{json}");
    let some = gate("f", nano(), &["--blocks", "100"], "pass");
    let all = gate("f", nano(), &["--blocks", "0"], "pass");
    assert_eq!(all["facts"]["blocks decoded"], 1_410_048 / 17);
    assert!(some["facts"]["blocks decoded"].as_u64().unwrap() < 3000, "{some}");
}

/// Vulkan is told to use a driver that is not there.
#[cfg(target_os = "linux")]
#[test]
fn without_a_gpu_nothing_passes_that_needs_one() {
    let without = |gate: &str| {
        let mut command = pylon();
        command.args(["gate", gate, nano(), "--json"]);
        command.env("VK_DRIVER_FILES", "no-such-driver.json").env("VK_ICD_FILENAMES", "no-such-driver.json");
        finish(&mut command, b"")
    };
    for gate in ["c", "d", "e"] {
        let run = without(gate).expect(2);
        assert_eq!(run.json()["verdict"], "could_not_run");
        assert!(run.stderr.contains("no usable GPU adapter"), "{}", run.stderr);
    }
    let json = without("g").expect(0).json();
    assert!(json["facts"]["GPU"].as_str().unwrap().starts_with("none"), "{json}");
    assert_eq!(json["comparisons"], json!([]));
}

#[test]
fn an_absent_file_is_no_verdict_on_it() {
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        let run = run(&["gate", name, "no-such-file.gguf", "--json"]).expect(2);
        assert_eq!(run.json()["verdict"], "could_not_run");
        assert!(run.stderr.contains("no-such-file.gguf"), "{}", run.stderr);
    }
}

#[test]
fn split_models_pass_as_one_and_not_without_a_part() {
    let folder = Folder::new();
    let paths = write_split(&folder, "tiny", &Spec::tiny().layers(2), 3);
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        let json = gate(name, &paths[1], &[], "pass");
        assert!(name != "a" || json["facts"]["files"] == 3, "{json}");
    }
    std::fs::remove_file(&paths[2]).unwrap();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        let run = run(&["gate", name, &paths[0], "--json"]).expect(2);
        assert_eq!(run.json()["verdict"], "could_not_run");
        assert!(run.stderr.contains("tiny-00003-of-00003.gguf"), "{}", run.stderr);
    }
}
