//! The worker's program; `cargo xtask page` builds it, and the page starts it.

#[cfg(target_arch = "wasm32")]
fn main() {
    gptoss_worker::run();
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("this program runs in a browser: build it with `cargo xtask page`");
}
