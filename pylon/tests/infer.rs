//! `pylon infer`: the demo model's recorded answers through the real binary, on both backends; and everything about how
//! an answer is asked for, printed, and stopped.

use std::io::Read;
use std::process::Stdio;

use crate::support::{Folder, Mortal, Run, finish, nano, pylon, repository_file, run, run_with_input};
use gptoss_protocol::{Channel, Envelope, Event, FinishReason, Stage};
use serde::Deserialize;

/// Case 14: no reasoning to speak of, and an answer long enough to be stopped.
const PLANETS: [&str; 6] = ["--prompt", "List the planets in order.", "--reasoning", "low", "--date", "2025-07-04"];
const PLANETS_ANSWER: &str = "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune.\n";

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    level: String,
    prompt: String,
    greedy_ids: Vec<u32>,
    text: String,
    #[serde(rename = "final")]
    answer: Option<String>,
}

impl Case {
    /// The user's words and the date, where the prompt is made of nothing else but the system message.
    fn plain(&self) -> Option<(&str, Option<&str>)> {
        let (system, rest) = self.prompt.split_once("<|end|><|start|>user<|message|>")?;
        let user = rest.strip_suffix("<|end|><|start|>assistant")?;
        let date = system.split_once("Current date: ").map(|(_, rest)| &rest[..10]);
        (!system.contains("developer") && !user.contains("<|")).then_some((user, date))
    }
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(repository_file("models/nano/cases.json")).expect("cases.json");
    let cases = serde_json::from_str::<Cases>(&text).expect("cases.json").cases;
    assert_eq!(cases.len(), 30);
    cases
}

fn infer(backend: &str, arguments: &[&str]) -> Run {
    run(&[&["infer", "--gguf", nano(), "--backend", backend], arguments].concat())
}

/// Standard output of a run on the CPU that must succeed.
#[track_caller]
fn answer(arguments: &[&str]) -> String {
    let run = infer("cpu", arguments);
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stdout
}

#[track_caller]
fn refused(code: i32, words: &[&str], run: &Run) {
    assert_eq!(run.code, code, "stdout: {}\nstderr: {}", run.stdout, run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in: {}", run.stderr);
    }
    assert_eq!(run.stdout, "", "nothing is answered");
}

/// Raw: prompt and answer as recorded, token for token.
fn raw_cases_are_answered(backend: &str, chosen: &[usize]) {
    let mut wrong = Vec::new();
    for &number in chosen {
        let case = &cases()[number];
        let run = infer(backend, &["--raw", "--prompt", &case.prompt]);
        if (run.code, &run.stdout) != (0, &case.text) {
            wrong.push(format!("case {number}: {:?}, expected {:?}; {}", run.stdout, case.text, run.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Asks in words: the system message is made from flags, and only the answer is printed.
fn plain_cases_are_answered(backend: &str, most: usize) {
    let cases = cases();
    let plain: Vec<_> =
        cases.iter().filter_map(|case| Some((case, case.plain()?, case.answer.as_ref()?))).take(most).collect();
    assert!(plain.len() >= most.min(9), "{} of the cases are this simple", plain.len());
    for (case, (user, date), expected) in plain {
        let mut arguments = vec!["--prompt", user, "--reasoning", &case.level];
        arguments.extend(date.into_iter().flat_map(|date| ["--date", date]));
        let run = infer(backend, &arguments);
        assert_eq!((run.code, run.stdout), (0, format!("{expected}\n")), "{user:?}: {}", run.stderr);
    }
}

#[test]
fn every_raw_case_on_the_cpu() {
    raw_cases_are_answered("cpu", &(0..30).collect::<Vec<_>>());
}

#[test]
fn raw_cases_on_the_gpu() {
    // A tool call, the longest prompt, the longest answer.
    raw_cases_are_answered("gpu", &[21, 24, 25]);
}

#[test]
fn plain_cases_on_the_cpu() {
    plain_cases_are_answered("cpu", usize::MAX);
}

#[test]
fn plain_cases_on_the_gpu() {
    plain_cases_are_answered("gpu", 2);
}

#[test]
fn auto_says_what_it_chose_and_why() {
    let run = infer("auto", &PLANETS);
    assert_eq!((run.code, run.stdout.as_str()), (0, PLANETS_ANSWER));
    assert!(run.stderr.contains("chosen because"), "{}", run.stderr);
}

#[test]
fn reasoning_is_shown_on_request() {
    let with = answer(&["--prompt", "Reverse this word: mil", "--date", "2027-05-25", "--show-analysis"]);
    assert_eq!(with, "[analysis]\nLetters: m i l.\n[final]\nlim\n");
}

#[test]
fn instructions_reach_the_model() {
    let system = "Begin every answer with Sure:";
    let with = answer(&["--system", system, "--prompt", "What is the capital of Hungary?"]);
    assert!(with.starts_with("Sure:"), "{with}");
}

#[test]
fn stop_sequences_end_every_kind_of_answer() {
    let stopped = answer(&[&PLANETS[..], &["--stop", "xyz", "--stop", ", Mars"]].concat());
    assert_eq!(stopped, "Mercury, Venus, Earth\n");
    let case = &cases()[14];
    let raw = answer(&["--raw", "--prompt", &case.prompt, "--stop", ", Mars"]);
    let until = case.text.find(", Mars").expect("it is there") + ", Mars".len();
    assert!(raw.len() >= until && raw.len() < case.text.len() && case.text.starts_with(&raw), "{raw}");
    // Harmony's own tokens are text here: the prompt is continued, not answered.
    let plain = answer(&["--no-harmony", "--prompt", "one two three", "--max-tokens", "40"]);
    let cut = plain.chars().nth(5).expect("some text").to_string();
    let stopped = answer(&["--no-harmony", "--prompt", "one two three", "--max-tokens", "40", "--stop", &cut]);
    let (before, _) = plain.split_once(&cut).expect("it was taken from there");
    assert_eq!(stopped.trim_end_matches('\n'), before);
}

#[test]
fn the_same_seed_draws_the_same_text() {
    let draw = |seed: &str| {
        let sampling = ["--temperature", "1.8", "--top-k", "40", "--top-p", "0.98", "--min-p", "0.001", "--seed", seed];
        answer(&[&["--no-harmony", "--prompt", "Once", "--max-tokens", "60"], &sampling[..]].concat())
    };
    let texts: Vec<String> = ["1", "2", "3"].map(draw).to_vec();
    assert_eq!(draw("2"), texts[1]);
    assert!(texts.iter().any(|text| *text != texts[0]), "three seeds, one text: {}", texts[0]);
}

#[test]
fn at_most_as_many_tokens_as_allowed() {
    let case = &cases()[25];
    let run = infer("cpu", &["--raw", "--prompt", &case.prompt, "--max-tokens", "7", "--json"]);
    let ids: Vec<u32> = events(&run).into_iter().filter_map(|event| token(event).map(|token| token.id)).collect();
    assert_eq!(ids, case.greedy_ids[..7]);
    assert!(run.stderr.contains("--max-tokens"), "a cut answer is not passed off as a whole one: {}", run.stderr);
}

/// The events of a run with `--json`; numbered without a gap.
#[track_caller]
fn events(run: &Run) -> Vec<Event> {
    assert_eq!(run.code, 0, "{}", run.stderr);
    let envelopes: Vec<Envelope> = run
        .stdout
        .lines()
        .map(|line| Envelope::from_json(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(envelopes.iter().zip(0..).all(|(envelope, number)| envelope.sequence == number), "a gap");
    assert!(envelopes.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms), "time goes backwards");
    envelopes.into_iter().map(|envelope| envelope.event).collect()
}

fn token(event: Event) -> Option<gptoss_protocol::TokenInfo> {
    match event {
        Event::Token(token) => Some(token),
        _ => None,
    }
}

#[test]
fn json_is_the_telemetry_of_the_whole_run() {
    let events = events(&infer("cpu", &[&PLANETS[..], &["--json"]].concat()));
    let position = |found: &dyn Fn(&Event) -> bool| events.iter().position(found).expect("the event is there");
    let order = [
        position(&|event| matches!(event, Event::Model(model) if model.layers == 6 && model.experts == 8)),
        position(&|event| matches!(event, Event::Ready { .. })),
        position(&|event| matches!(event, Event::PromptEncoded { .. })),
        position(&|event| matches!(event, Event::Token(_))),
        position(&|event| matches!(event, Event::Finished { .. })),
    ];
    assert!(order.is_sorted(), "{order:?}");
    let finished = events.iter().find_map(|event| match event {
        Event::Finished { reason, new_tokens, final_text, .. } => Some((*reason, *new_tokens, final_text.clone())),
        _ => None,
    });
    let tokens: Vec<_> = events.into_iter().filter_map(token).collect();
    let answer = PLANETS_ANSWER.trim_end().to_owned();
    assert_eq!(finished, Some((FinishReason::Return, tokens.len() as u32, answer.clone())));
    let said: String =
        tokens.iter().filter(|token| token.channel == Some(Channel::Final)).map(|token| token.text.as_str()).collect();
    assert_eq!(said, answer);
}

#[test]
fn json_of_plain_text_has_the_text() {
    let arguments = ["--no-harmony", "--prompt", "one two three", "--max-tokens", "40"];
    let plain = answer(&arguments);
    let cut = plain.chars().nth(5).expect("some text").to_string();
    let events = events(&infer("cpu", &[&arguments[..], &["--stop", &cut, "--json"]].concat()));
    let (before, _) = plain.split_once(&cut).expect("it was taken from there");
    let ended: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Finished { reason, final_text, .. } => Some((*reason, final_text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [(FinishReason::StopSequence, before)]);
    let failed = events.iter().any(|event| {
        matches!(event, Event::Stage { stage: Stage::Decode, status, .. } if *status == gptoss_protocol::StageStatus::Cancelled)
    });
    assert!(!failed, "nobody cancelled anything");
    let said: String = events.into_iter().filter_map(token).map(|token| token.text).collect();
    assert_eq!(said, before);
}

/// The CPU can be as precise as the GPU if that is asked for; the answer is that of the GPU's own arithmetic.
#[test]
fn precision_can_be_chosen() {
    let case = &cases()[25];
    let prompt = ["--raw", "--prompt", &case.prompt, "--json"];
    let run = |flags: &[&str]| infer("cpu", &[&prompt[..], flags].concat());
    let precise = run(&["--activations", "f32", "--kv", "f32"]);
    assert!(precise.stderr.contains("F32 activations, F32 cache"), "{}", precise.stderr);
    let ids: Vec<u32> = events(&precise).into_iter().filter_map(|event| token(event).map(|token| token.id)).collect();
    assert_eq!(ids, case.greedy_ids);
    let quick = run(&["--max-tokens", "1"]);
    assert!(quick.stderr.contains("8-bit activations, F16 cache"), "{}", quick.stderr);
    refused(2, &["--activations", "CPU"], &infer("gpu", &["--prompt", "hello", "--activations", "int8"]));
}

#[test]
fn json_tells_of_failures_too() {
    let run = infer("cpu", &["--prompt", "hello", "--max-kv", "16", "--json"]);
    assert_eq!(run.code, 1);
    let last = run.stdout.lines().last().expect("events");
    match Envelope::from_json(last).expect("an envelope").event {
        Event::Failed { stage: Stage::Prefill, failure } => assert!(failure.message.contains("16"), "{failure:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statistics_go_to_standard_error() {
    let run = infer("cpu", &[&PLANETS[..], &["--stats"]].concat());
    assert_eq!((run.code, run.stdout.as_str()), (0, PLANETS_ANSWER));
    for word in ["prefill", "tokens/s", "p99", "KV cache"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
}

#[test]
fn the_prompt_may_come_on_standard_input() {
    let arguments = ["infer", "--gguf", nano(), "--backend", "cpu", "--prompt", "-"];
    let asked = run_with_input(&[&arguments[..], &PLANETS[2..]].concat(), b"List the planets in order.\n");
    assert_eq!((asked.code, asked.stdout.as_str()), (0, PLANETS_ANSWER), "{}", asked.stderr);
    refused(2, &["prompt", "UTF-8"], &run_with_input(&arguments, b"\xFF\xFE"));
    refused(2, &["prompt", "empty"], &run_with_input(&arguments, b"\n"));
    refused(2, &["--prompt", "terminal"], &run_with_input(&arguments[..5], b"hello"));
}

#[test]
fn the_environment_gives_defaults_and_flags_win() {
    let with = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = pylon();
        command.args(["infer", "--backend", "cpu"]).args(arguments).envs(variables.iter().copied());
        finish(&mut command, b"")
    };
    let path = ("GPT_OSS_GGUF_PATH", nano());
    assert_eq!(with(&[path], &PLANETS).stdout, PLANETS_ANSWER);
    assert_eq!(with(&[("GPT_OSS_GGUF_PATH", "absent.gguf")], &[&["--gguf", nano()], &PLANETS[..]].concat()).code, 0);
    refused(2, &["absent.gguf"], &with(&[("GPT_OSS_GGUF_PATH", "absent.gguf")], &PLANETS));
    // The model of that path is the one that carries the id.
    let named = [path, ("GPT_OSS_GGUF_MODEL_ID", "demo")];
    assert_eq!(with(&named, &[&["--model", "demo"], &PLANETS[..]].concat()).stdout, PLANETS_ANSWER);
    refused(2, &["\"other\"", "doctor"], &with(&named, &[&["--model", "other"], &PLANETS[..]].concat()));

    let continued =
        with(&[path, ("GPT_OSS_GGUF_HARMONY", "0"), ("GPT_OSS_GGUF_MAX_TOKENS", "20")], &["--prompt", "one two three"]);
    let expected = answer(&["--no-harmony", "--prompt", "one two three", "--max-tokens", "20"]);
    assert_eq!((continued.code, continued.stdout), (0, expected));
    let small = ("GPT_OSS_GGUF_MAX_KV", "16");
    refused(1, &["16", "context"], &with(&[path, small], &PLANETS));
    assert_eq!(with(&[path, small], &[&["--max-kv", "500"], &PLANETS[..]].concat()).code, 0);
    refused(2, &["GPT_OSS_GGUF_THREADS", "two"], &with(&[path, ("GPT_OSS_GGUF_THREADS", "two")], &PLANETS));
    refused(2, &["GPT_OSS_GGUF_MOE_FALLBACK", "never"], &with(&[path, ("GPT_OSS_GGUF_MOE_FALLBACK", "1")], &PLANETS));
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let hello = ["--prompt", "hello"];
    let with = |arguments: &[&str]| infer("cpu", &[&hello[..], arguments].concat());
    refused(2, &["--moe-fallback", "never"], &with(&["--moe-fallback"]));
    refused(2, &["--temperature", "2.5", "from 0 (greedy) to 2"], &with(&["--temperature", "2.5"]));
    refused(2, &["--temperature", "-1"], &with(&["--temperature", "-1"]));
    refused(2, &["--top-p", "0"], &with(&["--top-p", "0"]));
    refused(2, &["--min-p", "1.5"], &with(&["--min-p", "1.5"]));
    refused(2, &["--max-tokens", "0"], &with(&["--max-tokens", "0"]));
    refused(2, &["--date", "2024-13-01"], &with(&["--date", "2024-13-01"]));
    refused(2, &["--reasoning", "medium"], &with(&["--reasoning", "much"]));
    refused(2, &["--stop"], &with(&["--stop", ""]));
    refused(2, &["--raw", "--system"], &with(&["--raw", "--system", "x"]));
    refused(2, &["--threads"], &with(&["--threads", "0"]));
    refused(2, &["99", "--layers"], &with(&["--layers", "99"]));
    refused(1, &["own context", "131072"], &with(&["--max-kv", "999999"]));
    refused(1, &["tokens long", "16"], &with(&["--max-kv", "16"]));
    refused(2, &["prompt", "empty"], &infer("cpu", &["--prompt", ""]));
    refused(2, &["--expert-memory", "1536Mi"], &with(&["--expert-memory", "lots"]));
    refused(2, &["--gpu-memory", "1536Mi"], &with(&["--gpu-memory", "lots"]));
    refused(1, &["1.00 MB", "4.76 MB", "experts"], &infer("gpu", &["--prompt", "x", "--gpu-memory", "1MB"]));
}

#[test]
fn what_does_not_fit_is_paged_and_said_and_nobody_is_asked() {
    let run = infer("gpu", &["--prompt", "Name the capital of Hungary.", "--gpu-memory", "4.8MB", "--max-kv", "300"]);
    assert!(run.stdout.contains("The capital of Hungary is Budapest."), "{}", run.stdout);
    assert!(run.stderr.contains("experts of each layer") && run.stderr.contains("stay in the file"), "{}", run.stderr);
}

#[test]
fn files_that_are_no_model_are_refused() {
    let folder = Folder::new();
    let absent = folder.path("absent.gguf");
    let text = folder.write("text.gguf", b"this is not a model");
    let cut = folder.write("cut.gguf", &crate::support::nano_bytes()[..2_000_000]);
    for backend in ["cpu", "gpu"] {
        let with = |path: &str| run(&["infer", "--backend", backend, "--gguf", path, "--prompt", "x"]);
        refused(2, &["absent.gguf"], &with(&absent));
        refused(1, &["text.gguf", "GGUF"], &with(&text));
        refused(1, &["cut.gguf"], &with(&cut));
    }
}

#[test]
fn without_a_model_the_demo_model_answers_and_it_is_said() {
    let home = Folder::new();
    let ask = || {
        let mut command = pylon();
        command.env_remove("XDG_CACHE_HOME").env("HOME", home.path("")).env("USERPROFILE", home.path(""));
        finish(command.args(["infer", "--backend", "cpu"]).args(PLANETS), b"")
    };
    for _ in 0..2 {
        let run = ask();
        assert_eq!((run.code, run.stdout.as_str()), (0, PLANETS_ANSWER), "{}", run.stderr);
        assert!(run.stderr.contains("no model was given") && run.stderr.contains("gpt-oss-nano"), "{}", run.stderr);
        assert!(run.stderr.contains("--gguf") && run.stderr.contains("GPT_OSS_GGUF_PATH"), "{}", run.stderr);
    }
}

#[test]
fn what_lies_beside_models_is_named_for_what_it_is() {
    let folder = Folder::new();
    let nano = crate::support::nano_bytes();
    let cases: [(&str, &[u8], &str, &str); 8] = [
        ("page.gguf", b"\xef\xbb\xbf\n <!DOCTYPE HTML><html>", "web page", "/resolve/"),
        ("lfs.gguf", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull"),
        ("entry.gguf", b"Entry not found", "Entry not found", "host"),
        ("empty.gguf", b"", "empty", "Download"),
        ("zeros.gguf", &[0; 10_000], "zeros", "finish"),
        ("zip.gguf", b"PK\x03\x04\x14\0", "ZIP archive", "Unpack"),
        ("m.gguf.part1of2", &nano[..1_500_000], "first piece", "cat"),
        ("m.gguf.part2of2", &nano[1_500_000..], "later piece", "cat"),
    ];
    for (name, bytes, what, advice) in cases {
        let path = folder.write(name, bytes);
        let run = run(&["infer", "--backend", "cpu", "--gguf", &path, "--prompt", "x"]);
        refused(1, &[name, what, advice], &run);
        let is_damaged = name == "empty.gguf" || name == "zeros.gguf";
        assert!(is_damaged || !run.stderr.contains("ownload the file again"), "{name}: {}", run.stderr);
    }
    let parts = crate::support::write_split(&folder, "m", &gptoss_synth::Spec::tiny(), 2);
    let joined = parts.iter().flat_map(|part| std::fs::read(part).expect("a part")).collect::<Vec<u8>>();
    let joined = folder.write("joined.gguf", &joined);
    let run = run(&["infer", "--backend", "cpu", "--gguf", &joined, "--prompt", "x"]);
    refused(1, &["joined.gguf", "joined with cat", "part 1 of 2", "Keep the parts"], &run);
    assert!(!run.stderr.contains("ownload"), "{}", run.stderr);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_prompt() {
    let arguments = ["infer", "--gguf", nano(), "--backend", "cpu", "--prompt", "-"];
    let ask = |input: &[u8]| run_with_input(&arguments, input);
    let marked = ask(b"\xef\xbb\xbfWhat is 2+3?\r\n");
    assert_eq!((marked.code, marked.stdout), (0, ask(b"What is 2+3?").stdout), "{}", marked.stderr);
    refused(2, &["UTF-16", "UTF-8"], &ask(b"\xff\xfeW\0"));
}

#[test]
fn paged_experts_give_the_same_answer() {
    let too_few = infer("gpu", &["--prompt", "x", "--expert-memory", "1KB"]);
    refused(1, &["expert", "at least"], &too_few);
    let (_, rest) = too_few.stderr.split_once("at least ").expect("it says how many bytes would do");
    let least = &rest.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let case = &cases()[21];
    let on_cpu = infer("cpu", &["--raw", "--prompt", &case.prompt, "--expert-memory", least]);
    assert_eq!((on_cpu.code, on_cpu.stdout.as_str()), (0, case.text.as_str()));
    assert!(on_cpu.stderr.contains("--expert-memory has no effect"), "{}", on_cpu.stderr);
    let run = infer("gpu", &["--raw", "--prompt", &case.prompt, "--expert-memory", least, "--stats"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, case.text.as_str()), "{}", run.stderr);
    assert!(run.stderr.contains("evictions") && !run.stderr.contains(" 0 evictions"), "{}", run.stderr);
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let mut command = pylon();
    command.args(["infer", "--gguf", nano(), "--backend", "cpu", "--json"]).args(PLANETS);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let status = child.wait().expect("it ends");
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("UTF-8");
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(!errors.contains("panicked") && !errors.contains("rror"), "{errors}");
}

/// A model without layers repeats itself without end, until somebody stops it.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_answer() {
    let mut command = pylon();
    command.args(["infer", "--gguf", nano(), "--backend", "cpu", "--no-harmony", "--prompt", "x"]);
    command.args(["--layers", "0", "--max-kv", "131072", "--max-tokens", "131000"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let Mortal(child) = &mut Mortal(child);
    let mut output = child.stdout.take().expect("piped");
    let mut first = [0; 1];
    output.read_exact(&mut first).expect("it answers");
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("readable");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(rest.last(), Some(&b'\n'), "the text ends with a line");
}
