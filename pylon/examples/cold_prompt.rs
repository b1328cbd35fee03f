//! How long a first question waits for experts that come over a line of a given latency and rate: nothing but the dense
//! weights is there when it is asked.
//!
//! ```text
//! cargo run --release -p pylon --example cold_prompt -- FILE LATENCY_MS MB_PER_S [PROMPT]
//! ```

use std::error::Error;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use gptoss_engine::{Loader, open_engine};
use gptoss_kernels::GpuOptions;
use gptoss_model::{Backend, Quiet};
use gptoss_protocol::{ExpertLoading, LoadOptions, Prompt, PromptFormat};
use gptoss_source::{FileSource, ReadFuture, Source};

/// A file behind a line: every read waits, and all of them share the rate.
struct SlowSource {
    file: FileSource,
    latency: Duration,
    seconds_per_byte: f64,
    /// When the line is free again.
    free_at: Arc<Mutex<Instant>>,
}

impl SlowSource {
    /// Ends when the last of `bytes` has come over the line.
    fn line(&self, bytes: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let takes = Duration::from_secs_f64(bytes as f64 * self.seconds_per_byte);
        let (latency, free_at) = (self.latency, Arc::clone(&self.free_at));
        thread::spawn(move || {
            thread::sleep(latency);
            let done_at = {
                let mut free_at = free_at.lock().expect("nobody panics while holding this lock");
                *free_at = (*free_at).max(Instant::now()) + takes;
                *free_at
            };
            thread::sleep(done_at.saturating_duration_since(Instant::now()));
            // Nobody waits any more for a read that was given up.
            let _ignored = sender.send(());
        });
        receiver
    }
}

impl Source for SlowSource {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn len_bytes(&self) -> u64 {
        self.file.len_bytes()
    }

    fn identity(&self) -> &str {
        self.file.identity()
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        let came = self.line(len_bytes);
        Box::pin(async move {
            came.await.expect("the thread sends before it ends");
            self.file.read(offset_bytes, len_bytes).await
        })
    }

    fn requests(&self) -> u32 {
        self.file.requests()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, latency_ms, megabytes_per_second, rest @ ..] = &arguments[..] else {
        return Err("expected FILE LATENCY_MS MB_PER_S [PROMPT]".into());
    };
    let source = SlowSource {
        file: FileSource::open(file)?,
        latency: Duration::from_millis(latency_ms.parse()?),
        seconds_per_byte: 1.0 / (megabytes_per_second.parse::<f64>()? * 1e6),
        free_at: Arc::new(Mutex::new(Instant::now())),
    };
    let question = Prompt {
        user: rest.first().cloned().unwrap_or_else(|| "Which number comes after 41, and which before it? ".repeat(2)),
        format: PromptFormat::Text,
        max_new_tokens: 1,
        ..Prompt::default()
    };
    let loader = Loader {
        source: Rc::new(source),
        gpu: GpuOptions::default(),
        options: LoadOptions { experts: ExpertLoading::AsNeeded, ..LoadOptions::default() },
        all_logits: false,
        sequences: 1,
    };
    pollster::block_on(async {
        let mut engine = open_engine(loader, None, &Quiet).await?;
        let (before, begin) = (engine.model.work_counters(), Instant::now());
        let answer = engine.answer(&question, &Quiet).await?;
        let seconds = begin.elapsed().as_secs_f64();
        let (work, cache) = (engine.model.work_counters(), engine.model.cache_counters());
        let read = (work.weights_fetched_bytes - before.weights_fetched_bytes) as f64 / 1e6;
        println!(
            "first token after {seconds:.3} s: {read:.1} MB read for {} experts, {} submissions, tokens {:?}",
            cache.resident,
            work.submits - before.submits,
            answer.tokens
        );
        Ok(())
    })
}
