//! `pylon`: gpt-oss on the command line.
//!
//! One file per command under [`commands`]; each has its arguments (`Args`) and a `run`. What a command produces goes
//! to standard output through [`output::Output`], what went wrong to standard error, and the exit status says which
//! kind of end it was ([`exit`]).

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
mod native_node;
mod npy;
mod option_args;
mod output;
mod part_file;
mod progress;
mod routes;
mod rows;
mod shortage;
mod stats;
mod survey;
mod text_input;
mod transcript;
mod upstream;
mod vocabulary;

#[cfg(target_os = "linux")]
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    choose_no_device_by_the_display();
    let (cli, from_file) = serve_kit::config::parse::<cli::Cli>(&commands::api::CONFIG);
    match cli.command.run() {
        Ok(code) => code,
        Err(error) => error.of_file(&from_file).report(),
    }
}

/// Turns off a Mesa layer unless the user told it which device to take. The layer puts the GPU of the display first,
/// for which it asks Wayland. Without a session (a service, a container, ssh) libwayland then writes `error:
/// XDG_RUNTIME_DIR is invalid or not set` to standard error before every answer, though nothing is wrong, and there is
/// no display to ask.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "setting an environment variable is unsafe")]
fn choose_no_device_by_the_display() {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_session = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(&folder).is_absolute());
    if has_session || is_set("DRI_PRIME") || is_set("MESA_VK_DEVICE_SELECT") {
        return;
    }
    // SAFETY: nothing else has happened in this process yet, so no other thread reads the environment.
    unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
}
