//! trunk and wasm-bindgen, at the versions that the project pins.

use anyhow::{Context, Result, bail};

use super::report;
use crate::process::{Toolbox, run};
use crate::workspace::Workspace;

const TRUNK_VERSION: &str = "0.21.14";

/// A crate with programs that the project uses at one exact version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tool<'a> {
    package: &'static str,
    programs: &'static [&'static str],
    version: &'a str,
    /// Further arguments of `cargo install`.
    install_arguments: &'static [&'static str],
}

/// Uses installed tools of the right version, and builds the others into the target folder.
pub fn ensure(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    for tool in tools(&workspace.wasm_bindgen_version) {
        let state = state(&tool, |program| toolbox.version_of(program));
        report(tool.package, &state.clone().unwrap_or_else(|missing| missing));
        if state.is_err() {
            install(workspace, toolbox, &tool)?;
        }
    }
    Ok(())
}

fn tools(wasm_bindgen_version: &str) -> [Tool<'_>; 2] {
    [
        Tool {
            package: "wasm-bindgen-cli",
            programs: &["wasm-bindgen", "wasm-bindgen-test-runner"],
            version: wasm_bindgen_version,
            // Not --locked: the crate is published without a lock file that still builds.
            install_arguments: &[],
        },
        Tool {
            package: "trunk",
            programs: &["trunk"],
            version: TRUNK_VERSION,
            // Its default features look for updates and download other tools; all it needs is installed here.
            install_arguments: &["--locked", "--no-default-features"],
        },
    ]
}

/// `Ok` when every program of the tool has the pinned version; both sides say what was found.
fn state(tool: &Tool, version_of: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    for program in tool.programs {
        match version_of(program) {
            Some(found) if found == tool.version => {}
            Some(found) => return Err(format!("{program} is {found}, {} is needed", tool.version)),
            None => return Err(format!("{program} not found, {} is needed", tool.version)),
        }
    }
    Ok(format!("{} there", tool.version))
}

fn install(workspace: &Workspace, toolbox: &Toolbox, tool: &Tool) -> Result<()> {
    let root = workspace.tools_root();
    println!("setup: building {} {} into {}; this takes minutes", tool.package, tool.version, workspace.shown(&root));
    let mut cargo = toolbox.cargo(&["install", tool.package, "--version", tool.version, "--root"]);
    cargo.arg(&root).args(tool.install_arguments);
    // A folder of its own: other lock files and features than the project's, and no waiting for its builds.
    cargo.env("CARGO_TARGET_DIR", workspace.target.join("tools-build"));
    // These run for seconds and are built once: quick to compile matters more than quick to run.
    cargo.envs([
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ]);
    run(&mut cargo).with_context(|| format!("{} {} was not installed", tool.package, tool.version))?;
    if let Err(missing) = state(tool, |program| toolbox.version_of(program)) {
        bail!("{} was installed into {}, but {missing}", tool.package, root.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_version_of_every_program_will_do() {
        let [bindgen, trunk] = tools("0.2.130");
        let installed = |runner: &'static str| {
            move |program: &str| match program {
                "wasm-bindgen" => Some("0.2.130".to_owned()),
                "wasm-bindgen-test-runner" => Some(runner.to_owned()),
                _ => None,
            }
        };
        assert_eq!(state(&bindgen, installed("0.2.130")), Ok("0.2.130 there".to_owned()));
        let older = state(&bindgen, installed("0.2.129")).expect_err("older runner");
        assert!(older.contains("wasm-bindgen-test-runner is 0.2.129"), "{older}");
        let absent = state(&trunk, installed("0.2.130")).expect_err("no trunk");
        assert!(absent.contains("trunk not found") && absent.contains(TRUNK_VERSION), "{absent}");
    }
}
