//! Somebody who watches batches, and what the scalar reference says that he should see. Shared by the tests of both backends.
#![allow(dead_code, reason = "each test target uses a part of it")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use gptoss_model::reference::{ReferenceModel, Trace};
use gptoss_model::{Asked, Backend, Host};
use gptoss_protocol::{AttentionRow, Event, Residual, Routes, Watch};
use gptoss_source::MemorySource;

/// A host that watches, and keeps what it hears.
#[derive(Default)]
pub struct Watcher {
    pub watch: Cell<Watch>,
    pub events: RefCell<Vec<Event>>,
}

impl Watcher {
    pub fn of(watch: Watch) -> Self {
        Self { watch: Cell::new(watch), ..Self::default() }
    }

    pub fn routes(&self) -> Vec<Routes> {
        self.all(|event| if let Event::Routes(it) = event { Some(it.clone()) } else { None })
    }

    pub fn residuals(&self) -> Vec<Residual> {
        self.all(|event| if let Event::Residual(it) = event { Some(it.clone()) } else { None })
    }

    pub fn attention(&self) -> Vec<AttentionRow> {
        self.all(|event| if let Event::Attention(it) = event { Some(it.clone()) } else { None })
    }

    pub fn all<T>(&self, which: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.events.borrow().iter().filter_map(which).collect()
    }
}

impl Host for Watcher {
    fn emit(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn watch(&self) -> Watch {
        self.watch.get()
    }
}

/// A prompt, read in batches, and tokens that follow one by one.
#[derive(Clone, Copy)]
pub struct Script {
    pub prompt: u32,
    pub single: u32,
    /// Most rows of a batch.
    pub batch: u32,
}

impl Script {
    pub fn tokens(&self) -> Vec<u32> {
        (0..self.prompt + self.single).map(|at| (at * 37 + 5) % 1200).collect()
    }

    /// What the specification does, token by token.
    pub async fn traces(&self, file: &[u8]) -> Vec<Trace> {
        let source = MemorySource::new("model", file.to_vec());
        let reference = ReferenceModel::load(&source, false).await.expect("a valid file");
        let mut sequence = reference.open();
        self.tokens().into_iter().map(|token| reference.trace(&mut sequence, token)).collect()
    }

    /// Runs all of it; returns what is predicted.
    pub async fn run(&self, model: &mut impl Backend, host: &Watcher) -> Vec<u32> {
        let tokens = self.tokens();
        let sequence = model.open().expect("a sequence");
        let (prompt, single) = tokens.split_at(self.prompt as usize);
        let prediction = model.prefill(sequence, prompt, Asked::TOP, host, |_| {}).await.expect("a prediction");
        let mut predicted = vec![prediction.token];
        for &token in single {
            predicted.push(model.decode(sequence, token, Asked::TOP, host).await.expect("a prediction").token);
        }
        predicted
    }

    /// Positions of the last tokens of all batches, with how many tokens they have.
    pub fn batches(&self) -> Vec<(u32, u32)> {
        let of_prompt = (0..self.prompt).step_by(self.batch as usize).map(|first| {
            let tokens = self.batch.min(self.prompt - first);
            (first + tokens - 1, tokens)
        });
        of_prompt.chain((self.prompt..self.prompt + self.single).map(|position| (position, 1))).collect()
    }

    /// Experts exactly, and their weights; of prompts, sums over their tokens.
    pub fn routes_are_those_of(&self, traces: &[Trace], told: &[Routes], what: &str) {
        let places: Vec<_> = told.iter().map(|routes| (routes.position, routes.tokens)).collect();
        assert_eq!(places, self.batches(), "{what}");
        for Routes { position, tokens, layers } in told {
            let of_batch = &traces[(position + 1 - tokens) as usize..=*position as usize];
            assert_eq!(layers.len(), traces[0].routes.len());
            for (layer, got) in layers.iter().enumerate() {
                let mut want: BTreeMap<u32, (u32, f64)> = BTreeMap::new();
                for route in of_batch.iter().flat_map(|trace| &trace.routes[layer]) {
                    let (tokens, weight) = want.entry(route.expert).or_default();
                    *tokens += 1;
                    *weight += f64::from(route.weight);
                }
                let what = format!("{what}, layer {layer} of the batch that ends at {position}");
                let experts: Vec<_> = got.iter().map(|route| (route.expert, route.tokens)).collect();
                let wanted: Vec<_> = want.iter().map(|(&expert, &(tokens, _))| (expert, tokens)).collect();
                assert_eq!(experts, wanted, "{what}");
                for (route, (tokens, weight)) in got.iter().zip(want.values()) {
                    close(route.weight, *weight, 1e-4 * f64::from(*tokens), &what);
                }
                let total: f64 = got.iter().map(|route| f64::from(route.weight)).sum();
                close(total as f32, f64::from(*tokens), 1e-4, &what);
            }
        }
    }

    /// Keys exactly, their weights within 1e-4; of one head at the end of each batch.
    pub fn rows_are_those_of(&self, traces: &[Trace], told: &[AttentionRow], what: &str) {
        let positions: Vec<_> = told.iter().map(|row| row.position).collect();
        assert_eq!(positions, self.batches().iter().map(|batch| batch.0).collect::<Vec<_>>(), "{what}");
        for AttentionRow { head, position, first_position, weights, sink } in told {
            let want = &traces[*position as usize].attention[head.layer as usize][head.head as usize];
            assert_eq!((*first_position as usize, weights.len()), (want.first, want.weights.len()), "{what}");
            for (at, (&got, &want)) in weights.iter().zip(&want.weights).enumerate() {
                close(got, f64::from(want), 1e-4, &format!("{what}: key {at} at {position}"));
            }
            close(*sink, f64::from(want.sink), 1e-4, &format!("{what}: the sink at {position}"));
            let total: f64 = weights.iter().chain([sink]).map(|&weight| f64::from(weight)).sum();
            close(total as f32, 1.0, 1e-5, &format!("{what}: the sum at {position}"));
        }
    }

    /// Norms of the residual stream, within 1e-4 of each.
    pub fn norms_are_those_of(&self, traces: &[Trace], told: &[Residual], what: &str) {
        let positions: Vec<_> = told.iter().map(|residual| residual.position).collect();
        assert_eq!(positions, self.batches().iter().map(|batch| batch.0).collect::<Vec<_>>(), "{what}");
        for Residual { position, norms } in told {
            let streams = &traces[*position as usize].residual;
            assert_eq!(norms.len(), streams.len());
            for (at, (&got, stream)) in norms.iter().zip(streams).enumerate() {
                let want = stream.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
                close(got, want, 1e-4 * want, &format!("{what}: norm {at} at {position}"));
            }
        }
    }
}

pub fn close(got: f32, want: f64, allowed: f64, what: &str) {
    assert!((f64::from(got) - want).abs() <= allowed, "{what}: {got}, expected {want}");
}
