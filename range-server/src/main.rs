//! `gguf-serve`: the command line around the library.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use gguf_serve::{DEFAULT_PORT, ModelInfo, Options, PageSource, RunningServer, Stopped, serve};

/// Prints a line. If nobody reads standard output any more, that is no reason to stop serving.
macro_rules! say {
    ($($line:tt)*) => {{
        let _ = writeln!(io::stdout(), $($line)*);
    }};
}

/// Serves GGUF files, and the page that runs them, to browsers.
///
/// Exit status: 0 after Ctrl-C or SIGTERM, 1 if it could not start, 2 for wrong arguments, 130 after a second Ctrl-C.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// GGUF files, and folders with GGUF files below them. Without any, a small demo model is served.
    paths: Vec<PathBuf>,
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Serve the page built in this folder instead of the one compiled in.
    #[arg(long, value_name = "DIR")]
    web: Option<PathBuf>,
    /// Let pages of this origin (scheme://host[:port], or *) read; loopback origins always may.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Answer to this host name too; localhost and the bound address are always answered.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gguf-serve: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { paths, bind, port, web, allow_origin, allow_host } = arguments;
    let told_hosts = !allow_host.is_empty();
    let server = serve(Options {
        paths,
        bind,
        port,
        web,
        allow_origins: allow_origin,
        allow_hosts: allow_host,
        log: Some(Arc::new(|record| say!("{record}"))),
        ..Options::default()
    })
    .await?;
    let models = server.models().await?;
    // Before anybody can see that it serves: from then on a signal has to drain, not kill.
    let mut signals = Signals::new()?;
    greet(&server, &models, told_hosts);

    signals.next().await;
    say!("stopping; finishing what is under way (once more to quit at once)");
    tokio::select! {
        stopped = server.shutdown() => {
            if stopped == Stopped::Cut {
                say!("some answers took too long and were cut");
            }
            Ok(ExitCode::SUCCESS)
        }
        () = signals.next() => Ok(ExitCode::from(130)),
    }
}

/// What a person wants to know first: what is served, what is odd about it, and where to click.
fn greet(server: &RunningServer, models: &[ModelInfo], told_hosts: bool) {
    say!("gguf-serve {} on {}", env!("CARGO_PKG_VERSION"), server.addr());
    for model in models {
        say!("  {}", describe(model));
    }
    for note in server.notes() {
        say!("note: {note}");
    }
    if !server.addr().ip().is_loopback() {
        say!("warning: everyone who can reach {} can read these files", server.addr());
        if !told_hosts && server.addr().ip().is_unspecified() {
            say!("note: only requests to localhost are answered; give the name others use with --allow-host NAME");
        }
    }
    match server.page_source() {
        PageSource::Embedded => {}
        PageSource::Folder(folder) => say!("page from {}", folder.display()),
        PageSource::Missing => say!("note: built without the page; `cargo xtask demo` or `trunk build` makes it"),
    }
    say!("\nOpen {}\n", server.page_url());
}

fn describe(model: &ModelInfo) -> String {
    let size = model.size_bytes as f64;
    let size = if size >= 1e9 { format!("{:.2} GB", size / 1e9) } else { format!("{:.2} MB", size / 1e6) };
    let architecture = model.architecture.as_deref().unwrap_or("unreadable");
    let reason = model.reason.as_ref().map(|reason| format!("  not supported by the page: {reason}"));
    format!("{}  {size}  {architecture}{}", model.url, reason.unwrap_or_default())
}

/// Ctrl-C, and SIGTERM where that exists; caught from `new` on, waited for or not.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(windows)]
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(windows)]
    async fn next(&mut self) {
        self.interrupt.recv().await;
    }
}
