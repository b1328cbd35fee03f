//! How many bytes a second this machine's memory delivers, and how many a token needs.

use std::hint::black_box;
use std::time::Instant;

use gptoss_model::{Inventory, LayerTensors, ModelConfig};
use memmap2::MmapMut;

use crate::output::note;

/// Size of the buffer, which is larger than any processor's cache.
const BUFFER_BYTES: usize = 1 << 30;
/// The buffer takes at most one part in this many of the free memory.
const FREE_SHARE: u64 = 4;

/// A buffer whose reading shows what this machine's memory delivers.
pub struct Memory {
    buffer: MmapMut,
    threads: usize,
}

impl Memory {
    /// A buffer larger than the caches, for `threads` threads; `None` when there is not enough memory free for one.
    pub fn for_threads(threads: usize, available_bytes: u64) -> Option<Self> {
        let bytes = BUFFER_BYTES.min((available_bytes / FREE_SHARE) as usize);
        if bytes < BUFFER_BYTES / 4 {
            return None;
        }
        let mut buffer = buffer(bytes)?;
        // Every page is written once: pages that never were are one page of zeros.
        words_mut(&mut buffer).iter_mut().zip(0..).for_each(|(word, index)| *word = index);
        Some(Self { buffer, threads })
    }

    /// Bytes per second that the threads read right now: one pass over the buffer, each reading its part from one end to the other.
    pub fn bytes_per_second(&self) -> f64 {
        let words: &[u64] = bytemuck::cast_slice(&self.buffer);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for part in words.chunks(words.len().div_ceil(self.threads.max(1))) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        self.buffer.len() as f64 / begin.elapsed().as_secs_f64()
    }
}

fn words_mut(buffer: &mut MmapMut) -> &mut [u64] {
    bytemuck::cast_slice_mut(&mut buffer[..])
}

/// A buffer in huge pages, where the system has them: with small ones, what is measured is the search for pages, not the
/// memory.
fn buffer(bytes: usize) -> Option<MmapMut> {
    let buffer = MmapMut::map_anon(bytes).ok()?;
    #[cfg(target_os = "linux")]
    if let Err(error) = buffer.advise(memmap2::Advice::HugePage) {
        note(format_args!("pylon: memory is measured in small pages, which is slower: {error}"));
    }
    Some(buffer)
}

/// Adds up in eight sums side by side, so that additions do not wait for each other.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 8];
    for eight in words.as_chunks::<8>().0 {
        for (sum, word) in sums.iter_mut().zip(eight) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}

/// Bytes of weights that one decoded token reads, in the file's formats: everything dense, the chosen experts with
/// their biases, and one row of the embedding.
pub fn weight_bytes_per_token(config: &ModelConfig, inventory: &Inventory, layers: usize) -> u64 {
    let head = inventory.output.size_bytes + inventory.output_norm.size_bytes + inventory.token_embd.row_bytes();
    inventory.layers[..layers].iter().map(|layer| layer.dense_file_bytes() + chosen_bytes(config, layer)).sum::<u64>()
        + head
}

fn chosen_bytes(config: &ModelConfig, layer: &LayerTensors) -> u64 {
    let all = layer.expert_file_bytes() + layer.expert_bias_file_bytes();
    all / u64::from(config.experts) * u64::from(config.experts_per_token)
}

#[cfg(test)]
mod tests {
    use gptoss_gguf::{Progress, parse};
    use gptoss_synth::Spec;

    use super::*;

    /// The expected bytes of the public files were worked out from their tensor tables by hand: 2.57 GB and 3.59 GB.
    #[test]
    fn a_token_reads_the_dense_weights_and_four_experts_of_each_layer() {
        for (spec, gigabytes) in [(Spec::gpt_oss_20b(), 2.57), (Spec::gpt_oss_120b(), 3.59)] {
            let model = spec.build().expect("a public shape");
            let Ok(Progress::Ready(gguf)) = parse(&model.header(), model.file_bytes()) else { panic!("a header") };
            let config = ModelConfig::from_gguf(&gguf).expect("gpt-oss");
            let inventory = Inventory::from_gguf(&gguf, &config).expect("complete");
            let bytes = weight_bytes_per_token(&config, &inventory, config.layers as usize) as f64;
            assert!((bytes / 1e9 - gigabytes).abs() < 0.005, "{bytes} bytes; expected {gigabytes} GB");
        }
    }

    #[test]
    fn the_sum_of_words_is_their_sum() {
        let words: Vec<u64> = (0..800).collect();
        assert_eq!(sum(&words), 800 * 799 / 2);
    }

    #[test]
    fn a_buffer_that_does_not_fit_is_not_made() {
        assert!(Memory::for_threads(1, 100 << 20).is_none());
    }
}
