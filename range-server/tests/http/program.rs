//! The program itself.

use std::io::{BufRead, Read};
use std::process::Command;

use serde_json::Value;

use crate::client::Client;
use crate::process::Program;
use crate::support::{folder, pattern, write};

#[test]
fn greets_serves_and_logs() {
    let folder = folder();
    let path = write(&folder, "m.gguf", &pattern(1000));
    let mut program = Program::start(&[path.to_str().unwrap(), "--port", "0"]);
    assert_ne!(program.addr.port(), 0);
    assert!(program.greeting.contains("/m.gguf"), "{}", program.greeting);
    assert!(!program.greeting.contains(folder.path().to_str().unwrap()), "no absolute paths: {}", program.greeting);
    let response = Client::connect(program.addr).request("GET", "/m.gguf", &[("Range", "bytes=1-2")]);
    assert_eq!(response.status, 206);
    let mut line = String::new();
    while line.trim().is_empty() {
        assert_ne!(program.output.read_line(&mut line).unwrap(), 0);
    }
    assert!(line.trim_start().starts_with("GET /m.gguf 206 bytes 1-2 2 B"), "{line}");
}

#[test]
fn without_paths_it_says_that_it_serves_the_demo_model() {
    let program = Program::start(&["--port", "0"]);
    assert!(program.greeting.contains("/gpt-oss-nano.gguf  3.05 MB  gpt-oss MXFP4\n"), "{}", program.greeting);
    assert!(program.greeting.contains("demo model"), "{}", program.greeting);
    assert_eq!(Client::connect(program.addr).request("GET", "/api/health", &[]).status, 200);
}

#[test]
fn faults_are_told_and_end_it() {
    for (arguments, part, status) in [
        (&["/no/such/file.gguf"][..], "cannot open /no/such/file.gguf", 1),
        (&["--allow-origin", "example.com", "--port", "0"], "is not an origin", 1),
        (&["--port", "70000"], "70000", 2),
        (&["--bind", "0.0.0.0", "--port", "0"], "--allow-host NAME", 1),
        (&["--tls-cert", "c.pem"], "--tls", 2),
        (&["--tls", "--tls-cert", "/no/c.pem", "--tls-key", "/no/k.pem", "--port", "0"], "/no/c.pem", 1),
        (&["hash"], "PATHS", 2),
        (&["hash", "/no/such/file.gguf"], "cannot open /no/such/file.gguf", 1),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_gguf-serve")).args(arguments).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_file_gives_what_no_flag_gives() {
    let folder = folder();
    let path = folder.path().join("serve.toml");
    let config = format!("--config={}", path.display());
    write(&folder, "sub/m.gguf", &pattern(1000));
    std::fs::write(&path, "paths = ['sub']\nport = 0\ntoken = 's3cret'\nallow-host = ['models.lan']\n").unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // It starts somewhere else than where the file lies.
    let program = Program::start(&[&config]);
    let status = |program: &Program, host: &str, token: &str| {
        let mut client = Client::connect(program.addr);
        client.send(&format!("GET /m.gguf HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"));
        client.read_head().status
    };
    assert_eq!((status(&program, "localhost", "s3cret"), status(&program, "localhost", "other")), (200, 401));
    assert_eq!((status(&program, "models.lan", "s3cret"), status(&program, "other.lan", "s3cret")), (200, 421));
    // A variable and a flag win over it.
    let program = Program::start_with(&[&config, "--allow-host", "other.lan"], &[("GGUF_SERVE_TOKEN", "other")]);
    assert_eq!((status(&program, "localhost", "other"), status(&program, "localhost", "s3cret")), (200, 401));
    assert_eq!((status(&program, "other.lan", "other"), status(&program, "models.lan", "other")), (200, 421));
    for (text, parts, status) in [
        ("paths = []\nprot = 1", &["serve.toml, line 2", "`port`"][..], 2),
        ("port = 70000", &["port (", "serve.toml, line 1)", "70000"], 2),
        ("bind = '0.0.0.0'\nport = 0", &["--allow-host NAME"], 1),
        ("port = 0\nallow-origin = 'a.lan'", &["allow-origin (", "line 2): \"a.lan\" is not an origin"], 1),
        ("port = 0\ntoken = ''", &["token (", "line 2): the token is empty"], 1),
        ("port = 0\npaths = ['none.gguf']", &["/none.gguf"], 1),
        ("usual-places = true\nhf-cache = true", &["usual-places (", "hf-cache ("], 2),
    ] {
        std::fs::write(&path, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_gguf-serve")).arg(&config).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn sigterm_in_the_middle_of_an_answer_lets_it_finish() {
    let folder = folder();
    let path = folder.path().join("big.gguf");
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, b"GGUF").unwrap();
    file.set_len(64 << 20).unwrap();
    let mut program = Program::start(&[path.to_str().unwrap(), "--port", "0"]);
    let mut client = Client::connect(program.addr);
    client.send("GET /big.gguf HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut response = client.read_head();
    program.signal("TERM");
    let mut line = String::new();
    while !line.starts_with("stopping") {
        line.clear();
        assert_ne!(program.output.read_line(&mut line).unwrap(), 0, "it ended without draining");
    }
    client.read_body(&mut response);
    assert!(response.complete);
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    program.output.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("GET /big.gguf 200 67108864 B") && !rest.contains("cut"), "{rest}");
    assert!(rest.ends_with("answered 1 requests with 67.1 MB in 0 s; 0 of them were aborted\n"), "{rest}");
}

#[cfg(unix)]
#[test]
fn every_line_can_be_json() {
    let folder = folder();
    let path = write(&folder, "m.gguf", &pattern(1000));
    let mut program = Program::spawn(&["--json", "--port", "0", path.to_str().unwrap()], &[]);
    let next_line = |program: &mut Program| -> Value {
        let mut line = String::new();
        program.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    };
    let start = next_line(&mut program);
    assert_eq!((&start["event"], &start["models"][0]["name"]), (&"start".into(), &"m.gguf".into()));
    let port = start["port"].as_u64().unwrap() as u16;
    assert_eq!(start["url"], format!("http://127.0.0.1:{port}/gptoss"));
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    client.request("GET", "/m.gguf?a='", &[("Range", "bytes=1-2")]);
    let request = next_line(&mut program);
    assert_eq!(
        (&request["event"], &request["target"], &request["model"]),
        (&"request".into(), &"/m.gguf?a='".into(), &"m".into())
    );
    assert_eq!(
        (&request["status"], &request["sent_bytes"], &request["aborted"]),
        (&206.into(), &2.into(), &false.into())
    );
    assert_eq!(request["range"], serde_json::json!([1, 2]));
    program.signal("TERM");
    assert_eq!(next_line(&mut program)["event"], "note");
    let summary = next_line(&mut program);
    assert_eq!(
        (&summary["event"], &summary["requests"], &summary["sent_bytes"]),
        (&"summary".into(), &1.into(), &2.into())
    );
}

#[cfg(unix)]
#[test]
fn a_second_signal_quits_at_once() {
    let folder = folder();
    let path = folder.path().join("big.gguf");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let mut program = Program::start(&[path.to_str().unwrap(), "--port", "0"]);
    let mut client = Client::connect(program.addr);
    client.send("GET /big.gguf HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.read_head();
    program.signal("INT");
    let mut lines = String::new();
    while !lines.ends_with("(once more to quit at once)\n") {
        assert_ne!(program.output.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    program.signal("INT");
    assert_eq!(program.child.wait().unwrap().code(), Some(130));
}

#[cfg(unix)]
#[test]
fn the_hub_cache_is_found() {
    let cache = folder();
    let blob = write(&cache, "hub/models--o--n/blobs/abc", &pattern(100));
    let snapshot = cache.path().join("hub/models--o--n/snapshots/1");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(blob, snapshot.join("m.gguf")).unwrap();
    let home = [("HF_HUB_CACHE", ""), ("HF_HOME", cache.path().to_str().unwrap())];
    let program = Program::start_with(&["--hf-cache", "--port", "0"], &home);
    assert!(program.greeting.contains("from o/n at 1"), "{}", program.greeting);
    assert_eq!(Client::connect(program.addr).request("GET", "/o/n/m.gguf", &[]).body, pattern(100));
    let output = Command::new(env!("CARGO_BIN_EXE_gguf-serve"))
        .args(["--hf-cache", "--port", "0"])
        .env("HF_HUB_CACHE", "/no/such/cache")
        .output()
        .unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("/no/such/cache"));
    assert_eq!(output.status.code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn the_browser_is_opened_at_the_page() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let opened = folder.path().join("opened");
    let script = format!("#!/bin/sh\necho \"$1\" > {0}.part && mv {0}.part {0}\n", opened.display());
    let xdg_open = write(&folder, "bin/xdg-open", script.as_bytes());
    std::fs::set_permissions(&xdg_open, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().join("bin").display());
    let program = Program::start_with(&["--open", "--token", "a b", "--port", "0"], &[("PATH", &path)]);
    let begin = std::time::Instant::now();
    let url = loop {
        match std::fs::read_to_string(&opened) {
            Ok(url) => break url,
            Err(error) => assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(url, format!("http://{}/gptoss?token=a%20b\n", program.addr));
}

/// Without a file handle left, the server waits instead of burning the processor, and goes on when there is one.
#[cfg(target_os = "linux")]
#[test]
fn it_survives_running_out_of_open_files() {
    let folder = folder();
    let path = write(&folder, "m.gguf", &pattern(1000));
    let limited = format!("ulimit -n 24; exec {} {} --port 0", env!("CARGO_BIN_EXE_gguf-serve"), path.display());
    let program = Program::from_command(Command::new("sh").args(["-c", &limited]));
    let mut held: Vec<Client> = (0..40).map(|_| Client::connect(program.addr)).collect();
    let before = program.processor_seconds();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let used = program.processor_seconds() - before;
    assert!(used < 0.2, "{used} s of processor time in a second of waiting");
    held.clear();
    assert_eq!(Client::connect(program.addr).request("GET", "/m.gguf", &[]).body, pattern(1000));
}
