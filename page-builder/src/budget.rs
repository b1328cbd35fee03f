//! How large the page's wasm may be. Whoever opens the page waits for every byte of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use gptoss_protocol::units;
use serde::Deserialize;

/// Bytes of one file, as it is and as a host sends it that compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub raw: u64,
    pub gzip: u64,
}

impl Size {
    pub fn of(bytes: &[u8]) -> Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).context("cannot compress")?;
        let gzip = encoder.finish().context("cannot compress")?.len() as u64;
        Ok(Self { raw: bytes.len() as u64, gzip })
    }
}

/// Limits by file name.
pub type Limits = BTreeMap<String, Size>;

pub fn read_limits(path: &Path) -> Result<Limits> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
}

/// A line for each file, for people.
pub fn report(sizes: &BTreeMap<String, Size>, limits: &Limits) -> String {
    let line = |(name, size): (&String, &Size)| {
        let limit = |bytes: fn(&Size) -> u64| limits.get(name).map_or("none".to_owned(), |l| units::bytes(bytes(l)));
        let [raw, gzip] = [size.raw, size.gzip].map(units::bytes);
        format!(
            "{name:<18} {raw} (limit {}), gzip {gzip} (limit {})\n",
            limit(|limit| limit.raw),
            limit(|limit| limit.gzip)
        )
    };
    sizes.iter().map(line).collect()
}

/// Fails with all that is over its limit, has none, or has one without being there.
pub fn check(sizes: &BTreeMap<String, Size>, limits: &Limits, limits_file: &str) -> Result<()> {
    for name in limits.keys() {
        ensure!(sizes.contains_key(name), "{limits_file} limits {name}, which is not part of the page");
    }
    let mut over = Vec::new();
    for (name, size) in sizes {
        let limit = limits.get(name).with_context(|| format!("{limits_file} has no limit for {name}"))?;
        for (kind, bytes, limit) in [("raw", size.raw, limit.raw), ("gzip", size.gzip, limit.gzip)] {
            if bytes > limit {
                over.push(format!("{name} is {bytes} bytes ({kind}), {} over its limit of {limit}", bytes - limit));
            }
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nFind what made it grow (a dependency, a feature of one, generic code) and make it smaller; if it is worth \
         its bytes, raise the limit in {limits_file} in the same commit and say there what the bytes are for.",
        over.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, raw: u64, gzip: u64) -> BTreeMap<String, Size> {
        BTreeMap::from([(name.to_owned(), Size { raw, gzip })])
    }

    #[test]
    fn a_file_may_be_as_large_as_its_limit_and_no_larger() {
        let limits = one("a.wasm", 100, 40);
        check(&one("a.wasm", 100, 40), &limits, "limits").expect("at the limit");
        for (raw, gzip, said) in [(101, 40, "101 bytes (raw), 1 over its limit of 100"), (100, 45, "(gzip), 5 over")] {
            let error = check(&one("a.wasm", raw, gzip), &limits, "limits").expect_err("over").to_string();
            assert!(error.contains("a.wasm") && error.contains(said) && error.contains("raise the limit"), "{error}");
        }
    }

    #[test]
    fn files_and_limits_belong_together() {
        let error = check(&one("a.wasm", 1, 1), &Limits::new(), "limits").expect_err("no limit");
        assert!(error.to_string().contains("no limit for a.wasm"), "{error}");
        let error = check(&BTreeMap::new(), &one("b.wasm", 1, 1), "limits").expect_err("no file");
        assert!(error.to_string().contains("b.wasm"), "{error}");
    }

    #[test]
    fn sizes_are_those_of_the_bytes() {
        let size = Size::of(&vec![7; 100_000]).expect("size");
        assert_eq!(size.raw, 100_000);
        assert!(size.gzip < 1000, "{size:?}");
    }
}
