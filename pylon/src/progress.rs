//! Progress bars on standard error, for people only: where standard error is no terminal nothing is drawn.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total_bytes`. It disappears when it is done, so that results stay readable.
pub fn bytes(what: &'static str, total_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}")
        .expect("the template is a constant and well-formed");
    ProgressBar::new(total_bytes).with_style(style).with_message(what)
}
