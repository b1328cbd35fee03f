//! Files of every type and shape that this makes, before and after a bad way: no false alarm, and faults are found.

#[path = "../../gguf/tests/gguf/garble.rs"]
mod garble;

use garble::Garble;
use gptoss_gguf::sense::{Nonsense, Sampling, Sense};
use gptoss_gguf::{Gguf, Progress, TensorType, WeightType, parse};
use gptoss_synth::{Publisher, Spec, TypeMix};

fn parsed(file: &[u8]) -> Gguf {
    match parse(file, file.len() as u64).expect("a header") {
        Progress::Ready(gguf) => *gguf,
        Progress::NeedMore { .. } => panic!("the whole file is there"),
    }
}

fn judged(gguf: &Gguf, len: usize, sampling: Sampling, copy: impl FnMut(u64, &mut [u8])) -> Result<(), Box<Nonsense>> {
    Sense::new(gguf).check(0..len as u64, sampling, copy)
}

fn of_type(kind: TensorType) -> Spec {
    Spec::tiny().layers(2).hidden(512).ff(512).types(TypeMix::Uniform(kind))
}

#[test]
fn sound_files_of_every_type_and_shape_make_sense() {
    let by_type = WeightType::KINDS.map(|kind| (kind.name(), of_type(kind)));
    let others = [
        ("tiny", Spec::tiny()),
        ("nano", Spec::nano()),
        ("ollama", Spec::tiny().publisher(Publisher::Ollama)),
        ("q4_k_m", Spec::tiny().hidden(512).ff(512).types(TypeMix::Q4KM)),
        // Rows as long as the real ones have.
        ("2880", Spec::tiny().layers(1).hidden(2880).ff(2880).experts(4)),
    ];
    for (name, spec) in by_type.into_iter().chain(others) {
        let file = spec.to_bytes().unwrap_or_else(|error| panic!("{name}: {error}"));
        let gguf = parsed(&file);
        for sampling in [Sampling::STREAM, Sampling::EVERYTHING] {
            let copy = |at: u64, sample: &mut [u8]| sample.copy_from_slice(&file[at as usize..][..sample.len()]);
            assert_eq!(judged(&gguf, file.len(), sampling, copy), Ok(()), "{name}, {sampling:?}");
        }
    }
}

/// Begun in the middle of the first tensor of each type, in a file of that type alone.
#[test]
fn faults_are_found_in_every_type() {
    let shifts = [1, 2, 3, 4, 5, 8, 13, 32, 100];
    for kind in WeightType::KINDS {
        let file = of_type(kind).to_bytes().expect("a file");
        let gguf = parsed(&file);
        let (block_bytes, plain) = (kind.block_bytes().expect("known") as usize, kind.block_len() == Some(1));
        // A shift by whole blocks, or by whole values of a type without blocks, is one that nobody can see.
        let shifts = shifts.into_iter().filter(|shift| shift % block_bytes != 0);
        // Reversed bits may make a usual exponent of a usual one (in floats 0x3c stays and 0x3d becomes 0xbc, in MXFP4
        // 122 becomes 94). In a file of floats alone, its bytes from the begin on are floats again after a header that
        // is shorter than the distance of two windows.
        let is_seen = |fault: &Garble| match fault {
            Garble::BitsReversed => false,
            Garble::Restart => !plain,
            _ => true,
        };
        let others = Garble::OTHERS.into_iter().filter(is_seen);
        for fault in others.chain(shifts.map(Garble::Skip)) {
            let tensors = gguf.tensors.iter().filter(|tensor| tensor.kind == kind && tensor.size_bytes > 100_000);
            for tensor in tensors {
                let (begin, size) = (tensor.offset as usize, tensor.size_bytes as usize);
                let (from, to) = (begin + size / 3 + 5, begin + size * 2 / 3 + 9);
                let copy = |at: u64, sample: &mut [u8]| fault.copy(&file, from, to, at as usize, sample);
                let nonsense = judged(&gguf, file.len(), Sampling::STREAM, copy)
                    .expect_err(&format!("{fault:?} within {} ({kind})", tensor.name));
                assert_eq!(nonsense.tensor, tensor.name, "{fault:?}: {nonsense}");
            }
        }
    }
}
