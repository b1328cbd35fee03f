//! What all options together say, typed.

use serde::{Deserialize, Serialize};

use crate::{ExpertLoading, LoadSettings, Prompt};

/// Everything that can be chosen. Rows of [`super::OPTIONS`] set its fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Address of the model; empty where none is chosen.
    pub gguf: String,
    pub load: LoadSettings,
    pub prompt: Prompt,
    /// Threads of the CPU backend; `None`: as many as the machine has.
    pub threads: Option<u32>,
    /// The page begins to load by itself.
    pub autostart: bool,
    /// Greedy (`false`) or not; `None`: as the temperature says.
    pub sample: Option<bool>,
    /// The date that `today` means, given by whoever has a clock.
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
