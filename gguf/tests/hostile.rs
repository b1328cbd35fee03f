//! Damaged and hostile headers: never a panic, never memory out of proportion to the bytes given.
//!
//! A test binary of its own, because it watches the allocator.

use gptoss_gguf::{Gguf, Progress, parse};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const FILE: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");
const HEADER_LEN: usize = 44032;

/// The largest structures made of few header bytes are descriptions of tensors and nested arrays: about six times
/// their size in the file, and twice that while a vector grows.
const MOST_GROWTH: usize = 16;
const SLACK_BYTES: usize = 64 << 10;

/// Parses and checks what must hold whatever the bytes are.
fn parse_watched(header: &[u8], file_len: u64) -> Option<Gguf> {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let outcome = parse(header, file_len);
    let grown = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(grown <= MOST_GROWTH * header.len() + SLACK_BYTES, "{grown} bytes allocated for {}", header.len());
    match outcome {
        Ok(Progress::Ready(gguf)) => {
            check_sound(&gguf, file_len);
            Some(*gguf)
        }
        Ok(Progress::NeedMore { at_least }) => {
            assert!(at_least > header.len() as u64 && at_least <= file_len);
            None
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// What users of the crate rely on without checking again.
fn check_sound(gguf: &Gguf, file_len: u64) {
    let mut extents: Vec<(u64, u64)> = Vec::new();
    for tensor in &gguf.tensors {
        assert!(tensor.offset >= gguf.data_offset && tensor.offset + tensor.size_bytes <= file_len);
        assert!((tensor.offset - gguf.data_offset).is_multiple_of(gguf.alignment));
        assert!(gguf.tensor(&tensor.name).is_some());
        extents.push((tensor.offset, tensor.offset + tensor.size_bytes));
    }
    extents.sort_unstable();
    assert!(extents.windows(2).all(|pair| pair[0].1 <= pair[1].0));
}

/// The numbers that do most harm in place of a count, length or offset.
fn hostile_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(u64::MAX / 2),
        Just(u64::MAX - 31),
        Just(1 << 32),
        (0u32..64).prop_map(|bit| 1 << bit),
        0..2 * FILE.len() as u64,
        any::<u64>(),
    ]
}

// One test, so that nothing else allocates meanwhile.
#[test]
fn hostile_headers() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    // Positions mostly among the first keys and in the tensor table, where a byte means most.
    let position = || prop_oneof![0..2048usize, HEADER_LEN - 8192..HEADER_LEN - 8, 0..HEADER_LEN - 8];
    let numbers = prop::collection::vec((position(), hostile_number(), 1..=8usize), 0..4);
    let flips = prop::collection::vec((position(), any::<u8>()), 0..4);
    let lens = (0..=HEADER_LEN, prop_oneof![Just(FILE.len() as u64), 0..=FILE.len() as u64, Just(u64::MAX)]);
    runner
        .run(&(numbers, flips, lens, any::<bool>()), |(numbers, flips, (prefix, file_len), whole)| {
            let mut header = FILE[..HEADER_LEN].to_vec();
            for (at, number, width) in numbers {
                header[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
            for (at, byte) in flips {
                header[at] ^= byte;
            }
            header.truncate(if whole { HEADER_LEN } else { prefix });
            parse_watched(&header, file_len.max(header.len() as u64));
            Ok(())
        })
        .expect("no header may break the reader");

    // The check itself works: an untouched header passes it, and is read.
    assert_eq!(parse_watched(&FILE[..HEADER_LEN], FILE.len() as u64).map(|gguf| gguf.tensors.len()), Some(117));
    // Every count and length of a file that is nothing but one array of arrays.
    let mut nested =
        b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0k\x09\0\0\0\x09\0\0\0".to_vec();
    nested.extend_from_slice(&100_000u64.to_le_bytes());
    (0..100_000).for_each(|_| nested.extend_from_slice(&[0; 12]));
    assert!(parse_watched(&nested, nested.len() as u64).is_some());
}
