//! What all options together say, typed.

use serde::{Deserialize, Serialize};

use crate::conversation::Function;
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
    /// Whether every question stands alone, without what was said before.
    pub alone: bool,
    /// Functions that the model may call, as JSON; empty for none. [`Settings::read_functions`] reads it.
    pub functions: String,
    /// Threads of the CPU backend; `None` uses as many as the machine has.
    pub threads: Option<u32>,
    /// Whether the page begins to load by itself.
    pub autostart: bool,
    /// Address of a recording that the page shows; empty for none.
    pub recording: String,
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

    /// The functions that the model may call.
    ///
    /// # Errors
    /// What is wrong with the JSON, in words for the user.
    pub fn read_functions(&self) -> Result<Vec<Function>, String> {
        if self.functions.trim().is_empty() {
            return Ok(Vec::new());
        }
        let expected = "a JSON list of {\"name\", \"description\", \"parameters\"}";
        serde_json::from_str(&self.functions).map_err(|error| format!("{expected}; {error}"))
    }
}
