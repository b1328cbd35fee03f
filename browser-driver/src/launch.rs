//! How Chrome is started.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Which GPU the browser may compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gpu {
    /// Whatever adapter Chrome finds.
    #[default]
    Any,
    /// SwiftShader, on the CPU: slow, the same everywhere, and there on machines without a GPU.
    Software,
}

/// Settings that a [`crate::Browser`] is started with.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// GPU that pages get.
    pub gpu: Gpu,
    /// Width and height of the window, in CSS pixels.
    pub window: (u32, u32),
    /// How Chrome treats pages whose GPU process crashed more than once.
    pub after_gpu_crashes: AfterGpuCrashes,
    /// The `host:port` of servers that count as public, wherever they are: their pages need permission to reach this
    /// machine.
    pub public_hosts: Vec<String>,
}

/// Reaction to crashes of the GPU process. Chrome protects users from pages that cause them, which a test may do on
/// purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterGpuCrashes {
    /// The default for users: no adapter for two minutes after two crashes within two minutes, and none at all after
    /// some more.
    #[default]
    Refuse,
    /// Pages always get another adapter.
    Allow,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self {
            gpu: Gpu::Any,
            window: (1280, 1440),
            after_gpu_crashes: AfterGpuCrashes::Refuse,
            public_hosts: Vec::new(),
        }
    }
}

/// Chrome's command-line arguments for headless runs, without the profile folder.
pub fn chrome_arguments(options: &LaunchOptions) -> Vec<String> {
    let (width, height) = options.window;
    let mut arguments: Vec<String> = [
        "--headless",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        // WebGPU is behind this switch on Linux and on adapters that Chrome has not vetted.
        "--enable-unsafe-webgpu",
        // Containers often have a /dev/shm of 64 MiB, too small for a tab that holds a model.
        "--disable-dev-shm-usage",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("--window-size={width},{height}"));
    if options.gpu == Gpu::Software {
        arguments.push("--use-webgpu-adapter=swiftshader".to_owned());
    }
    if options.after_gpu_crashes == AfterGpuCrashes::Allow {
        arguments
            .extend(["--disable-domain-blocking-for-3d-apis", "--disable-gpu-process-crash-limit"].map(str::to_owned));
    }
    if !options.public_hosts.is_empty() {
        let overrides: Vec<String> = options.public_hosts.iter().map(|host| format!("{host}=public")).collect();
        arguments.push(format!("--ip-address-space-overrides={}", overrides.join(",")));
    }
    if unattended() || is_root() {
        // Chrome refuses to sandbox as root, and containers on CI rarely allow the namespaces it needs.
        arguments.push("--no-sandbox".to_owned());
    }
    arguments
}

/// WebDriver capabilities of one session.
pub(crate) fn capabilities(options: &LaunchOptions, chrome: &Path, profile: &Path) -> Value {
    let mut arguments = chrome_arguments(options);
    arguments.push(format!("--user-data-dir={}", profile.display()));
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": { "binary": chrome, "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL" },
    })
}

/// True on CI machines: nobody is there to look or to answer.
pub fn unattended() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

fn is_root() -> bool {
    cfg!(unix) && Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_software_adapter_is_used_only_when_asked_for() {
        let has_swiftshader = |gpu| {
            chrome_arguments(&LaunchOptions { gpu, ..LaunchOptions::default() })
                .iter()
                .any(|argument| argument.contains("swiftshader"))
        };
        assert!(has_swiftshader(Gpu::Software));
        assert!(!has_swiftshader(Gpu::Any));
    }

    #[test]
    fn a_session_has_its_own_profile_and_reports_the_whole_console() {
        let capabilities = capabilities(&LaunchOptions::default(), Path::new("/bin/chrome"), Path::new("/tmp/profile"));
        assert_eq!(capabilities["goog:chromeOptions"]["binary"], "/bin/chrome");
        assert_eq!(capabilities["goog:loggingPrefs"]["browser"], "ALL");
        let arguments = capabilities["goog:chromeOptions"]["args"].as_array().expect("args");
        assert!(arguments.iter().any(|argument| argument == "--user-data-dir=/tmp/profile"), "{arguments:?}");
    }
}
