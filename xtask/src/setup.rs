//! Brings the machine to where the other commands work. Everything that is there already is used as it is; what is not
//! is installed with the command printed, or named with what to do about it.

mod rust;
mod system;
mod tools;

use anyhow::Result;
use browser_driver::Installation;

use crate::process::Toolbox;
use crate::workspace::Workspace;

pub use rust::{WASM_TARGET, ensure as rust};

/// Chrome and chromedriver.
pub fn browser(toolbox: &Toolbox) -> Result<Installation> {
    system::ensure(toolbox, &[system::Need::Browser])?;
    Ok(Installation::find()?)
}

/// What builds libFuzzer.
pub fn fuzzer(toolbox: &Toolbox) -> Result<()> {
    system::ensure(toolbox, &[system::Need::CxxCompiler])
}

/// What compiles kernels for a GPU that is not there.
pub fn null_device(toolbox: &Toolbox) -> Result<()> {
    system::ensure(toolbox, &[system::Need::NullDevice])
}

/// All that `cargo xtask test` needs.
pub fn tests(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    use system::Need;
    rust::ensure(toolbox)?;
    system::ensure(toolbox, &[Need::Browser, Need::Vulkan, Need::NullDevice, Need::CxxCompiler])?;
    tools::ensure_bindgen(workspace, toolbox)
}

/// That, and trunk, which shows the page while it is being worked on.
pub fn development(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    tests(workspace, toolbox)?;
    tools::ensure_trunk(workspace, toolbox)
}

/// One line per thing that setup looked at.
fn report(thing: &str, state: &str) {
    println!("setup: {thing}: {state}");
}
