//! `pylon tokenize` and `pylon harmony` on the recorded vectors, with the real vocabulary.

use crate::support::{Folder, lines, nano, o200k, run, run_with_input, vectors, write_split};
use gptoss_synth::Spec;
use serde_json::{Value, json};

#[test]
fn recorded_text_comes_back_as_recorded() {
    let rows = vectors("tokenizer_o200k_harmony_encode.jsonl", 112);
    let questions: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row.as_object_mut().unwrap().remove("tokens");
            row
        })
        .collect();
    let answers = run_with_input(&["tokenize", "--gguf", o200k()], &lines(&questions)).expect(0);
    assert_eq!(answers.stdout.as_bytes(), lines(&rows), "byte for byte");
    // The same rows with the expected result already in them.
    let answers = run_with_input(&["tokenize", "--gguf", o200k()], &lines(&rows)).expect(0);
    assert_eq!(answers.rows(), rows);
}

#[test]
fn recorded_specials_are_tokens_only_when_asked_for() {
    let rows = vectors("tokenizer_o200k_harmony_special.jsonl", 10);
    for (flags, field) in [(&["--specials"][..], "tokens_with_specials"), (&[], "tokens_ordinary")] {
        let arguments = [&["tokenize", "--gguf", o200k()], flags].concat();
        let answers = run_with_input(&arguments, &lines(&rows)).expect(0).rows();
        assert_eq!(answers.len(), rows.len());
        for (answer, row) in answers.iter().zip(&rows) {
            // Public files name the specials up to 200018, and leave the ids above unused; tiktoken names those too.
            let is_named_in_files = row["id"] != "sp-04" || flags.is_empty();
            assert_eq!(answer["tokens"] == row[field], is_named_in_files, "{flags:?}: {answer}");
        }
    }
}

#[test]
fn decoding_gives_bytes_and_text() {
    let rows = vectors("tokenizer_o200k_harmony_encode.jsonl", 112);
    let answers = run_with_input(&["tokenize", "--decode", "--gguf", o200k()], &lines(&rows)).expect(0).rows();
    for (answer, row) in answers.iter().zip(&rows) {
        assert_eq!(answer["utf8"], row["text"]);
        assert_eq!(answer["id"], row["id"]);
    }
    // The first half of an emoji, a special, nothing at all.
    let half = run_with_input(&["tokenize", "--gguf", o200k()], b"{\"text\":\"\\ud83e\\udd84\"}\n").expect(0).rows();
    let first = half[0]["tokens"][0].clone();
    let odd = [json!({"tokens": [first]}), json!({"tokens": [200006]}), json!({"tokens": []})];
    let answers = run_with_input(&["tokenize", "--decode", "--gguf", o200k()], &lines(&odd)).expect(0).rows();
    assert_eq!(answers[0]["utf8"], Value::Null);
    assert!(answers[0]["bytes_b64"].as_str().unwrap().starts_with("8J"), "{}", answers[0]);
    assert_eq!(answers[1], json!({"tokens": [200006], "bytes_b64": "PHxzdGFydHw+", "utf8": "<|start|>"}));
    assert_eq!(answers[2], json!({"tokens": [], "bytes_b64": "", "utf8": ""}));
}

#[test]
fn the_vocabulary_may_come_from_the_environment() {
    let mut command = crate::support::pylon();
    let run = crate::support::finish(command.arg("tokenize").env("GPT_OSS_GGUF_PATH", nano()), b"{\"text\":\"Hi\"}")
        .expect(0);
    assert!(!run.rows()[0]["tokens"].as_array().unwrap().is_empty());
}

/// The first part of a split model has the vocabulary; the others need not be there.
#[test]
fn any_part_of_a_split_model_names_its_vocabulary() {
    let folder = Folder::new();
    let paths = write_split(&folder, "tiny", &Spec::tiny().layers(1), 2);
    let tokens = |path: &str| run_with_input(&["tokenize", "--gguf", path], b"{\"text\":\"Hello\"}").expect(0).stdout;
    let of_second = tokens(&paths[1]);
    std::fs::remove_file(&paths[1]).unwrap();
    assert_eq!(tokens(&paths[0]), of_second);
}

/// Lines before the bad one are answered; the error names the line and what should have been there.
#[test]
fn bad_rows_are_named() {
    let cases: [(&[&str], &str, &str); 9] = [
        (&["tokenize"], "{\"tokens\":[1]}", "no field \"text\""),
        (&["tokenize"], "{\"text\":7}", "\"text\" holds the number 7; expected a string"),
        (&["tokenize"], "[1]", "it is an array; expected a JSON object"),
        (&["tokenize"], "{\"text\":", "not JSON"),
        (&["tokenize", "--decode"], "{\"tokens\":[-1]}", "the number -1; expected an array of token ids"),
        (&["tokenize", "--decode"], "{\"tokens\":[1280]}", "1280"),
        (&["tokenize", "--decode"], "{\"text\":\"a\"}", "no field \"tokens\""),
        (
            &["harmony", "render"],
            "{\"messages\":[{\"role\":\"king\",\"content\":\"a\"}]}",
            "message 1 of 1: its role is \"king\"",
        ),
        (&["harmony", "parse"], "{\"id\":1}", "expected \"tokens\""),
    ];
    let good = "{\"text\":\"a\",\"tokens\":[1],\"messages\":[]}\n";
    for (command, bad, expected) in cases {
        let arguments = [command, &["--gguf", nano()]].concat();
        let run = run_with_input(&arguments, format!("{good}\n{bad}\n{good}").as_bytes()).expect(1);
        assert_eq!(run.rows().len(), 1, "the line before it is answered");
        assert!(run.stderr.contains("line 3 of the input") && run.stderr.contains(expected), "{}", run.stderr);
    }
    let run = run_with_input(&["tokenize", "--gguf", nano()], b"{\"text\":\"\xff\"}").expect(1);
    assert!(run.stderr.contains("line 1"), "{}", run.stderr);
}

#[test]
fn a_byte_order_mark_before_rows_is_ignored() {
    let plain = b"{\"text\":\"a\"}\n{\"text\":\"b\"}\n";
    let marked = b"\xef\xbb\xbf{\"text\":\"a\"}\r\n\xef\xbb\xbf{\"text\":\"b\"}\r\n\xef\xbb\xbf";
    for command in [&["tokenize"][..], &["harmony", "parse"]] {
        let arguments = [command, &["--gguf", nano()]].concat();
        let expected = run_with_input(&arguments, plain).expect(0).stdout;
        assert_eq!(run_with_input(&arguments, marked).expect(0).stdout, expected);
        let wide = run_with_input(&arguments, b"\xff\xfe{\0\"\0").expect(1);
        assert!(wide.stderr.contains("UTF-16") && wide.stderr.contains("line 1"), "{}", wide.stderr);
    }
}

#[test]
fn a_missing_file_is_no_fault_of_the_input() {
    for command in [&["tokenize"][..], &["harmony", "render"], &["harmony", "parse"]] {
        let arguments = [command, &["--gguf", "no-such-file.gguf"]].concat();
        let run = run(&arguments).expect(2);
        assert!(run.stderr.contains("no-such-file.gguf") && run.stdout.is_empty(), "{}", run.stderr);
    }
    let run = run(&["tokenize"]).expect(2);
    assert!(run.stderr.contains("--gguf"), "{}", run.stderr);
}

#[test]
fn recorded_conversations_are_rendered_as_recorded() {
    let rows = vectors("harmony_render.jsonl", 26);
    let questions: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row.as_object_mut().unwrap().retain(|field, _| field != "text" && field != "tokens");
            row
        })
        .collect();
    let answers = run_with_input(&["harmony", "render", "--gguf", o200k()], &lines(&questions)).expect(0).rows();
    assert_eq!(answers.len(), rows.len());
    for (answer, row) in answers.iter().zip(&rows) {
        assert_eq!((&answer["text"], &answer["tokens"]), (&row["text"], &row["tokens"]), "{}", row["id"]);
    }
}

#[test]
fn a_plain_conversation_is_rendered() {
    let call = json!({"role": "assistant", "channel": "commentary", "recipient": "functions.f", "content": "{}"});
    let row = json!({"messages": [{"role": "user", "content": "Hi"}, call]});
    let render = |flags: &[&str]| {
        let arguments = [&["harmony", "render", "--gguf", nano()], flags].concat();
        run_with_input(&arguments, &lines(std::slice::from_ref(&row))).expect(0).rows()[0]["text"].clone()
    };
    assert_eq!(
        render(&[]),
        "<|start|>user<|message|>Hi<|end|><|start|>assistant to=functions.f<|channel|>commentary<|message|>{}<|call|>\
         <|start|>assistant"
    );
    assert_eq!(
        render(&["--recipient", "after-channel"]),
        "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|call|>\
         <|start|>assistant"
    );
}

#[test]
fn recorded_outputs_are_parsed() {
    let rows = vectors("harmony_parse_cases.jsonl", 32);
    let without_ids: Vec<Value> = rows.iter().map(|row| json!({"id": row["id"], "text": row["text"]})).collect();
    for (input, what) in [(&rows, "ids"), (&without_ids, "text")] {
        let answers = run_with_input(&["harmony", "parse", "--gguf", o200k()], &lines(input)).expect(0).rows();
        let mut scored = 0;
        for (answer, row) in answers.iter().zip(&rows) {
            // Rows whose ids are not those of their text can only be scored by their ids.
            let Some(expect) = row.get("expect") else { continue };
            for field in ["reasoning", "content", "tool_calls"] {
                assert_eq!(answer[field], expect[field], "{what}: {field} of {}: {}", row["id"], row["text"]);
            }
            scored += 1;
        }
        assert_eq!(scored, 27);
    }
}

#[test]
fn messages_are_told_in_the_recorded_form() {
    let rows = vectors("harmony_parse_upstream.jsonl", 6);
    let arguments = ["harmony", "parse", "--messages", "--gguf", o200k()];
    let answers = run_with_input(&arguments, &lines(&rows)).expect(0).rows();
    for (answer, row) in answers.iter().zip(&rows) {
        assert_eq!(answer["messages"], row["messages"], "{}", row["id"]);
    }
}

#[test]
fn a_recovered_message_names_its_rules() {
    let row = json!({"text": "<|channel|>??<|end|><|start|>bash<|message|>ls -la<|call|>"});
    let arguments = ["harmony", "parse", "--messages", "--gguf", nano()];
    let [answer] = <[Value; 1]>::try_from(run_with_input(&arguments, &lines(&[row])).expect(0).rows()).unwrap();
    assert_eq!(answer["tool_calls"], json!([{"name": "bash", "arguments": "ls -la", "malformed": true}]));
    assert_eq!(answer["fragments"], json!(["<|channel|>??"]));
    let message = json!({
        "role": "assistant", "name": null, "content": [{"type": "text", "text": "ls -la"}], "recipient": "bash",
        "purpose": "call", "header": "bash", "recovered": ["role-unknown", "role-is-tool"],
    });
    assert_eq!(answer["messages"], json!([message]));
}
