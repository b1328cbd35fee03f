//! The figures, as they go into docs/PERFORMANCE.md.

use std::path::Path;
use std::time::Duration;

use gptoss_protocol::units::bytes;

use super::Arguments;
use super::memory::Peaks;
use super::traffic::Traffic;

pub struct Measured {
    pub tokens: Vec<u32>,
    pub model_bytes: u64,
    pub took: Duration,
    /// When the first visible token was there, and how much of the model had been sent by then.
    pub first_token: Option<(Duration, u64)>,
    pub memory: Option<Peaks>,
    pub wasm_heap_bytes: Option<u64>,
    pub gpu_bytes: Option<u64>,
    pub traffic: Traffic,
}

pub fn print(measured: &Measured, arguments: &Arguments, model: &Path) {
    let unless_none = |count: Option<u64>| count.map_or("not measured".to_owned(), bytes);
    let Measured { traffic, model_bytes, .. } = measured;
    println!("\n| {}, experts in {} | |", model.file_name().unwrap_or_default().display(), arguments.expert_memory);
    println!("|---|---|");
    println!("| model | {} |", bytes(*model_bytes));
    if let Some((at, sent)) = measured.first_token {
        println!("| first visible token after | {:.0} s |", at.as_secs_f64());
        println!("| sent by then | {} |", bytes(sent));
    }
    println!("| all of it | {:.0} s |", measured.took.as_secs_f64());
    println!(
        "| sent in all | {} in {} requests, up to byte {} |",
        bytes(traffic.model_bytes),
        traffic.requests,
        traffic.farthest_byte
    );
    println!("| GPU buffers | {} |", unless_none(measured.gpu_bytes));
    println!("| wasm heap | {} |", unless_none(measured.wasm_heap_bytes));
    match &measured.memory {
        None => println!("| browser processes | not measured |"),
        Some(peaks) => {
            for (kind, peak) in peaks {
                println!("| {kind}, peak | {} |", bytes(*peak));
            }
        }
    }
    println!();
}
