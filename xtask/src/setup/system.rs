//! What comes from the operating system: a browser with its driver, a Vulkan driver for the native GPU tests, and a C++
//! compiler for the fuzzer.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use browser_driver::Installation;

use super::report;
use crate::fuzz;
use crate::process::{Toolbox, run};

/// Something that only the operating system's own installer can provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Chrome or Chromium, and its chromedriver.
    Browser,
    /// A Vulkan loader with a driver; one that computes on the CPU is enough. Linux only: elsewhere the system has its
    /// own GPU interface.
    Vulkan,
    /// Mesa's driver for AMD, which compiles for GPUs that are not there. Linux only.
    NullDevice,
    /// What builds libFuzzer, where that runs.
    CxxCompiler,
}

impl Need {
    /// What is missing, in words; `None` when all is there.
    fn missing(self, toolbox: &Toolbox) -> Option<String> {
        match self {
            Self::Browser => Installation::find().err().map(|error| error.to_string()),
            Self::Vulkan if cfg!(target_os = "linux") => missing_vulkan(),
            Self::NullDevice if cfg!(target_os = "linux") => missing_null_device(),
            Self::CxxCompiler if fuzz::is_supported() => missing_cxx_compiler(toolbox),
            Self::Vulkan | Self::NullDevice | Self::CxxCompiler => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Browser => "Chrome and chromedriver",
            Self::Vulkan => "Vulkan driver",
            Self::NullDevice => "RADV, which compiles without a GPU",
            Self::CxxCompiler => "C++ compiler",
        }
    }

    fn debian_packages(self) -> &'static [&'static str] {
        match self {
            Self::Browser => &["chromium", "chromium-driver"],
            Self::Vulkan | Self::NullDevice => &["mesa-vulkan-drivers", "libvulkan1"],
            Self::CxxCompiler => &["g++"],
        }
    }
}

/// Installs what is missing with apt where that is possible (Debian, as root), and says what to install elsewhere.
pub fn ensure(toolbox: &Toolbox, needs: &[Need]) -> Result<()> {
    let mut missing = Vec::new();
    for need in needs {
        match need.missing(toolbox) {
            None => report(need.name(), "there"),
            Some(detail) => {
                report(need.name(), "missing");
                missing.push((*need, detail));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().flat_map(|(need, _)| need.debian_packages()).copied().collect();
    let install = format!("apt-get update && apt-get install -y {}", packages.join(" "));
    if !can_use_apt(toolbox) {
        let details: Vec<_> = missing.into_iter().map(|(_, detail)| detail).collect();
        bail!("{}\nOn Debian this installs it, as root: {install}", details.join("\n"));
    }
    println!("setup: installing system packages: {}", packages.join(" "));
    run(toolbox.command("apt-get").arg("update"))?;
    run(toolbox.command("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y"]).args(&packages))?;
    for (need, _) in missing {
        if let Some(detail) = need.missing(toolbox) {
            bail!("{} still missing after {install}: {detail}", need.name());
        }
    }
    Ok(())
}

/// Package names are Debian's: Ubuntu's `chromium` only asks for a snap.
fn can_use_apt(toolbox: &Toolbox) -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    is_debian(&release) && root && toolbox.find("apt-get").is_some()
}

fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| matches!(line.trim(), "ID=debian" | "ID=\"debian\""))
}

/// Asks for what the crate `cc` uses.
fn missing_cxx_compiler(toolbox: &Toolbox) -> Option<String> {
    let is_there = std::env::var_os("CXX").is_some() || toolbox.find("c++").is_some();
    (!is_there).then(|| "No C++ compiler: there is no c++ in PATH and CXX is not set. The fuzzer needs one.".to_owned())
}

fn missing_vulkan() -> Option<String> {
    if !has_vulkan_loader() {
        return Some("The Vulkan loader (libvulkan.so.1) is missing; the native GPU tests need it.".to_owned());
    }
    let chosen = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| std::env::var_os(name).is_some());
    let folders = manifest_folders();
    if chosen || holds_driver_manifest(&folders, "") {
        return None;
    }
    Some(format!(
        "No Vulkan driver: no manifest in {}. The native GPU tests need one; Mesa's software driver is enough.",
        listed(&folders)
    ))
}

fn missing_null_device() -> Option<String> {
    let folders = manifest_folders();
    if has_vulkan_loader() && holds_driver_manifest(&folders, "radeon_icd") {
        return None;
    }
    Some(format!(
        "The Vulkan loader or RADV is missing: no radeon_icd*.json in {}. What kernels cost is told by it, without a GPU.",
        listed(&folders)
    ))
}

/// Where Vulkan drivers announce themselves.
fn manifest_folders() -> [PathBuf; 4] {
    ["/usr/share", "/usr/local/share", "/etc", "/usr/local/etc"].map(|root| Path::new(root).join("vulkan/icd.d"))
}

fn listed(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn has_vulkan_loader() -> bool {
    // Not every user has /sbin in PATH.
    let listed = ["ldconfig", "/sbin/ldconfig"].iter().any(|program| {
        let output = Command::new(program).arg("-p").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libvulkan.so.1"))
    });
    listed
        || ["/usr/lib", "/usr/lib64", "/usr/local/lib"]
            .iter()
            .any(|folder| Path::new(folder).join("libvulkan.so.1").exists())
}

/// Of a driver whose manifest's name begins with `name`.
fn holds_driver_manifest(folders: &[PathBuf], name: &str) -> bool {
    let is_manifest = |path: &Path| {
        let begins = path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
        begins && path.extension().is_some_and(|extension| extension == "json")
    };
    folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten())
        .any(|entry| is_manifest(&entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_itself_has_the_package_names_used_here() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n"));
        assert!(!is_debian("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn a_vulkan_driver_is_known_by_its_manifest() {
        let folder = tempfile::tempdir().expect("temp folder");
        let folders = [folder.path().join("absent"), folder.path().to_path_buf()];
        assert!(!holds_driver_manifest(&folders, ""));
        std::fs::write(folder.path().join("readme.txt"), "").expect("write");
        assert!(!holds_driver_manifest(&folders, ""));
        std::fs::write(folder.path().join("lvp_icd.x86_64.json"), "{}").expect("write");
        assert!(holds_driver_manifest(&folders, "") && !holds_driver_manifest(&folders, "radeon_icd"));
    }
}
