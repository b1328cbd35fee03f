//! The gate: no figure that can be had without a GPU may be worse than in `costs.json`.
#![cfg(target_os = "linux")] // where RADV is

use std::process::Command;

#[test]
fn nothing_is_worse_than_kept() {
    let output = Command::new(env!("CARGO_BIN_EXE_gptoss-costs")).arg("--compare").output().expect("the program runs");
    let [told, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    print!("{told}");
    let advice = "`cargo xtask shader-costs` shows the figures, `cargo xtask shader-costs --update` keeps them";
    assert!(output.status.success(), "{told}{errors}\n{advice}");
}
