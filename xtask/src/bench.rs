//! `cargo xtask bench`: builds `pylon` for release and measures a model with it.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::process::{self, Toolbox};
use crate::workspace::Workspace;

/// Arguments of `pylon bench`, which explains them itself.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Runs it where the command was typed, on the GPU that is there, a software one included, unless the arguments say otherwise.
pub fn run(workspace: &Workspace, toolbox: &Toolbox, arguments: &Arguments) -> Result<()> {
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    let mut command = toolbox.cargo(&["run", "--quiet", "--release", "--package", "pylon", "--manifest-path"]);
    command.arg(workspace.root.join("Cargo.toml")).args(["--", "bench"]).current_dir(here);
    if !arguments.arguments.iter().any(|argument| argument.to_string_lossy().starts_with("--backend")) {
        command.args(["--backend", "gpu"]);
    }
    process::run(command.args(&arguments.arguments))
}
