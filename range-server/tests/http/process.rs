//! The program as a process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running gguf-serve; dropping it kills it.
pub struct Program {
    pub child: Child,
    pub output: BufReader<ChildStdout>,
    /// What it printed up to the address to open.
    pub greeting: String,
    /// Where it serves; port 0 before it has said so.
    pub addr: SocketAddr,
}

impl Program {
    /// Starts it and reads on until it says where it serves.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn(arguments, environment).greeted()
    }

    pub fn from_command(command: &mut Command) -> Self {
        Self::spawn_command(command).greeted()
    }

    /// Starts it and does not read anything.
    pub fn spawn(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gguf-serve"));
        Self::spawn_command(command.args(arguments).envs(environment.iter().copied()))
    }

    fn spawn_command(command: &mut Command) -> Self {
        // Hashes are not to be kept in the cache of whoever runs the tests.
        let mut child = command.env("XDG_CACHE_HOME", std::env::temp_dir()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, greeting: String::new(), addr: ([0, 0, 0, 0], 0).into() }
    }

    fn greeted(mut self) -> Self {
        while self.addr.port() == 0 {
            let start = self.greeting.len();
            let read = self.output.read_line(&mut self.greeting).unwrap();
            assert_ne!(read, 0, "it ended after:\n{}", self.greeting);
            let line = self.greeting[start..].trim_end();
            if let Some((_, url)) = line.strip_prefix("Open ").and_then(|url| url.split_once("://")) {
                self.addr = url.split('/').next().unwrap().parse().unwrap();
            }
        }
        self
    }

    /// Sends a signal by its name, without SIG.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// A value of /proc/PID/status in bytes.
    #[cfg(target_os = "linux")]
    pub fn memory_bytes(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib: u64 = line.unwrap().trim().strip_suffix(" kB").unwrap().parse().unwrap();
        kib << 10
    }

    /// Processor time that it has used.
    #[cfg(target_os = "linux")]
    pub fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name, in brackets, may hold anything; user and system time are the 12th and 13th fields after it.
        let after_name: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = after_name[11].parse::<u64>().unwrap() + after_name[12].parse::<u64>().unwrap();
        ticks as f64 / 100.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone in tests that stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
