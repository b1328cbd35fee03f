//! Whether bytes that make no sense are found, and bytes that make sense are not taken for it.

use gptoss_gguf::Gguf;
use gptoss_gguf::sense::{Nonsense, Sampling, Sense};

use crate::garble::Garble;
use crate::parse_whole;

/// A trained model, and two with the random weights of the whole-model goldens.
const FILES: [(&str, &[u8]); 3] = [
    ("nano", include_bytes!("../../../models/nano/gpt-oss-nano.gguf")),
    ("tiny", include_bytes!("../../../tests/goldens/tiny.gguf")),
    ("odd", include_bytes!("../../../tests/goldens/odd.gguf")),
];
const NANO: &[u8] = FILES[0].1;

/// Places at which faults begin, from the first tensor to the last two kilobytes.
const PLACES: usize = 24;
const LEAST_LEFT_BYTES: usize = 2000;

fn judged(gguf: &Gguf, file: &[u8], sampling: Sampling) -> Result<(), Box<Nonsense>> {
    let copy = |at: u64, sample: &mut [u8]| sample.copy_from_slice(&file[at as usize..][..sample.len()]);
    Sense::new(gguf).check(0..file.len() as u64, sampling, copy)
}

/// How many of [`PLACES`] faults of `len` bytes are found, and the longest way from where one began to where it was.
fn found(gguf: &Gguf, file: &[u8], fault: Garble, len: usize) -> (usize, usize) {
    let sense = Sense::new(gguf);
    let begin = gguf.data_offset as usize;
    let span = file.len() - LEAST_LEFT_BYTES - begin;
    let (mut count, mut longest) = (0, 0);
    for place in 0..PLACES {
        // Places need not be even.
        let from = begin + span * place / PLACES + place * 7 % 64;
        let to = from.saturating_add(len).min(file.len());
        let copy = |at: u64, sample: &mut [u8]| fault.copy(file, from, to, at as usize, sample);
        if let Err(nonsense) = sense.check(0..file.len() as u64, Sampling::STREAM, copy) {
            count += 1;
            longest = longest.max((nonsense.offset_bytes as usize).saturating_sub(from));
        }
    }
    (count, longest)
}

#[test]
fn sound_files_make_sense() {
    for (name, file) in FILES {
        let gguf = parse_whole(file).unwrap();
        for sampling in [Sampling::STREAM, Sampling::MAPPED, Sampling::EVERYTHING] {
            let judged = judged(&gguf, file, sampling);
            assert_eq!(judged, Ok(()), "{name}, {sampling:?}");
        }
    }
}

#[test]
fn faults_are_found_wherever_they_begin() {
    let shifts = [1, 2, 3, 4, 5, 7, 8, 13, 16, 18, 31, 32, 33, 64, 100, 4096];
    let late = [1, 2, 4, 16, 1000, 65536];
    let faults = Garble::OTHERS.into_iter().chain(shifts.map(Garble::Skip)).chain(late.map(Garble::Repeat));
    for fault in faults {
        for (name, file) in FILES {
            let gguf = parse_whole(file).unwrap();
            let (count, longest) = found(&gguf, file, fault, usize::MAX);
            assert_eq!(count, PLACES, "{name}: {fault:?} to the end");
            // A whole tensor may be zero: the next norm shows that it is not meant to be.
            assert!(
                longest < 64 << 10 || fault == Garble::Fill(0),
                "{name}: {fault:?} was found {longest} bytes later"
            );
        }
        let (count, _) = found(&parse_whole(NANO).unwrap(), NANO, fault, 64 << 10);
        assert_eq!(count, PLACES, "{fault:?} in 64 KiB");
    }
}

/// A block of MXFP4 has 17 bytes, one of Q8_0 34: shifted by whole blocks, blocks are blocks. What lies in between
/// shows it.
#[test]
fn a_shift_by_whole_blocks_is_found_where_another_type_follows() {
    let gguf = parse_whole(NANO).unwrap();
    let count = |fault| found(&gguf, NANO, fault, usize::MAX).0;
    assert_eq!(count(Garble::Skip(17)), PLACES);
    // Begun within the last tensor, which is Q8_0, it cannot be found without a hash.
    let last = gguf.tensor("output.weight").unwrap().offset;
    let begun_before = PLACES as u64 * (last - gguf.data_offset) / (gguf.file_len - gguf.data_offset);
    assert!((begun_before..PLACES as u64).contains(&(count(Garble::Skip(34)) as u64)), "{}", count(Garble::Skip(34)));
}

#[test]
fn the_message_names_tensor_place_and_what_is_wrong() {
    let gguf = parse_whole(NANO).unwrap();
    let message =
        |fault: Garble| judged(&gguf, &fault.apply(NANO, 2_900_000, NANO.len()), Sampling::STREAM).unwrap_err();
    let shifted = message(Garble::Skip(4));
    assert_eq!(shifted.tensor, "output.weight");
    assert!((2_899_000..2_920_000).contains(&shifted.offset_bytes), "{shifted}");
    let text = shifted.to_string();
    assert!(
        text.contains("(Q8_0)") && text.contains("expected scales between 0 and 2.0") && text.contains("of 32 blocks"),
        "{text}"
    );
    let page = message(Garble::Html).to_string();
    assert!(page.contains("expected weights, got text: \""), "{page}");
    let zeros = message(Garble::Fill(0)).to_string();
    assert!(zeros.contains("zeros that begin or end within a row of 204 bytes"), "{zeros}");
    let filled = message(Garble::Fill(0xee)).to_string();
    assert!(filled.contains("the byte 0xee"), "{filled}");
}

#[test]
fn rows_may_be_zero_and_holes_may_not() {
    let gguf = parse_whole(NANO).unwrap();
    let embedding = gguf.tensor("token_embd.weight").unwrap();
    let (begin, row) = (embedding.offset as usize, 204);
    let zeroed = |from: usize, to: usize| judged(&gguf, &Garble::Fill(0).apply(NANO, from, to), Sampling::STREAM);
    assert_eq!(zeroed(begin + 100 * row, begin + 1000 * row), Ok(()), "tokens that nobody uses");
    assert_eq!(zeroed(begin, begin + 1280 * row), Ok(()));
    zeroed(begin + 100 * row + 60, begin + 1000 * row).unwrap_err();
    zeroed(begin + 100 * row, begin + 1000 * row + 130).unwrap_err();
    // One expert of eight, taken out.
    let down = gguf.tensor("blk.2.ffn_down_exps.weight").unwrap();
    let expert = (down.size_bytes / 8) as usize;
    let begin = down.offset as usize + 3 * expert;
    assert_eq!(zeroed(begin, begin + expert), Ok(()));
    // A norm of zero silences what it scales.
    let norm = gguf.tensor("blk.3.attn_norm.weight").unwrap();
    zeroed(norm.offset as usize, (norm.offset + norm.size_bytes) as usize).unwrap_err();
}

/// Reads begin and end anywhere; only what is in them is asked for.
#[test]
fn any_read_is_judged_by_itself() {
    let gguf = parse_whole(NANO).unwrap();
    let sense = Sense::new(&gguf);
    for len in [1, 33, 1000, 70_000, 500_000] {
        for from in (0..NANO.len() - len).step_by(99_991) {
            let range = from..from + len;
            let copy = |at: u64, sample: &mut [u8]| {
                let wanted = at as usize..at as usize + sample.len();
                assert!(range.start <= wanted.start && wanted.end <= range.end, "{wanted:?} of {range:?}");
                sample.copy_from_slice(&NANO[wanted]);
            };
            let judged = sense.check(range.start as u64..range.end as u64, Sampling::STREAM, copy);
            assert_eq!(judged, Ok(()), "{range:?}");
        }
    }
}
