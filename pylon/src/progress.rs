//! Progress bars on standard error, for people only: where standard error is no terminal nothing is drawn.

use std::fmt::Write;

use gptoss_protocol::units;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar over `total_bytes`. It disappears when it is done, so that results stay readable.
pub fn bytes(what: &'static str, total_bytes: u64) -> ProgressBar {
    // The crate's own format of sizes has other units than everything else here.
    let amount = |state: &ProgressState, out: &mut dyn Write| {
        let (done, rate) = (units::bytes(state.pos()), units::bytes_per_second(state.per_sec()));
        // A bar that is not drawn is no reason to fail.
        let _ = write!(out, "{done} of {}, {rate}", units::bytes(state.len().unwrap_or_default()));
    };
    let style = ProgressStyle::with_template("{msg} {bar:40} {amount} {eta}")
        .expect("the template is a constant and well-formed")
        .with_key("amount", amount);
    ProgressBar::new(total_bytes).with_style(style).with_message(what)
}
