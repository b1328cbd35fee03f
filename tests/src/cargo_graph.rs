//! The dependency graph, as `cargo metadata` reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace_root;

/// Packages of the workspace and of everything they depend on.
#[derive(Debug)]
pub struct CargoGraph {
    packages: Vec<Package>,
    /// Package id → ids it depends on when built (not for its tests), on the platforms asked for.
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// One package as its manifest has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    id: String,
    /// Name of the package.
    pub name: String,
    /// Version in the lock file.
    pub version: String,
    /// An SPDX expression; `None` where the manifest has none.
    pub license: Option<String>,
    /// `None` for the workspace's own packages.
    source: Option<String>,
    /// Direct dependencies.
    pub dependencies: Vec<Dependency>,
    /// What it builds.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// A library, a program, a test.
#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    /// Name of the file or crate that it builds.
    pub name: String,
    /// What sort of target it is, such as `bin` or `test`; a library can be of several.
    pub kind: Vec<String>,
}

/// One line of a manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// Name of the package that is depended on.
    pub name: String,
    /// Version requirement, such as `^1` or `=0.2.130`.
    #[serde(rename = "req")]
    pub requirement: String,
    kind: Option<String>,
}

impl Dependency {
    /// Needed to build the package, not only its tests.
    pub fn is_for_building(&self) -> bool {
        self.kind.as_deref() != Some("dev")
    }
}

/// The page's target.
pub const WASM: &str = "wasm32-unknown-unknown";

/// The triple of this machine, as rustc names it.
pub fn host() -> Result<String> {
    let output = Command::new("rustc").args(["-vV"]).output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout).context("rustc printed something that is not UTF-8")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.with_context(|| format!("rustc -vV names no host: {text}"))?.to_owned())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl CargoGraph {
    /// Asks cargo for the graph on one target: a triple, such as [`WASM`] or what [`host`] gives. Only targets that are
    /// built anyway, so that nothing has to be downloaded for the question.
    ///
    /// # Errors
    /// When cargo cannot be run, fails (its message is passed on), or prints something unexpected.
    pub fn read(target: &str) -> Result<Self> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace_root()).args(["metadata", "--format-version", "1", "--filter-platform", target]);
        let output = cargo.output().context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("cargo metadata printed something unexpected")?;
        let edges = metadata.resolve.nodes.into_iter().map(|node| {
            let needed = |dependency: &NodeDependency| {
                dependency.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"))
            };
            (node.id, node.deps.into_iter().filter(needed).map(|dependency| dependency.pkg).collect())
        });
        Ok(Self { edges: edges.collect(), packages: metadata.packages })
    }

    /// The workspace's own packages.
    pub fn own_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_none())
    }

    /// Packages from elsewhere that the workspace's own need on the target, their tests included.
    pub fn foreign_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_some())
    }

    /// Every version of `name` in the graph.
    pub fn versions_of(&self, name: &str) -> Vec<&str> {
        self.packages.iter().filter(|package| package.name == name).map(|package| package.version.as_str()).collect()
    }

    /// Names of all packages that building `name` needs, directly or not, each with the way that leads to it.
    pub fn needed_by(&self, name: &str) -> BTreeMap<String, String> {
        let names: BTreeMap<_, _> =
            self.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
        let mut ways = BTreeMap::new();
        let start = self.own_packages().filter(|package| package.name == name);
        let mut open: Vec<(&str, String)> = start.map(|package| (package.id.as_str(), package.name.clone())).collect();
        let mut seen = BTreeSet::new();
        while let Some((id, way)) = open.pop() {
            for next in self.edges.get(id).into_iter().flatten().filter(|next| seen.insert(next.as_str())) {
                let next_name = names.get(next.as_str()).copied().unwrap_or(next);
                let next_way = format!("{way} → {next_name}");
                ways.insert(next_name.to_owned(), next_way.clone());
                open.push((next, next_way));
            }
        }
        ways
    }
}
