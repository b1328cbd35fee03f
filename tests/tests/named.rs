//! A test file that no program names is never compiled: where cargo does not look for test files by itself, this does.

use std::fs;
use std::path::Path;

use gptoss_tests::workspace_root;

/// Files in `folder/tests` that its `main.rs` does not name.
fn unnamed(folder: &Path) -> Vec<String> {
    let main = fs::read_to_string(folder.join("tests/main.rs")).expect("tests/main.rs");
    let files = fs::read_dir(folder.join("tests")).expect("a folder of tests");
    let names =
        files.filter_map(|entry| Some(entry.expect("an entry").file_name().to_str()?.strip_suffix(".rs")?.to_owned()));
    names.filter(|name| name != "main" && !main.lines().any(|line| line == format!("mod {name};"))).collect()
}

#[test]
fn every_test_file_belongs_to_its_crates_program() {
    let mut looked_at = 0;
    for entry in fs::read_dir(workspace_root()).expect("the workspace") {
        let folder = entry.expect("an entry").path();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if manifest.lines().any(|line| line == "autotests = false") {
            assert_eq!(unnamed(&folder), Vec::<String>::new(), "in {}/tests/main.rs", folder.display());
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 5, "engine, cpu, gates, pylon and text have one program each");
}

#[test]
fn a_file_that_is_not_named_is_found() {
    let folder = tempfile::tempdir().expect("temp folder");
    let tests = folder.path().join("tests");
    fs::create_dir(&tests).expect("a folder");
    fs::write(tests.join("main.rs"), "mod known;\n// mod forgotten;\n").expect("write");
    for name in ["known.rs", "forgotten.rs", "data.json"] {
        fs::write(tests.join(name), "").expect("write");
    }
    assert_eq!(unnamed(folder.path()), ["forgotten"]);
}
