//! `cargo xtask synth`: builds and runs the writer of synthetic models.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::process::{self, Toolbox};
use crate::workspace::Workspace;

/// Arguments of `gptoss-synth`, which explains them itself. It is a program of its own because the o200k vocabulary that
/// it carries would make this one slow to build.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Runs it where the command was typed: that is what file names on the command line are relative to.
pub fn run(workspace: &Workspace, toolbox: &Toolbox, arguments: &Arguments) -> Result<()> {
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    let mut command = toolbox.cargo(&["run", "--quiet", "--release", "--package", "gptoss-synth", "--manifest-path"]);
    command.arg(workspace.root.join("Cargo.toml")).arg("--").args(&arguments.arguments).current_dir(here);
    process::run(&mut command)
}
