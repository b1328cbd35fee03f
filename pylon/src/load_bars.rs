//! Bars for what takes long: fetching weights, and running long prompts. Drawn on a terminal only. And a word when
//! the GPU is lost, or when the file has something worth knowing.

use gptoss_protocol::Event;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{note, stderr_is_terminal};
use crate::shortage::shortages;

/// Prompts with fewer tokens are done before anyone looks at a bar.
const LONG_PROMPT_TOKENS: u32 = 256;

/// The progress bar that is shown at the moment.
#[derive(Default)]
pub struct LoadBars {
    weights: Option<ProgressBar>,
    prompt: Option<ProgressBar>,
}

impl LoadBars {
    /// Shows what an event means.
    pub fn follow(&mut self, event: &Event) {
        if let Event::Recovering { attempt, most, reason, .. } = event {
            // The weights are read once more.
            self.clear();
            note(format_args!("pylon: {reason}; loading the model again, attempt {attempt} of {most}"));
        }
        if let Event::FileNote { text } = event {
            note(format_args!("pylon: note: {text}"));
        }
        if let Event::Plan(plan) = event {
            shortages(plan).iter().for_each(|line| note(format_args!("pylon: {line}")));
        }
        if !stderr_is_terminal() {
            return;
        }
        match event {
            Event::Fetch { fetched_bytes, needed_bytes, .. } => {
                let bar = self.weights.get_or_insert_with(|| bar("weights", "{bytes}/{total_bytes}", *needed_bytes));
                bar.set_position(*fetched_bytes);
            }
            Event::Prefill { done_tokens, total_tokens, .. } if *total_tokens >= LONG_PROMPT_TOKENS => {
                let bar =
                    self.prompt.get_or_insert_with(|| bar("prompt", "{pos}/{len} tokens", (*total_tokens).into()));
                bar.set_position(u64::from(*done_tokens));
            }
            Event::Ready { .. } | Event::Token(_) | Event::Failed { .. } => self.clear(),
            _ => {}
        }
    }

    /// Removes what is drawn.
    pub fn clear(&mut self) {
        for bar in [self.weights.take(), self.prompt.take()].into_iter().flatten() {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, count: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {count}, {{eta}} left"))
        .expect("the templates are constants and well-formed");
    ProgressBar::new(total).with_style(style).with_message(what)
}
