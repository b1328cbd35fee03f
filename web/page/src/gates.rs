//! The gate page's program, for those who open /ml-inference; `cargo xtask page` builds it, and index.html starts it.

#[cfg(target_arch = "wasm32")]
fn main() {
    gptoss_page::run_gates();
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("this program runs in a browser: build it with `cargo xtask page`");
}
