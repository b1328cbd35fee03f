//! `pylon`: gpt-oss on the command line.
//!
//! One file per command under [`commands`]; each has its arguments (`Args`) and a `run`. What a command produces goes to
//! standard output through [`output::Output`], what went wrong to standard error, and the exit status says which kind of
//! end it was ([`exit`]).

mod account;
mod adapters;
mod backend;
mod catalogue;
mod cli;
mod commands;
mod date;
mod environment;
mod error;
mod exit;
mod gguf_file;
mod host;
mod interrupt;
mod load_bars;
mod machine;
mod model_args;
mod npy;
mod output;
mod progress;
mod rows;
mod stats;
mod survey;
mod tensor_names;
mod transcript;
mod vocabulary;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command.run() {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}
