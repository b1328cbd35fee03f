use super::*;

fn inputs(values: &[(Field, &str)]) -> Inputs {
    let mut inputs = Inputs::default();
    for (field, text) in values {
        inputs.set(*field, *text);
    }
    inputs
}

#[test]
fn blank_inputs_are_the_defaults() {
    let inputs = inputs(&[(Field::Prompt, " Hi \n"), (Field::MaxKv, "  ")]);
    let options = LoadOptions { experts: ExpertLoading::AsNeeded, ..LoadOptions::default() };
    assert_eq!(inputs.load_options().expect("defaults"), options);
    let prompt = inputs.prompt().expect("defaults");
    assert_eq!(prompt.user, "Hi");
    assert_eq!((prompt.format, prompt.effort), (PromptFormat::Harmony, Effort::Medium));
    assert_eq!((prompt.date, prompt.max_new_tokens), (None, DEFAULT_MAX_NEW_TOKENS));
    assert_eq!(prompt.sampling, Sampling::default());
}

#[test]
fn every_choice_arrives() {
    let inputs = inputs(&[
        (Field::Prompt, "Hi"),
        (Field::Format, "text"),
        (Field::Instructions, "Be brief"),
        (Field::Effort, "high"),
        (Field::Date, "2024-02-29"),
        (Field::MaxNew, "64"),
        (Field::MaxKv, "4096"),
        (Field::Temperature, "0.7"),
        (Field::TopK, "40"),
        (Field::TopP, "0.9"),
        (Field::Seed, "18446744073709551615"),
        (Field::ExpertMemory, "1.5G"),
        (Field::GpuMemory, "8Gi"),
        (Field::Layers, "0"),
        (Field::Attention, "dense"),
        (Field::Kv, "f32"),
        (Field::Yarn, "truncate"),
        (Field::FetchAttempts, "3"),
        (Field::FetchStall, "2.5"),
        (Field::Store, "yes"),
        (Field::Limits, "default"),
        (Field::Experts, "ahead"),
    ]);
    let options = LoadOptions {
        layers: Some(0),
        max_kv_tokens: Some(4096),
        expert_memory_bytes: Some(1_500_000_000),
        gpu_memory_bytes: Some(8 << 30),
        attention: Attention::Dense,
        kv_f32: true,
        yarn_truncate: true,
        fetch_attempts: Some(3),
        fetch_stall_ms: Some(2500),
        default_limits: true,
        experts: ExpertLoading::Ahead,
        keep: Keep::Yes,
    };
    assert_eq!(inputs.load_options().expect("good"), options);
    let prompt = Prompt {
        user: "Hi".into(),
        format: PromptFormat::Text,
        instructions: "Be brief".into(),
        effort: Effort::High,
        date: Some("2024-02-29".into()),
        max_new_tokens: 64,
        sampling: Sampling { temperature: 0.7, top_k: 40, top_p: 0.9, seed: u64::MAX, ..Sampling::default() },
        stop: Vec::new(),
    };
    assert_eq!(inputs.prompt().expect("good"), prompt);
}

#[test]
fn all_errors_come_at_once_and_name_the_field() {
    let bad = inputs(&[(Field::MaxNew, "0"), (Field::TopP, "0"), (Field::Temperature, "-1")]);
    let errors = bad.prompt().expect_err("three bad, one missing");
    let fields: Vec<_> = errors.iter().filter_map(|error| error.field).collect();
    assert_eq!(fields, [Field::Prompt, Field::MaxNew, Field::Temperature, Field::TopP]);
    assert_eq!(errors[3].message, "Top-p (top_p) is \"0\", expected a number above 0 and at most 1.");
}

#[test]
fn each_field_accepts_and_refuses_what_it_says() {
    type Row = (Field, &'static [&'static str], &'static [&'static str]);
    let rows: [Row; 20] = [
        (
            Field::Gguf,
            &["http://h/m.gguf", "HTTPS://h/m", "/models/m.gguf", "./m.gguf", "kept:m.gguf"],
            &[
                "",
                "kept:",
                "m.gguf",
                "pylon://h:1",
                "pylon",
                "file:///m.gguf",
                "ftp://h/m",
                "http:m",
                "https://huggingface.co/O/R/blob/main/m.gguf",
                "https://huggingface.co/O/R",
            ],
        ),
        (Field::Format, &["harmony", "text"], &["", "raw"]),
        (Field::Effort, &["low", "medium", "high"], &["", "LOW", "max"]),
        (
            Field::Date,
            &["2025-06-28", "none", "2000-02-29"],
            &["", "28.06.2025", "2025-13-01", "1900-02-29", "2025-6-28", "2025-00-10"],
        ),
        (Field::MaxNew, &["1", "131072"], &["", "0", "-1", "+5", "1.5", "4294967296", "ten"]),
        (Field::MaxKv, &["32", "2"], &["0", "1", ""]),
        // As the engine: a value that it refuses is not taken here.
        (Field::Temperature, &["0", "0.7", "1", "2"], &["", "2.1", "4", "5", "-0.1", "NaN", "inf", "1e0"]),
        (Field::TopK, &["0", "40"], &["", "-1", "a"]),
        (Field::TopP, &["1", "0.01"], &["", "0", "1.01"]),
        (Field::Seed, &["0", "18446744073709551615"], &["", "18446744073709551616", "x"]),
        (
            Field::ExpertMemory,
            &["1", "4G", "4gb", "2 Gi", "1.5M", "512KiB"],
            &["", "4X", "G", "1.2.3M", "-4G", "99999999999G"],
        ),
        (Field::Layers, &["all", "ALL", "0", "24"], &["", "-1", "half"]),
        (Field::Attention, &["full", "model", "dense"], &["", "0", "off", "sparse"]),
        (Field::Kv, &["f16", "f32"], &["", "f8", "16"]),
        (Field::Yarn, &["exact", "truncate"], &["", "on"]),
        (Field::FetchAttempts, &["1", "12"], &["", "0", "-1"]),
        (Field::FetchStall, &["0.1", "20", "3600"], &["", "0", "0.05", "3601", "20s"]),
        (Field::Store, &["yes", "no"], &["", "1", "maybe"]),
        (Field::Limits, &["granted", "default"], &["", "low"]),
        (Field::Experts, &["needed", "ahead"], &["", "all"]),
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
    let message = |text: &str| check(Field::Gguf, text).expect_err("refused").message;
    let page = message("https://huggingface.co/O/R/blob/main/m.gguf");
    assert!(page.contains("https://huggingface.co/O/R/resolve/main/m.gguf"), "{page}");
    let repository = message("https://huggingface.co/O/R");
    assert!(repository.contains("/resolve/"), "{repository}");
    check(Field::Gguf, "https://huggingface.co/O/R/resolve/main/m.gguf").expect("the file's own");
}

#[test]
fn keys_and_elements_are_distinct() {
    for (index, a) in Field::ALL.iter().enumerate() {
        for b in &Field::ALL[index + 1..] {
            assert!(a.key() != b.key() && a.element_id() != b.element_id(), "{a:?} {b:?}");
        }
    }
}

#[test]
fn a_context_without_room_for_any_prompt_is_refused_before_anything_is_loaded() {
    let asked = |prompt, format, max_kv| {
        inputs(&[(Field::Prompt, prompt), (Field::Format, format), (Field::MaxKv, max_kv)]).load_and_ask()
    };
    let errors = asked("Hi", "harmony", "10").expect_err("the system message alone is longer");
    assert_eq!((errors.len(), errors[0].field), (1, Some(Field::MaxKv)));
    assert!(errors[0].message.contains("KV capacity (max_kv) is \"10\", expected at least"), "{errors:?}");
    for (prompt, format, max_kv) in
        [("Hi", "text", "10"), ("", "harmony", "10"), ("Hi", "harmony", "200"), ("Hi", "", "")]
    {
        let (_, asked) = asked(prompt, format, max_kv).expect("it may fit");
        assert_eq!(asked.is_some(), !prompt.is_empty());
    }
    let errors = inputs(&[(Field::Prompt, "Hi"), (Field::TopP, "7"), (Field::Layers, "x")]).load_and_ask();
    let fields: Vec<_> = errors.expect_err("both").iter().filter_map(|error| error.field).collect();
    assert_eq!(fields, [Field::Layers, Field::TopP], "of both parts, at once");
}
