//! `cargo xtask bench-streams`: tokens per second of several streams together, of `pylon api` and of another server in turns.

use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::client::send;
use super::servers::{Server, Setup, build};
use crate::process::Toolbox;

/// Compare with another server.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The model that all serve.
    #[arg(long, value_name = "FILE")]
    gguf: PathBuf,
    /// llama.cpp's llama-server; without it `pylon api` runs alone.
    #[arg(long, value_name = "PROGRAM")]
    peer: Option<PathBuf>,
    /// Streams at once, one row of the table each.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 4, 16])]
    streams: Vec<u32>,
    /// Tokens that each answer may have.
    #[arg(long, value_name = "N", default_value_t = 64)]
    new_tokens: u32,
    /// Words of each prompt, which are others in each stream.
    #[arg(long, value_name = "N", default_value_t = 64)]
    prompt_words: u32,
    /// Threads of each server.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: u32,
    /// How often the servers take turns.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
}

/// What one stream came to.
struct Told {
    new_tokens: u32,
    first: Duration,
    last: Duration,
}

/// What streams came to together.
#[derive(Clone, Debug)]
struct Figures {
    decode_tokens_per_second: f64,
    slowest_first_ms: f64,
}

/// Runs all rounds and prints a table.
pub fn run(toolbox: &Toolbox, arguments: &Arguments) -> Result<()> {
    let Arguments { gguf, peer, streams, threads, rounds, .. } = arguments;
    let most = streams.iter().copied().max().context("--streams names no number")?;
    // A word may take several tokens.
    let context_tokens = (4 * arguments.prompt_words + arguments.new_tokens).next_multiple_of(256);
    let pylon = build(toolbox)?;
    let mut rows: Vec<(u32, [Vec<Figures>; 2])> = streams.iter().map(|&count| (count, [vec![], vec![]])).collect();
    for round in 0..*rounds {
        // Sequences share one cache: room for all of them, as the other server has for each of its slots.
        let (max_kv, sequences, count) = ((context_tokens * most).to_string(), most.to_string(), threads.to_string());
        let server = Server::pylon(
            toolbox,
            &pylon,
            gguf,
            &["--max-kv", &max_kv, "--sequences", &sequences, "--threads", &count],
        )?;
        measure(arguments, &server, round, &mut rows, 0)?;
        drop(server);
        if let Some(peer) = peer {
            let setup = Setup { streams: most, context_tokens, threads: *threads };
            let server = Server::llama(toolbox, peer, gguf, setup)?;
            measure(arguments, &server, round, &mut rows, 1)?;
        }
    }
    println!(
        "| streams | pylon, tokens/s | first token, slowest | peer, tokens/s | first token, slowest | ratio |\n|---|---|---|---|---|---|"
    );
    for (count, [own, other]) in &rows {
        let [own, other] = [own, other].map(|figures| median(figures));
        let words = |figures: &Option<Figures>| match figures {
            Some(Figures { decode_tokens_per_second, slowest_first_ms }) => {
                format!("{decode_tokens_per_second:.1} | {slowest_first_ms:.0} ms")
            }
            None => "not run | not run".to_owned(),
        };
        let ratio = own
            .as_ref()
            .zip(other.as_ref())
            .map(|(own, other)| own.decode_tokens_per_second / other.decode_tokens_per_second);
        println!(
            "| {count} | {} | {} | {} |",
            words(&own),
            words(&other),
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
        );
    }
    Ok(())
}

fn measure(
    arguments: &Arguments,
    server: &Server,
    round: u32,
    rows: &mut [(u32, [Vec<Figures>; 2])],
    whose: usize,
) -> Result<()> {
    // The first question wakes threads and pages.
    ask(server, arguments, 999, &Barrier::new(1))?;
    for (count, figures) in rows {
        let together = together(server, arguments, *count, round)?;
        println!("{} {count}: {together:?}", ["pylon", "peer"][whose]);
        figures[whose].push(together);
    }
    Ok(())
}

fn together(server: &Server, arguments: &Arguments, count: u32, round: u32) -> Result<Figures> {
    let barrier = Barrier::new(count as usize);
    let told: Vec<Told> = thread::scope(|scope| {
        let seed = |stream: u32| 1000 * (round * 100 + count) + stream;
        let streams: Vec<_> = (0..count)
            .map(|stream| {
                scope.spawn({
                    let barrier = &barrier;
                    move || ask(server, arguments, seed(stream), barrier)
                })
            })
            .collect();
        streams
            .into_iter()
            .map(|stream| stream.join().map_err(|_| anyhow!("a stream panicked"))?)
            .collect::<Result<_>>()
    })?;
    let tokens: u32 = told.iter().map(|told| told.new_tokens - 1).sum();
    let first = told.iter().map(|told| told.first).min().unwrap_or_default();
    let last = told.iter().map(|told| told.last).max().unwrap_or_default();
    let slowest = told.iter().map(|told| told.first).max().unwrap_or_default();
    Ok(Figures {
        decode_tokens_per_second: f64::from(tokens) / last.saturating_sub(first).as_secs_f64(),
        slowest_first_ms: slowest.as_secs_f64() * 1e3,
    })
}

/// One stream, from when all are ready.
fn ask(server: &Server, arguments: &Arguments, seed: u32, barrier: &Barrier) -> Result<Told> {
    let words: Vec<String> =
        (0..arguments.prompt_words).map(|word| format!("w{}", (seed * 7919 + word * 31) % 997)).collect();
    let body = json!({
        "prompt": words.join(" "), "max_tokens": arguments.new_tokens, "temperature": 0, "stream": true,
        "stream_options": {"include_usage": true},
    });
    barrier.wait();
    let begun = Instant::now();
    let mut answer = send(&server.address, "POST", "/v1/completions", Some(&body))?;
    if answer.status != 200 {
        let status = answer.status;
        bail!("status {status}: {}", answer.text()?);
    }
    let (mut first, mut last, mut new_tokens) = (None, Duration::ZERO, 0);
    while let Some(data) = answer.next_event()? {
        let Ok(event) = serde_json::from_str::<Value>(&data) else { continue };
        if event["choices"].as_array().is_some_and(|choices| !choices.is_empty()) {
            last = begun.elapsed();
            first.get_or_insert(last);
        }
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            new_tokens = tokens as u32;
        }
    }
    ensure!(new_tokens > 1, "an answer has {new_tokens} tokens, of {}", arguments.new_tokens);
    Ok(Told { new_tokens, first: first.context("an answer has no token")?, last })
}

/// The middle one by rate.
fn median(figures: &[Figures]) -> Option<Figures> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(|a, b| a.decode_tokens_per_second.total_cmp(&b.decode_tokens_per_second));
    sorted.get(sorted.len() / 2).cloned()
}
