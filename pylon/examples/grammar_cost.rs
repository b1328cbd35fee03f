//! What a grammar costs while tokens are decoded: the same tokens with it and without it, in turns, on the CPU.
//!
//! ```text
//! cargo run --release -p pylon --example grammar_cost -- FILE [ROUNDS [THREADS]]
//! ```
//!
//! *Any text* is a prompt with a function that is strict: the greedy answer, which does not call it, against the same answer
//! without a grammar. *JSON* is an answer with a schema; against it stands a run with the masks
//! of the answer before: all is the same but for working them out. Times are of the tokens after the first, as `Finished` has them.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

use gptoss_cpu::{CpuModel, CpuOptions};
use gptoss_grammar::Grammars;
use gptoss_model::{AllowedTokens, Engine, EngineError, Host, Quiet, Restriction, Restrictions, StageError, tokenizer};
use gptoss_protocol::{AnswerShape, CallShape, Event, Prompt, Sampling, TextShape};
use serde_json::json;

/// Hears at which rate an answer was decoded.
#[derive(Default)]
struct Clock(RefCell<Option<f64>>);

impl Host for Clock {
    fn emit(&self, event: Event) {
        if let Event::Finished { decode_tokens_per_second, .. } = event {
            *self.0.borrow_mut() = decode_tokens_per_second;
        }
    }

    fn cancelled(&self) -> bool {
        false
    }
}

/// What was allowed at each place of an answer.
type Masks = Rc<RefCell<Vec<AllowedTokens>>>;

/// Grammars that keep what they allow.
struct Recorded {
    grammars: Grammars,
    masks: Masks,
}

struct Recording {
    restriction: Box<dyn Restriction>,
    masks: Masks,
}

impl Restrictions for Recorded {
    fn begin(&self, shape: &AnswerShape) -> Result<Box<dyn Restriction>, EngineError> {
        self.masks.borrow_mut().clear();
        Ok(Box::new(Recording { restriction: self.grammars.begin(shape)?, masks: Rc::clone(&self.masks) }))
    }
}

impl Restriction for Recording {
    fn accept(&mut self, token: u32) {
        self.restriction.accept(token);
    }

    fn allowed(&mut self) -> Result<AllowedTokens, EngineError> {
        let allowed = self.restriction.allowed()?;
        self.masks.borrow_mut().push(allowed.clone());
        Ok(allowed)
    }
}

/// Allows what was recorded, and works nothing out.
struct Replayed(Masks);

struct Replaying {
    masks: Masks,
    at: usize,
}

impl Restrictions for Replayed {
    fn begin(&self, _shape: &AnswerShape) -> Result<Box<dyn Restriction>, EngineError> {
        Ok(Box::new(Replaying { masks: Rc::clone(&self.0), at: 0 }))
    }
}

impl Restriction for Replaying {
    fn accept(&mut self, _token: u32) {
        self.at += 1;
    }

    fn allowed(&mut self) -> Result<AllowedTokens, EngineError> {
        Ok(self.masks.borrow()[self.at].clone())
    }
}

/// The tokens of an answer, and the milliseconds that each took.
async fn timed(engine: &mut Engine<CpuModel>, prompt: &Prompt) -> Result<(Vec<u32>, f64), StageError> {
    let clock = Clock::default();
    let answer = engine.answer(prompt, &clock).await?;
    let rate = clock.0.into_inner().unwrap_or(f64::NAN);
    Ok((answer.tokens, 1e3 / rate))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, rest @ ..] = &arguments[..] else { return Err("expected FILE [ROUNDS [THREADS]]".into()) };
    let rounds: usize = rest.first().map_or(Ok(15), |rounds| rounds.parse())?;
    let threads = rest.get(1).map(|threads| threads.parse()).transpose()?;
    pollster::block_on(async {
        let model = CpuModel::open(file.as_ref(), &CpuOptions { threads, ..CpuOptions::default() }, &Quiet).await?;
        let text = tokenizer(model.gguf())?;
        let mut engine = Engine::new(model, text);
        let masks = Masks::default();
        let grammars = Grammars::new(&engine.tokenizer);
        let recorded: Rc<dyn Restrictions> = Rc::new(Recorded { grammars, masks: Rc::clone(&masks) });
        let replayed: Rc<dyn Restrictions> = Rc::new(Replayed(masks));
        let schema = json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"], "additionalProperties": false});
        let call = CallShape { name: "look_up".into(), input: TextShape::JsonSchema(schema.clone()) };
        let free = AnswerShape { answer: Some(TextShape::Any), calls: vec![call] };
        let json = AnswerShape { answer: Some(TextShape::JsonSchema(schema)), calls: Vec::new() };
        println!("| | temperature | tokens | without, ms | with, ms | |\n|---|---|---|---|---|---|");
        'kinds: for (name, shape, temperature, is_replayed) in
            [("any text", &free, 0.0, false), ("JSON", &json, 0.0, true), ("JSON", &json, 1.0, true)]
        {
            let prompt = |seed| Prompt {
                user: "Write a poem about the sea.".into(),
                max_new_tokens: 200,
                sampling: Sampling { temperature, seed, ..Sampling::default() },
                ..Prompt::default()
            };
            let shaped = |seed| Prompt { shape: Some(Box::new(shape.clone())), ..prompt(seed) };
            let (mut with, mut without, mut tokens) = (Vec::new(), Vec::new(), 0);
            for round in 0..rounds as u64 {
                engine.restrictions = Some(Rc::clone(&recorded));
                let (said, took) = timed(&mut engine, &shaped(round)).await?;
                engine.restrictions = Some(Rc::clone(&replayed));
                let compared = if is_replayed { shaped(round) } else { prompt(round) };
                let (again, took_without) = timed(&mut engine, &compared).await?;
                if said != again {
                    // Random weights write no chat, whose grammar then changes what is said.
                    println!("| {name} | {temperature} | | the answers differ: their times say nothing | | |");
                    continue 'kinds;
                }
                tokens += said.len();
                with.push(took);
                without.push(took_without);
            }
            let (with, without) = (median(&mut with), median(&mut without));
            let (count, more) = (tokens / rounds, (with / without - 1.0) * 100.0);
            println!("| {name} | {temperature} | {count} | {without:.4} | {with:.4} | {more:+.1} % |");
        }
        Ok(())
    })
}
