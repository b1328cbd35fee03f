//! Brings the machine to where the other commands work. Everything that is there already is used as it is; what is not
//! is installed with the command printed, or named with what to do about it.

mod rust;
mod system;
mod tools;

use anyhow::Result;
use browser_driver::Installation;

use crate::process::Toolbox;
use crate::workspace::Workspace;

pub use rust::ensure as rust;

/// The wasm target, trunk and wasm-bindgen.
pub fn page_tools(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    rust::ensure(toolbox)?;
    tools::ensure(workspace, toolbox)
}

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
pub fn everything(workspace: &Workspace, toolbox: &Toolbox) -> Result<Installation> {
    use system::Need;
    page_tools(workspace, toolbox)?;
    system::ensure(toolbox, &[Need::Browser, Need::Vulkan, Need::NullDevice, Need::CxxCompiler])?;
    Ok(Installation::find()?)
}

/// One line per thing that setup looked at.
fn report(thing: &str, state: &str) {
    println!("setup: {thing}: {state}");
}
