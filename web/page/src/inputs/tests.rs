use gptoss_protocol::options::OPTIONS;
use gptoss_protocol::{
    Attention, CacheMode, CacheOptions, DeviceOptions, Effort, ExpertLoading, LoadOptions, NetworkOptions,
    PromptFormat, Sampling,
};
use gptoss_source::retry::RetryPolicy;
use gptoss_source::store::CACHED_SCHEME;

use super::*;

fn inputs(values: &[(OptionId, &str)]) -> Inputs {
    let mut inputs = Inputs::default();
    for (field, text) in values {
        inputs.set(*field, *text);
    }
    inputs
}

#[test]
fn blank_inputs_are_the_defaults() {
    let inputs = inputs(&[(OptionId::Prompt, " Hi \n"), (OptionId::MaxKvTokens, "  ")]);
    let engine = LoadOptions { experts: ExpertLoading::AsNeeded, ..LoadOptions::default() };
    let options = LoadSettings { engine, ..LoadSettings::default() };
    assert_eq!(inputs.load_options().expect("defaults"), options);
    let prompt = inputs.prompt().expect("defaults");
    assert_eq!(prompt.user, "Hi");
    assert_eq!((prompt.format, prompt.effort), (PromptFormat::Harmony, Effort::Medium));
    assert_eq!((prompt.date, prompt.max_new_tokens), (None, 512));
    assert_eq!(prompt.sampling, Sampling::default());
}

#[test]
fn what_was_chosen_is_said_and_defaults_are_not() {
    let asking = [Owner::Prompt, Owner::Sampling];
    let mut chosen = Inputs::on("2026-11-30".to_owned());
    for (option, text) in [
        (OptionId::Prompt, "Hi"),
        (OptionId::Effort, "high"),
        (OptionId::Date, "2026-11-30"),
        (OptionId::History, "yes"),
        (OptionId::MaxNewTokens, "512"),
        (OptionId::MaxKvTokens, "4096"),
    ] {
        chosen.set(option, text);
    }
    assert_eq!(chosen.chosen(&asking), [""; 0], "defaults, and what can be seen");
    for (option, text) in [
        (OptionId::Date, "none"),
        (OptionId::History, "no"),
        (OptionId::Temperature, "0.7"),
        (OptionId::Instructions, "Be brief\nand kind"),
    ] {
        chosen.set(option, text);
    }
    let mut said = chosen.chosen(&asking);
    said.sort();
    let each =
        ["Date in the system message none", "Developer instructions", "Temperature 0.7", "each question stands alone"];
    assert_eq!(said, each);
    assert_eq!(chosen.chosen(&[Owner::Engine]), ["KV capacity 4096"]);
}

#[test]
fn every_choice_arrives() {
    let inputs = inputs(&[
        (OptionId::Prompt, "Hi"),
        (OptionId::PromptFormat, "text"),
        (OptionId::Instructions, "Be brief"),
        (OptionId::Effort, "high"),
        (OptionId::Date, "2024-02-29"),
        (OptionId::MaxNewTokens, "64"),
        (OptionId::MaxKvTokens, "4096"),
        (OptionId::Temperature, "0.7"),
        (OptionId::TopK, "40"),
        (OptionId::TopP, "0.9"),
        (OptionId::Seed, "18446744073709551615"),
        (OptionId::ExpertMemory, "1.5G"),
        (OptionId::GpuMemory, "8Gi"),
        (OptionId::Layers, "0"),
        (OptionId::Attention, "dense"),
        (OptionId::KvFormat, "f32"),
        (OptionId::Yarn, "truncate"),
        (OptionId::FetchAttempts, "3"),
        (OptionId::FetchStall, "2.5"),
        (OptionId::Cache, "no"),
        (OptionId::GpuLimits, "default"),
        (OptionId::ExpertLoading, "ahead"),
    ]);
    let engine = LoadOptions {
        layers: Some(0),
        max_kv_tokens: Some(4096),
        expert_memory_bytes: Some(1_500_000_000),
        gpu_memory_bytes: Some(8 << 30),
        attention: Attention::Dense,
        kv_f32: true,
        yarn_truncate: true,
        experts: ExpertLoading::Ahead,
    };
    let options = LoadSettings {
        engine,
        gpu: DeviceOptions { default_limits: true, tier: None },
        network: NetworkOptions { attempts: Some(3), stall_ms: Some(2500) },
        cache: CacheOptions { mode: CacheMode::Off },
    };
    assert_eq!(inputs.load_options().expect("good"), options);
    let prompt = Prompt {
        history: Vec::new(),
        functions: Vec::new(),
        user: "Hi".into(),
        format: PromptFormat::Text,
        instructions: "Be brief".into(),
        effort: Effort::High,
        date: Some("2024-02-29".into()),
        max_new_tokens: 64,
        sampling: Sampling { temperature: 0.7, top_k: 40, top_p: 0.9, seed: u64::MAX, ..Sampling::default() },
        stop: Vec::new(),
        ids: Box::default(),
        top_tokens: None,
        logits: Box::default(),
        response_format: None,
        shape: None,
    };
    assert_eq!(inputs.prompt().expect("good"), prompt);
}

#[test]
fn all_errors_come_at_once_and_name_the_field() {
    let bad = inputs(&[(OptionId::MaxNewTokens, "0"), (OptionId::TopP, "0"), (OptionId::Temperature, "-1")]);
    let errors = bad.prompt().expect_err("three bad, one missing");
    let fields: Vec<_> = errors.iter().filter_map(|error| error.field).collect();
    assert_eq!(fields, [OptionId::Prompt, OptionId::MaxNewTokens, OptionId::Temperature, OptionId::TopP]);
    assert_eq!(errors[3].message, "Top-p (top_p) is \"0\", expected a number above 0 and at most 1.");
}

#[test]
fn each_field_accepts_and_refuses_what_it_says() {
    type Row = (OptionId, &'static [&'static str], &'static [&'static str]);
    let rows: [Row; 20] = [
        (
            OptionId::Gguf,
            &["http://h/m.gguf", "HTTPS://h/m", "/models/m.gguf", "./m.gguf", "cached:m.gguf", "pylon://h:1"],
            &[
                "",
                "cached:",
                "m.gguf",
                "pylon://",
                "pylon",
                "file:///m.gguf",
                "ftp://h/m",
                "http:m",
                "https://huggingface.co/O/R/blob/main/m.gguf",
                "https://huggingface.co/O/R",
            ],
        ),
        (OptionId::PromptFormat, &["harmony", "text"], &["", "raw"]),
        (OptionId::Effort, &["low", "medium", "high"], &["", "LOW", "max"]),
        (
            OptionId::Date,
            &["2025-06-28", "none", "today", "2000-02-29"],
            &["", "28.06.2025", "2025-13-01", "1900-02-29", "2025-6-28", "2025-00-10"],
        ),
        (OptionId::MaxNewTokens, &["1", "131072"], &["", "0", "-1", "+5", "1.5", "4294967296", "ten"]),
        (OptionId::MaxKvTokens, &["32", "2"], &["0", "1", ""]),
        // A value that the engine refuses is refused here, too.
        (OptionId::Temperature, &["0", "0.7", "1", "2"], &["", "2.1", "4", "5", "-0.1", "NaN", "inf", "1e0"]),
        (OptionId::TopK, &["0", "40"], &["", "-1", "a"]),
        (OptionId::TopP, &["1", "0.01"], &["", "0", "1.01"]),
        (OptionId::Seed, &["0", "18446744073709551615"], &["", "18446744073709551616", "x"]),
        (
            OptionId::ExpertMemory,
            &["1", "4G", "4gb", "2 Gi", "1.5M", "512KiB"],
            &["", "4X", "G", "1.2.3M", "-4G", "99999999999G"],
        ),
        (OptionId::Layers, &["all", "ALL", "0", "24"], &["", "-1", "half"]),
        (OptionId::Attention, &["full", "model", "dense"], &["", "0", "off", "sparse"]),
        (OptionId::KvFormat, &["f16", "f32"], &["", "f8", "16"]),
        (OptionId::Yarn, &["exact", "truncate"], &["", "on"]),
        (OptionId::FetchAttempts, &["1", "12"], &["", "0", "-1"]),
        (OptionId::FetchStall, &["0.1", "20", "3600"], &["", "0", "0.05", "3601", "20s"]),
        (OptionId::Cache, &["yes", "no"], &["", "1", "maybe"]),
        (OptionId::GpuLimits, &["granted", "default"], &["", "low"]),
        (OptionId::ExpertLoading, &["needed", "ahead"], &["", "all"]),
    ];
    let mut failures = Vec::new();
    for (field, good, bad) in rows {
        failures.extend(good.iter().filter_map(|text| check(field, text).err()).map(|error| error.message));
        failures.extend(
            bad.iter().filter(|text| check(field, text).is_ok()).map(|text| format!("{field:?} took \"{text}\"")),
        );
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_address_of_a_page_names_the_file_s() {
    let message = |text: &str| check(OptionId::Gguf, text).expect_err("refused").message;
    let page = message("https://huggingface.co/O/R/blob/main/m.gguf");
    assert!(page.contains("https://huggingface.co/O/R/resolve/main/m.gguf"), "{page}");
    let repository = message("https://huggingface.co/O/R");
    assert!(repository.contains("/resolve/"), "{repository}");
    check(OptionId::Gguf, "https://huggingface.co/O/R/resolve/main/m.gguf").expect("the file's own");
}

#[test]
fn every_input_has_a_row_and_an_element_of_its_own() {
    let mut ids: Vec<String> = OptionId::in_form().map(element_id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert!(ids.len() == all && ids.iter().all(|id| !id.is_empty()), "{ids:?}");
}

/// Other crates' defaults and names must be those of the table.
#[test]
fn the_table_tells_the_source_s_own_defaults() {
    let policy = RetryPolicy::default();
    let default = |option: OptionId| option.row().default.page;
    assert_eq!(default(OptionId::FetchAttempts), policy.attempts.to_string());
    assert_eq!(default(OptionId::FetchStall), policy.stall.as_secs_f64().to_string());
    let is_cached = |example: &&str| example.starts_with(CACHED_SCHEME);
    assert!(OptionId::Gguf.row().examples.iter().any(is_cached), "{CACHED_SCHEME} is what the table calls it");
}

#[test]
fn today_is_the_day_that_the_page_says() {
    let mut inputs = Inputs::on("2026-02-03".into());
    inputs.set(OptionId::Prompt, "Hi");
    inputs.set(OptionId::Date, "today");
    assert_eq!(inputs.prompt().expect("good").date.as_deref(), Some("2026-02-03"));
}

/// The page must accept every documented value.
#[test]
fn examples_can_be_used() {
    for row in OPTIONS.iter().filter(|row| row.key.is_some()) {
        for example in row.examples {
            assert_eq!(check(row.id, example), Ok(()));
        }
    }
}

#[test]
fn a_context_without_room_for_any_prompt_is_refused_before_anything_is_loaded() {
    let asked = |prompt, format, max_kv| {
        inputs(&[(OptionId::Prompt, prompt), (OptionId::PromptFormat, format), (OptionId::MaxKvTokens, max_kv)])
            .load_and_ask()
    };
    let errors = asked("Hi", "harmony", "10").expect_err("the system message alone is longer");
    assert_eq!((errors.len(), errors[0].field), (1, Some(OptionId::MaxKvTokens)));
    assert!(errors[0].message.contains("KV capacity (max_kv) is \"10\", expected at least"), "{errors:?}");
    for (prompt, format, max_kv) in
        [("Hi", "text", "10"), ("", "harmony", "10"), ("Hi", "harmony", "200"), ("Hi", "", "")]
    {
        let (_, asked) = asked(prompt, format, max_kv).expect("it may fit");
        assert_eq!(asked.is_some(), !prompt.is_empty());
    }
    let errors = inputs(&[(OptionId::Prompt, "Hi"), (OptionId::TopP, "7"), (OptionId::Layers, "x")]).load_and_ask();
    let fields: Vec<_> = errors.expect_err("both").iter().filter_map(|error| error.field).collect();
    assert_eq!(fields, [OptionId::Layers, OptionId::TopP], "of both parts, at once");
}
