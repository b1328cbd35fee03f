//! Reading from whatever part of the header is there.

use gptoss_gguf::{Progress, parse};

use crate::parse_whole;
use crate::writer::{rich_file, strings, writer};

#[test]
fn every_prefix_of_a_valid_file_is_either_ready_or_asks_for_more() {
    let writer = rich_file();
    let (file, header_len) = (writer.bytes(), writer.header().len());
    let whole = parse_whole(&file).unwrap();
    for len in 0..=file.len() {
        match parse(&file[..len], file.len() as u64).unwrap() {
            Progress::Ready(gguf) => {
                assert!(len >= header_len, "ready with {len} of {header_len} header bytes");
                assert_eq!(*gguf, whole);
            }
            Progress::NeedMore { at_least } => {
                assert!(len < header_len, "the header ends at {header_len}, {len} bytes were given");
                assert!(at_least > len as u64 && at_least <= file.len() as u64, "{len}: {at_least}");
            }
        }
    }
}

#[test]
fn a_large_header_is_read_in_few_steps() {
    let tokens: Vec<String> = (0..200_000).map(|i| format!("token{i}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let file = writer().pair("tokens", crate::writer::ARRAY, &strings(&tokens)).bytes();
    let (mut at_hand, mut given, mut steps) = (0, 0, 0);
    loop {
        steps += 1;
        given += at_hand;
        match parse(&file[..at_hand], file.len() as u64).unwrap() {
            Progress::Ready(gguf) => {
                assert!(gguf.metadata.string_array("tokens").unwrap().iter().eq(tokens));
                break;
            }
            Progress::NeedMore { at_least } => {
                assert!(at_least >= (2 * at_hand as u64).min(file.len() as u64), "{at_hand}: {at_least}");
                at_hand = at_least as usize;
            }
        }
    }
    assert!(steps <= 8, "{steps} steps");
    assert!(given < 4 * file.len(), "{given} bytes parsed for {}", file.len());
}

#[test]
fn the_hint_covers_what_is_known_to_be_missing() {
    // A value whose length is at hand: all of it is asked for at once, however small the prefix.
    let writer = writer().str("k", &"x".repeat(1_000_000));
    let file = writer.bytes();
    match parse(&file[..24 + 9 + 4 + 8], file.len() as u64).unwrap() {
        Progress::NeedMore { at_least } => assert_eq!(at_least, writer.header().len() as u64),
        Progress::Ready(_) => panic!("the value is not there yet"),
    }
}
