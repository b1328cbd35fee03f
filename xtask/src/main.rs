//! `cargo xtask demo | test | …`: the single entry for people and for CI.
//!
//! Whatever a command needs and the machine lacks is installed first, into the project's target folder where that is
//! possible, and always said aloud.

mod bench;
mod bench_serve;
mod cargo_tests;
mod clients;
mod demo;
mod fullsize;
mod fuzz;
mod gpu_hour;
mod page;
mod parts;
mod process;
mod progress;
mod server;
mod setup;
mod shader_costs;
mod streams;
mod synth;
mod test;
mod test_program;
mod workspace;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::process::Toolbox;
use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows the project", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build everything, serve page and model on loopback and open it in Chrome.
    Demo(DemoArguments),
    /// Run every test, native and in headless Chromium. This is what CI runs.
    Test(TestArguments),
    /// Install what is missing for the other commands and for working on the page (`trunk serve`), and stop.
    Setup,
    /// Build the page into web/dist.
    Page,
    /// Run clippy and rustdoc as `test` does, for this machine and for wasm.
    Lint,
    /// Run a synthetic model of 20b's real size in headless Chromium and compare it with the native engine.
    Fullsize(fullsize::Arguments),
    /// Write a synthetic gpt-oss GGUF of any shape; `cargo xtask synth --help` lists its arguments.
    Synth(synth::Arguments),
    /// Show what the kernels cost as machine code and as a pass, without a GPU; `--compare` fails on whatever got worse.
    ShaderCosts(shader_costs::Arguments),
    /// Look for requests that gguf-serve decides wrongly, guided by coverage (Linux and macOS).
    Fuzz(fuzz::Arguments),
    /// Measure a model on this machine's GPU: `pylon bench`, built for release.
    Bench(bench::Arguments),
    /// Everything that is to be known of a GPU, in parts of a few minutes: a full-size model made on the spot, checks, rates, time
    /// of each operation, what a miss costs. Writes JSON. `--pack` makes it ready for a machine that has only a GPU.
    GpuHour(gpu_hour::Arguments),
    /// Run a test program for cargo; `test` makes cargo call it.
    #[command(hide = true)]
    RunTestProgram(test_program::Arguments),
    /// Run other people's clients (openai for Python and Node, anthropic, Codex) against `pylon api`; installs them first.
    Clients,
    /// Measure several streams of `pylon api` together, against llama.cpp's server. Prints a table, judges nothing.
    BenchStreams(streams::bench::Arguments),
    /// Let clients come, read, dawdle and leave for minutes; fails on leaks, mixed answers, and whatever is held for nobody (Linux).
    Soak(streams::soak::Arguments),
    /// Measure gguf-serve against nginx: same machine, file and client, in turns. Prints a table, judges nothing.
    BenchServe(bench_serve::Arguments),
}

#[derive(Debug, clap::Args)]
struct DemoArguments {
    /// Drive the page in headless Chromium instead of opening a window: print what happens, save a screenshot, check the answer.
    #[arg(long)]
    headless: bool,
    /// Another GGUF file than the nano model of this repository. Its answer is shown but cannot be checked.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Port to serve on; any free one by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

#[derive(Debug, clap::Args)]
struct TestArguments {
    /// Run only these steps.
    #[arg(long, value_name = "STEP", value_enum)]
    only: Vec<test::Step>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Command::GpuHour(arguments) = &arguments.command
        && !arguments.needs_workspace()
    {
        return gpu_hour::run(None, arguments);
    }
    if let Command::RunTestProgram(arguments) = &arguments.command {
        return test_program::run(arguments);
    }
    let workspace = Workspace::find()?;
    let toolbox = Toolbox::new(&workspace);
    match arguments.command {
        Command::Demo(arguments) => demo::run(&workspace, &toolbox, &arguments),
        Command::Test(arguments) => test::run(&workspace, &toolbox, &arguments.only),
        Command::Setup => setup::development(&workspace, &toolbox),
        Command::Page => {
            setup::rust(&toolbox)?;
            page::build(&workspace, &toolbox)
        }
        Command::Lint => {
            setup::rust(&toolbox)?;
            test::lint(&workspace, &toolbox)
        }
        Command::Fullsize(arguments) => fullsize::run(&workspace, &toolbox, &arguments),
        Command::Synth(arguments) => synth::run(&workspace, &toolbox, &arguments),
        Command::ShaderCosts(arguments) => shader_costs::run(&workspace, &toolbox, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&workspace, &toolbox, &arguments),
        Command::Bench(arguments) => bench::run(&workspace, &toolbox, &arguments),
        Command::GpuHour(arguments) => gpu_hour::run(Some(&workspace), &arguments),
        Command::RunTestProgram(arguments) => test_program::run(&arguments),
        Command::Clients => clients::run_all(&workspace, &toolbox).map(drop),
        Command::BenchStreams(arguments) => streams::bench::run(&toolbox, &arguments),
        Command::Soak(arguments) => streams::soak::run(&workspace, &toolbox, &arguments),
        Command::BenchServe(arguments) => bench_serve::run(&workspace, &toolbox, &arguments),
    }
}
