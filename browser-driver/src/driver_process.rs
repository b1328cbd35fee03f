//! The chromedriver process: started on a port of its own choice, always taken down.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::error::Error;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running chromedriver. Dropping it closes every session, with its Chrome, and ends the process.
#[derive(Debug)]
pub(crate) struct DriverProcess {
    child: Child,
    port: u16,
    /// `None` where there are no process groups, and once the process has ended.
    guard: Option<Guard>,
}

/// A shell that does what a destructor does, when this program ends without one: killed, interrupted at the keyboard, or
/// with a browser in a static. It waits for the end of its input, whose other end only this program has.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    /// Kills the process group `group` and removes `folder` when this program has ended.
    #[cfg(unix)]
    fn start(group: u32, folder: &Path) -> std::io::Result<Self> {
        // Nothing may write to the folder any more when it is removed, and nobody waits here for ever.
        let script = "read -r end; kill -KILL \"-$1\"; turns=0; \
             while kill -0 \"-$1\" && [ $turns -lt 50 ]; do sleep 0.1; turns=$((turns + 1)); done; rm -rf \"$2\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "browser-guard", &group.to_string()]).arg(folder);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Not in this program's group, to which the keyboard's interrupt goes.
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        Ok(Self(shell.spawn()?))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Killed before its input ends, which `wait` would bring about.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl DriverProcess {
    /// Starts chromedriver and waits until it says which port it got. `profile` is the folder of the browser that it will
    /// start, which goes when this program ends without a destructor.
    pub(crate) fn start(chromedriver: &Path, profile: &Path) -> Result<Self, Error> {
        let start_error = |source| Error::DriverStart { path: chromedriver.to_path_buf(), source };
        let (reader, writer) = std::io::pipe().map_err(start_error)?;
        let mut command = Command::new(chromedriver);
        // Port 0: the system picks a free one, so that two runs never meet.
        command.arg("--port=0").stdin(Stdio::null());
        command.stdout(writer.try_clone().map_err(start_error)?).stderr(writer);
        // A group of its own, so that Chrome's many processes can be ended together.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(start_error)?;
        // `command` still holds this process's copies of the pipe's writing end.
        drop(command);
        let mut driver = Self { child, port: 0, guard: None };
        #[cfg(unix)]
        {
            driver.guard = Some(Guard::start(driver.child.id(), profile).map_err(start_error)?);
        }
        #[cfg(not(unix))]
        let _ = profile;

        let output = Arc::new(Mutex::new(String::new()));
        let (port_sender, port_receiver) = mpsc::channel();
        let thread_output = Arc::clone(&output);
        // Reads to the end, so that chromedriver never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if let Some(port) = announced_port(&line) {
                    // The receiver is gone once a port has arrived.
                    let _ = port_sender.send(port);
                }
                let mut output = thread_output.lock().unwrap_or_else(PoisonError::into_inner);
                output.push_str(&line);
                output.push('\n');
            }
        });
        driver.port = port_receiver.recv_timeout(START_TIMEOUT).map_err(|_timeout| Error::DriverSilent {
            path: chromedriver.to_path_buf(),
            seconds: START_TIMEOUT.as_secs(),
            output: output.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })?;
        Ok(driver)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Chromedriver's own way out: it quits every browser it started, then itself.
    fn ask_to_shut_down(&self) -> std::io::Result<()> {
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        let mut stream = TcpStream::connect_timeout(&address, SHUTDOWN_TIMEOUT)?;
        stream.set_read_timeout(Some(SHUTDOWN_TIMEOUT))?;
        stream.set_write_timeout(Some(SHUTDOWN_TIMEOUT))?;
        let port = self.port;
        write!(stream, "GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    fn exited_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Ends every session, with its Chrome, and the process.
    pub(crate) fn close(&mut self) {
        let asked = self.port != 0 && self.ask_to_shut_down().is_ok();
        if !(asked && self.exited_within(SHUTDOWN_TIMEOUT)) {
            self.kill();
        }
        // There is nothing to ask any more, and nothing to guard.
        self.port = 0;
        self.guard = None;
    }

    /// The hard way, also for a driver that does not react: its whole process group, browser included.
    pub(crate) fn kill(&mut self) {
        self.port = 0;
        #[cfg(unix)]
        {
            let group = format!("-{}", self.child.id());
            // Best effort in a destructor: nothing is left to do if it fails.
            let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.guard = None;
    }
}

impl Drop for DriverProcess {
    fn drop(&mut self) {
        self.close();
    }
}

/// `ChromeDriver was started successfully on port 33979.` → 33979.
fn announced_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("started successfully on port ")?;
    rest.trim_end_matches('.').parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of its input is what a guard sees of the end of the program that started it.
    #[cfg(unix)]
    #[test]
    fn a_guard_ends_a_group_and_its_folder_when_its_program_has_ended_and_not_before() {
        let begin = || {
            let mut command = Command::new("sleep");
            std::os::unix::process::CommandExt::process_group(command.arg("600"), 0);
            let browser = command.spawn().expect("sleep");
            let profile = tempfile::tempdir().expect("a folder");
            let guard = Guard::start(browser.id(), profile.path()).expect("a guard");
            (browser, profile, guard)
        };
        let (mut browser, profile, mut guard) = begin();
        drop(guard.0.stdin.take());
        // Reaped here, as init does it with those whose parent has ended.
        assert!(!browser.wait().expect("it ends").success());
        guard.0.wait().expect("it ends, too");
        assert!(!profile.path().exists());

        let (mut browser, profile, guard) = begin();
        drop(guard);
        assert!(browser.try_wait().expect("asked").is_none() && profile.path().exists());
        browser.kill().and_then(|()| browser.wait()).expect("it ends");
    }

    #[test]
    fn the_port_is_read_from_the_line_that_announces_it() {
        assert_eq!(announced_port("ChromeDriver was started successfully on port 33979."), Some(33979));
        assert_eq!(announced_port("Starting ChromeDriver 156.0.8078.79 (a21c) on port 0"), None);
        assert_eq!(announced_port("Only local connections are allowed."), None);
    }
}
