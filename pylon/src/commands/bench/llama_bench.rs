//! llama.cpp's own benchmark, run on the same file with the same threads.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::CliError;

/// The name of the program, as it is looked for on the PATH.
pub const PROGRAM: &str = "llama-bench";

/// Results of llama-bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
    /// Commit it was built from.
    pub build: String,
}

/// Path of the program.
///
/// # Errors
/// It is not on the PATH.
pub fn locate() -> Result<PathBuf, CliError> {
    let name = format!("{PROGRAM}{}", env::consts::EXE_SUFFIX);
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).map(|folder| folder.join(&name)).find(|path| path.is_file()).ok_or_else(|| {
        CliError::Argument {
            what: "--compare".into(),
            got: format!("{PROGRAM}, which is not on the PATH"),
            expected:
                "llama.cpp's benchmark: build it with `cmake --build build --target llama-bench`, and put it there"
                    .into(),
        }
    })
}

/// Runs it once: prefill of `prompt_tokens`, and `new_tokens` from an empty context, on the CPU.
///
/// # Errors
/// It cannot be started, fails, or prints something else than expected.
pub fn run(
    program: &Path,
    model: &Path,
    prompt_tokens: u32,
    new_tokens: u32,
    threads: usize,
) -> Result<Measured, CliError> {
    let mut command = Command::new(program);
    command.arg("-m").arg(model);
    for (flag, value) in [
        ("-p", u64::from(prompt_tokens)),
        ("-n", u64::from(new_tokens)),
        ("-t", threads as u64),
        ("-ngl", 0),
        ("-r", 1),
    ] {
        command.arg(flag).arg(value.to_string());
    }
    command.args(["-o", "json"]).stdin(Stdio::null()).stderr(Stdio::piped());
    let output =
        command.output().map_err(|source| CliError::File { path: program.to_owned(), action: "run", source })?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
        return Err(unusable(format!("ended with {}: {last}", output.status)));
    }
    parse(&output.stdout)
}

fn unusable(got: String) -> CliError {
    CliError::Argument {
        what: PROGRAM.into(),
        got,
        expected: "a JSON array with one test of a prompt and one of generation".into(),
    }
}

#[derive(Deserialize)]
struct Test {
    n_prompt: u32,
    n_gen: u32,
    avg_ts: f64,
    #[serde(default)]
    build_commit: String,
}

fn parse(json: &[u8]) -> Result<Measured, CliError> {
    let tests: Vec<Test> = serde_json::from_slice(json).map_err(|error| unusable(format!("unreadable ({error})")))?;
    let prefill = tests.iter().find(|test| test.n_prompt > 0 && test.n_gen == 0);
    let decode = tests.iter().find(|test| test.n_prompt == 0 && test.n_gen > 0);
    let (Some(prefill), Some(decode)) = (prefill, decode) else {
        return Err(unusable(format!("{} tests without one of each", tests.len())));
    };
    Ok(Measured {
        prefill_tokens_per_second: prefill.avg_ts,
        decode_tokens_per_second: decode.avg_ts,
        build: prefill.build_commit.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tests_are_found_whatever_their_order() {
        let json = br#"[
            {"build_commit": "abc1234", "n_threads": 2, "n_prompt": 0, "n_gen": 64, "avg_ts": 33.5, "samples_ts": [33.5]},
            {"build_commit": "abc1234", "n_threads": 2, "n_prompt": 512, "n_gen": 0, "avg_ts": 210.25, "samples_ts": [210.25]}
        ]"#;
        let expected =
            Measured { prefill_tokens_per_second: 210.25, decode_tokens_per_second: 33.5, build: "abc1234".into() };
        assert_eq!(parse(json).expect("both are there"), expected);
    }

    #[test]
    fn anything_else_is_refused() {
        for json in ["", "[]", "{}", r#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 1.0}]"#] {
            let error = parse(json.as_bytes()).expect_err("refused").to_string();
            assert!(error.contains(PROGRAM), "{error}");
        }
    }
}
