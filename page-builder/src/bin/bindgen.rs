//! wasm-bindgen's own program, for trunk, at the version that the lock file has.

fn main() -> anyhow::Result<()> {
    wasm_bindgen_cli::wasm_bindgen::run_cli_with_args(std::env::args_os())
}
