//! What holds for all commands: help with an example, exit statuses, errors on standard error, pipes.

use std::io::Read;
use std::process::Stdio;

use crate::support::{Folder, nano, pylon, run};

/// Commands of the level below `path`, as its help lists them.
fn subcommands(path: &[&str]) -> Vec<String> {
    let help = run(&[path, &["--help"]].concat()).expect(0).stdout;
    let Some((_, listed)) = help.split_once("Commands:\n") else { return Vec::new() };
    // Names are indented by two; what is further in goes on from the line above.
    let lines = listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let names = lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    names.filter(|&name| name != "help").map(str::to_owned).collect()
}

/// Every command, with the ones above it.
fn all_commands() -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = subcommands(&[]).into_iter().map(|name| vec![name]).collect();
    let mut next = 0;
    while next < found.len() {
        let path: Vec<&str> = found[next].iter().map(String::as_str).collect();
        let below = subcommands(&path);
        let parent = found[next].clone();
        found.extend(below.into_iter().map(|name| [parent.clone(), vec![name]].concat()));
        next += 1;
    }
    found
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands = all_commands();
    for expected in [
        "tokenize",
        "harmony render",
        "harmony parse",
        "gguf dump",
        "gguf meta",
        "gguf range",
        "gguf hash",
        "gguf verify",
        "gguf quantize",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain("abcdefg".chars().map(|gate| format!("gate {gate}")))
    {
        assert!(commands.iter().any(|command| command.join(" ") == expected), "{expected} in {commands:?}");
    }
    for command in &commands {
        let path: Vec<&str> = command.iter().map(String::as_str).collect();
        let help = run(&[&path[..], &["--help"]].concat()).expect(0).stdout;
        let example = format!("pylon {}", command.join(" "));
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("no example: {help}"));
        assert!(examples.contains(&example), "{example}: {help}");
        run(&[&path[..], &["-h"]].concat()).expect(0);
    }
}

/// Runs the commands as a reader would paste them into a shell at the root of the repository; what they write goes
/// elsewhere.
#[cfg(unix)]
#[test]
fn examples_do_what_they_say() {
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_pylon")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut tried = 0;
    let root = Folder::new();
    std::os::unix::fs::symlink(crate::support::repository_file("models"), root.path("models")).unwrap();
    for command in all_commands() {
        if !["tokenize", "harmony", "gguf", "gate"].contains(&command[0].as_str()) {
            continue;
        }
        let path_of_command: Vec<&str> = command.iter().map(String::as_str).collect();
        let help = run(&[&path_of_command[..], &["--help"]].concat()).expect(0).stdout;
        let (_, examples) = help.split_once("Example:\n").expect("the last section");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-e", "-c", examples]).env("PATH", &path).current_dir(root.path("."));
        let run = crate::support::finish(&mut shell, b"").expect(0);
        assert!(!run.stdout.is_empty(), "{examples}");
        tried += 1;
    }
    assert!(tried >= 18, "{tried}");
}

#[test]
fn the_top_help_documents_exit_statuses() {
    let help = run(&["--help"]).expect(0).stdout;
    let (_, statuses) = help.split_once("Exit status:\n").expect("a section");
    for status in ["  0  ", "  1  ", "  2  ", "130  "] {
        assert!(statuses.contains(status), "{status} in {statuses}");
    }
    assert!(run(&["--version"]).expect(0).stdout.starts_with("pylon "));
}

#[test]
fn wrong_arguments_are_status_2_on_standard_error() {
    for arguments in [
        &[][..],
        &["dance"],
        &["gguf"],
        &["gguf", "dump"],
        &["gguf", "dump", "a.gguf", "--colour"],
        &["gate", "h", "a.gguf"],
        &["harmony", "render", "--gguf", "a.gguf", "--recipient", "nowhere"],
    ] {
        let refused = run(arguments).expect(2);
        assert!(refused.stdout.is_empty() && refused.stderr.contains("--help"), "{arguments:?}: {}", refused.stderr);
    }
}

#[test]
fn absent_and_foreign_files_are_told_apart() {
    let folder = Folder::new();
    let text = folder.write("text.gguf", b"this is no model, but long enough to be looked at");
    for command in [&["gguf", "dump"][..], &["gguf", "meta"], &["gguf", "range"], &["gate", "a"], &["gate", "f"]] {
        let absent = run(&[command, &["no-such-file.gguf"]].concat()).expect(2);
        assert!(absent.stderr.contains("no-such-file.gguf: No such file"), "{}", absent.stderr);
        let foreign = run(&[command, &[text.as_str()]].concat());
        // A range of any file can be hashed, but this needs the header to know the tensors.
        let foreign = foreign.expect(1);
        assert!(
            foreign.stderr.contains("text.gguf") && foreign.stderr.contains("not a GGUF file"),
            "{}",
            foreign.stderr
        );
        assert!(foreign.stderr.lines().count() >= 2, "the advice: {}", foreign.stderr);
        let directory = run(&[command, &[folder.path("").as_str()]].concat()).expect(2);
        assert!(directory.stderr.contains("not a regular file"), "{}", directory.stderr);
    }
}

/// Imitates `pylon … | head -1`: the reader takes a little and goes.
#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    for arguments in [
        &["gguf", "dump", nano()][..],
        &["gguf", "meta", nano(), "--key", "tokenizer.ggml.tokens"],
        &["gguf", "meta", nano(), "--key", "tokenizer.ggml.merges", "--json"],
        &["gguf", "hash", nano(), "--json"],
        &["gate", "a", nano(), "--limit", "100000"],
    ] {
        let mut child = pylon().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && said.is_empty(), "{arguments:?}: {status}, {said}");
    }
}

/// A verdict stands, whether or not it is read.
#[test]
fn a_failed_check_stays_one_without_a_reader() {
    let folder = Folder::new();
    let mut bytes = crate::support::nano_bytes();
    bytes.push(0);
    let long = folder.write("long.gguf", &bytes);
    for arguments in [&["gguf", "verify", &long][..], &["gguf", "verify", "--json", &long], &["gate", "a", &long]] {
        let mut child = pylon().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn the_first_line_arrives_when_the_reader_takes_no_more() {
    let mut child = pylon().args(["gguf", "dump", nano()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 20];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert!(String::from_utf8_lossy(&first).starts_with(&nano()[..20]));
}

/// A full disk is a failure, unlike a reader that has gone.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = pylon().args(["gguf", "dump", nano()]).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output cannot be written"), "{said}");
}

/// Rows are answered as they come: a program can hold a dialogue with the command.
#[test]
fn rows_are_answered_before_the_input_ends() {
    use std::io::{BufRead, BufReader, Write};
    let mut child =
        pylon().args(["tokenize", "--gguf", nano()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut question = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for text in ["one", "two"] {
        writeln!(question, "{{\"text\":\"{text}\"}}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert!(answer.contains(text) && answer.contains("\"tokens\":["), "{answer}");
    }
    drop(question);
    assert!(child.wait().unwrap().success());
}
