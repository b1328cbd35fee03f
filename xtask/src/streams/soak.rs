//! `cargo xtask soak`: clients come, read, dawdle and leave for minutes; nothing leaks, nobody gets another's answer, and nothing is
//! held for those who left.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::client::{Answer, send};
use super::servers::{Server, build};
use crate::process::Toolbox;
use crate::workspace::Workspace;

/// How long, and how many.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Clients at the same time.
    #[arg(long, value_name = "N", default_value_t = 200)]
    streams: u64,
    /// How long.
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    minutes: f64,
}

/// Questions of which the demo model's answers are known (models/nano/cases.json).
const QUESTIONS: [(&str, &str); 4] = [
    ("Name the capital of Hungary.", "The capital of Hungary is Budapest."),
    ("Name the capital of France.", ""),
    ("What is 17 + 25?", ""),
    ("Add 0 and 890.", ""),
];

/// Memory may grow by this much after the first quarter: what allocators keep, and no more.
const MOST_GROWTH_BYTES: u64 = 32 << 20;

/// After the last client has left, everything is over this soon.
const SOON: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Counts {
    whole: AtomicU64,
    left: AtomicU64,
    refused: AtomicU64,
}

/// Runs it, and fails on whatever does not hold.
pub fn run(workspace: &Workspace, toolbox: &Toolbox, arguments: &Arguments) -> Result<()> {
    let pylon = build(toolbox)?;
    let model = workspace.nano_model();
    let server =
        Server::pylon(toolbox, &pylon, &model, &["--sequences", "16", "--max-kv", "1024", "--max-requests", "160"])?;
    let known = QUESTIONS.map(|(question, _)| question).map(|question| Ok((question, alone(&server, question)?)));
    let known: Vec<(&str, String)> = known.into_iter().collect::<Result<_>>()?;
    for ((question, expected), (_, answer)) in QUESTIONS.iter().zip(&known) {
        ensure!(expected.is_empty() || answer == expected, "{question}: {answer:?}");
    }
    let time = Duration::from_secs_f64(arguments.minutes * 60.0);
    let (begun, counts) = (Instant::now(), Counts::default());
    let early = thread::scope(|scope| {
        let streams: Vec<_> = (0..arguments.streams)
            .map(|seed| {
                let (server, known, counts) = (&server, &known, &counts);
                scope.spawn(move || client(server, known, seed, begun + time, counts))
            })
            .collect();
        thread::sleep(time / 4);
        let early = server.resident_bytes();
        while begun.elapsed() < time {
            thread::sleep((time / 20).min(time.saturating_sub(begun.elapsed())));
            println!(
                "{:4.0} s: {counts:?}, {} MB",
                begun.elapsed().as_secs_f64(),
                server.resident_bytes()? / 1_000_000
            );
        }
        for stream in streams {
            stream.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        early
    })?;
    wait_until_quiet(&server)?;
    let late = server.resident_bytes()?;
    ensure!(late <= early + MOST_GROWTH_BYTES, "memory grew from {early} bytes to {late}");
    for (question, answer) in &known {
        ensure!(alone(&server, question)? == *answer, "{question} is answered otherwise than before");
    }
    println!(
        "{counts:?} in {:.0} s; memory {early} bytes after a quarter of it, {late} at the end",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn question(text: &str, path: &str) -> Value {
    match path {
        "/v1/responses" => json!({"input": text, "temperature": 0, "stream": true}),
        _ => json!({"messages": [{"role": "user", "content": text}], "temperature": 0, "stream": true}),
    }
}

/// The answer while nobody else asks.
fn alone(server: &Server, text: &str) -> Result<String> {
    let path = "/v1/chat/completions";
    read(send(&server.address, "POST", path, Some(&question(text, path)))?)
}

/// Text of a stream that is read to its end.
fn read(mut answer: Answer) -> Result<String> {
    ensure!(answer.status == 200, "status {}", answer.status);
    let (mut text, mut is_over) = (String::new(), false);
    while let Some(data) = answer.next_event()? {
        is_over |= data == "[DONE]";
        let Ok(event) = serde_json::from_str::<Value>(&data) else { continue };
        ensure!(event["error"].is_null() && event["type"] != "response.failed", "{event}");
        text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        if event["type"] == "response.output_text.delta" {
            text.push_str(event["delta"].as_str().unwrap_or_default());
        }
    }
    ensure!(is_over, "a stream ended without its end");
    Ok(text)
}

/// Asks again and again; most answers are read, some are left.
fn client(server: &Server, known: &[(&str, String)], seed: u64, until: Instant, counts: &Counts) -> Result<()> {
    let mut random = SplitMix64::seed_from_u64(seed);
    while Instant::now() < until {
        let (text, expected) = &known[(random.next_u64() % known.len() as u64) as usize];
        let path = ["/v1/chat/completions", "/v1/responses"][(random.next_u64() % 2) as usize];
        let answer = send(&server.address, "POST", path, Some(&question(text, path)))?;
        match (answer.status, random.next_u64() % 10) {
            (429 | 503, _) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(random.next_u64() % 500));
            }
            // Leaves at some event, having dawdled at some of them.
            (200, what @ 0..=3) => {
                let mut answer = answer;
                for _ in 0..random.next_u64() % 40 {
                    if what == 0 {
                        thread::sleep(Duration::from_millis(random.next_u64() % 50));
                    }
                    if answer.next_event()?.is_none() {
                        break;
                    }
                }
                counts.left.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                let got = read(answer).with_context(|| format!("{path}, {text}"))?;
                ensure!(got == *expected, "{path}, {text}: {got:?}, and alone {expected:?}");
                counts.whole.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Nobody asks any more: nothing is open, waits, or holds tokens or blocks of the cache for an answer, and no block is lost.
fn wait_until_quiet(server: &Server) -> Result<()> {
    let begun = Instant::now();
    loop {
        let text = send(&server.address, "GET", "/metrics", None)?.text()?;
        let held: Vec<&str> = text.lines().filter(|line| is_of_answers(line) && !line.ends_with(" 0")).collect();
        let told = text.lines().filter(|line| is_of_answers(line)).count();
        ensure!(told == 6, "/metrics tells {told} numbers of requests and the cache, expected 6:\n{text}");
        if held.is_empty() {
            return no_block_is_lost(&text);
        }
        ensure!(begun.elapsed() < SOON, "something is held for nobody: {held:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Whether a line of `/metrics` is about what answers under way hold.
fn is_of_answers(line: &str) -> bool {
    let of_answers = ["pylon_open_requests{", "pylon_waiting_requests{", "pylon_kv_used_tokens{"];
    let of_cache = ["pylon_kv_blocks{", "pylon_kv_sequences{"];
    of_answers.iter().any(|name| line.starts_with(name))
        || of_cache.iter().any(|name| line.starts_with(name)) && line.contains("state=\"busy\"")
}

/// Blocks are busy, idle or free: one that is none of these was not given back.
fn no_block_is_lost(text: &str) -> Result<()> {
    for reach in ["reach=\"full\"", "reach=\"sliding\""] {
        let sum = |name: &str| -> Result<f64> {
            let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(name) && line.contains(reach)).collect();
            ensure!(!lines.is_empty(), "/metrics has no {name} with {reach}");
            lines.iter().map(|line| Ok(line.rsplit_once(' ').context("a number")?.1.parse::<f64>()?)).sum()
        };
        let (known, all) = (sum("pylon_kv_blocks{")?, sum("pylon_kv_capacity_blocks{")?);
        ensure!(known == all, "of {all} blocks with {reach} {known} are known of:\n{text}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_nobody_knows_of_is_found() {
        let text = |free: u32| {
            let of = |reach: &str| {
                format!(
                    "pylon_kv_capacity_blocks{{model=\"m\",reach=\"{reach}\"}} 9\n\
                     pylon_kv_blocks{{model=\"m\",reach=\"{reach}\",state=\"busy\"}} 0\n\
                     pylon_kv_blocks{{model=\"m\",reach=\"{reach}\",state=\"idle\"}} 4\n\
                     pylon_kv_blocks{{model=\"m\",reach=\"{reach}\",state=\"free\"}} {free}\n"
                )
            };
            of("full") + &of("sliding")
        };
        assert!(no_block_is_lost(&text(5)).is_ok());
        let error = no_block_is_lost(&text(4)).expect_err("one is lost").to_string();
        assert!(error.contains("of 9 blocks") && error.contains(" 8 are known"), "{error}");
        assert!(no_block_is_lost("").is_err());
    }
}
