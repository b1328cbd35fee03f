use gptoss_cpu::*;
use gptoss_engine::{Backend, Quiet};
use std::time::Instant;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let n: usize = std::env::args().nth(2).map_or(512, |s| s.parse().unwrap());
    let threads = std::env::args().nth(3).map(|s| s.parse().unwrap());
    let opts = CpuOptions {
        threads,
        max_kv_tokens: Some(2048.min(n as u32 + 200)),
        activations: if std::env::var("F32").is_ok() { Activations::F32 } else { Activations::Int8 },
        ..Default::default()
    };
    let mut m = pollster::block_on(CpuModel::open(path.as_ref(), &opts, &Quiet)).unwrap();
    let v = m.config().vocabulary;
    let tokens: Vec<u32> = (0..n as u32).map(|i| (i * 7919) % v).collect();
    println!("{}", m.description());
    for _ in 0..3 {
        m.rewind(0);
        let t = Instant::now();
        pollster::block_on(m.prefill(&tokens, 1.0, false, &Quiet, |_| {})).unwrap();
        let p = t.elapsed().as_secs_f64();
        m.rewind(0);
        pollster::block_on(m.decode(1, 1.0, false, &Quiet)).unwrap();
        let t = Instant::now();
        for i in 0..64 {
            pollster::block_on(m.decode((i * 31) % v, 1.0, false, &Quiet)).unwrap();
        }
        let d = t.elapsed().as_secs_f64();
        println!("prefill {:.1} tok/s   decode {:.2} tok/s", n as f64 / p, 64.0 / d);
    }
}
