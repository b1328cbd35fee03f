//! A gguf-serve of this project: built, started, ended.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cargo_tests;
use crate::process::{Toolbox, shown};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

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
    /// Starts `program` and returns when it says where it serves: the page in the folder `page`, or the one in it. `read_log` then gets its output on a thread of its own
    /// and must read it to the end: the server blocks on a full pipe.
    pub fn start(
        toolbox: &Toolbox,
        program: impl AsRef<OsStr>,
        model: &Path,
        port: u16,
        page: Option<&Path>,
        read_log: impl FnOnce(BufReader<ChildStdout>) + Send + 'static,
    ) -> Result<Self> {
        let mut server = Self::spawn(toolbox, program, model, port, page, Stdio::piped())?;
        let stdout = server.child.stdout.take().context("gguf-serve has no output")?;
        let mut stdout = BufReader::new(stdout);
        for line in (&mut stdout).lines().map_while(Result::ok) {
            println!("{line}");
            if let Some(url) = first_url(&line) {
                server.url = url.to_owned();
                break;
            }
        }
        ensure!(!server.url.is_empty(), "gguf-serve ended without saying where it serves; its messages are above");
        thread::spawn(move || read_log(stdout));
        Ok(server)
    }

    /// The same with its output in the file `log`, so that nobody has to read it while it serves.
    pub fn start_with_log(toolbox: &Toolbox, program: impl AsRef<OsStr>, model: &Path, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut server = Self::spawn(toolbox, program, model, 0, None, output.into())?;
        let start = Instant::now();
        while server.url.is_empty() {
            let said = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
            // The last line may be half there.
            let lines = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if let Some(url) = lines.lines().find_map(first_url) {
                server.url = url.to_owned();
            }
            let ended = server.child.try_wait().context("cannot ask for gguf-serve's state")?;
            ensure!(ended.is_none(), "gguf-serve ended without saying where it serves; its messages are above");
            ensure!(start.elapsed() < START_TIMEOUT, "gguf-serve does not say where it serves:\n{said}");
            thread::sleep(POLL_INTERVAL);
        }
        Ok(server)
    }

    fn spawn(
        toolbox: &Toolbox,
        program: impl AsRef<OsStr>,
        model: &Path,
        port: u16,
        page: Option<&Path>,
        output: Stdio,
    ) -> Result<Self> {
        let mut command = toolbox.command(program);
        command.arg(model).args(["--bind", "127.0.0.1", "--port", &port.to_string()]).stdout(output);
        if let Some(page) = page {
            command.arg("--web").arg(page);
        }
        println!("$ {}", shown(&command));
        let child = command.spawn().context("cannot start gguf-serve")?;
        Ok(Self { child, url: String::new() })
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
