//! The page: trunk builds it, gguf-serve serves it.

use anyhow::{Context, Result, ensure};

use crate::process::{Toolbox, run};
use crate::workspace::Workspace;

/// Builds the page into `web/dist`.
pub fn build(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    let mut trunk = toolbox.command("trunk");
    trunk.args(["build", "--release"]);
    // trunk takes this variable for a switch of its own and refuses the usual value, 1.
    trunk.env_remove("NO_COLOR");
    run(&mut trunk).context("the page was not built")?;
    let index = workspace.page_folder().join("index.html");
    ensure!(index.is_file(), "trunk reported success, but {} is not there", workspace.shown(&index));
    Ok(())
}
