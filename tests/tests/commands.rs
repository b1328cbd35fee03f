//! The commands that README.md and other documents give: cheap ones are run, with the output that the README shows; of all others
//! the program, its subcommand, its flags and their values are checked. A command that is not known here fails the test.
//!
//! The programs are those that `cargo test --workspace` has built beside this test. For this test alone:
//! `cargo test --workspace --test commands --test command_line --test http --test compare --test files`.

#![cfg(unix)] // a shell runs them

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use gptoss_tests::cargo_graph::{CargoGraph, host};
use gptoss_tests::workspace_root;

const DOCUMENTS: [&str; 17] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    ".github/ISSUE_TEMPLATE/fault.md",
    ".github/pull_request_template.md",
    "examples/README.md",
    "costs/README.md",
    "pylon/README.md",
    "docs/CONFIGURATION.md",
    "docs/FILES.md",
    "ops/README.md",
    "range-server/README.md",
    "tests/README.md",
    "web/README.md",
    "docs/adding-a-panel.md",
    "docs/adding-a-weight-type.md",
    "docs/adding-an-operation.md",
];

/// Programs of other people, word for word, and what stands for trying them.
const FOREIGN: &[(&str, &str)] = &[
    ("trunk serve", "Trunk.toml"),
    ("cargo install --locked cargo-deny", "deny.toml"),
    ("cargo deny check", "deny.toml"),
    ("cargo deny check advisories", "deny.toml"),
    ("cargo build", "Cargo.toml"),
    ("cargo build --release", "Cargo.toml"),
    ("cargo doc", "Cargo.toml"),
    ("cargo fmt --all", "rustfmt.toml"),
    ("cargo xtask", ".cargo/config.toml"),
    ("cd model/tests/goldens", "model/tests/goldens/README.md"),
    ("pip install -r requirements.txt", "model/tests/goldens/requirements.txt"),
    ("python make_goldens.py", "model/tests/goldens/make_goldens.py"),
];

/// A command of a document, and what the document shows of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    command: String,
    output: Vec<String>,
}

/// Commands in blocks, fenced or indented: every line of a block without `$ `, else those that begin with it, each with the lines
/// after it as its output. Comments behind `#` are cut off. Fences of other languages than a shell's are no commands.
fn in_blocks(document: &str) -> Vec<Shown> {
    let mut blocks: Vec<Vec<String>> = vec![Vec::new()];
    let mut fence: Option<bool> = None;
    for line in document.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let is_shell = ["", "sh", "console", "shell", "bash"].contains(&language);
            fence = if fence.is_some() { None } else { Some(is_shell) };
            blocks.push(Vec::new());
            continue;
        }
        let inside = match fence {
            Some(is_shell) => is_shell.then_some(line),
            None => line.strip_prefix("    "),
        };
        match (inside, blocks.last_mut()) {
            (Some(line), Some(block)) => block.push(line.to_owned()),
            _ => blocks.push(Vec::new()),
        }
    }
    blocks.iter().flat_map(|block| of_block(block)).collect()
}

fn of_block(block: &[String]) -> Vec<Shown> {
    let has_prompts = block.iter().any(|line| line.starts_with("$ "));
    let mut shown: Vec<Shown> = Vec::new();
    for line in block.iter().filter(|line| !line.trim().is_empty()) {
        let command = if has_prompts { line.strip_prefix("$ ") } else { Some(line.as_str()) };
        match (command, shown.last_mut()) {
            (Some(command), _) => {
                let command = command.split("  #").next().unwrap_or(command).trim();
                shown.push(Shown { command: command.to_owned(), output: Vec::new() });
            }
            (None, Some(before)) => before.output.push(line.clone()),
            (None, None) => panic!("output before any command: {line}"),
        }
    }
    shown
}

/// Code within sentences and tables that is a command by its first word.
fn in_sentences(document: &str) -> Vec<Shown> {
    let sentences = document.lines().filter(|line| !line.starts_with("    ")).collect::<Vec<_>>().join("\n");
    let spans = sentences.split('`').skip(1).step_by(2);
    let is_command = |span: &&str| ["cargo ", "pylon ", "gguf-serve "].iter().any(|program| span.starts_with(program));
    spans.filter(is_command).map(|span| Shown { command: span.replace('\n', " "), output: Vec::new() }).collect()
}

/// What a program of ours is, and how to try it.
#[derive(Debug)]
enum Known {
    /// Somebody else's, of which a file of ours must be there.
    Foreign(&'static str),
    /// A build of a package.
    Package(String),
    /// Tests by the name of their program.
    Test(String),
    /// A program with its arguments: it is asked for help behind them, so that they are parsed and nothing is done.
    Help(Vec<String>),
    /// A command of xtask, and the program that gets its arguments.
    HandedOn(&'static str, Vec<String>),
    /// Quick enough to be run as it stands.
    Real,
}

/// Commands that are run. Their output is compared where the document shows it.
fn is_quick(command: &str) -> bool {
    ["pylon infer --gguf models/nano/", "pylon gguf verify models/nano/", "pylon gate c models/nano/"]
        .iter()
        .any(|begin| command.starts_with(begin))
}

/// # Errors
/// The command is not known here.
fn known(command: &str) -> Result<Known, String> {
    if let Some((_, file)) = FOREIGN.iter().find(|(known, _)| *known == command) {
        return Ok(Known::Foreign(file));
    }
    if is_quick(command) {
        return Ok(Known::Real);
    }
    let words = words(command);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match &words[..] {
        // It prints help, and takes no flag.
        ["pylon", "help"] => Ok(Known::Help(owned(&["pylon"]))),
        ["ops/pylon.sh", "start", rest @ ..] => Ok(Known::Help(owned(&[&["pylon", "api"], rest].concat()))),
        ["ops/pylon.sh", "status" | "stop"] => Ok(Known::Foreign("ops/pylon.sh")),
        ["pylon" | "gguf-serve", ..] => Ok(Known::Help(owned(&words))),
        // These hand all that follows to another program, which they build first.
        ["cargo", "xtask", "bench", rest @ ..] => {
            Ok(Known::HandedOn("bench", owned(&[&["pylon", "bench"], rest].concat())))
        }
        ["cargo", "xtask", "shader-costs", rest @ ..] => {
            Ok(Known::HandedOn("shader-costs", owned(&[&["gptoss-costs"], rest].concat())))
        }
        ["cargo", "xtask", "synth", rest @ ..] => {
            Ok(Known::HandedOn("synth", owned(&[&["gptoss-synth"], rest].concat())))
        }
        ["cargo", "xtask", ..] => Ok(Known::Help(owned(&words))),
        ["cargo", "build", "--release", "-p", package] => Ok(Known::Package((*package).to_owned())),
        ["cargo", "run", rest @ ..] => run_of_package(rest),
        ["cargo", "test", "--workspace", "--test", test, ..] => Ok(Known::Test((*test).to_owned())),
        ["cargo", "test", "--workspace", "--features", "gptoss-tests/e2e", "--test", test, ..] => {
            Ok(Known::Test((*test).to_owned()))
        }
        ["cargo", "test", "-p", _, "--test", test, ..] => Ok(Known::Test((*test).to_owned())),
        ["cargo", "test", "-p", package, ..] => Ok(Known::Package((*package).to_owned())),
        _ => Err(format!("`{command}` is not known: say in tests/tests/commands.rs how it is checked")),
    }
}

/// `[--release] -p PACKAGE [--bin PROGRAM] [-- ARGUMENTS]`.
fn run_of_package(words: &[&str]) -> Result<Known, String> {
    let words = words.strip_prefix(&["--release"]).unwrap_or(words);
    match words {
        ["-p", "gguf-serve"] => Ok(Known::Help(owned(&["gguf-serve"]))),
        ["-p", "gguf-serve", "--", rest @ ..] => Ok(Known::Help(owned(&[&["gguf-serve"], rest].concat()))),
        // They have no flags; examples/tests/programs.rs runs them.
        ["-p", "gptoss-examples", "--bin", program, "--", ..] => {
            Ok(Known::Package(format!("gptoss-examples/{program}")))
        }
        _ => Err(format!("`cargo run {}` is not known", words.join(" "))),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The words of a command, split as a shell splits them; double quotes hold words together.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// Where cargo puts programs: beside the folder of this test's own.
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    test.parent().and_then(Path::parent).expect("target/debug/deps").to_owned()
}

fn program(name: &str) -> PathBuf {
    let path = programs().join(name);
    let advice = "cargo test --workspace --test commands --test command_line --test http --test compare --test files";
    assert!(path.is_file(), "{} is not built; this builds it: {advice}", path.display());
    path
}

fn finished(command: &mut Command) -> Output {
    let command = command.current_dir(workspace_root()).env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Parses the arguments as the program does, without doing anything: `--help` behind them is heard only if they are right.
fn ask_for_help(words: &[String]) -> Result<(), String> {
    let words = [words, &["--help".to_owned()]].concat();
    let said = asked(&words)?;
    if said.contains("Usage:") { Ok(()) } else { Err(format!("`{}` says\n{said}", words.join(" "))) }
}

/// What a program prints.
fn asked(words: &[String]) -> Result<String, String> {
    let mut command = match words[0].as_str() {
        // The alias is part of what is checked.
        "cargo" => Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
        name => Command::new(program(name)),
    };
    // Whoever runs this test with it, for the times of tests, would have cargo compile half of the dependencies anew.
    let output = finished(command.args(&words[1..]).env_remove("RUSTC_BOOTSTRAP"));
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{}`: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)))
}

/// Runs it in a shell that finds our programs, and compares what it prints, numbers with a fraction aside: these depend on the device.
fn run(shown: &Shown) -> Result<(), String> {
    program("pylon");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", &shown.command]).env("PATH", format!("{}:{path}", programs().display()));
    let output = finished(&mut shell);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` ended with {}: {printed}{said}", shown.command, output.status));
    }
    let plain = |text: &str| text.split_whitespace().map(without_fractions).collect::<Vec<_>>().join(" ");
    let got: Vec<_> = printed.lines().filter(|line| !line.trim().is_empty()).map(plain).collect();
    let expected: Vec<_> = shown.output.iter().map(|line| plain(line)).collect();
    if expected.is_empty() || got == expected {
        return Ok(());
    }
    Err(format!("`{}` prints\n{}\nand the document shows\n{}", shown.command, got.join("\n"), expected.join("\n")))
}

fn without_fractions(word: &str) -> String {
    let number = word.trim_matches(|letter| "();,.".contains(letter));
    if number.contains('.') && number.parse::<f64>().is_ok() { word.replace(number, "NUMBER") } else { word.to_owned() }
}

struct Workspace {
    packages: BTreeSet<String>,
    tests: BTreeSet<String>,
    programs: BTreeSet<String>,
}

impl Workspace {
    fn read() -> Self {
        let graph = CargoGraph::read(&host().expect("rustc")).expect("cargo metadata");
        let targets = |kind: &str| {
            let of_package = |package: &gptoss_tests::cargo_graph::Package| {
                let named = package.targets.iter().filter(|target| target.kind.iter().any(|it| it == kind));
                named.map(|target| (package.name.clone(), target.name.clone())).collect::<Vec<_>>()
            };
            graph.own_packages().flat_map(of_package).collect::<Vec<_>>()
        };
        Self {
            packages: graph.own_packages().map(|package| package.name.clone()).collect(),
            tests: targets("test").into_iter().map(|(_, name)| name).collect(),
            programs: targets("bin").into_iter().map(|(package, name)| format!("{package}/{name}")).collect(),
        }
    }

    fn check(&self, shown: &Shown) -> Result<(), String> {
        let is_there = |there: bool, what: &str| if there { Ok(()) } else { Err(format!("there is no {what}")) };
        match known(&shown.command)? {
            Known::Foreign(file) => is_there(workspace_root().join(file).is_file(), file),
            Known::Package(name) => {
                is_there(self.packages.contains(&name) || self.programs.contains(&name), &format!("package {name}"))
            }
            Known::Test(name) => is_there(self.tests.contains(&name), &format!("test {name}")),
            Known::Help(words) => ask_for_help(&words),
            Known::HandedOn(name, words) => {
                let listed = asked(&owned(&["cargo", "xtask", "help", name]))?;
                is_there(listed.contains(&format!("xtask {name}")), &format!("xtask {name}"))?;
                ask_for_help(&words)
            }
            Known::Real => run(shown),
        }
    }
}

#[test]
fn every_command_of_the_documents_works() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    let mut counts = (0, 0);
    for path in DOCUMENTS {
        let document = fs::read_to_string(workspace_root().join(path)).expect(path);
        let (blocks, sentences) = (in_blocks(&document), in_sentences(&document));
        counts = (counts.0 + blocks.len(), counts.1 + sentences.len());
        for shown in blocks.iter().chain(&sentences) {
            if let Err(error) = workspace.check(shown) {
                wrong.push(format!("{path}: {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(counts.0 >= 20 && counts.1 >= 20, "{counts:?} commands: this check looks at nothing");
}

/// Commands of a unit of systemd, without the folder of the program.
fn started_by(unit: &str) -> Vec<String> {
    let commands = unit.lines().filter_map(|line| line.strip_prefix("ExecStart="));
    commands.map(|command| command.trim_start_matches("/usr/local/bin/").to_owned()).collect()
}

#[test]
fn the_service_starts_what_there_is() {
    let workspace = Workspace::read();
    let unit = fs::read_to_string(workspace_root().join("ops/pylon-api.service")).expect("ops/pylon-api.service");
    let commands = started_by(&unit);
    assert!(commands.len() == 1 && commands[0].starts_with("pylon api "), "{commands:?}");
    for command in commands {
        workspace.check(&Shown { command, output: Vec::new() }).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A server that is taken down however the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already if something went wrong.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn get(address: &str, target: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

/// As in "Working on it", but for the port, which may be taken here.
#[test]
fn gguf_serve_serves_the_page_and_the_file_that_the_readme_names() {
    let readme = fs::read_to_string(workspace_root().join("README.md")).expect("README.md");
    let command = "cargo run -p gguf-serve -- models/nano/gpt-oss-nano.gguf";
    assert!(in_blocks(&readme).iter().any(|shown| shown.command == command), "the README says so");
    let mut serve = Command::new(program("gguf-serve"));
    serve.args(["models/nano/gpt-oss-nano.gguf", "--port", "0", "--json"]).current_dir(workspace_root());
    let mut server = Server(serve.stdout(Stdio::piped()).spawn().expect("it starts"));
    let mut lines = BufReader::new(server.0.stdout.take().expect("piped")).lines();
    let address = lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line.expect("UTF-8")).expect("JSON");
        Some(line["url"].as_str()?.split_once("://")?.1.split('/').next()?.to_owned())
    });
    let address = address.expect("it says where the page is");
    let page = get(&address, "/gptoss");
    // Without a page in the program it says how to build one.
    assert!(page.starts_with("HTTP/1.1 200 ") || page.contains("cargo xtask demo"), "{page}");
    let models = get(&address, "/api/models");
    assert!(models.starts_with("HTTP/1.1 200 ") && models.contains("\"gpt-oss-nano.gguf\""), "{models}");
}

#[test]
fn commands_are_found_and_foreign_languages_are_not() {
    let document = "Words\n\n    one --flag     # why\n    two\n\nmore\n\n```console\n$ three\nprinted\n$ four\n```\n\n```rust\nfive();\n```\nA\n`cargo six` and `seven`.\n";
    let commands: Vec<_> = in_blocks(document).into_iter().map(|shown| (shown.command, shown.output)).collect();
    let expected = [("one --flag", vec![]), ("two", vec![]), ("three", vec!["printed".to_owned()]), ("four", vec![])];
    assert_eq!(commands, expected.map(|(command, output)| (command.to_owned(), output)));
    let spans: Vec<_> = in_sentences(document).into_iter().map(|shown| shown.command).collect();
    assert_eq!(spans, ["cargo six"]);
}

/// The checks above would pass on anything if these did.
#[test]
fn wrong_commands_are_found() {
    let workspace = Workspace::read();
    let wrong = |command: &str, output: &[&str]| {
        let output = output.iter().map(|&line| line.to_owned()).collect();
        workspace.check(&Shown { command: command.to_owned(), output }).is_err()
    };
    for command in [
        "rm -r target",
        "cargo bench",
        "cargo xtask demonstrate",
        "cargo xtask test --just native",
        "cargo xtask test --only naive",
        "cargo xtask synth --shapes 20b",
        "pylon infer --gguf FILE --promt TEXT",
        "pylon guess FILE",
        "gguf-serve FILE --prot 1",
        "cargo run -p gguf-serve -- FILE --prot 1",
        "cargo run -p gptoss-examples --bin question -- FILE",
        "cargo build --release -p pylons",
        "cargo test --workspace --test boarders",
    ] {
        assert!(wrong(command, &[]), "{command}");
    }
    let infer = "pylon infer --gguf models/nano/gpt-oss-nano.gguf --backend cpu --prompt \"What is 17 + 25?\"";
    assert!(!wrong(infer, &["17 + 25 = 42."]));
    assert!(wrong(infer, &["17 + 25 = 43."]));
    assert!(wrong("pylon gguf verify models/nano/no-such-file.gguf", &[]));
}
