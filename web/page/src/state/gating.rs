//! Gates beside everything else: they need no model, and change nothing of the one that is loaded.

use gptoss_protocol::Stage;

use super::{Phase, StageState, State, stage_index};

impl State {
    /// The user asked for gates.
    pub(super) fn gates_requested(&mut self) {
        self.accept_inputs();
        (self.failure, self.header, self.stopping) = (None, None, None);
        self.troubles.clear();
        for stage in Stage::LOAD {
            self.stages[stage_index(stage)] = StageState::default();
        }
        self.phase = Phase::Loading;
    }

    /// All gates that were asked for ended.
    pub(super) fn gates_ended(&mut self) {
        self.stopping = None;
        self.troubles.clear();
        self.phase = if self.model_loaded { Phase::Ready } else { Phase::Idle };
    }
}
