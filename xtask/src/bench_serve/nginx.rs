//! nginx, started for the measurement and ended after it. Nothing of the system's own nginx is used but the program.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{Toolbox, shown};

/// Where Debian and others put it; only root has these in `PATH`.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin"];

const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

const CONFIGURATION: &str = "nginx.conf";
const MESSAGES: &str = "messages.log";

/// Modules that want a folder at start even when they are not used.
const MODULES_WITH_FOLDERS: [&str; 4] = ["proxy", "fastcgi", "uwsgi", "scgi"];

pub fn find(toolbox: &Toolbox) -> Result<PathBuf> {
    let elsewhere = || FOLDERS.iter().map(|folder| Path::new(folder).join("nginx")).find(|full| full.is_file());
    toolbox.find("nginx").or_else(elsewhere).with_context(|| {
        format!(
            "nginx is neither in PATH nor in {}.\nOn Debian this installs it, as root: apt-get update && apt-get install \
             -y nginx-light (or the package nginx)",
            FOLDERS.join(", ")
        )
    })
}

/// How nginx is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Setup {
    /// What someone writes who wants static files served fast: sendfile, reuseport, no access log.
    Tuned,
    /// As Debian ships it: sendfile, one queue of connections, an access log in a file.
    Debian,
    /// What it does when nothing is said: its own reads, one queue of connections, an access log in a file.
    Defaults,
}

impl Setup {
    /// For the heading.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Tuned => "sendfile, reuseport, a worker per core, no access log",
            Self::Debian => "as Debian ships it (sendfile, access log in a file), a worker per core",
            Self::Defaults => "its defaults (no sendfile, access log in a file), a worker per core",
        }
    }

    fn in_http(self) -> &'static str {
        match self {
            Self::Tuned => "    access_log off;\n    sendfile on;\n    tcp_nopush on;\n",
            Self::Debian => "    access_log access.log;\n    sendfile on;\n    tcp_nopush on;\n",
            Self::Defaults => "    access_log access.log;\n",
        }
    }

    /// Without `reuseport`, connections that are opened at once mostly end up with the same worker, and the others idle.
    fn in_listen(self) -> &'static str {
        if self == Self::Tuned { " reuseport" } else { "" }
    }
}

/// A running nginx; dropping it ends it.
#[derive(Debug)]
pub struct Nginx {
    program: PathBuf,
    child: Child,
    /// Configuration, process id and messages.
    folder: TempDir,
    /// Scheme, address and port, without a path.
    pub url: String,
}

impl Nginx {
    /// Serves the folder of `file`; returns when it can be connected to.
    pub fn start(toolbox: &Toolbox, program: PathBuf, file: &Path, setup: Setup) -> Result<Self> {
        let folder = TempDir::with_prefix("bench-serve-").context("cannot make a temp folder for nginx")?;
        let address = free_address()?;
        let root = file.parent().context("the file is in no folder")?;
        let text = configuration(address, root, &build_of(toolbox, &program)?, setup);
        fs::write(folder.path().join(CONFIGURATION), text).context("cannot write nginx's configuration")?;
        let messages = File::create(folder.path().join(MESSAGES)).context("cannot write in nginx's folder")?;

        let mut command = command(&program, folder.path());
        command.stdout(Stdio::null()).stderr(messages);
        println!("$ {}", shown(&command));
        let child = command.spawn().context("cannot start nginx")?;
        let mut nginx = Self { program, child, folder, url: format!("http://{address}") };
        nginx.wait_until_it_listens(address)?;
        Ok(nginx)
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Such as `nginx/1.22.1`.
    pub fn version(&self, toolbox: &Toolbox) -> String {
        let build = build_of(toolbox, &self.program).unwrap_or_default();
        version(&build).unwrap_or("nginx of unknown version").to_owned()
    }

    fn wait_until_it_listens(&mut self, address: SocketAddr) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = self.child.try_wait().context("cannot ask for nginx's state")?;
            if ended.is_some() || start.elapsed() > START_TIMEOUT {
                let state = ended.map_or("does not listen".to_owned(), |status| format!("ended with {status}"));
                let messages = fs::read_to_string(self.folder.path().join(MESSAGES)).unwrap_or_default();
                bail!("nginx {state}:\n{}", messages.trim());
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It has to be asked: killed, it could not end its workers.
        let mut stop = command(&self.program, self.folder.path());
        stop.args(["-s", "stop"]).stdout(Stdio::null()).stderr(Stdio::null());
        let asked = stop.status().is_ok_and(|status| status.success());
        let start = Instant::now();
        while asked && start.elapsed() < STOP_TIMEOUT && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL_INTERVAL);
        }
        // Already ended when these fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both starting and stopping begin with. Relative paths in the configuration are below the folder.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(folder.join(CONFIGURATION)).stdin(Stdio::null());
    command
}

/// The version and the switches it was built with, as `nginx -V` prints them.
fn build_of(toolbox: &Toolbox, program: &Path) -> Result<String> {
    let output = toolbox.command(program).arg("-V").output().context("cannot run nginx -V")?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// `nginx version: nginx/1.22.1` → the last word, with what a distribution may have put behind it left out.
fn version(build: &str) -> Option<&str> {
    build.lines().find_map(|line| line.strip_prefix("nginx version: "))?.split_whitespace().next()
}

/// An address that was free a moment ago; nginx cannot say which one it got if it is left to choose.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind a port on 127.0.0.1")?;
    listener.local_addr().context("cannot tell the port that was bound")
}

fn configuration(address: SocketAddr, root: &Path, build: &str, setup: Setup) -> String {
    let (in_http, in_listen) = (setup.in_http(), setup.in_listen());
    let has_module = |module: &&&str| !build.contains(&format!("--without-http_{module}_module"));
    let folders: String = MODULES_WITH_FOLDERS
        .iter()
        .filter(has_module)
        .map(|module| format!("    {module}_temp_path {module};\n"))
        .collect();
    let root = root.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    // `user` only means something to root, whose workers would otherwise be someone who may not be allowed to read.
    format!(
        "user root;
worker_processes auto;
daemon off;
pid nginx.pid;
error_log error.log;
events {{
    worker_connections 1024;
}}
http {{
    default_type application/octet-stream;
{in_http}    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_body_temp_path body;
{folders}    server {{
        listen {address}{in_listen};
        root \"{root}\";
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: &str = "nginx version: nginx/1.22.1 (Ubuntu)\nbuilt with OpenSSL 3.0.15\n\
                         configure arguments: --prefix=/usr/share/nginx --without-http_uwsgi_module\n";

    #[test]
    fn the_version_is_read_from_what_nginx_prints() {
        assert_eq!(version(BUILD), Some("nginx/1.22.1"));
        assert_eq!(version("command not found"), None);
    }

    #[test]
    fn the_configuration_names_address_and_folder_and_only_modules_that_are_there() {
        let address = "127.0.0.1:8123".parse().expect("an address");
        let text = configuration(address, Path::new("/a \"b\"/c"), BUILD, Setup::Tuned);
        assert!(text.contains("listen 127.0.0.1:8123 reuseport;"), "{text}");
        assert!(text.contains("root \"/a \\\"b\\\"/c\";"), "{text}");
        assert!(text.contains("scgi_temp_path scgi;") && !text.contains("uwsgi"), "{text}");
        let text = configuration(address, Path::new("/a"), BUILD, Setup::Defaults);
        assert!(text.contains("listen 127.0.0.1:8123;") && !text.contains("sendfile"), "{text}");
    }
}
