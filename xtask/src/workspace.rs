//! Where the project is and which versions it pins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The checkout that this command works on.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
    /// The `wasm-bindgen` that the root manifest pins; its programs must be exactly of this version.
    pub wasm_bindgen_version: String,
}

impl Workspace {
    /// Asks cargo where the workspace and its target folder are, and reads the pins from the root manifest.
    pub fn find() -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
        }
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let Metadata { workspace_root, target_directory } =
            serde_json::from_slice(&output.stdout).context("cargo metadata printed something unexpected")?;
        let manifest_path = workspace_root.join("Cargo.toml");
        let manifest = std::fs::read_to_string(&manifest_path)
            .with_context(|| format!("cannot read {}", manifest_path.display()))?;
        let wasm_bindgen_version =
            wasm_bindgen_pin(&manifest).with_context(|| format!("in {}", manifest_path.display()))?;
        Ok(Self { root: workspace_root, target: target_directory, wasm_bindgen_version })
    }

    /// Where `cargo install --root` puts the project's own tools.
    pub fn tools_root(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The page as it is served.
    pub fn page_folder(&self) -> PathBuf {
        self.root.join("web/dist")
    }

    pub fn nano_model(&self) -> PathBuf {
        self.root.join("models/nano/gpt-oss-nano.gguf")
    }

    pub fn nano_cases(&self) -> PathBuf {
        self.root.join("models/nano/cases.json")
    }

    /// `path` relative to the checkout where it lies inside it, for printing.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// The cargo that started this program, or the one in `PATH`.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Reads `[workspace.dependencies] wasm-bindgen = "=X.Y.Z"`.
fn wasm_bindgen_pin(manifest: &str) -> Result<String> {
    let manifest: toml::Table = toml::from_str(manifest).context("not TOML")?;
    let dependency = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(|dependencies| dependencies.get("wasm-bindgen"))
        .context("[workspace.dependencies] has no wasm-bindgen")?;
    let requirement =
        dependency.as_str().or_else(|| dependency.get("version")?.as_str()).context("wasm-bindgen has no version")?;
    let version = requirement.strip_prefix('=').map(str::trim);
    let version = version.with_context(|| {
        format!("wasm-bindgen = {requirement:?} is not pinned: crate and command-line tool must be the same version, write \"=X.Y.Z\"")
    })?;
    ensure!(
        version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u64>().is_ok()),
        "wasm-bindgen = {requirement:?}: expected \"=X.Y.Z\""
    );
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(line: &str) -> String {
        format!("[workspace.dependencies]\nserde = \"1\"\n{line}\n")
    }

    #[test]
    fn the_pin_is_read_in_both_spellings() {
        for line in ["wasm-bindgen = \"=0.2.130\"", "wasm-bindgen = { version = \"= 0.2.130\", features = [] }"] {
            assert_eq!(wasm_bindgen_pin(&manifest(line)).expect(line), "0.2.130");
        }
    }

    #[test]
    fn anything_but_an_exact_version_is_refused_with_the_reason() {
        for (line, reason) in [
            ("wasm-bindgen = \"0.2.130\"", "not pinned"),
            ("wasm-bindgen = \"=0.2\"", "expected \"=X.Y.Z\""),
            ("wasm-bindgen = { path = \"x\" }", "no version"),
            ("", "no wasm-bindgen"),
        ] {
            let error = format!("{:#}", wasm_bindgen_pin(&manifest(line)).expect_err(line));
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn this_workspace_is_found_with_its_pin() {
        let workspace = Workspace::find().expect("workspace");
        assert!(workspace.root.join("xtask/Cargo.toml").is_file());
        assert!(workspace.nano_model().is_file());
    }
}
