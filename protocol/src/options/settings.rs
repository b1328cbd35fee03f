//! What all options together say, typed.

use serde::{Deserialize, Serialize};

use crate::{ExpertLoading, LoadSettings, Prompt};

/// Every choice of the user. Rows of [`super::OPTIONS`] set its fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Address of the model; empty where none is chosen.
    pub gguf: String,
    /// How to load the model.
    pub load: LoadSettings,
    /// What to answer, and how.
    pub prompt: Prompt,
    /// Threads of the CPU backend; `None` uses as many as the machine has.
    pub threads: Option<u32>,
    /// Whether the page begins to load by itself.
    pub autostart: bool,
    /// Whether to sample (`true`) or be greedy (`false`); `None` leaves it to the temperature.
    pub sample: Option<bool>,
    /// Date that `today` means, set by the caller, who has a clock.
    pub today: String,
}

impl Settings {
    /// The page's defaults: an answer of a size to be read, begun as early as possible.
    pub fn page() -> Self {
        let mut settings = Self::default();
        settings.load.engine.experts = ExpertLoading::AsNeeded;
        settings.prompt.max_new_tokens = 512;
        settings
    }

    /// Pylon's defaults.
    pub fn pylon() -> Self {
        let mut settings = Self::default();
        settings.prompt.max_new_tokens = 1024;
        settings
    }
}
