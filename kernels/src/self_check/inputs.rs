//! Inputs of the checks: the same on every machine.

use half::{bf16, f16};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use gptoss_gguf::WeightType;
use gptoss_gguf::numbers::Encoding;

pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform number in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An approximately normal number: the sum of twelve uniform values has variance 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// `count` values of standard deviation `deviation`.
    pub fn normals(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        (0..count).map(|_| (self.normal() * deviation) as f32).collect()
    }

    /// Rows of a weight file, `rows × columns`, of a size that makes a dot product with normal values about 1. In the
    /// quantised formats every code appears at every place of a block, and scales have either sign where there is one.
    pub fn weights(&mut self, format: WeightType, rows: usize, columns: usize) -> Vec<u8> {
        let deviation = 1.0 / (columns as f64).sqrt();
        let count = rows * columns;
        match format {
            WeightType::F32 => self.normals(count, deviation).iter().flat_map(|value| value.to_le_bytes()).collect(),
            WeightType::F16 => {
                self.normals(count, deviation).iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
            }
            WeightType::Bf16 => {
                self.normals(count, deviation).iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
            }
            _ => {
                let blocks = count / format.block_weights() as usize;
                (0..blocks).flat_map(|_| self.block(format, deviation)).collect()
            }
        }
    }

    /// One block of random bytes, with scales of the right size.
    fn block(&mut self, format: WeightType, deviation: f64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..format.block_bytes()).map(|_| self.bits() as u8).collect();
        let (codes, numbers) = (format.random_codes(), format.numbers());
        let scale = &numbers[0];
        if scale.encoding == Encoding::E8m0 {
            let exponent = 126.0 + (deviation / codes.rms).log2().round() + (self.unit() * 3.0).floor();
            bytes[scale.at] = exponent as u8;
            return bytes;
        }
        let sign = if self.unit() < 0.5 { 1.0 } else { -1.0 };
        let factor = sign * (0.5 + self.unit()) * deviation / codes.rms;
        let mut put = |at: usize, value: f64| bytes[at..at + 2].copy_from_slice(&f16::from_f64(value).to_le_bytes());
        put(scale.at, factor);
        if let (Some(mean), Some(minimum)) = (codes.minimum, numbers.get(1)) {
            put(minimum.at, factor * mean * (0.8 + 0.4 * self.unit()));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with one wrong entry must not go unnoticed.
    #[test]
    fn every_mxfp4_code_is_at_every_place() {
        let bytes = Random::new(1).weights(WeightType::Mxfp4, 67, 288);
        let mut seen = [[false; 16]; 32];
        for block in bytes.chunks_exact(17) {
            for (place, &byte) in block[1..].iter().enumerate() {
                seen[place][usize::from(byte & 15)] = true;
                seen[place + 16][usize::from(byte >> 4)] = true;
            }
        }
        assert!(seen.iter().flatten().all(|&seen| seen), "{seen:?}");
    }

    #[test]
    fn weights_have_the_size_they_should() {
        for format in WeightType::ALL {
            let columns = 288u64.next_multiple_of(format.block_weights()) as usize;
            let weights = format.decode(&Random::new(7).weights(format, 67, columns));
            let square = weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>() / weights.len() as f64;
            let relative = (square * columns as f64).sqrt();
            assert!((0.5..2.0).contains(&relative), "{}: {relative}", format.name());
        }
    }
}
