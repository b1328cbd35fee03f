//! The page's program; `cargo xtask page` builds it, and index.html starts it.

#[cfg(target_arch = "wasm32")]
fn main() {
    gptoss_page::run();
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("this program runs in a browser: build it with `cargo xtask page`");
}
