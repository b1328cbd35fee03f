//! `page-builder`: makes web/dist out of compiled wasm. `cargo xtask page` compiles the wasm and runs it.

mod bindgen;
mod budget;
mod config;
mod document;
mod output;
mod tags;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::config::Config;
use crate::document::Document;
use crate::output::Output;

const CONFIG: &str = "Trunk.toml";
/// How the names of the files begin that are fetched when an engine is started, not with the page.
const WORKER: &str = "worker";

/// Makes the page that Trunk.toml and index.html of the current folder describe.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Folder with the compiled programs.
    #[arg(long, value_name = "DIR")]
    wasm: PathBuf,
    /// The cargo profile that they were compiled with.
    #[arg(long)]
    profile: String,
    /// File with the largest sizes that wasm may have.
    #[arg(long, value_name = "FILE")]
    limits: PathBuf,
    /// Only say what is over its limit.
    #[arg(long)]
    tolerant: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let config = Config::read(Path::new(CONFIG))?;
    let output = make(&config, &arguments.wasm, &arguments.profile)?;
    let names = output.write(&config.dist)?;
    output::ensure_complete(&config.dist, &names, &config.public_url)?;
    let (sizes, limits) = (output.sizes(WORKER)?, budget::read_limits(&arguments.limits)?);
    print!("{}", budget::report(&sizes, &limits));
    match budget::check(&sizes, &limits, &arguments.limits.display().to_string()) {
        Err(error) if arguments.tolerant => println!("note: {error}"),
        result => result?,
    }
    Ok(())
}

/// All files of the page, in memory.
fn make(config: &Config, wasm: &Path, profile: &str) -> Result<Output> {
    let index = config.index.display();
    let html = fs::read_to_string(&config.index).with_context(|| format!("cannot read {index}"))?;
    let document = Document::read(&html, &config.public_url).with_context(|| format!("{index} is not understood"))?;
    let folder = config.index.parent().unwrap_or(Path::new(""));
    let mut output = Output::default();
    for style in document.styles.iter().chain(&document.copies) {
        let path = folder.join(style);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        output.add(document::file_name(style)?, text)?;
    }
    for program in &document.programs {
        ensure!(
            program.profile == profile,
            "{} is asked for in the profile {}, and was compiled in the profile {profile}",
            program.bin,
            program.profile
        );
        let compiled = wasm.join(&program.bin).with_extension("wasm");
        let glue = bindgen::run(&compiled, &program.bin)?;
        output.add_all(glue)?;
        if let Some((name, text)) = program.loader() {
            output.add(&name, text.into_bytes())?;
        }
    }
    output.add("index.html", document.html.clone().into_bytes())?;
    for name in document.file_names()? {
        ensure!(output.has(&name), "wasm-bindgen made no {name}");
    }
    Ok(output)
}
