//! The page: cargo compiles it to wasm, the crate `page-builder` makes files of that, gguf-serve serves them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::cargo_tests::{self, Executable};
use crate::process::{self, Toolbox};
use crate::progress::{Progress, run_together};
use crate::setup::WASM_TARGET;
use crate::workspace::Workspace;

/// The profile that index.html asks for; the builder compares.
const PROFILE: &str = "web";
const BUILDER: &str = "page-builder";
const LIMITS: &str = "web/size-budget.toml";

/// What becomes of wasm that is larger than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    Enforced,
    /// Whoever only wants to see the page may have a compiler that writes larger code.
    Reported,
}

/// Builds the page into `web/dist`.
pub fn build(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    let mut progress = Progress::new("page", 2);
    let compiled = progress.step("compiling the page and what builds it", || compile(toolbox, &[]))?;
    progress.step("building web/dist", || assemble(workspace, toolbox, &compiled, Budget::Enforced))
}

/// Compiles the page's programs to wasm and, at the same time, the builder and other programs of this machine's, each of
/// the package of its name. Gives back the latter.
///
/// With `--workspace` dependencies have the features that they have in tests, and are compiled once for both.
///
/// Two cargos share one target folder here: they write into different parts of it, because the profiles differ. What each
/// of them does alone at its end (linking, the optimiser on one large crate) takes one core of several.
pub fn compile(toolbox: &Toolbox, programs: &[&str]) -> Result<Vec<Executable>> {
    let mut wasm = toolbox.cargo(&["build", "--bins", "--target", WASM_TARGET, "--profile", PROFILE]);
    wasm.args(["--package", "gptoss-page", "--package", "gptoss-worker"]);
    let mut native = toolbox.cargo(&["build", cargo_tests::MESSAGES, "--workspace"]);
    for program in programs.iter().chain([&BUILDER]) {
        native.args(["--bin", program]);
    }
    let [_, messages] = run_together([wasm, native])?;
    Ok(cargo_tests::executables(&messages))
}

/// Makes `web/dist` of what [`compile`] has compiled.
pub fn assemble(workspace: &Workspace, toolbox: &Toolbox, compiled: &[Executable], budget: Budget) -> Result<()> {
    let mut builder = toolbox.command(program(compiled, BUILDER)?);
    builder.arg("--wasm").arg(workspace.target.join(WASM_TARGET).join(PROFILE));
    builder.args(["--profile", PROFILE, "--limits", LIMITS]);
    if budget == Budget::Reported {
        builder.arg("--tolerant");
    }
    process::run(&mut builder).context("the page was not built")?;
    let index = workspace.page_folder().join("index.html");
    ensure!(index.is_file(), "{BUILDER} reported success, but {} is not there", workspace.shown(&index));
    Ok(())
}

/// The executable of the package `name` among `compiled`.
pub fn program(compiled: &[Executable], name: &str) -> Result<PathBuf> {
    let found = compiled.iter().find(|executable| executable.package == name);
    Ok(found.with_context(|| format!("cargo built no {name}"))?.path.clone())
}
