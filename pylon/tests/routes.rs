//! Routes that are recorded, and replays of them, against the engine that pages for real.

use serde_json::Value;

use crate::support::{Folder, Run, nano, run};

/// What a run that succeeds prints.
#[track_caller]
fn printed(arguments: &[&str]) -> Run {
    let run = run(arguments);
    assert_eq!(run.code, 0, "{}", run.stderr);
    run
}

const QUESTION: [&str; 8] =
    ["--prompt", "What is 12 + 30?", "--date", "2026-01-31", "--kv", "f32", "--activations", "f32"];

/// Hits and misses of `pylon infer --stats`.
fn counted(slots_bytes: &str) -> (u64, u64) {
    let flags = ["infer", "--gguf", nano(), "--backend", "gpu", "--expert-memory", slots_bytes, "--stats"];
    let gpu_question: Vec<&str> = QUESTION[..6].to_vec();
    let run = printed(&[&flags[..], &gpu_question].concat());
    let line = run.stderr.lines().find(|line| line.starts_with("experts")).expect("experts were paged").to_owned();
    let number = |word: &str| -> u64 {
        let before = line.split(word).next().expect("the word is there");
        before.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    (number(" hits"), number(" misses"))
}

/// The replay of what the CPU recorded counts what the GPU engine counts when it pages: the same experts, the same
/// slots.
#[test]
fn a_replay_is_what_the_engine_does() {
    let folder = Folder::new();
    let trace = folder.path("routes.jsonl");
    let flags = ["infer", "--gguf", nano(), "--record-routes", &trace];
    printed(&[&flags[..], &QUESTION].concat());
    let replays = printed(&["bench", "--replay-trace", &trace, "--json"]).json();
    assert_eq!(
        (&replays["layers"], &replays["experts"], &replays["experts_per_token"]),
        (&6.into(), &8.into(), &4.into())
    );
    let tried = replays["tried"].as_array().expect("a list");
    let of = |slots: u64, policy: &str, guesses: bool| -> &Value {
        let is_it = |it: &&Value| it["slots"] == slots && it["policy"] == policy && it["guesses"] == guesses;
        tried.iter().find(is_it).unwrap_or_else(|| panic!("{slots} {policy} {guesses} is tried"))
    };
    // Slots of 4 and 6 experts in 6 layers; a slot takes a little more than an expert in the file.
    for (slots, memory) in [(4, "800K"), (6, "1200K")] {
        let (hits, misses) = counted(memory);
        let all = &of(slots, "recent", false)["all"];
        assert_eq!((&all["hits"], &all["misses"]), (&hits.into(), &misses.into()), "{slots} slots");
    }
    // More slots never read more, nobody reads less than who knows the future, and guesses are read on top.
    let reads = |slots, policy, guesses| of(slots, policy, guesses)["all"]["reads"].as_u64().expect("a count");
    for policy in ["recent", "often", "farthest"] {
        assert_eq!(reads(8, policy, false), 48, "each once");
        for slots in 4..=8 {
            assert!(reads(slots, "farthest", false) <= reads(slots, policy, false), "{slots} {policy}");
            assert!(reads(slots, policy, false) <= reads(slots, policy, true), "{slots} {policy}");
        }
    }
    let shown = printed(&["bench", "--replay-trace", &trace]).stdout;
    assert!(shown.contains("round trips") && shown.contains("farthest"), "{shown}");
    // Another answer of the same model is put behind it.
    printed(&[&flags[..], &QUESTION].concat());
    let twice = printed(&["bench", "--replay-trace", &trace, "--json"]).json();
    assert_eq!(twice["batches"].as_u64(), replays["batches"].as_u64().map(|once| 2 * once));
}

#[test]
fn what_is_no_trace_and_where_none_can_be_made_is_said() {
    let folder = Folder::new();
    let wrong = folder.write("wrong.jsonl", b"{\"model\": 3}\n");
    let refused = run(&["bench", "--replay-trace", &wrong]).expect(2).stderr;
    assert!(refused.contains("line 1") && refused.contains("--record-routes"), "{refused}");
    assert!(!refused.contains("UTF-8"), "advice that does not help: {refused}");
    // A file of another model, or of fewer layers, is refused: nothing is answered, and the file stays.
    let known = crate::support::repository_file("models/nano/routes.jsonl");
    let copy = folder.write("copy.jsonl", &std::fs::read(&known).expect("the recording"));
    let fewer = run(&["infer", "--gguf", nano(), "--layers", "2", "--prompt", "a", "--record-routes", &copy]).expect(2);
    assert!(fewer.stderr.contains("6 layers") && fewer.stderr.contains("2 layers"), "{}", fewer.stderr);
    assert_eq!(fewer.stdout, "", "no answer was waited for");
    assert_eq!(std::fs::read(&copy).expect("it is there"), std::fs::read(&known).expect("the recording"));
    let nowhere = folder.path("no/such/folder.jsonl");
    let nowhere = run(&["infer", "--gguf", nano(), "--prompt", "a", "--record-routes", &nowhere]).expect(2);
    assert!(nowhere.stdout.is_empty() && nowhere.stderr.contains("cannot write"), "{}", nowhere.stderr);
    let on_gpu = ["infer", "--gguf", nano(), "--backend", "gpu", "--prompt", "a", "--record-routes", &wrong];
    let refused = run(&on_gpu).expect(2).stderr;
    assert!(refused.contains("--backend") && refused.contains("cpu"), "{refused}");
}
