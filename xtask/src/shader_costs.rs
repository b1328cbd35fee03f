//! `cargo xtask shader-costs`: builds and runs the program that compiles kernels without a GPU.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::process::{self, Toolbox};
use crate::setup;
use crate::workspace::Workspace;

/// Arguments of `gptoss-costs`, which explains them itself. It is a program of its own because the kernels and the engine
/// would make this one slow to build.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Runs it where the command was typed: that is what file names on the command line are relative to.
pub fn run(workspace: &Workspace, toolbox: &Toolbox, arguments: &Arguments) -> Result<()> {
    setup::null_device(toolbox)?;
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    let mut command = toolbox.cargo(&["run", "--quiet", "--package", "gptoss-costs", "--manifest-path"]);
    command.arg(workspace.root.join("Cargo.toml")).arg("--").args(&arguments.arguments).current_dir(here);
    process::run(&mut command)
}
