//! Runs of a model with a clock beside it.

use std::time::Instant;

use gptoss_model::{Asked, Backend, EngineError, Host, Prediction, Row, SequenceId};

use super::bandwidth::Memory;
use super::report::{PrefixHit, Run};
use crate::backend::AnyModel;
use crate::stats::{Percentiles, median};

/// Turns that decoding and memory take.
const TURNS: u32 = 16;

/// The work to measure: a prompt, and the tokens after it.
pub struct Bench {
    prompt: Vec<u32>,
    new_tokens: u32,
}

/// Measurements of one run.
#[derive(Clone, Debug)]
pub struct Sample {
    prompt_tokens: usize,
    prefill_seconds: f64,
    /// Time from each new token to the next, in milliseconds.
    steps_ms: Vec<f64>,
}

/// Rates from an empty context, in tokens per second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub prefill: f64,
    pub decode: f64,
}

impl Bench {
    /// Makes a prompt of arbitrary tokens that are always the same.
    pub fn new(vocabulary: u32, prompt_tokens: u32, new_tokens: u32) -> Self {
        // Steps of a Weyl sequence: spread evenly, and never the same twice in a row.
        let token = |index: u32| ((u64::from(index.wrapping_mul(0x9e37_79b9)) * u64::from(vocabulary)) >> 32) as u32;
        Self { prompt: (1..=prompt_tokens).map(token).collect(), new_tokens }
    }

    /// Runs the prompt from an empty context, then the new tokens after it.
    pub async fn run(&self, model: &mut AnyModel, host: &dyn Host) -> Result<Sample, EngineError> {
        let sequence = model.open()?;
        let begin = Instant::now();
        let prediction = model.prefill(sequence, &self.prompt, Asked::TOP, host, |_| {}).await?;
        let prefill_seconds = begin.elapsed().as_secs_f64();
        // The first new token came with the prefill.
        let steps_ms = decode(model, sequence, prediction, self.new_tokens - 1, host).await?;
        model.close(sequence);
        Ok(Sample { prompt_tokens: self.prompt.len(), prefill_seconds, steps_ms })
    }

    /// Runs the prompt in a sequence of its own and returns the token after it, for measurements of each part alone.
    pub async fn prompt_alone(&self, model: &mut AnyModel, host: &dyn Host) -> Result<(SequenceId, u32), EngineError> {
        let sequence = model.open()?;
        let prediction = model.prefill(sequence, &self.prompt, Asked::TOP, host, |_| {}).await?;
        Ok((sequence, prediction.token))
    }

    /// Runs one more token in such a sequence, and closes it.
    pub async fn token_alone(
        &self,
        model: &mut AnyModel,
        sequence: SequenceId,
        token: u32,
        host: &dyn Host,
    ) -> Result<(), EngineError> {
        model.decode(sequence, token, Asked::TOP, host).await?;
        model.close(sequence);
        Ok(())
    }

    /// The time to the first token when all of the prompt but its last token is in the cache.
    pub async fn prefix_hit(&self, model: &mut AnyModel, host: &dyn Host) -> Result<PrefixHit, EngineError> {
        let sequence = model.open()?;
        model.prefill(sequence, &self.prompt, Asked::TOP, host, |_| {}).await?;
        let reused_tokens = model.rewind(sequence, self.prompt.len() as u32 - 1);
        let begin = Instant::now();
        model.prefill(sequence, &self.prompt[reused_tokens as usize..], Asked::TOP, host, |_| {}).await?;
        let time_to_first_token_ms = begin.elapsed().as_secs_f64() * 1e3;
        model.close(sequence);
        Ok(PrefixHit { reused_tokens, time_to_first_token_ms })
    }

    /// Tokens per second of several sequences together, each batch having one row of each: the new tokens after a token
    /// of their own. The first batch is not counted.
    pub async fn side_by_side(
        &self,
        sequences: u32,
        model: &mut AnyModel,
        host: &dyn Host,
    ) -> Result<f64, EngineError> {
        let mut open = Vec::new();
        for token in self.prompt.iter().cycle().take(sequences as usize) {
            open.push((model.open()?, *token));
        }
        let mut begin = Instant::now();
        for step in 0..self.new_tokens {
            if step == 1 {
                begin = Instant::now();
            }
            let wanted = Asked::TOP.wanted();
            let rows: Vec<Row> = open.iter().map(|&(sequence, token)| Row { sequence, token, wanted }).collect();
            let ticket = model.submit(&rows)?;
            let outcomes = model.collect(ticket, host).await?;
            for ((_, token), outcome) in open.iter_mut().zip(outcomes) {
                *token = outcome.prediction().token;
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        open.into_iter().for_each(|(sequence, _)| model.close(sequence));
        Ok(f64::from(sequences) * f64::from(self.new_tokens - 1) / seconds)
    }

    /// Decodes in turns with reading memory, in up to [`TURNS`] turns: some machines' memory has a faster and a slower state that
    /// change within seconds, so that what is compared has to lie side by side. Of each turn tokens per second, and the mean of what
    /// memory delivered right before and right after, in bytes per second.
    pub async fn beside_memory(
        &self,
        memory: &Memory,
        model: &mut AnyModel,
        host: &dyn Host,
    ) -> Result<Vec<(f64, f64)>, EngineError> {
        let sequence = model.open()?;
        let mut prediction = model.prefill(sequence, &self.prompt, Asked::TOP, host, |_| {}).await?;
        let steps = (self.new_tokens - 1) / TURNS.min(self.new_tokens - 1);
        let mut turns = Vec::new();
        let mut before = memory.bytes_per_second();
        for _ in 0..(self.new_tokens - 1) / steps {
            let begin = Instant::now();
            for _ in 0..steps {
                prediction = model.decode(sequence, prediction.token, Asked::TOP, host).await?;
            }
            let rate = f64::from(steps) / begin.elapsed().as_secs_f64();
            let after = memory.bytes_per_second();
            turns.push((rate, (before + after) / 2.0));
            before = after;
        }
        model.close(sequence);
        Ok(turns)
    }

    /// Prefill and decode apart, each from an empty context, as llama-bench measures them: it runs each once before it
    /// measures, and the model has run before this is called.
    pub async fn rates_from_empty(&self, model: &mut AnyModel, host: &dyn Host) -> Result<Rates, EngineError> {
        let sequence = model.open()?;
        let begin = Instant::now();
        model.prefill(sequence, &self.prompt, Asked::TOP, host, |_| {}).await?;
        let prefill_seconds = begin.elapsed().as_secs_f64();
        model.rewind(sequence, 0);
        let begin = Instant::now();
        let mut token = self.prompt[0];
        for _ in 0..self.new_tokens {
            token = model.decode(sequence, token, Asked::TOP, host).await?.token;
        }
        let decode_seconds = begin.elapsed().as_secs_f64();
        model.close(sequence);
        Ok(Rates {
            prefill: self.prompt.len() as f64 / prefill_seconds,
            decode: f64::from(self.new_tokens) / decode_seconds,
        })
    }
}

/// Generates the model's most likely tokens; returns the milliseconds of each step.
async fn decode(
    model: &mut AnyModel,
    sequence: SequenceId,
    mut prediction: Prediction,
    steps: u32,
    host: &dyn Host,
) -> Result<Vec<f64>, EngineError> {
    let mut steps_ms = Vec::new();
    for _ in 0..steps {
        let begin = Instant::now();
        prediction = model.decode(sequence, prediction.token, Asked::TOP, host).await?;
        steps_ms.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(steps_ms)
}

impl Sample {
    /// Combines several runs: medians of the rates, percentiles over all steps.
    ///
    /// # Panics
    /// Without any run, or with runs without steps; arguments are checked before.
    pub fn together(samples: &[Self]) -> Run {
        let all_steps: Vec<f64> = samples.iter().flat_map(|sample| sample.steps_ms.iter().copied()).collect();
        let median_by = |value: &dyn Fn(&Self) -> f64| median_of(&samples.iter().map(value).collect::<Vec<_>>());
        Run {
            time_to_first_token_ms: median_by(&|sample| sample.prefill_seconds * 1e3),
            prefill_tokens_per_second: median_by(&|sample| sample.prompt_tokens as f64 / sample.prefill_seconds),
            decode_tokens_per_second: median_by(&|sample| {
                sample.steps_ms.len() as f64 * 1e3 / sample.steps_ms.iter().sum::<f64>()
            }),
            between_tokens_ms: Percentiles::of(&all_steps).expect("at least two new tokens are asked for"),
        }
    }
}

/// The median of measurements, of which there is at least one.
pub fn median_of(values: &[f64]) -> f64 {
    median(values).expect("at least one run is asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_is_within_the_vocabulary_and_varied() {
        let bench = Bench::new(300, 512, 2);
        let distinct: std::collections::HashSet<u32> = bench.prompt.iter().copied().collect();
        assert!(bench.prompt.iter().all(|&token| token < 300));
        assert!(distinct.len() > 250, "{} of 300 tokens occur", distinct.len());
    }

    #[test]
    fn runs_together_are_medians_and_all_their_steps() {
        let sample = |prefill_seconds, steps_ms: &[f64]| Sample {
            prompt_tokens: 10,
            prefill_seconds,
            steps_ms: steps_ms.to_vec(),
        };
        let run =
            Sample::together(&[sample(1.0, &[10.0, 10.0]), sample(2.0, &[20.0, 20.0]), sample(4.0, &[40.0, 40.0])]);
        assert_eq!((run.time_to_first_token_ms, run.prefill_tokens_per_second), (2000.0, 5.0));
        assert_eq!((run.decode_tokens_per_second, run.between_tokens_ms.samples), (50.0, 6));
        assert_eq!(run.between_tokens_ms.p50, 20.0);
    }
}
