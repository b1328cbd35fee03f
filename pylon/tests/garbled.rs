//! Files whose bytes make no sense: `infer` and `verify` say so; and who vouches for a file without a fault.

#[path = "../../gguf/tests/gguf/garble.rs"]
mod garble;

use crate::support::{Folder, nano, nano_bytes, run};
use garble::Garble;
use sha2::{Digest, Sha256};

const FAULTS: [(&str, Garble, usize); 5] = [
    ("shifted", Garble::Skip(4), 65_536),
    ("late", Garble::Skip(4), 2_900_000),
    ("zeros", Garble::Fill(0), 1_000_001),
    ("page", Garble::Html, 2_000_000),
    ("restart", Garble::Restart, 500_000),
];

#[test]
fn a_garbled_file_is_no_model_and_not_sound() {
    let folder = Folder::new();
    let whole = nano_bytes();
    for (name, fault, from) in FAULTS {
        let path = folder.write(&format!("{name}.gguf"), &fault.apply(&whole, from, whole.len()));
        let infer = run(&["infer", "--backend", "cpu", "--gguf", &path, "--prompt", "What is 2+3?"]).expect(1);
        let words = [&path, "is damaged", "at byte", "expected", "got", "download the file again"];
        assert!(words.iter().all(|word| infer.stderr.contains(word)) && infer.stdout.is_empty(), "{}", infer.stderr);
        let verify = run(&["gguf", "verify", &path, "--json"]).expect(1).json();
        let checks = verify["checks"].as_array().unwrap();
        let sense = checks.iter().find(|check| check["check"] == "sense").expect("looked at");
        assert_eq!((&sense["ok"], &verify["vouched_for"]), (&false.into(), &false.into()), "{name}: {verify}");
        assert!(sense["problems"][0].as_str().unwrap().contains("makes no sense at byte"), "{sense}");
    }
}

#[test]
fn nothing_is_called_sound_that_nobody_vouches_for() {
    let verdict = |arguments: &[&str], code| {
        let all = [&["gguf", "verify"], arguments].concat();
        run(&all).expect(code).stdout.lines().last().expect("a verdict").to_owned()
    };
    let alone = verdict(&[nano()], 0);
    assert!(
        alone.ends_with(": no fault found, unverified: nothing vouches for these bytes (no published hash)"),
        "{alone}"
    );

    let whole = nano_bytes();
    let hash: String = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
    let given = verdict(&[nano(), "--sha256", &hash.to_uppercase()], 0);
    assert!(given.ends_with(": sound: matches the published hash (--sha256)"), "{given}");
    let other = run(&["gguf", "verify", nano(), "--sha256", &"0".repeat(64)]).expect(1).stdout;
    assert!(other.contains("FAIL  hash") && other.contains(&format!("has SHA-256 {hash}; expected 0000")), "{other}");
    assert!(other.ends_with(": not sound\n"), "{other}");
    run(&["gguf", "verify", nano(), "--sha256", "12"]).expect(2);
    run(&["gguf", "verify", nano(), "--sha256", &hash, &hash]).expect(2);

    let folder = Folder::new();
    let path = folder.write("m.gguf", &whole);
    folder.write("m.gguf.sha256", format!("{hash}  m.gguf\n").as_bytes());
    let beside = verdict(&[&path], 0);
    assert!(beside.ends_with("m.gguf.sha256)") && beside.contains(": sound: "), "{beside}");
}
