//! All figures together, and the file that they are recorded in.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::kernel_cost::{FamilyCosts, KernelCost};
use crate::pass::{DEFAULT_LIMITS, PassCosts, Planned, ROOMY_LIMITS};
use crate::radv;

/// The families of GPUs that kernels are compiled for: RDNA3, and one for what GPUs before RDNA have in common.
pub const FAMILIES: [&str; 2] = ["gfx1100", "vega10"];

/// All figures that can be had without a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// Name and version of the driver that compiled the kernels.
    pub driver: String,
    /// Figures of gpt-oss-20b by kind of pass and limits of the device.
    pub passes: BTreeMap<String, PassCosts>,
    /// Figures of kernels by family of GPUs, then by name of the kernel.
    pub kernels: BTreeMap<String, BTreeMap<String, KernelCost>>,
}

impl Costs {
    /// Compiles everything, with one process for each family, because a driver reads its family only once.
    ///
    /// # Errors
    /// No driver, a kernel that it does not compile, or a model that is refused.
    pub fn gather() -> Result<Self> {
        let manifest = radv::manifest()?;
        let children = FAMILIES.map(|family| (family, start(family, &manifest)));
        let mut passes = BTreeMap::new();
        for (granted, limits) in [("default limits", DEFAULT_LIMITS), ("roomy limits", ROOMY_LIMITS)] {
            let planned = Planned::gpt_oss_20b(limits)?;
            passes.insert(format!("token, {granted}"), planned.decode());
            passes.insert(format!("prompt, {granted}"), planned.prompt());
        }

        let (mut driver, mut kernels) = (String::new(), BTreeMap::new());
        for (family, child) in children {
            let output = child?.wait_with_output().with_context(|| format!("cannot wait for {family}"))?;
            ensure!(
                output.status.success(),
                "nothing was compiled for {family} ({}): the reason is above",
                output.status
            );
            let told: FamilyCosts = serde_json::from_slice(&output.stdout).with_context(|| format!("from {family}"))?;
            driver = told.driver;
            kernels.insert(family.to_owned(), told.kernels);
        }
        Ok(Self { driver, passes, kernels })
    }

    /// Reads a file that [`Costs::to_json`] wrote.
    ///
    /// # Errors
    /// It cannot be read, or is of another form.
    pub fn read(path: &Path) -> Result<Self> {
        let again = "write it again with `cargo xtask shader-costs --update`";
        let text = std::fs::read(path).with_context(|| format!("cannot read {}: {again}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} has another form: {again}", path.display()))
    }

    /// The figures as JSON, one line for each pass and each kernel, so that a diff shows what changed.
    ///
    /// # Errors
    /// Nothing here cannot be JSON.
    pub fn to_json(&self) -> Result<String> {
        let Self { driver, passes, kernels } = self;
        let families =
            kernels.iter().map(|(family, kernels)| Ok(format!("\n{}: {}", json(family)?, by_line(kernels)?)));
        let families = families.collect::<Result<Vec<_>>>()?.join(",");
        let mut text = format!("{{\n\"driver\": {},\n\"passes\": {},\n", json(driver)?, by_line(passes)?);
        writeln!(text, "\"kernels\": {{{families}\n}}\n}}")?;
        Ok(text)
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// A JSON object with one line for each entry.
fn by_line(entries: &BTreeMap<String, impl Serialize>) -> Result<String> {
    let lines = entries.iter().map(|(name, value)| Ok(format!("  {}: {}", json(name)?, json(value)?)));
    Ok(format!("{{\n{}\n}}", lines.collect::<Result<Vec<_>>>()?.join(",\n")))
}

/// Starts this program again to compile for one family. Its standard error is this program's.
fn start(family: &str, manifest: &Path) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe().context("cannot tell which program this is")?);
    command.arg("compile").env("RADV_FORCE_FAMILY", family).stdin(Stdio::null()).stdout(Stdio::piped());
    // Old and new loaders have different names for it. Without a cache, because a cached kernel has no statistics.
    command.env("VK_ICD_FILENAMES", manifest).env("VK_DRIVER_FILES", manifest).env("MESA_SHADER_CACHE_DISABLE", "true");
    command.spawn().with_context(|| format!("cannot start compiling for {family}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let kept = Costs::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("costs.json")).expect("costs.json");
        let text = kept.to_json().expect("JSON");
        assert_eq!(serde_json::from_str::<Costs>(&text).expect("JSON"), kept);
        let kernels: usize = kept.kernels.values().map(BTreeMap::len).sum();
        assert!(text.lines().count() > kernels, "a line for each kernel");
    }
}
