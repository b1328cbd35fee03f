//! The program itself.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::client::Client;
use crate::support::{folder, pattern, write};

struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    /// What it printed up to the address to open.
    greeting: String,
    addr: SocketAddr,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gguf-serve"));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, output, greeting: String::new(), addr: ([0, 0, 0, 0], 0).into() };
        while program.addr.port() == 0 {
            let start = program.greeting.len();
            let read = program.output.read_line(&mut program.greeting).unwrap();
            assert_ne!(read, 0, "it ended after:\n{}", program.greeting);
            if let Some(url) = program.greeting[start..].trim_end().strip_prefix("Open http://") {
                program.addr = url.strip_suffix("/gptoss").unwrap().parse().unwrap();
            }
        }
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone in tests that stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_gguf-serve")).args(arguments).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(message.contains(part), "{message}");
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
    assert!(Command::new("kill").args(["-TERM", &program.child.id().to_string()]).status().unwrap().success());
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
}
