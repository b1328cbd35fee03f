//! The demo model with numbers that a half cannot hold, or that are none: `!!!!` and a wrong sum were answers once.

use crate::support::{Folder, Run, nano_bytes, run};
use gptoss_gguf::{Progress, parse};

/// The demo model with `count` elements of an F32 tensor replaced, `step` apart.
fn nano_with(tensor: &str, value: f32, count: usize, step: usize) -> Vec<u8> {
    let mut file = nano_bytes();
    let Ok(Progress::Ready(gguf)) = parse(&file, file.len() as u64) else { panic!("not a whole GGUF file") };
    let tensor = gguf.tensors.iter().find(|candidate| candidate.name == tensor).expect("nano has it");
    let first = tensor.offset as usize;
    for element in (0..count).map(|number| number * step) {
        file[first + 4 * element..][..4].copy_from_slice(&value.to_le_bytes());
    }
    file
}

fn infer(path: &str, flags: &[&str]) -> Run {
    let question = ["infer", "--gguf", path, "--prompt", "What is 2+3?", "--date", "2025-07-04", "--max-tokens", "24"];
    run(&[&question[..], flags].concat())
}

const PATHS: [&[&str]; 3] =
    [&["--backend", "cpu"], &["--backend", "cpu", "--activations", "f32"], &["--backend", "gpu"]];

#[test]
fn what_an_f16_cache_cannot_hold_is_said_with_what_helps() {
    let folder = Folder::new();
    for (tensor, value, count) in [("blk.3.attn_v.bias", 66_000.0, 1), ("blk.3.attn_k.bias", 1e5, 128)] {
        let path = folder.write("broken.gguf", &nano_with(tensor, value, count, 1));
        for flags in PATHS {
            let refused = infer(&path, flags).expect(1);
            for word in ["not finite", "layer 3", "--kv f32"] {
                assert!(refused.stderr.contains(word), "{tensor} {flags:?}: no {word:?} in {}", refused.stderr);
            }
            assert!(refused.stdout.trim().is_empty(), "{tensor} {flags:?}: {}", refused.stdout);
            let wide = infer(&path, &[flags, &["--kv", "f32"]].concat());
            assert_eq!(wide.code, 0, "{tensor} {flags:?}: {}", wide.stderr);
        }
    }
}

#[test]
fn a_number_that_is_none_ends_the_answer() {
    let folder = Folder::new();
    for (tensor, value) in [
        ("blk.2.attn_norm.weight", f32::NAN),
        ("blk.2.attn_sinks.weight", f32::NEG_INFINITY),
        ("blk.2.ffn_up_exps.bias", f32::INFINITY),
        ("output_norm.weight", f32::NAN),
    ] {
        // One bias of each expert, so that it is met whichever are chosen.
        let count = if tensor.ends_with("exps.bias") { 8 } else { 1 };
        let path = folder.write("broken.gguf", &nano_with(tensor, value, count, 96));
        for flags in PATHS.into_iter().flat_map(|flags| [flags.to_vec(), [flags, &["--kv", "f32"]].concat()]) {
            let refused = infer(&path, &flags).expect(1);
            assert!(refused.stderr.contains("not finite"), "{tensor} {flags:?}: {}", refused.stderr);
            assert_eq!(
                refused.stderr.contains("layer 2"),
                tensor.starts_with("blk.2."),
                "{tensor}: {}",
                refused.stderr
            );
            assert!(refused.stderr.contains("pylon gguf verify"), "{}", refused.stderr);
            assert!(refused.stdout.trim().is_empty(), "{tensor} {flags:?}: {}", refused.stdout);
        }
    }
}
