//! `cargo xtask clients`: other people's clients of the API, at pinned versions, against `pylon api` with the demo model.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo_tests;
use crate::process::{Toolbox, run};
use crate::streams::servers::Server;
use crate::workspace::Workspace;

/// Where scripts and pins are, in the checkout.
const SOURCES: &str = "tests/clients";

/// Installs what is missing, serves, and runs every script to its end; gives their number.
pub fn run_all(workspace: &Workspace, toolbox: &Toolbox) -> Result<u64> {
    let sources = workspace.root.join(SOURCES);
    let installed = workspace.target.join("clients");
    let python = install_python(toolbox, &sources, &installed.join("python"))?;
    let node_folder = installed.join("node");
    install_node(toolbox, &sources, &node_folder)?;
    let pylon = pylon(toolbox)?;
    // Shorter than what a client says that says too much.
    let server = Server::pylon(toolbox, &pylon, &workspace.nano_model(), &["--max-kv", "8192"])?;
    let url = format!("http://{}", server.address);
    let python_scripts = ["openai_client.py", "anthropic_client.py", "schemas.py"];
    for script in python_scripts {
        run(toolbox.command(&python).arg(sources.join(script)).arg(&url))?;
    }
    // Node looks for packages beside the script.
    let script = "openai_client.mjs";
    fs::copy(sources.join(script), node_folder.join(script)).with_context(|| format!("cannot copy {script}"))?;
    run(toolbox.command("node").arg(node_folder.join(script)).arg(&url))?;
    let codex = node_folder.join("node_modules/.bin/codex");
    let script = sources.join("codex_client.py");
    run(toolbox.command(&python).arg(script).arg(&pylon).arg(codex).arg(workspace.nano_model()))?;
    Ok(python_scripts.len() as u64 + 2)
}

/// `pylon` as the native tests have it: `cargo build` chooses other features, and compiles half of the dependencies anew.
fn pylon(toolbox: &Toolbox) -> Result<PathBuf> {
    let built = cargo_tests::build(toolbox, "test", &["--workspace", "--no-run", "--test", "command_line"])?;
    let is_program = |path: &Path| path.file_stem().is_some_and(|name| name == "pylon");
    Ok(built.into_iter().find(|built| is_program(&built.path)).context("cargo built no pylon")?.path)
}

/// The interpreter that has what `requirements.txt` pins.
fn install_python(toolbox: &Toolbox, sources: &Path, folder: &Path) -> Result<PathBuf> {
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let pins = sources.join("requirements.txt");
    if !is_installed(folder, &pins)? {
        run(toolbox.command("python3").args(["-m", "venv"]).arg(folder))?;
        run(toolbox.command(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&pins))?;
        keep(folder, &pins)?;
    }
    Ok(python)
}

fn install_node(toolbox: &Toolbox, sources: &Path, folder: &Path) -> Result<()> {
    let pins = sources.join("package.json");
    if !is_installed(folder, &pins)? {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::copy(&pins, folder.join("package.json")).context("cannot copy package.json")?;
        run(toolbox.command("npm").args(["install", "--no-audit", "--no-fund"]).current_dir(folder))?;
        keep(folder, &pins)?;
    }
    Ok(())
}

/// Whether what `pins` say was installed into `folder` by an earlier run.
fn is_installed(folder: &Path, pins: &Path) -> Result<bool> {
    let wanted = fs::read(pins).with_context(|| format!("cannot read {}", pins.display()))?;
    Ok(fs::read(folder.join("installed")).is_ok_and(|there| there == wanted))
}

fn keep(folder: &Path, pins: &Path) -> Result<()> {
    fs::copy(pins, folder.join("installed")).with_context(|| format!("cannot write into {}", folder.display()))?;
    Ok(())
}
