//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use etcetera::BaseStrategy;
use gguf_serve::{AccessLog, DEFAULT_PORT, Limits, Options};
use gptoss_finder::{hub_folder, places};
use serve_kit::config::ConfigArgument;
use serve_kit::tls::TlsArguments;

/// Connections from one address where others can reach the server: two browsers' worth.
const CONNECTIONS_PER_STRANGER: usize = 16;

/// Serves GGUF files, and the page that runs them, to browsers.
///
/// Exit status: 0 after Ctrl-C or SIGTERM, 1 if it could not start, 2 for wrong arguments, 130 after a second Ctrl-C.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// GGUF files, and folders with GGUF files below them. Without any, a small demo model is served.
    pub paths: Vec<PathBuf>,
    /// Serve what is in the cache of the Hugging Face hub too (HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME,
    /// ~/.cache/huggingface).
    #[arg(long)]
    pub hf_cache: bool,
    /// Serve what other programs keep too: the cache of the hub, LM Studio, Ollama (OLLAMA_MODELS), llama.cpp
    /// (LLAMA_CACHE) and ~/models, as far as they exist.
    #[arg(long, conflicts_with = "hf_cache")]
    pub usual_places: bool,
    /// Follow links in folders wherever they lead, to folders too. Without it they are followed to files inside the
    /// folder only.
    #[arg(long)]
    pub follow_links: bool,
    /// Address to listen on. Without it, this machine alone: 127.0.0.1, and ::1 where there is one.
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    pub port: u16,
    /// Serve the page built in this folder instead of the one compiled in.
    #[arg(long, value_name = "DIR")]
    pub web: Option<PathBuf>,
    /// Open the page in the browser.
    #[arg(long)]
    pub open: bool,
    /// Let pages of this origin (scheme://host[:port], or *) read; loopback origins always may.
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// Answer to this host name too; localhost and the bound address are always answered.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Ask for this secret. The address that is printed has it; programs send it as `Authorization: Bearer SECRET`.
    #[arg(long, value_name = "SECRET", env = "GGUF_SERVE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Isolate the page from other origins (COOP and COEP), which shared memory in the browser needs.
    #[arg(long)]
    pub isolate: bool,
    #[command(flatten)]
    pub tls: TlsArguments,
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Print every line as one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Computes SHA-256 hashes of files and of every 4 MiB of them, and keeps them beside the files.
    Hash(HashArguments),
}

/// A server finds them at once then, and a client can verify what it downloads, piece by piece.
///
/// Exit status: 0 if all is well, 1 if a file could not be hashed or is not what it should be, 2 for wrong arguments.
#[derive(Debug, Args)]
pub struct HashArguments {
    /// GGUF files, and folders with GGUF files below them.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Compute the hashes even if they are kept already, and compare.
    #[arg(long)]
    pub verify: bool,
    /// Print every line as one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    /// What the library is told.
    pub fn into_options(self, log: AccessLog) -> anyhow::Result<Options> {
        let mut paths = self.paths;
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        if self.usual_places {
            // Those in the current folder are not meant: whoever wants that served names it.
            let folders = places(variable).into_iter().map(|place| place.folder);
            paths.extend(folders.filter(|folder| folder.is_absolute() && folder.is_dir()));
            anyhow::ensure!(!paths.is_empty(), "--usual-places: none of the folders exists");
        }
        if self.hf_cache {
            let folder = hub_folder(variable);
            let folder =
                folder.context("--hf-cache: none of HF_HUB_CACHE, HF_HOME and HOME says where the cache is")?;
            paths.push(folder);
        }
        let tls = self.tls.identity("gguf-serve")?;
        let others_come = self.bind.is_some_and(|address| !address.is_loopback());
        let mut limits = Limits::default();
        if others_come {
            limits.connections_per_address = CONNECTIONS_PER_STRANGER;
        }
        Ok(Options {
            paths,
            follow_links: self.follow_links,
            bind: self.bind,
            port: self.port,
            web: self.web,
            allow_origins: self.allow_origin,
            allow_hosts: self.allow_host,
            token: self.token,
            isolate: self.isolate,
            tls,
            hash_cache: hash_cache(),
            limits,
            log: Some(log),
        })
    }
}

/// Where hashes are kept if not beside the file; `None` if the user has no such place.
pub fn hash_cache() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("gguf-serve").join("hashes"))
}
