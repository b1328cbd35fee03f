//! wasm-bindgen's own test runner, at the version that the lock file has. Built here it shares what the page builder
//! consists of, and goes without TLS: it talks to a driver on this machine.

fn main() -> anyhow::Result<()> {
    wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(std::env::args_os())
}
