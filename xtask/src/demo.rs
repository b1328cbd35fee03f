//! `cargo xtask demo`: from a checkout to an answer in Chrome.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use browser_driver::{
    Browser, ConsoleLevel, GptossPage, Gpu, Installation, LaunchOptions, NanoCase, PageState, Snapshot, StageLine,
    find_chrome, nano_cases,
};

use crate::page::Budget;
use crate::process::Toolbox;
use crate::progress::Progress;
use crate::server::Server;
use crate::workspace::Workspace;
use crate::{DemoArguments, page, setup};

/// A large model on a slow machine is allowed to take its time; a nano model needs seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1800);

/// The kind of question that is asked when it is the nano model's turn.
const DEMO_FAMILY: &str = "capitals";

pub fn run(workspace: &Workspace, toolbox: &Toolbox, arguments: &DemoArguments) -> Result<()> {
    let headless = arguments.headless || !has_display();
    let mut progress = Progress::new("demo", if headless { 5 } else { 4 });
    let installation = progress.step("looking for what is needed", || prepare(toolbox, headless))?;
    let compiled = progress.step("compiling page and server", || page::compile(toolbox, &["gguf-serve"]))?;
    progress.step("building the page", || page::assemble(workspace, toolbox, &compiled, Budget::Reported))?;

    let model = arguments.model.clone().unwrap_or_else(|| workspace.nano_model());
    // The recorded answers are the nano model's.
    let case = if arguments.model.is_none() { Some(demo_case(workspace)?) } else { None };
    // The server was compiled while the page was, so it has no page or an older one in it.
    let (program, folder) = (page::program(&compiled, "gguf-serve")?, workspace.page_folder());
    let mut server = progress.step("starting the server", || {
        Server::start(toolbox, program, &model, arguments.port, Some(&folder), |log| {
            log.lines().map_while(Result::ok).for_each(|line| println!("{line}"));
        })
    })?;
    let address = page_address(&server.url, case.as_ref());
    match installation {
        Some(installation) => progress.step("asking for an answer in headless Chromium", || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
            let folder = workspace.target.join("demo");
            runtime.block_on(drive(&installation, &address, case.as_ref(), &folder))
        }),
        None => {
            open_window(workspace, toolbox, &address)?;
            println!("demo: press LOAD MODEL on the page; Ctrl-C here ends the server");
            server.wait()
        }
    }
}

/// Sees to compiler and browser; gives back the browser that is to be driven, if any.
fn prepare(toolbox: &Toolbox, headless: bool) -> Result<Option<Installation>> {
    setup::rust(toolbox)?;
    if headless {
        return Ok(Some(setup::browser(toolbox)?));
    }
    // A window needs no chromedriver, and another browser may do.
    if find_chrome().is_none()
        && let Err(error) = setup::browser(toolbox)
    {
        println!("demo: {error:#}");
    }
    Ok(None)
}

/// macOS and Windows always have one; elsewhere X11 or Wayland say so in the environment.
fn has_display() -> bool {
    let named = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(any(target_os = "macos", windows)) || named("DISPLAY") || named("WAYLAND_DISPLAY")
}

fn demo_case(workspace: &Workspace) -> Result<NanoCase> {
    let cases = nano_cases(&workspace.nano_cases())?;
    let case = cases.into_iter().find(|case| case.family == DEMO_FAMILY);
    case.with_context(|| format!("no {DEMO_FAMILY} question among the nano model's cases"))
}

/// The page's address, with the question in its query when there is one.
fn page_address(server_url: &str, case: Option<&NanoCase>) -> String {
    let page = format!("{}/gptoss", server_url.trim_end_matches('/'));
    match case {
        Some(case) => format!("{page}?{}", case.query()),
        None => page,
    }
}

/// Opens the page in Chrome, in a profile of the demo's own so that WebGPU is on where Chrome hides it behind a switch;
/// without Chrome, in whatever browser the system prefers.
fn open_window(workspace: &Workspace, toolbox: &Toolbox, address: &str) -> Result<()> {
    let mut command = match find_chrome() {
        Some(chrome) => {
            let mut command = Command::new(chrome);
            let profile = workspace.target.join("demo/profile");
            command.arg(format!("--user-data-dir={}", profile.display()));
            command.args(["--no-first-run", "--no-default-browser-check", "--enable-unsafe-webgpu", address]);
            command
        }
        None if cfg!(target_os = "macos") => {
            let mut command = toolbox.command("open");
            command.arg(address);
            command
        }
        None if cfg!(windows) => {
            let mut command = toolbox.command("explorer");
            command.arg(address);
            command
        }
        None => {
            let mut command = toolbox.command("xdg-open");
            command.arg(address);
            command
        }
    };
    println!("demo: opening {address}");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.spawn().is_err() {
        println!("demo: no browser could be started; open {address} in Chrome (or another browser with WebGPU)");
    }
    Ok(())
}

/// Does what a person would do, in headless Chromium, and checks the answer.
async fn drive(installation: &Installation, address: &str, case: Option<&NanoCase>, folder: &Path) -> Result<()> {
    let browser = open_with_some_gpu(installation, address).await?;
    let page = GptossPage::open(&browser, address).await?;
    println!("demo: {address} is open; pressing LOAD MODEL");
    page.load().await?;
    let mut printer = Printer::default();
    let result = page.follow(&[PageState::Done], ANSWER_TIMEOUT, |snapshot| printer.show(snapshot)).await;
    printer.end_line();
    let screenshot = folder.join(if result.is_ok() { "done.png" } else { "failed.png" });
    browser.screenshot(&screenshot).await?;
    println!("demo: screenshot in {}", screenshot.display());
    for entry in browser.console().await?.iter().filter(|entry| entry.level >= ConsoleLevel::Warning) {
        println!("demo: console {:?}: {}", entry.level, entry.message);
    }
    let done = result?;
    match case {
        Some(case) if done.final_text == case.final_text => {
            println!("demo: the answer is right: {:?}", done.final_text)
        }
        Some(case) => {
            bail!("the answer to {:?} is {:?}, but {:?} is right", case.user, done.final_text, case.final_text)
        }
        None if done.final_text.is_empty() => bail!("the answer is empty"),
        None => println!("demo: there is an answer; nothing recorded to compare it with"),
    }
    Ok(())
}

/// Uses the GPU that Chrome finds, and the software one when it finds none.
async fn open_with_some_gpu(installation: &Installation, address: &str) -> Result<Browser> {
    let browser = Browser::open_with(installation, &LaunchOptions::default()).await?;
    if GptossPage::open(&browser, address).await?.has_webgpu_adapter().await? {
        return Ok(browser);
    }
    drop(browser);
    println!("demo: Chrome finds no GPU here, using its software adapter");
    Ok(Browser::open_with(installation, &LaunchOptions { gpu: Gpu::Software, ..LaunchOptions::default() }).await?)
}

/// Prints stages as they change and text as it grows.
#[derive(Debug, Default)]
struct Printer {
    stages: Vec<String>,
    analysis_bytes: usize,
    final_bytes: usize,
    /// The cursor stands behind text that may go on.
    in_line: bool,
}

impl Printer {
    fn show(&mut self, snapshot: &Snapshot) {
        for line in snapshot.stages.iter().filter(|line| line.status != StageLine::WAITING) {
            let state = format!("{} {}", line.name, line.status);
            if !self.stages.contains(&state) {
                self.end_line();
                let time = if line.status == StageLine::RUNNING { "" } else { &line.time };
                println!("demo: {:<14} {:<8} {time}", line.name, line.status);
                self.stages.push(state);
            }
        }
        self.analysis_bytes = self.grow("analysis", &snapshot.analysis_text, self.analysis_bytes);
        self.final_bytes = self.grow("final", &snapshot.final_text, self.final_bytes);
    }

    /// Prints what `text` has gained since `printed_bytes`, after a heading when it is the first of its channel.
    fn grow(&mut self, channel: &str, text: &str, printed_bytes: usize) -> usize {
        let Some(new) = text.get(printed_bytes..).filter(|new| !new.is_empty()) else { return printed_bytes };
        if printed_bytes == 0 {
            self.end_line();
            print!("{channel}: ");
        }
        print!("{new}");
        self.in_line = true;
        // The terminal may be gone; the check of the answer is still worth finishing.
        let _ = std::io::stdout().flush();
        text.len()
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.in_line) {
            println!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_travels_in_the_pages_address() {
        let case = NanoCase {
            family: "capitals".to_owned(),
            effort: "low".to_owned(),
            date: "2027-05-16".to_owned(),
            user: "What is 2+2?".to_owned(),
            analysis_text: String::new(),
            final_text: "4".to_owned(),
        };
        let expected = "http://127.0.0.1:1/gptoss?prompt=What+is+2%2B2%3F&effort=low&date=2027-05-16";
        assert_eq!(page_address("http://127.0.0.1:1/", Some(&case)), expected);
        assert_eq!(page_address("http://127.0.0.1:1", None), "http://127.0.0.1:1/gptoss");
    }

    #[test]
    fn text_is_printed_once_however_it_grows() {
        let mut printer = Printer::default();
        let mut printed = 0;
        for text in ["", "Bu", "Buda", "Buda", "Budapest."] {
            printed = printer.grow("final", text, printed);
            assert_eq!((printed, printer.in_line), (text.len(), !text.is_empty()));
        }
        printer.end_line();
        assert!(!printer.in_line);
    }
}
