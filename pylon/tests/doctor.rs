//! `pylon doctor` and `pylon compute`: what they find in a home that the test furnishes.

use std::fs;
use std::path::Path;

use crate::support::{Run, finish, nano, pylon};
use serde_json::Value;
use tempfile::TempDir;

/// A home and a current folder of the test's own.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(home.path().join("here")).expect("a folder");
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts the demo model at `place` below the home.
    fn furnish(&self, place: &str) {
        let file = self.path().join(place);
        fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
        fs::copy(nano(), file).expect("copied");
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        let mut command = pylon();
        for name in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "LLAMA_CACHE"] {
            command.env_remove(name);
        }
        // Ollama's service keeps models of its own, which this machine may have.
        command.env("OLLAMA_MODELS", self.path().join("ollama"));
        command.args(arguments).env("HOME", self.path()).env("USERPROFILE", self.path());
        command.envs(variables.iter().copied()).current_dir(self.path().join("here"));
        finish(&mut command, b"")
    }

    fn json(&self, command: &str, variables: &[(&str, &str)], code: i32) -> Value {
        let run = self.run(&[command, "--json"], variables);
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        run.json()
    }
}

fn strings(values: &Value, field: &str) -> Vec<String> {
    let text = |value: &Value| value[field].as_str().expect("a string").to_owned();
    values.as_array().expect("an array").iter().map(text).collect()
}

#[test]
fn without_a_model_nothing_can_run() {
    let home = Home::new();
    let report = home.json("doctor", &[], 1);
    assert_eq!(report["can_run"], false);
    assert!(report["findings"][0].as_str().is_some_and(|finding| finding.contains("No model")), "{report}");
    let run = home.run(&["doctor"], &[]);
    assert!(run.code == 1 && run.stdout.contains("Nothing can run"), "{}", run.stdout);
}

#[test]
fn models_are_found_where_people_keep_them() {
    let home = Home::new();
    home.furnish("here/current.gguf");
    home.furnish("models/nested/deep.gguf");
    home.furnish(".cache/llama.cpp/cached.gguf");
    let hub = ".cache/huggingface/hub/models--ggml-org--gpt-oss";
    home.furnish(&format!("{hub}/snapshots/abc/hub.gguf"));
    #[cfg(unix)]
    {
        let snapshots = home.path().join(hub).join("snapshots");
        fs::create_dir(snapshots.join("def")).expect("a folder");
        std::os::unix::fs::symlink(snapshots.join("abc/hub.gguf"), snapshots.join("def/hub.gguf")).expect("a link");
    }
    let report = home.json("doctor", &[], 0);
    let mut ids = strings(&report["models"], "id");
    ids.sort();
    if cfg!(target_os = "macos") {
        ids.retain(|id| id != "cached");
        assert_eq!(ids, ["current", "deep", "hub"]);
    } else {
        assert_eq!(ids, ["cached", "current", "deep", "hub"], "the linked file counts once");
    }
    for model in report["models"].as_array().expect("an array") {
        assert_eq!(
            (&model["supported"], &model["details"]["layers"]),
            (&Value::from(true), &Value::from(6)),
            "{model}"
        );
    }
    assert_eq!(report["model_ids"].as_array().expect("an array").len(), ids.len());
}

#[test]
fn the_variables_and_folders_of_other_tools_are_honoured() {
    for (variable, value, place) in [
        ("XDG_CACHE_HOME", "x", "x/huggingface/hub/models--o--r/snapshots/abc/found.gguf"),
        ("HF_HOME", "h", "h/hub/models--o--r/snapshots/abc/found.gguf"),
        ("HUGGINGFACE_HUB_CACHE", "c", "c/models--o--r/snapshots/abc/found.gguf"),
        ("HF_HUB_CACHE", "d", "d/models--o--r/snapshots/abc/found.gguf"),
        ("LLAMA_CACHE", "l", "l/found.gguf"),
        ("UNUSED", "", ".lmstudio/models/publisher/repository/found.gguf"),
        ("UNUSED", "", ".cache/lm-studio/models/publisher/repository/found.gguf"),
        ("UNUSED", "", "models/found.GGUF"),
        ("UNUSED", "", "here/found.Gguf"),
    ] {
        let home = Home::new();
        home.furnish(place);
        let value = home.path().join(value);
        let report = home.json("doctor", &[(variable, value.to_str().expect("UTF-8"))], 0);
        assert_eq!(report["model_ids"], serde_json::json!(["found"]), "{variable} {place}: {report}");
    }
    let home = Home::new();
    home.furnish("ollama/blobs/sha256-abc");
    let manifest = r#"{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:abc","size":1}]}"#;
    let folder = home.path().join("ollama/manifests/registry.ollama.ai/library/gpt-oss");
    fs::create_dir_all(&folder).expect("folders");
    fs::write(folder.join("20b"), manifest).expect("written");
    assert_eq!(home.json("doctor", &[], 0)["model_ids"], serde_json::json!(["gpt-oss:20b"]));
}

#[cfg(unix)]
#[test]
fn what_was_passed_over_is_said_also_when_nothing_was_found() {
    let home = Home::new();
    let here = home.path().join("here");
    std::os::unix::fs::symlink("/nowhere/x.gguf", here.join("dangling.gguf")).expect("a link");
    fs::write(here.join("m.gguf.part1of2"), b"GGUF").expect("written");
    let text = home.run(&["doctor"], &[]).stdout;
    for words in ["dangling.gguf", "/nowhere/x.gguf", "does not exist", "m.gguf.part1of2", "piece"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(home.json("doctor", &[], 1)["skipped"].as_array().map(Vec::len), Some(2));
}

/// Runs without `XDG_RUNTIME_DIR`, which a service, a container or a cron job does not have.
#[test]
fn a_run_that_succeeds_says_nothing_of_errors() {
    let home = Home::new();
    home.furnish("here/current.gguf");
    for arguments in [&["doctor"][..], &["infer", "--model", "current", "--prompt", "What is 2+3?"]] {
        let run = home.run(arguments, &[]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(!run.stderr.to_lowercase().contains("error"), "{}", run.stderr);
    }
}

#[test]
fn what_cannot_run_says_why() {
    let home = Home::new();
    home.furnish("here/good.gguf");
    let here = home.path().join("here");
    fs::write(here.join("cut.gguf"), &crate::support::nano_bytes()[..1_000_000]).expect("written");
    fs::write(here.join("junk.gguf"), b"hello").expect("written");
    let mut other = crate::support::nano_bytes();
    let at = other.windows(7).position(|bytes| bytes == b"gpt-oss").expect("the architecture's name");
    other[at..at + 7].copy_from_slice(b"gpt-mop");
    fs::write(here.join("other.gguf"), other).expect("written");

    let report = home.json("doctor", &[], 0);
    let reason = |id: &str| {
        let models = report["models"].as_array().expect("an array");
        models.iter().find(|model| model["id"] == id).expect("found")["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(reason("good"), "");
    assert!(reason("other").contains("gpt-mop"), "{report}");
    assert!(reason("cut").contains("cut.gguf") && reason("junk").contains("GGUF"), "{report}");
    assert_eq!(report["model_ids"], serde_json::json!(["good"]));
    let vocabulary = home.run(&["doctor"], &[("GPT_OSS_GGUF_PATH", crate::support::o200k())]).stdout;
    let line = vocabulary.lines().find(|line| line.contains("o200k")).expect("it is listed");
    assert!(line.contains("a vocabulary only"), "{line}");
    // A list of problems is cut to its beginning.
    let mut incomplete = crate::support::nano_bytes();
    for at in 0..incomplete.len() - 8 {
        if incomplete[at..].starts_with(b".attn_q.") {
            incomplete[at..at + 8].copy_from_slice(b".attn_x.");
        }
    }
    fs::write(here.join("incomplete.gguf"), incomplete).expect("written");
    let listed = home.run(&["doctor"], &[]).stdout;
    let line = listed.lines().find(|line| line.contains("  incomplete ")).expect("it is listed");
    assert!(line.contains("attn_q.weight is missing") && line.contains("more like it"), "{line}");
    let text = home.run(&["doctor", "--verbose"], &[]).stdout;
    for word in ["not supported", "gpt-mop", "6 layers", "Can run and serve: good", "threads", "GPU adapters"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn the_environment_s_model_comes_first_under_its_name() {
    let home = Home::new();
    home.furnish("here/current.gguf");
    let variables = [("GPT_OSS_GGUF_PATH", nano()), ("GPT_OSS_GGUF_MODEL_ID", "demo")];
    for command in ["doctor", "compute"] {
        assert_eq!(home.json(command, &variables, 0)["model_ids"], serde_json::json!(["demo", "current"]));
    }
    let absent = home.json("doctor", &[("GPT_OSS_GGUF_PATH", "absent.gguf")], 0);
    let reason = absent["models"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("absent.gguf"), "{reason}");
}

#[test]
fn the_machine_is_described() {
    let home = Home::new();
    let report = home.json("doctor", &[], 1);
    let machine = &report["machine"];
    assert!(machine["threads"].as_u64().is_some_and(|threads| threads > 0), "{machine}");
    let memory = |name: &str| machine["memory"][name].as_u64().expect("bytes");
    assert!(memory("available_bytes") <= memory("total_bytes") && memory("total_bytes") > 1 << 28, "{machine}");
    let sets = machine["instruction_sets"].as_array().expect("an array");
    assert!(sets.contains(&"portable".into()) && (sets.len() > 1) == (machine["instruction_set"] != "portable"));
    if cfg!(target_arch = "aarch64") {
        assert!(machine["simd"].as_array().is_some_and(|simd| simd.contains(&"neon".into())), "{machine}");
    }
    for adapter in report["adapters"].as_array().expect("an array") {
        let largest = adapter["max_buffer_bytes"].as_u64().expect("bytes");
        assert!(adapter["usable"] != true || largest >= 256 << 20, "WebGPU's default is the least: {adapter}");
    }
}

#[test]
fn compute_lists_backends_in_both_spellings() {
    let home = Home::new();
    home.furnish("here/current.gguf");
    let list = home.run(&["compute", "list"], &[]);
    assert_eq!((list.code, &list.stdout), (0, &home.run(&["compute"], &[]).stdout), "{}", list.stderr);
    assert!(list.stdout.starts_with("cpu  ") && list.stdout.contains("model  current: ready"), "{}", list.stdout);
    let json = home.run(&["compute", "list", "--json"], &[]).json();
    assert_eq!((&json["backends"][0]["backend"], &json["backends"][0]["ready"]), (&"cpu".into(), &true.into()));
    let automatic =
        json["backends"].as_array().expect("an array").iter().filter(|backend| backend["automatic"] == true);
    assert!(automatic.count() >= 1, "{json}");
}
