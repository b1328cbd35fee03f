//! Which experts the tokens of a run chose, and which a pager could have guessed one layer earlier.

use gptoss_model::ops::router::Route;

/// The routes of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchRoutes {
    /// Routes of each layer that was run, in order.
    pub layers: Vec<LayerRoutes>,
}

/// The routes of one batch in one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerRoutes {
    /// Chosen experts, [rows, experts_per_token], most likely first.
    pub chosen: Vec<u32>,
    /// Experts that the next layer's router would choose for the residual stream before this layer's experts are added,
    /// [rows, experts_per_token]; empty for the last layer.
    pub likely_next: Vec<u32>,
}

/// Records the routes of every computed batch.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    batches: Vec<BatchRoutes>,
}

impl Recorder {
    pub fn begin_batch(&mut self) {
        self.batches.push(BatchRoutes::default());
    }

    /// Drops the latest batch, which was not computed to its end.
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
