//! Programs that come from crates, at the versions that the project pins: wasm-bindgen's, and trunk.
//!
//! Any of the right version in `PATH` or among the project's own will do. What is missing is fetched ready-made where
//! cargo-binstall is installed, and built where it is not or has none for this machine.

use std::fs;

use anyhow::{Context, Result, bail};

use super::report;
use crate::cargo_tests;
use crate::process::{Toolbox, run};
use crate::workspace::Workspace;

/// A crate with programs that the project uses at one exact version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tool<'a> {
    package: &'static str,
    programs: &'static [&'static str],
    version: &'a str,
}

const TRUNK: Tool = Tool { package: "trunk", programs: &["trunk"], version: "0.21.14" };

/// What `page-builder` calls wasm-bindgen's programs, and what others do.
const BUILT: [(&str, &str); 2] =
    [("bindgen", "wasm-bindgen"), ("wasm-bindgen-test-runner", "wasm-bindgen-test-runner")];

fn bindgen(version: &str) -> Tool<'_> {
    Tool { package: "wasm-bindgen-cli", programs: &["wasm-bindgen", "wasm-bindgen-test-runner"], version }
}

/// What runs wasm tests in a browser. The crate `page-builder` has it, too: most of it is built for the page anyway.
pub fn ensure_bindgen(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    ensure(workspace, toolbox, &bindgen(&workspace.wasm_bindgen_version), build_bindgen)
}

/// What shows the page while it is being worked on.
pub fn ensure_trunk(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    ensure(workspace, toolbox, &TRUNK, install_trunk)
}

fn ensure(
    workspace: &Workspace,
    toolbox: &Toolbox,
    tool: &Tool,
    build: fn(&Workspace, &Toolbox) -> Result<()>,
) -> Result<()> {
    let missing = match state(tool, |program| toolbox.version_of(program)) {
        Ok(there) => {
            report(tool.package, &there);
            return Ok(());
        }
        Err(missing) => missing,
    };
    report(tool.package, &missing);
    let fetched = toolbox.find("cargo-binstall").is_some() && fetch(workspace, toolbox, tool);
    if !fetched {
        println!("setup: building {} {} for {}", tool.package, tool.version, workspace.shown(&workspace.tools_root()));
        build(workspace, toolbox).with_context(|| format!("{} {} was not installed", tool.package, tool.version))?;
    }
    if let Err(missing) = state(tool, |program| toolbox.version_of(program)) {
        bail!("{} was installed into {}, but {missing}", tool.package, workspace.tools_root().display());
    }
    Ok(())
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

/// Has cargo-binstall fetch ready-made programs; says whether they are there now.
fn fetch(workspace: &Workspace, toolbox: &Toolbox, tool: &Tool) -> bool {
    let mut cargo = toolbox.cargo(&["binstall", "--no-confirm", "--disable-strategies", "compile", "--root"]);
    cargo.arg(workspace.tools_root()).arg(format!("{}@{}", tool.package, tool.version));
    let result = run(&mut cargo).map_err(|error| error.to_string());
    let result = result.and_then(|()| state(tool, |program| toolbox.version_of(program)));
    match result {
        Ok(_) => true,
        Err(error) => {
            println!("setup: {error}; building it instead");
            false
        }
    }
}

fn build_bindgen(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    let built = cargo_tests::build(toolbox, "build", &["--package", "page-builder", "--features", "tools", "--bins"])?;
    let bin = workspace.tools_root().join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    for (name, program) in BUILT {
        let built = built.iter().find(|built| built.path.file_stem() == Some(name.as_ref()));
        let path = &built.with_context(|| format!("cargo built no {name}"))?.path;
        let installed = bin.join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
        // Not over a program that may be running.
        let new = installed.with_extension("new");
        fs::copy(path, &new).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &installed).with_context(|| format!("cannot write {}", installed.display()))?;
    }
    Ok(())
}

fn install_trunk(workspace: &Workspace, toolbox: &Toolbox) -> Result<()> {
    // Its default features look for updates and download other tools; all it needs is installed here.
    let mut cargo = toolbox.cargo(&["install", TRUNK.package, "--version", TRUNK.version, "--locked"]);
    cargo.arg("--no-default-features").arg("--root").arg(workspace.tools_root());
    // A folder of its own: other lock files and features than the project's, and no waiting for its builds.
    cargo.env("CARGO_TARGET_DIR", workspace.target.join("tools-build"));
    // It runs for seconds and is built once: quick to compile matters more than quick to run.
    cargo.envs([
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ]);
    run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_version_of_every_program_will_do() {
        let bindgen = bindgen("0.2.130");
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
        let absent = state(&TRUNK, installed("0.2.130")).expect_err("no trunk");
        assert!(absent.contains("trunk not found") && absent.contains(TRUNK.version), "{absent}");
    }
}
