//! docs/CONFIGURATION.md has every variable of the environment that the programs read, and what ops/ copies and runs exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use gptoss_tests::workspace_root;

/// Crates whose sources are part of a program, and the word for that program in the table.
const PROGRAMS: [(&str, &[&str]); 3] = [
    (
        "pylon",
        &[
            "pylon",
            "api",
            "cpu",
            "engine",
            "finder",
            "gates",
            "gguf",
            "grammar",
            "kernels",
            "model",
            "node",
            "protocol",
            "serve-kit",
            "source",
            "text",
        ],
    ),
    ("gguf-serve", &["range-server", "finder", "gguf", "protocol", "serve-kit"]),
    ("page-builder", &["page-builder", "protocol"]),
];

/// What stands before the name of a variable: the environment's own functions, clap's attribute, and the look-ups through
/// which the crates read it, so that their tests can put something else in its place.
const READERS: [&str; 10] =
    ["var(", "var_os(", "set_var(", "set(", "is_set(", "expanded(", "get(", "parsed(", "switch(", "env = "];

/// Calls that get the name from somewhere else. What they look up is found by the readers above.
const LOOK_UPS: [&str; 5] = [
    "pylon/src/catalogue.rs",
    "pylon/src/environment.rs",
    "pylon/src/main.rs",
    "pylon/src/model_args.rs",
    "range-server/src/arguments.rs",
];

/// How names begin that can only be variables, wherever they stand.
const OURS: [&str; 5] = ["GPT_OSS_", "PYLON_", "GGUF_SERVE_", "HF_", "XDG_"];

/// The sources of a program; files of tests beside them aside.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

fn is_variable(name: &str) -> bool {
    name.len() >= 4 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Texts in quotes that look like variables, each with what stands before it on its line.
fn quoted(source: &str) -> impl Iterator<Item = (&str, &str)> {
    source.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| {
        let parts: Vec<(usize, &str)> = line.match_indices('"').collect();
        let between = move |pair: &[(usize, &str)]| (&line[..pair[0].0], &line[pair[0].0 + 1..pair[1].0]);
        parts.windows(2).map(between).filter(|(_, name)| is_variable(name)).collect::<Vec<_>>()
    })
}

/// Variables that a source reads; tests at its end aside.
fn read_in(source: &str) -> BTreeSet<String> {
    let product = source.split("#[cfg(test)]\nmod tests").next().unwrap_or(source);
    let is_read = |before: &str| READERS.iter().any(|reader| before.ends_with(reader));
    let is_ours = |name: &str| OURS.iter().any(|begin| name.starts_with(begin));
    let found = quoted(product).filter(|(before, name)| is_read(before) || is_ours(name));
    found.map(|(_, name)| name.to_owned()).collect()
}

/// Each variable with the programs that read it, and the files that look up names from elsewhere.
fn of_sources() -> (BTreeMap<String, BTreeSet<&'static str>>, BTreeSet<String>) {
    let root = workspace_root();
    let (mut variables, mut look_ups) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    for (program, crates) in PROGRAMS {
        for name in crates {
            let mut files = Vec::new();
            rust_files(&root.join(name).join("src"), &mut files);
            for path in files {
                let source = fs::read_to_string(&path).expect("a source");
                for variable in read_in(&source) {
                    variables.entry(variable).or_default().insert(program);
                }
                let calls = source.matches("env::var").count();
                if calls > source.matches("env::var_os(\"").count() + source.matches("env::var(\"").count() {
                    let file = path.strip_prefix(&root).expect("below the workspace");
                    look_ups.insert(file.display().to_string());
                }
            }
        }
    }
    (variables, look_ups)
}

/// The rows of the table, by variable.
fn of_document(document: &str) -> BTreeMap<String, BTreeSet<&'static str>> {
    let section = document.split("## Variables").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let programs: &[&str] = match cells[1] {
            "both" => &["pylon", "gguf-serve"],
            "pylon" => &["pylon"],
            "gguf-serve" => &["gguf-serve"],
            other => panic!("{}: no program is called {other}", cells[0]),
        };
        (cells[0].to_owned(), programs.iter().copied().collect())
    })
    .collect()
}

#[test]
fn every_variable_that_is_read_is_documented() {
    let (read, look_ups) = of_sources();
    assert_eq!(look_ups, LOOK_UPS.map(str::to_owned).into(), "files that look up names of variables");
    let document = fs::read_to_string(workspace_root().join("docs/CONFIGURATION.md")).expect("the document");
    assert_eq!(of_document(&document), read, "left: docs/CONFIGURATION.md, right: the sources");
    assert!(read.len() >= 20, "{read:?}");
}

#[test]
fn variables_are_found_in_sources() {
    let source = r#"
        // set("COMMENTED") is none
        let path = std::env::var_os("READ_PLAINLY").or_else(|| set("LOOKED_UP"));
        #[arg(long, env = "OF_CLAP", hide_env_values = true)]
        println!("PRINTED {}", known("XDG_SOMETHING"), kind("MXFP4"));
#[cfg(test)]
mod tests { fn t() { set("IN_TESTS") } }
"#;
    let expected = ["LOOKED_UP", "OF_CLAP", "READ_PLAINLY", "XDG_SOMETHING"];
    assert_eq!(read_in(source), expected.map(str::to_owned).into());
}

/// The unit, the sample and the manual are of one file: what the unit reads is what the manual installs the sample as.
#[test]
fn the_service_reads_the_file_that_the_manual_installs() {
    let read =
        |path: &str| fs::read_to_string(workspace_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let unit = read("ops/pylon-api.service");
    let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let file = started.strip_prefix("/usr/local/bin/pylon api --config ").expect("nothing but the file");
    let manual = read("ops/README.md");
    assert!(
        manual
            .lines()
            .any(|line| line.starts_with("install ") && line.contains(&format!("ops/pylon-api.toml {file} ")))
    );
    assert!(read("ops/pylon-api.toml").contains(&format!("`pylon api --config {file}`")));
    assert!(read("docs/CONFIGURATION.md").contains(&format!("`pylon api --config {file}`")));
    // Answers are given their time before systemd ends the service.
    let number = |text: &str, key: &str| -> u64 {
        let value = text.lines().find_map(|line| line.strip_prefix(key)).expect(key);
        value.parse().unwrap_or_else(|error| panic!("{key}{value}: {error}"))
    };
    assert!(number(&read("ops/pylon-api.toml"), "grace-seconds = ") < number(&unit, "TimeoutStopSec="));
}

/// Paths that a container file takes from its context.
fn copied(container: &str) -> Vec<&str> {
    let copies =
        container.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    copies.flat_map(|line| line.split_whitespace().rev().skip(1)).collect()
}

#[test]
fn what_the_container_file_copies_and_builds_exists() {
    let root = workspace_root();
    let container = fs::read_to_string(root.join("ops/Containerfile")).expect("ops/Containerfile");
    let copied = copied(&container);
    assert_eq!(copied, [".", "LICENSE"]);
    for path in copied {
        assert!(root.join(path).exists(), "{path}");
    }
    let mut programs = 0;
    for line in container.lines().filter_map(|line| line.strip_prefix("COPY --from=build ")) {
        let (from, to) = line.split_once(' ').expect("from and to");
        let program = from.strip_prefix("/source/target/release/").expect("what cargo builds");
        assert!(
            container.contains(&format!("cargo build --release --locked -p {program}\n")),
            "{program} is not built"
        );
        assert_eq!(to, format!("/usr/local/bin/{program}"));
        programs += 1;
    }
    assert_eq!(programs, 2);
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.split('"').next());
    let image = format!("rust:{}-slim", version.expect("a version of Rust"));
    assert!(container.contains(&image), "the container file has another Rust than Cargo.toml: {image}");
}
