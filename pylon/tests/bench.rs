//! `pylon bench`: what it reports adds up, and what it cannot do it says.

use crate::support::{Folder, Mortal, finish, nano, pylon, run};
use gptoss_gguf::TensorType;
use gptoss_synth::{Spec, TypeMix};
use serde_json::Value;

const SMALL: [&str; 6] = ["--prompt-tokens", "96", "--new-tokens", "16", "--repeat", "2"];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn report(backend: &str, flags: &[&str]) -> Value {
    let run = run(&[&["bench", "--gguf", nano(), "--backend", backend, "--json"], &SMALL[..], flags].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.json()
}

/// What is said of flags that cannot be used.
#[track_caller]
fn refused(flags: &[&str]) -> String {
    let run = run(&[&["bench", "--gguf", nano()], flags].concat());
    assert_eq!(run.code, 2, "{}", run.stderr);
    run.stderr
}

/// What holds on either backend.
#[track_caller]
fn adds_up(report: &Value) {
    let cold = &report["cold"];
    let tokens = number(&cold["time_to_first_token_ms"]) * number(&cold["prefill_tokens_per_second"]) / 1e3;
    assert!((tokens - 96.0).abs() < 1e-6, "{tokens} tokens of a prompt of 96");
    for (run, steps) in [("cold", 15), ("warm", 30)] {
        let between = &report[run]["between_tokens_ms"];
        assert_eq!(between["samples"], steps);
        let percentiles = ["p50", "p90", "p99", "max"].map(|name| number(&between[name]));
        assert!(percentiles[0] > 0.0 && percentiles.is_sorted(), "{percentiles:?}");
        assert!(number(&report[run]["decode_tokens_per_second"]) > 0.0);
    }
    assert_eq!(report["prefix_hit"]["reused_tokens"], 95);
    assert!(number(&report["prefix_hit"]["time_to_first_token_ms"]) > 0.0);
    // models/nano: 6 layers, 4 of 8 experts. Everything is 3.05 MB, of which the chosen halves are read.
    let weights = number(&report["weight_bytes_per_token"]);
    assert!((1.5e6..2.5e6).contains(&weights), "{weights} bytes of weights per token");
    let moved = number(&report["weight_bytes_per_second"]);
    assert!((moved / (weights * number(&report["warm"]["decode_tokens_per_second"])) - 1.0).abs() < 1e-6);
}

#[test]
fn the_cpu_is_measured_beside_its_memory() {
    let report = report("cpu", &["--threads", "1", "--sequences", "1,5"]);
    adds_up(&report);
    let at_once = report["sequences"].as_array().expect("a list");
    let counts: Vec<f64> = at_once.iter().map(|it| number(&it["sequences"])).collect();
    assert_eq!(counts, [1.0, 5.0]);
    assert!(at_once.iter().all(|it| number(&it["tokens_per_second"]) > 0.0), "{at_once:?}");
    assert_eq!(report["threads"], 1);
    assert!(report["backend"].as_str().is_some_and(|backend| backend.starts_with("CPU: 1 thread,")), "{report}");
    let memory = number(&report["memory_bytes_per_second"]);
    assert!((1e8..1e13).contains(&memory), "{memory} bytes/s");
    // In turns of their own, which other work on this machine makes slower or faster than the warm runs.
    let of_warm_runs = number(&report["weight_bytes_per_second"]) / memory;
    let share = number(&report["memory_share"]) / of_warm_runs;
    assert!((0.1..10.0).contains(&share), "{share} times that of the warm runs");
    assert_eq!(report["compare"], Value::Null);
}

#[test]
fn an_instruction_set_is_forced_or_refused_by_name() {
    let report = report("cpu", &["--isa", "portable"]);
    assert!(report["backend"].as_str().is_some_and(|backend| backend.contains(", portable, ")), "{report}");
    let absent = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    for (name, expected) in [("avx1024", "avx512-vnni"), (absent, "this processor does not have it")] {
        let error = refused(&["--isa", name]);
        assert!(error.contains("--isa") && error.contains(expected), "{error}");
    }
    assert!(refused(&["--isa", "portable", "--backend", "gpu"]).contains("cpu with --isa"));
}

/// The two ways give the same sums, but for their order.
#[test]
fn products_of_blocks_are_measured_beside_those_of_decoded_weights() {
    let measured = run(&["bench", "--gguf", nano(), "--products", "--threads", "2", "--repeat", "3", "--json"]);
    assert_eq!(measured.code, 0, "{}", measured.stderr);
    let report = measured.json();
    assert_eq!((&report["threads"], &report["repeat"]), (&2.into(), &3.into()));
    let products = report["products"].as_array().expect("a list");
    let kinds: Vec<_> = products.iter().map(|product| product["type"].as_str().expect("a name")).collect();
    assert_eq!(kinds, ["Q8_0", "MXFP4"]);
    // The embedding, and gate, up or down of a layer: 8 experts of 96 by 192.
    let sizes = [1280.0 * 192.0, 8.0 * 96.0 * 192.0];
    for (product, weights) in products.iter().zip(sizes) {
        assert!((number(&product["rows"]) * number(&product["columns"]) - weights).abs() < 0.5, "{product}");
        let [fused, decode, multiply] =
            ["fused_f32_us", "decode_us", "multiply_us"].map(|field| number(&product[field]));
        assert!(fused > 0.0 && decode > 0.0 && multiply > 0.0 && number(&product["fused_int8_us"]) > 0.0, "{product}");
        assert!((number(&product["times_fused"]) / ((decode + multiply) / fused) - 1.0).abs() < 1e-6, "{product}");
        assert!(number(&product["difference"]) < 1e-5, "{product}");
    }
    assert!(refused(&["--products", "--backend", "gpu"]).contains("cpu with --products"));
    let folder = Folder::new();
    let wide = Spec::tiny().layers(1).types(TypeMix::Uniform(TensorType::BF16)).to_bytes().expect("a model");
    let wide = run(&["bench", "--products", "--gguf", &folder.write("wide.gguf", &wide)]).expect(2);
    assert!(wide.stderr.contains("wide.gguf") && wide.stderr.contains("quantised"), "{}", wide.stderr);
}

#[test]
fn the_gpu_is_measured_by_its_own_clock_and_copies() {
    let report = report("gpu", &["--watch"]);
    adds_up(&report);
    let watched = &report["watched"];
    let rates = ["unwatched", "watched"].map(|name| number(&watched[name]));
    assert!(rates.iter().all(|rate| *rate > 0.0) && watched["rounds"] == 2, "{watched}");
    assert!((number(&watched["share"]) - rates[1] / rates[0]).abs() < 1e-9, "{watched}");
    let parts = watched["parts"].as_array().expect("parts");
    let names: Vec<_> = parts.iter().filter_map(|part| part["what"].as_str()).collect();
    assert_eq!(names, ["routes", "norms", "one head"]);
    assert!(
        parts.iter().all(|it| (number(&it["share"]) - number(&it["watched"]) / rates[0]).abs() < 1e-9),
        "{watched}"
    );
    assert!(report["backend"].as_str().is_some_and(|backend| backend.starts_with("GPU: ")), "{report}");
    assert_eq!(report["threads"], Value::Null);
    let memory = number(&report["memory_bytes_per_second"]);
    assert!((1e8..1e14).contains(&memory), "{memory} bytes/s");
    let share = number(&report["memory_share"]);
    assert!((share / (number(&report["weight_bytes_per_second"]) / memory) - 1.0).abs() < 1e-6);
    // Every call of the recipe is timed: one, eight a layer, and two for the token; the prompt of 96 comes in two
    // batches.
    let launches = |of: &str| {
        let operations = report["operations"][of].as_array().expect("a list");
        assert!(operations.iter().all(|operation| number(&operation["microseconds"]) > 0.0), "{operations:?}");
        operations.iter().map(|operation| operation["launches"].as_u64().expect("a count")).sum::<u64>()
    };
    assert_eq!(launches("decode"), 1 + 6 * 8 + 2);
    assert_eq!(launches("prefill"), 2 * (1 + 6 * 8) + 2, "logits of the last token only");
}

#[test]
fn the_table_has_every_run() {
    let run = run(&[&["bench", "--gguf", nano(), "--backend", "cpu"], &SMALL[..]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    for word in ["cold", "warm", "prefix hit", "p99", "weights read per token", "tokens/s"] {
        assert!(run.stdout.contains(word), "{word}: {}", run.stdout);
    }
}

#[test]
fn fewer_layers_read_less() {
    let all = number(&report("cpu", &[])["weight_bytes_per_token"]);
    let two = number(&report("cpu", &["--layers", "2"])["weight_bytes_per_token"]);
    assert!(two < all / 2.0, "{two} of {all}");
}

#[test]
fn a_comparison_needs_what_it_compares_with() {
    let empty = tempfile::tempdir().expect("a folder");
    let mut command = pylon();
    command.args(["bench", "--gguf", nano(), "--compare", "llama-bench"]).env("PATH", empty.path());
    let absent = finish(&mut command, b"");
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("not on the PATH") && absent.stderr.contains("cmake"), "{}", absent.stderr);
    for flags in [&["--compare", "other"][..], &["--repeat", "0"], &["--new-tokens", "1"], &["--prompt-tokens", "0"]] {
        let refused = run(&[&["bench", "--gguf", nano()], flags].concat());
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(flags[0]), "{}", refused.stderr);
    }
}

/// The first Ctrl-C ends what is going on, between two tokens.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_it() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let mut command = pylon();
    command.args(["bench", "--gguf", nano(), "--backend", "cpu", "--repeat", "1000000"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let Mortal(child) = &mut Mortal(child);
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("UTF-8");
    assert!(line.contains("CPU"), "it measures now: {line}");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(kill.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}
