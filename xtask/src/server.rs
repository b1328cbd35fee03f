//! A gguf-serve of this project: built, started, ended.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cargo_tests;
use crate::process::{Toolbox, shown};

/// Builds gguf-serve, with the page in it if that was built; `profile` are cargo's switches for it, if any.
pub fn build(toolbox: &Toolbox, profile: &[&str]) -> Result<PathBuf> {
    let arguments = [profile, &["--package", "gguf-serve", "--bin", "gguf-serve"]].concat();
    let executables = cargo_tests::build(toolbox, "build", &arguments)?;
    let built = executables.into_iter().find(|built| built.package == "gguf-serve");
    Ok(built.context("cargo built no gguf-serve")?.path)
}

/// A running gguf-serve; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Scheme, address and port, without a path.
    pub url: String,
}

impl Server {
    /// Starts `program` and returns when it says where it serves. `read_log` then gets its output on a thread of its own
    /// and must read it to the end: the server blocks on a full pipe.
    pub fn start(
        toolbox: &Toolbox,
        program: impl AsRef<OsStr>,
        model: &Path,
        port: u16,
        read_log: impl FnOnce(BufReader<ChildStdout>) + Send + 'static,
    ) -> Result<Self> {
        let mut command = toolbox.command(program);
        command.arg(model).args(["--bind", "127.0.0.1", "--port", &port.to_string()]).stdout(Stdio::piped());
        println!("$ {}", shown(&command));
        let mut child = command.spawn().context("cannot start gguf-serve")?;
        let stdout = child.stdout.take().context("gguf-serve has no output")?;
        let mut server = Self { child, url: String::new() };
        let mut stdout = BufReader::new(stdout);
        for line in (&mut stdout).lines().map_while(Result::ok) {
            println!("{line}");
            if let Some(url) = first_url(&line) {
                server.url = url.to_owned();
                break;
            }
        }
        ensure!(!server.url.is_empty(), "gguf-serve ended without saying where it serves; its messages are above");
        std::thread::spawn(move || read_log(stdout));
        Ok(server)
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub fn wait(&mut self) -> Result<()> {
        let status = self.child.wait().context("cannot wait for gguf-serve")?;
        ensure!(status.success(), "gguf-serve ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended when these fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// First http address in a line, such as `Serving on http://127.0.0.1:8090/gptoss` → `http://127.0.0.1:8090`.
fn first_url(line: &str) -> Option<&str> {
    const SCHEME: &str = "http://";
    let start = line.find(SCHEME)?;
    let rest = &line[start + SCHEME.len()..];
    let length = rest.find(|character: char| character == '/' || character.is_whitespace()).unwrap_or(rest.len());
    (length > 0).then(|| &line[start..start + SCHEME.len() + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_address_is_read_from_its_greeting() {
        assert_eq!(first_url("Serving on http://127.0.0.1:8090/gptoss (Ctrl-C ends)"), Some("http://127.0.0.1:8090"));
        assert_eq!(first_url("http://[::1]:9000"), Some("http://[::1]:9000"));
        assert_eq!(first_url("listening"), None);
        assert_eq!(first_url("http:// "), None);
    }
}
