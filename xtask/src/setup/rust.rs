//! What comes through rustup: the wasm target, rustfmt and clippy.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::report;
use crate::process::{Toolbox, run};

/// The version that CI was tested with: `rust-version` of the workspace.
const TESTED: &str = env!("CARGO_PKG_RUST_VERSION");

pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Adds what is missing to the toolchain that the project uses. rustup is told explicitly: a target in
/// `rust-toolchain.toml` is only installed by rustups that install by themselves.
pub fn ensure(toolbox: &Toolbox) -> Result<()> {
    let output = toolbox.command("rustc").arg("--version").output().context("cannot run rustc")?;
    report("Rust", &compared(String::from_utf8_lossy(&output.stdout).trim(), TESTED));
    ensure_part(toolbox, WASM_TARGET, &["target", "add", WASM_TARGET], has_wasm_target)?;
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        ensure_part(toolbox, component, &["component", "add", component], |toolbox| {
            Ok(toolbox.cargo(&[subcommand, "--version"]).output().is_ok_and(|output| output.status.success()))
        })?;
    }
    Ok(())
}

fn ensure_part(
    toolbox: &Toolbox,
    name: &str,
    rustup_arguments: &[&str],
    is_there: impl Fn(&Toolbox) -> Result<bool>,
) -> Result<()> {
    if is_there(toolbox)? {
        report(name, "there");
        return Ok(());
    }
    if toolbox.find("rustup").is_none() {
        bail!(
            "{name} is missing and there is no rustup to add it with: install it the way this Rust was installed, \
             or install rustup from https://rustup.rs"
        );
    }
    report(name, "missing, adding it to the toolchain in use");
    run(toolbox.command("rustup").args(rustup_arguments))?;
    if !is_there(toolbox)? {
        bail!(
            "{name} is still missing after rustup {}: does rustup manage the cargo in use?",
            rustup_arguments.join(" ")
        );
    }
    Ok(())
}

/// What `rustc --version` says, and how that compares with the version that was tested. Patch releases count as equal.
fn compared(found: &str, tested: &str) -> String {
    let minor = |version: &str| -> Option<(u32, u32)> {
        let mut parts = version.split(['.', '-', ' ']).map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    };
    let version = found.strip_prefix("rustc ").unwrap_or_default();
    let judgement = match (minor(version), minor(tested)) {
        (Some(found), Some(tested)) if found == tested => "the version that CI was tested with".to_owned(),
        (Some(found), Some(tested)) if found > tested => {
            format!("WARNING: newer than {}.{}, which CI was tested with; lints may be new", tested.0, tested.1)
        }
        (Some(_), Some(tested)) => {
            format!("WARNING: older than {}.{}, which CI was tested with; it may not build", tested.0, tested.1)
        }
        _ => format!("WARNING: this names no version to compare with {tested}, which CI was tested with"),
    };
    format!("{found}: {judgement}")
}

/// Is there a standard library for wasm? Asked of the compiler, because not every Rust comes from rustup.
fn has_wasm_target(toolbox: &Toolbox) -> Result<bool> {
    let output = toolbox
        .command("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .output()
        .context("cannot run rustc")?;
    if !output.status.success() {
        bail!("rustc --print target-libdir failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let folder = String::from_utf8(output.stdout).context("rustc printed a path that is not UTF-8")?;
    Ok(holds_std(Path::new(folder.trim())))
}

fn holds_std(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let judged = |found: &str| compared(found, "1.95");
        for same in ["rustc 1.95.0 (59807616e 2026-04-14)", "rustc 1.95.1"] {
            assert_eq!(judged(same), format!("{same}: the version that CI was tested with"));
        }
        assert!(judged("rustc 1.100.0 (abc)").contains("WARNING: newer than 1.95"), "not compared as text");
        assert!(judged("rustc 1.96.0-nightly (abc)").contains("WARNING: newer than 1.95"));
        assert!(judged("rustc 1.9.0").contains("WARNING: older than 1.95"));
        assert!(judged("").contains("names no version"));
        assert!(!compared("rustc 1.95.0", TESTED).contains("names no version"), "{TESTED} is a version");
    }

    #[test]
    fn an_empty_or_absent_folder_holds_no_standard_library() {
        let folder = tempfile::tempdir().expect("temp folder");
        assert!(!holds_std(&folder.path().join("absent")));
        assert!(!holds_std(folder.path()));
        std::fs::write(folder.path().join("libstd-0123456789abcdef.rlib"), "").expect("write");
        assert!(holds_std(folder.path()));
    }
}
