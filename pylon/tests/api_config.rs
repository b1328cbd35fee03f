//! `pylon api --config`: everything that a service needs is in a file.

use std::process::Stdio;

use serde_json::Value;

use super::api::{ANSWER, HUNGARY, Server, question, start};
use super::support::{Folder, Run, finish, nano, pylon, run};

/// A folder with the demo model and a file of options.
fn folder(options: &str) -> (Folder, String) {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("models")).unwrap();
    std::fs::copy(nano(), folder.path("models/gpt-oss-nano.gguf")).unwrap();
    let file = folder.write("api.toml", options.as_bytes());
    (folder, file)
}

const OPTIONS: &str = "\
# Relative to this file.
gguf = 'models/gpt-oss-nano.gguf'
bind = '127.0.0.1:0'
backend = 'cpu'
max-kv = 2_000
sequences = 2
alias = ['from-file']
api-key = 'secret'
log-format = 'json'
";

fn models(server: &Server, key: &str) -> (u16, String) {
    let (status, _, text) = server.ask("GET", "/v1/models", &format!("Authorization: Bearer {key}\r\n"), "");
    (status, text)
}

#[test]
fn a_file_is_all_that_a_server_needs_and_flags_and_variables_win_over_it() {
    let (_folder, file) = folder(OPTIONS);
    let server = start(&["--config", &file], &[], Stdio::null());
    assert_eq!(models(&server, "wrong").0, 401);
    let (status, text) = models(&server, "secret");
    assert!(status == 200 && text.contains("gpt-oss-nano"), "{text}");
    let mut asked = question(HUNGARY);
    asked["model"] = "from-file".into();
    let key = "Authorization: Bearer secret\r\n";
    let (status, _, text) = server.ask("POST", "/v1/chat/completions", key, &asked.to_string());
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &ANSWER.into()), "{text}");
    drop(server);

    let variables = [("PYLON_API_KEY", "other"), ("GPT_OSS_GGUF_MAX_KV", "500")];
    let server = start(&["--config", &file, "--alias", "from-flag"], &variables, Stdio::null());
    assert_eq!((models(&server, "secret").0, models(&server, "other").0), (401, 200));
    let ask = |model: &str, text: &str| {
        let mut asked = question(text);
        asked["model"] = model.into();
        let (status, _, text) =
            server.ask("POST", "/v1/chat/completions", "Authorization: Bearer other\r\n", &asked.to_string());
        (status, text)
    };
    assert_eq!((ask("from-flag", HUNGARY).0, ask("from-file", HUNGARY).0), (200, 404), "the list is replaced");
    let (status, text) = ask("from-flag", &"word ".repeat(700));
    assert!(status == 400 && text.contains("context_length_exceeded"), "the variable's cache is 500 tokens: {text}");
}

#[test]
fn what_is_wrong_in_a_file_is_told_by_its_line_and_ends_it_with_status_2() {
    for (options, parts) in [
        ("\ngguf = 'none.gguf'", &["/none.gguf"][..]),
        ("max_kv = 5", &["api.toml, line 1", "`max-kv`"]),
        ("gpu-memory = 'lots'", &["gpu-memory (", "api.toml, line 1)", "1536Mi"]),
        ("bind = '0.0.0.0:0'", &["bind (", "api.toml, line 1) is 0.0.0.0:0", "--allow-host NAME"]),
        ("\nupstream = ['http://127.0.0.1:1']", &["upstream (", "api.toml, line 2) is given", "--engine upstream"]),
        ("foreground = true", &["`foreground`", "command line only"]),
    ] {
        let (_folder, file) = folder(options);
        let Run { code, stderr, .. } = run(&["api", "--config", &file]);
        assert_eq!(code, 2, "{stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{options}: {stderr}");
    }
    let none = run(&["api", "--config", "/no/such/api.toml"]);
    assert!(none.code == 2 && none.stderr.contains("/no/such/api.toml"), "{}", none.stderr);
    // What a variable says of the model puts the file's aside.
    let (_folder, file) = folder("model = 'no-such-model'");
    let left_out = finish(pylon().args(["api", "--config", &file]).env("GPT_OSS_GGUF_PATH", "/no/such.gguf"), b"");
    assert!(left_out.code == 2 && left_out.stderr.contains("/no/such.gguf"), "{}", left_out.stderr);
}
