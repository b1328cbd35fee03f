//! `cargo xtask fullsize`: the real size, without a GPU. A synthetic 20b file of 12 GB is served by gguf-serve and opened by
//! the real page in headless Chromium with less expert memory than the model needs; its first greedy tokens have to be
//! those of the native CPU engine. Takes some minutes, most of them in Chrome's software adapter,
//! and 12 GB of disk.

mod memory;
mod report;
mod tokens;
mod traffic;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use browser_driver::{Browser, GptossPage, Gpu, Installation, LaunchOptions, PageState};

use crate::process::{self, Toolbox};
use crate::server::{self, Server};
use crate::workspace::Workspace;
use crate::{cargo_tests, page, setup};

use memory::Watch;
use report::{Measured, print};
use traffic::Traffic;

/// Chrome's software adapter computes a few hundred million products a second; a prompt has some hundred billion.
const TIMEOUT: Duration = Duration::from_secs(3 * 3600);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Another file than the synthetic one, which is kept in target/fullsize.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Memory for experts, as the page takes it.
    #[arg(long, default_value = "2G")]
    expert_memory: String,
    /// New tokens to compare.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Text to continue; short, because a software adapter reads it.
    #[arg(long, default_value = "Hi there")]
    prompt: String,
    /// More of the page's query, such as `limits=default` or `layers=4`.
    #[arg(long, value_name = "QUERY", default_value = "")]
    query: String,
}

pub fn run(workspace: &Workspace, toolbox: &Toolbox, arguments: &Arguments) -> Result<()> {
    setup::rust(toolbox)?;
    let installation = setup::browser(toolbox)?;
    page::build(workspace, toolbox)?;
    let program = server::build(toolbox, &["--release"])?;
    let model = match &arguments.model {
        Some(model) => model.canonicalize().with_context(|| format!("cannot find {}", model.display()))?,
        None => synthetic(workspace, toolbox)?,
    };
    println!("fullsize: asking the native engine");
    let expected = native_tokens(toolbox, &model, arguments)?;
    println!("fullsize: natively the first tokens are {expected:?}");
    let traffic = Arc::new(Mutex::new(Traffic::default()));
    let log = Arc::clone(&traffic);
    let server = Server::start(toolbox, program, &model, 0, None, move |lines| traffic::follow(lines, &log))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let measured = runtime.block_on(drive(&installation, &server, &model, arguments, &traffic))?;
    print(&measured, arguments, &model);
    ensure!(
        measured.tokens == expected,
        "the page's first tokens are {:?}, the native engine's are {expected:?}",
        measured.tokens
    );
    println!("fullsize: the page's first tokens are the native engine's");
    Ok(())
}

/// The synthetic 20b file, written if it is not there.
fn synthetic(workspace: &Workspace, toolbox: &Toolbox) -> Result<PathBuf> {
    let folder = workspace.target.join("fullsize");
    let file = folder.join("20b.gguf");
    if !file.is_file() {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let unfinished = folder.join("20b.gguf.part");
        let mut command = toolbox.cargo(&["run", "--quiet", "--release", "--package", "gptoss-synth", "--"]);
        process::run(command.args(["--shape", "20b", "--out"]).arg(&unfinished))?;
        std::fs::rename(&unfinished, &file).with_context(|| format!("cannot rename {}", unfinished.display()))?;
    }
    Ok(file)
}

/// The first tokens of the CPU engine, asked the same. Of random weights many tokens are about as likely as the likeliest, so
/// activations have to be as precise as the GPU's, and rounding in the cache must not decide between two experts.
fn native_tokens(toolbox: &Toolbox, model: &Path, arguments: &Arguments) -> Result<Vec<u32>> {
    let build = ["--release", "--package", "pylon", "--bin", "pylon"];
    let built = cargo_tests::build(toolbox, "build", &build)?;
    let pylon = built.into_iter().find(|built| built.package == "pylon").context("cargo built no pylon")?.path;
    let mut command = toolbox.command(pylon);
    command
        .args(["infer", "--backend", "cpu", "--activations", "f32", "--kv", "f32", "--json", "--no-harmony", "--gguf"])
        .arg(model);
    command.args(["--prompt", &arguments.prompt, "--max-tokens", &arguments.tokens.to_string()]);
    let output = command.output().context("cannot start pylon")?;
    ensure!(
        output.status.success(),
        "pylon ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    tokens::of_lines(&String::from_utf8_lossy(&output.stdout))
}

async fn drive(
    installation: &Installation,
    server: &Server,
    model: &Path,
    arguments: &Arguments,
    traffic: &Mutex<Traffic>,
) -> Result<Measured> {
    let options = LaunchOptions { gpu: Gpu::Software, ..LaunchOptions::default() };
    let browser = Browser::open_with(installation, &options).await?;
    let watch = Watch::start(browser.profile_folder());
    let Arguments { expert_memory, tokens, prompt, query, .. } = arguments;
    let prompt: String = url::form_urlencoded::byte_serialize(prompt.as_bytes()).collect();
    let extra = if query.is_empty() { String::new() } else { format!("&{query}") };
    // Kept, the model would be on this disk twice.
    let address = format!(
        "{}/gptoss?cache=no&prompt={prompt}&format=text&kv=f32&max_new={tokens}&temp=0&expert_memory={expert_memory}{extra}",
        server.url
    );
    println!("fullsize: opening {address}");
    let page = GptossPage::open(&browser, &address).await?;
    page.wait_until_enabled("#load").await?;
    let begin = Instant::now();
    page.load().await?;
    let mut first_token = None;
    let done = page
        .follow(&[PageState::Done], TIMEOUT, |snapshot| {
            if first_token.is_none() && !(snapshot.analysis_text.is_empty() && snapshot.final_text.is_empty()) {
                let fetched_bytes = traffic::lock(traffic).model_bytes;
                first_token = Some((begin.elapsed(), fetched_bytes));
            }
        })
        .await;
    let events = tokens::export(&browser).await;
    done?;
    let events = events?;
    let traffic = traffic::lock(traffic).clone();
    Ok(Measured {
        tokens: tokens::of_events(&events)?,
        model_bytes: std::fs::metadata(model).context("cannot ask for the model's length")?.len(),
        took: begin.elapsed(),
        first_token,
        memory: watch.stop(),
        wasm_heap_bytes: tokens::largest(&events, "wasm_heap", "bytes"),
        gpu_bytes: tokens::largest(&events, "gpu_memory", "allocated_bytes"),
        traffic,
    })
}
