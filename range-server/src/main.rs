//! `gguf-serve`: the command line around the library.

mod arguments;
mod hash;
mod report;

use std::process::ExitCode;

use gguf_serve::{Stopped, allow_many_open_files, serve};
use serve_kit::Signals;
use serve_kit::config::{self, Rules};

use arguments::{Arguments, Command};
use report::Report;

fn main() -> ExitCode {
    let (arguments, from_file) = config::parse::<Arguments>(&Rules::default());
    let outcome = match arguments.command {
        Some(Command::Hash(arguments)) => hash::run(&arguments),
        None => run(arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gguf-serve: {}", from_file.explain(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    allow_many_open_files();
    let report = Report::new(arguments.json);
    let secret = arguments.token.clone();
    let names = arguments.allow_host.clone();
    let open_browser = arguments.open;
    let server = serve(arguments.into_options(report.access_log())?).await?;
    let models = server.models().await?;
    // Signals are caught before anybody can see that the server runs: from then on they must drain, not kill.
    let mut signals = Signals::new()?;
    report.greet(&server, &models, &names, secret.as_deref());
    if open_browser {
        let url = report::with_token(&server.page_url(), secret.as_deref());
        if let Err(error) = open::that_detached(url) {
            report.note(&format!("cannot open a browser ({error}): open the address above yourself"));
        }
    }

    signals.next().await;
    report.note("stopping; finishing what is under way (once more to quit at once)");
    let code = tokio::select! {
        stopped = server.shutdown() => {
            if stopped == Stopped::Cut {
                report.note("some answers took too long and were cut");
            }
            ExitCode::SUCCESS
        }
        () = signals.next() => ExitCode::from(130),
    };
    report.summary();
    Ok(code)
}
