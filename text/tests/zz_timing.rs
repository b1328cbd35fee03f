mod common;
use std::time::Instant;
#[test]
fn timing() {
    let common::Arrays { tokens, token_types, merges } = common::o200k_arrays();
    let s = Instant::now();
    let t = gptoss_text::Tokenizer::new(&tokens, &token_types, &merges).unwrap();
    eprintln!("build {:?}", s.elapsed());
    for unit in ["a", "A", "é", "界", " ", "\n", "=", "ab", "\u{301}", "\u{301}A", "x1", "qzj"] {
        let text = unit.repeat(200_000 / unit.len());
        let s = Instant::now();
        let n = t.encode_ordinary(&text).len();
        eprintln!("{unit:?} {:?} {n}", s.elapsed());
    }
    let code = include_str!("o200k.rs").repeat(40) + &include_str!("../src/tokenizer/vocab.rs").repeat(40);
    let oracle = tiktoken_rs::o200k_harmony_singleton();
    for (name, text) in [("code", code), ("vectors", include_str!("vectors/harmony_render.jsonl").repeat(20))] {
        let s = Instant::now();
        let n = t.encode_ordinary(&text).len();
        let ours = s.elapsed();
        let s = Instant::now();
        assert_eq!(n, oracle.encode_ordinary(&text).len());
        eprintln!("{name} {} bytes: ours {:.1} MB/s, oracle {:.1} MB/s", text.len(), text.len() as f64 / ours.as_secs_f64() / 1e6, text.len() as f64 / s.elapsed().as_secs_f64() / 1e6);
    }
}
#[test]
fn cpu() {
    let common::Arrays { tokens, token_types, merges } = common::o200k_arrays();
    let cpu = || std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(' ').next().unwrap().parse::<u64>().unwrap();
    let s = cpu();
    let t = gptoss_text::Tokenizer::new(&tokens, &token_types, &merges).unwrap();
    eprintln!("cpu build {} ms", (cpu() - s) / 1000000);
    for unit in ["a", " ", "="] {
        let text = unit.repeat(200_000 / unit.len());
        let s = cpu();
        t.encode_ordinary(&text).len();
        eprintln!("cpu {unit:?} {} ms", (cpu() - s) / 1000000);
    }
    let text = include_str!("vectors/harmony_render.jsonl").repeat(20);
    let s = cpu();
    t.encode_ordinary(&text).len();
    let ours = cpu() - s;
    eprintln!("cpu {} MB/s", text.len() as f64 / ours as f64 * 1e3);
}
