//! What is told of a batch to those who watch it.

use gptoss_model::{Host, routes_of_layer};
use gptoss_protocol::{Event, Residual, Route, Routes, Watch};

use crate::forward::Scratch;

/// Collects what is watched while a batch goes through the layers.
pub(crate) struct Watching {
    watch: Watch,
    /// Width of the residual stream.
    hidden: usize,
    routes: Vec<Vec<Route>>,
    norms: Vec<f32>,
}

impl Watching {
    pub fn new(watch: Watch, hidden: u32) -> Self {
        Self { watch, hidden: hidden as usize, routes: Vec::new(), norms: Vec::new() }
    }

    /// The batch is in the residual stream.
    pub fn embedded(&mut self, scratch: &Scratch) {
        if self.watch.residual {
            let last = &scratch.x[scratch.x.len() - self.hidden..];
            let squares: f64 = last.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            self.norms.push(squares.sqrt() as f32);
        }
    }

    /// The batch went through another layer.
    pub fn went_through(&mut self, scratch: &Scratch) {
        if self.watch.routes {
            self.routes.push(routes_of_layer(scratch.routes()));
        }
        self.embedded(scratch);
    }

    /// Tells it of a batch of `tokens` tokens, the last of which is at `position`.
    pub fn tell(self, position: u32, tokens: u32, host: &dyn Host) {
        if self.watch.routes {
            host.emit(Event::Routes(Routes { position, tokens, layers: self.routes }));
        }
        if self.watch.residual {
            host.emit(Event::Residual(Residual { position, norms: self.norms }));
        }
    }
}
