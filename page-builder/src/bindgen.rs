//! Calls wasm-bindgen, as a library, the way trunk calls it as a program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

/// Makes `NAME.js` and `NAME_bg.wasm` for a module in a page, and what they import, by name.
pub fn run(compiled: &Path, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut bindgen = Bindgen::new();
    bindgen.input_path(compiled).out_name(name).web(true)?.typescript(false);
    // Names of functions are a fifth of what a visitor would wait for, and are seen by nobody but in the frames of a panic, whose
    // message says file and line without them. trunk, for development, keeps them.
    bindgen.remove_name_section(true);
    // The library leaves out by default what the program writes by default: where the wasm is unless somebody says
    // otherwise. The worker's loader says nothing.
    bindgen.omit_default_module_path(false);
    bindgen.generate(folder.path()).with_context(|| format!("wasm-bindgen failed on {}", compiled.display()))?;
    let mut files = BTreeMap::new();
    collect(folder.path(), "", &mut files)?;
    Ok(files)
}

/// All files below `folder`, by their path below it with forward slashes.
pub fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let context = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = format!("{prefix}{}", name.with_context(|| format!("{} is not UTF-8", path.display()))?);
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.insert(name, bytes);
        }
    }
    Ok(())
}
