//! `cargo xtask bench-serve`: what gguf-serve costs, with nginx as the measure.
//!
//! Rates of one machine say little about another, and on a virtual machine little about the next minute. So the two
//! servers take turns in one run, with the same file and the same client, and what counts is their ratio.

mod client;
mod file;
mod load;
mod machine;
mod nginx;
mod report;
mod target;
mod usage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::value_parser;
use tempfile::TempDir;

use crate::process::Toolbox;
use crate::server::{self, Server};
use crate::workspace::Workspace;

use load::{Latencies, Transfer};
use nginx::Nginx;
use report::Row;
use target::Target;
use usage::Usage;

/// One download, the parallel ones of a loader, and those of several clients at once.
const STREAM_CONNECTIONS: [u64; 3] = [1, 4, 16];
const LATENCY_CONNECTIONS: u64 = 4;

/// Long enough for both servers to open the file, start their threads and have a first connection behind them.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Size of the file that is served. It is kept in target/bench-serve and should fit into the page cache.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = value_parser!(u64).range(128..=1 << 20))]
    size_mib: u64,
    /// How long each server is measured in each round.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How often each server has its turn for each figure.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// How nginx is set up.
    #[arg(long, value_enum, default_value_t = nginx::Setup::Tuned)]
    nginx: nginx::Setup,
    /// Measure only these figures.
    #[arg(long, value_enum)]
    only: Option<Figures>,
    /// Measure the times of 64 KiB ranges at so many requests a second instead of as many as come.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    requests_per_second: Option<u32>,
    /// Measure this gguf-serve instead of building the one of this checkout.
    #[arg(long, value_name = "PATH")]
    gguf_serve: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Figures {
    /// Rates of 8 MiB ranges.
    Rates,
    /// Times of 64 KiB ranges.
    Latencies,
}

/// One server's turn: what the client saw, and what the server used for it.
#[derive(Debug)]
struct Turn<T> {
    seen: T,
    /// CPU time of the whole server; `None` where the system does not tell.
    cpu_seconds: Option<f64>,
}

/// gguf-serve's turn and nginx's.
type Round<T> = [Turn<T>; 2];

pub fn run(workspace: &Workspace, toolbox: &Toolbox, arguments: &Arguments) -> Result<()> {
    // Before the long build, so that whoever lacks it hears of it at once.
    let nginx_program = nginx::find(toolbox)?;
    let program = gguf_serve(toolbox, arguments.gguf_serve.as_deref())?;
    let file = file::prepare(&workspace.target.join("bench-serve"), arguments.size_mib)?;
    println!("bench-serve: {} is in the page cache", workspace.shown(&file));

    // In a file, as nginx's: reading it would take this machine's time, which is what is measured.
    let folder = TempDir::with_prefix("bench-serve-").context("cannot make a temp folder for the log")?;
    let server = Server::start_with_log(toolbox, program, &file, &folder.path().join("access.log"))?;
    let nginx = Nginx::start(toolbox, nginx_program, &file, arguments.nginx)?;
    let targets = [
        Target::new("gguf-serve", &server.url, server.process_id(), &file)?,
        Target::new("nginx", &nginx.url, nginx.process_id(), &file)?,
    ];
    for target in &targets {
        target.check(&file)?;
        load::stream(target, LATENCY_CONNECTIONS, WARM_UP)?;
    }
    let rows = measure(&targets, arguments)?;
    println!();
    report::print(&heading(toolbox, &nginx, arguments), &rows);
    Ok(())
}

/// The program to measure, as a path that holds in any folder.
fn gguf_serve(toolbox: &Toolbox, given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(program) => program.canonicalize().with_context(|| format!("cannot find {}", program.display())),
        None => server::build(toolbox, &["--release"]),
    }
}

fn measure(targets: &[Target; 2], arguments: &Arguments) -> Result<Vec<Row>> {
    let time = Duration::from_secs(arguments.seconds);
    let mut rows = Vec::new();
    if arguments.only != Some(Figures::Latencies) {
        rows.extend(rates(targets, arguments, time)?);
    }
    if arguments.only != Some(Figures::Rates) {
        rows.extend(latencies(targets, arguments, time)?);
    }
    rows.extend(memory_row(targets));
    Ok(rows)
}

fn rates(targets: &[Target; 2], arguments: &Arguments, time: Duration) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for connections in STREAM_CONNECTIONS {
        let what = format!("8 MiB ranges, {}", counted(connections));
        let measured = in_turns(targets, arguments.rounds, |target| {
            let turn = turn(target, || load::stream(target, connections, time))?;
            println!("bench-serve: {what}: {} {:.2} GB/s", target.name, turn.seen.gigabytes_per_second());
            Ok(turn)
        })?;
        rows.extend(stream_rows(&what, &measured));
    }
    Ok(rows)
}

fn latencies(targets: &[Target; 2], arguments: &Arguments, time: Duration) -> Result<Vec<Row>> {
    let pace = arguments.requests_per_second;
    let at_pace = pace.map(|pace| format!(", {pace} a second")).unwrap_or_default();
    let what = format!("64 KiB ranges{at_pace}, {}", counted(LATENCY_CONNECTIONS));
    let measured = in_turns(targets, arguments.rounds, |target| {
        let turn = turn(target, || load::request(target, LATENCY_CONNECTIONS, time, pace))?;
        println!("bench-serve: {what}: {} {:.0} requests/s", target.name, turn.seen.requests_per_second());
        Ok(turn)
    })?;
    Ok(latency_rows(&what, &measured))
}

fn counted(connections: u64) -> String {
    format!("{connections} connection{}", if connections == 1 { "" } else { "s" })
}

/// Measures both targets `rounds` times. Who goes first changes from round to round: going second may be an advantage.
fn in_turns<S, T>(targets: &[S; 2], rounds: u32, measure: impl Fn(&S) -> Result<T>) -> Result<Vec<[T; 2]>> {
    let [first, second] = targets;
    let round = |round: u32| {
        if round.is_multiple_of(2) {
            let turn = measure(first)?;
            Ok([turn, measure(second)?])
        } else {
            let turn = measure(second)?;
            Ok([measure(first)?, turn])
        }
    };
    (0..rounds).map(round).collect()
}

fn turn<T>(target: &Target, work: impl FnOnce() -> Result<T>) -> Result<Turn<T>> {
    let before = Usage::of(target.process_id);
    let seen = work().with_context(|| format!("while measuring {}", target.name))?;
    let cpu_seconds = before.zip(Usage::of(target.process_id)).map(|(before, after)| after.cpu_seconds_since(&before));
    Ok(Turn { seen, cpu_seconds })
}

fn stream_rows(what: &str, rounds: &[Round<Transfer>]) -> Vec<Row> {
    let cpu = |turn: &Turn<Transfer>| Some(turn.cpu_seconds? / turn.seen.gigabytes());
    [
        Row::of(format!("{what}: GB/s"), 2, rounds, |turn| Some(turn.seen.gigabytes_per_second())),
        Row::of(format!("{what}: CPU s/GB"), 3, rounds, cpu),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn latency_rows(what: &str, rounds: &[Round<Latencies>]) -> Vec<Row> {
    let percentile = |name: &str, per_mille| {
        Row::of(format!("{what}: {name}, µs"), 0, rounds, |turn| turn.seen.percentile_microseconds(per_mille))
    };
    let cpu = |turn: &Turn<Latencies>| Some(turn.cpu_seconds? * 1e6 / turn.seen.requests() as f64);
    [
        Row::of(format!("{what}: requests/s"), 0, rounds, |turn| Some(turn.seen.requests_per_second())),
        percentile("p50", 500),
        percentile("p90", 900),
        percentile("p99", 990),
        percentile("p99.9", 999),
        Row::of(format!("{what}: CPU µs/request"), 1, rounds, cpu),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the servers needed at most from their start to now. Pages that nginx's processes share count in each of them.
fn memory_row(targets: &[Target; 2]) -> Option<Row> {
    let peaks = [targets.each_ref().map(|target| Usage::of(target.process_id))];
    Row::of("peak memory (VmHWM), MiB".to_owned(), 1, &peaks, |usage| Some(usage.as_ref()?.peak_bytes? / 1_048_576.0))
}

fn heading(toolbox: &Toolbox, nginx: &Nginx, arguments: &Arguments) -> String {
    let Arguments { size_mib, seconds, rounds, nginx: setup, gguf_serve, only: _, requests_per_second: _ } = arguments;
    let program = match gguf_serve {
        Some(path) => path.display().to_string(),
        None => "this checkout, release build".to_owned(),
    };
    let typed: Vec<_> = std::env::args().skip(1).collect();
    format!(
        "## gguf-serve against nginx, {date}\n\n\
         {machine}. gguf-serve: {program}, its line per request written to a file. \
         {nginx}: {setup}.\n\
         Loopback, a file of {size_mib} MiB in the page cache; client and servers share the cores. The servers take turns, \
         {rounds} rounds of {seconds} s: median (min–max), and the median of the rounds' ratios.\n\n    \
         cargo xtask {command}\n",
        date = machine::today(),
        machine = machine::describe(),
        nginx = nginx.version(toolbox),
        setup = setup.describe(),
        command = typed.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use anyhow::bail;

    use super::*;

    #[test]
    fn the_servers_take_turns_and_keep_their_places() {
        let order = RefCell::new(String::new());
        let measured = in_turns(&['a', 'b'], 3, |target| {
            order.borrow_mut().push(*target);
            Ok(*target)
        });
        assert_eq!(order.into_inner(), "abbaab");
        assert_eq!(measured.expect("nothing fails"), [['a', 'b']; 3]);
    }

    #[test]
    fn a_failure_ends_the_measurement() {
        let calls = RefCell::new(0);
        let measured = in_turns(&[1, 2], 3, |target| {
            *calls.borrow_mut() += 1;
            if *target == 2 { bail!("broken") } else { Ok(()) }
        });
        assert_eq!(measured.expect_err("target 2 fails").to_string(), "broken");
        assert_eq!(calls.into_inner(), 2);
    }
}
