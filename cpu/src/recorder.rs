//! Which experts the tokens of a run chose, and which a pager could have guessed one layer earlier.

use gptoss_model::ops::router::Route;

/// The routes of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchRoutes {
    pub layers: Vec<LayerRoutes>,
}

/// The routes of one batch in one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerRoutes {
    /// [rows, experts_per_token], most likely first.
    pub chosen: Vec<u32>,
    /// [rows, experts_per_token]: what the next layer's router makes of the residual stream before this layer's experts have added
    /// to it; empty for the last layer.
    pub likely_next: Vec<u32>,
}

/// Keeps the routes of every batch that is computed.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    batches: Vec<BatchRoutes>,
}

impl Recorder {
    pub fn begin_batch(&mut self) {
        self.batches.push(BatchRoutes::default());
    }

    /// The batch that began last was not computed to its end.
    pub fn drop_batch(&mut self) {
        self.batches.pop();
    }

    pub fn add_layer(&mut self, chosen: &[Route], likely_next: &[Route]) {
        let experts = |routes: &[Route]| routes.iter().map(|route| route.expert).collect();
        let layer = LayerRoutes { chosen: experts(chosen), likely_next: experts(likely_next) };
        self.batches.last_mut().expect("a batch began").layers.push(layer);
    }

    pub fn take(&mut self) -> Vec<BatchRoutes> {
        std::mem::take(&mut self.batches)
    }
}
