//! What Trunk.toml says of the page. trunk reads the same file when it serves the page for development.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Paths are relative to the file they were read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub index: PathBuf,
    pub dist: PathBuf,
    /// What addresses of the page's files begin with.
    pub public_url: String,
}

#[derive(Deserialize)]
struct File {
    build: Build,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    target: PathBuf,
    dist: PathBuf,
    public_url: String,
    filehash: bool,
    minify: String,
    no_sri: bool,
}

impl Config {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not understood", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let File { build } = toml::from_str(text)?;
        let plain = !build.filehash && build.minify == "never" && build.no_sri;
        ensure!(plain, "only filehash = false, minify = \"never\" and no_sri = true are built");
        Ok(Self { index: build.target, dist: build.dist, public_url: build.public_url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../Trunk.toml");

    #[test]
    fn the_projects_own_file_is_understood() {
        let expected =
            Config { index: "index.html".into(), dist: "web/dist".into(), public_url: "/gptoss/".to_owned() };
        assert_eq!(Config::parse(TEXT).expect("Trunk.toml"), expected);
    }

    #[test]
    fn settings_that_only_trunk_follows_are_refused() {
        for (from, to) in [
            ("filehash = false", "filehash = true"),
            ("minify = \"never\"", "minify = \"always\""),
            ("no_sri = true", "no_sri = false"),
            ("no_sri = true", "no_sri = true\ninject_scripts = false"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            Config::parse(&TEXT.replace(from, to)).expect_err(to);
        }
    }
}
