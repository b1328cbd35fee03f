//! The servers that are asked: `pylon api`, and another that speaks `/v1/completions`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::client::send;
use crate::cargo_tests;
use crate::process::{Toolbox, shown};

/// How long another server may take to load its model.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A server; dropping it ends it.
pub struct Server {
    child: Child,
    /// Address and port.
    pub address: String,
}

/// `pylon`, built for release.
pub fn build(toolbox: &Toolbox) -> Result<std::path::PathBuf> {
    let built = cargo_tests::build(toolbox, "build", &["--release", "--workspace", "--bin", "pylon"])?;
    Ok(built.into_iter().find(|built| built.package == "pylon").context("cargo built no pylon")?.path)
}

impl Server {
    /// Starts `pylon api` on a free port.
    pub fn pylon(toolbox: &Toolbox, program: &Path, model: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = toolbox.command(program);
        command.args(["api", "--bind", "127.0.0.1:0", "--backend", "cpu"]).args(arguments).arg("--gguf").arg(model);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {}", shown(&command)))?;
        let mut lines = BufReader::new(child.stderr.take().context("pylon has no output")?).lines();
        let mut server = Self { child, address: String::new() };
        for line in lines.by_ref().map_while(Result::ok) {
            println!("{line}");
            if let Some((address, _)) = line.split_once("http://").and_then(|(_, rest)| rest.split_once('/')) {
                address.clone_into(&mut server.address);
                break;
            }
        }
        ensure!(!server.address.is_empty(), "pylon ended without saying where it serves; its messages are above");
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("{line}")));
        Ok(server)
    }

    /// Starts llama.cpp's server, with as many slots and tokens for each.
    pub fn llama(toolbox: &Toolbox, program: &Path, model: &Path, setup: Setup) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .context("no free port")?
            .port();
        let total = setup.context_tokens * setup.streams;
        let mut command = toolbox.command(program);
        command.args(["--host", "127.0.0.1", "--no-webui", "--port", &port.to_string()]);
        command.args(["-np", &setup.streams.to_string(), "-c", &total.to_string(), "-t", &setup.threads.to_string()]);
        command.arg("-m").arg(model).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot run {}", shown(&command)))?;
        let mut server = Self { child, address: format!("127.0.0.1:{port}") };
        let begun = Instant::now();
        while send(&server.address, "GET", "/health", None).map_or(0, |answer| answer.status) != 200 {
            let ended = server.child.try_wait().context("cannot ask for its state")?;
            ensure!(ended.is_none(), "{} ended while it started", program.display());
            ensure!(begun.elapsed() < START_TIMEOUT, "{} does not answer", program.display());
            thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    /// Memory that it takes, in bytes, as Linux counts it.
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("RssAnon is no number")?;
        Ok(kib << 10)
    }
}

/// How many are asked at once, and of what size.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub streams: u32,
    pub context_tokens: u32,
    pub threads: u32,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
