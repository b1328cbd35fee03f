//! What `deny.toml` says of dependencies, checked without cargo-deny and without a download: licences by `cargo metadata` for this
//! machine and for wasm, versions that come twice and sources by the lock files.
//!
//! Known faults (advisories) are in a database that has to be fetched, so that they are not looked at here; the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;

use gptoss_tests::cargo_graph::{CargoGraph, Package, WASM, host};
use gptoss_tests::workspace_root;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use spdx::{Expression, ParseMode};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
struct Skip {
    /// `name@version`.
    #[serde(rename = "crate")]
    name_and_version: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
    allow_git: Vec<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Clone, Deserialize)]
struct Locked {
    name: String,
    version: String,
    /// `None` for packages of this repository.
    source: Option<String>,
}

fn read<T: DeserializeOwned>(path: &str) -> T {
    let text = fs::read_to_string(workspace_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn deny() -> Deny {
    read("deny.toml")
}

/// Packages whose licence is not allowed, with that licence.
fn refused<'a>(packages: impl IntoIterator<Item = &'a Package>, licenses: &Licenses) -> BTreeSet<String> {
    let is_refused = |package: &&Package| {
        let Some(expression) = &package.license else { return true };
        // Some old manifests have a slash in place of OR.
        let Ok(expression) = Expression::parse_mode(expression, ParseMode::LAX) else { return true };
        let exceptions = licenses.exceptions.iter().filter(|exception| exception.name == package.name);
        let allowed: Vec<_> = exceptions.flat_map(|exception| &exception.allow).chain(&licenses.allow).collect();
        !expression.evaluate(|wanted| allowed.iter().any(|license| **license == wanted.to_string()))
    };
    let refused = packages.into_iter().filter(is_refused);
    refused.map(|package| format!("{} {}: {:?}", package.name, package.version, package.license)).collect()
}

/// What is wrong with the list of versions that come beside another one of the same crate.
fn wrong_duplicates(locked: &[Locked], skips: &[Skip]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in locked {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let listed: BTreeSet<&str> = skips.iter().map(|skip| skip.name_and_version.as_str()).collect();
    let mut wrong = Vec::new();
    for (name, versions) in &versions {
        let unlisted: Vec<_> =
            versions.iter().filter(|version| !listed.contains(format!("{name}@{version}").as_str())).collect();
        if versions.len() > 1 && unlisted.len() != 1 {
            wrong.push(format!("{name} {versions:?}: all versions but one are to be listed"));
        }
    }
    for skip in skips {
        let found =
            skip.name_and_version.split_once('@').and_then(|(name, version)| Some((versions.get(name)?, version)));
        if !found.is_some_and(|(versions, version)| versions.len() > 1 && versions.contains(version)) {
            wrong.push(format!("{}: is listed and does not come twice", skip.name_and_version));
        }
        if skip.reason.is_empty() {
            wrong.push(format!("{}: has no reason", skip.name_and_version));
        }
    }
    wrong
}

#[test]
fn every_licence_is_allowed() {
    let licenses = deny().licenses;
    let mut looked_at = 0;
    for target in [host().expect("rustc").as_str(), WASM] {
        let graph = CargoGraph::read(target).expect("cargo metadata");
        let foreign: Vec<_> = graph.foreign_packages().collect();
        assert_eq!(refused(foreign.iter().copied(), &licenses), BTreeSet::new(), "licences for {target}");
        looked_at += foreign.len();
    }
    assert!(looked_at > 200, "{looked_at} packages: this check looks at nothing");
    // Not by `println!`, which is shown of tests that fail only.
    let aloud = "NOT TESTED HERE: advisories (known faults, crates without a maintainer), which need RustSec's database: \
                 cargo deny check advisories\n\
                 NOT TESTED HERE: licences of crates for other systems than this one and wasm: cargo deny check licenses\n";
    std::io::stderr().write_all(aloud.as_bytes()).expect("standard error is there");
}

#[test]
fn every_version_that_comes_twice_is_listed_with_its_reason() {
    let lock: Lock = read("Cargo.lock");
    assert_eq!(wrong_duplicates(&lock.package, &deny().bans.skip), Vec::<String>::new());
}

#[test]
fn every_crate_comes_from_where_it_may() {
    let sources = deny().sources;
    assert_eq!(sources.allow_git, Vec::<String>::new(), "a git source would need a reason");
    let allowed: Vec<_> = sources.allow_registry.iter().map(|url| format!("registry+{url}")).collect();
    for path in ["Cargo.lock", "range-server/fuzz/Cargo.lock"] {
        let lock: Lock = read(path);
        let foreign: Vec<_> = lock.package.iter().filter_map(|package| package.source.clone()).collect();
        assert!(!foreign.is_empty(), "{path} names no source: this check looks at nothing");
        let other: BTreeSet<_> = foreign.iter().filter(|source| !allowed.contains(source)).collect();
        assert_eq!(other, BTreeSet::new(), "in {path}");
    }
}

#[test]
fn a_licence_that_is_not_allowed_is_found() {
    let licenses = Licenses {
        allow: vec!["MIT".into(), "ISC".into(), "Apache-2.0".into()],
        exceptions: vec![Exception { name: "excepted".into(), allow: vec!["MPL-2.0".into()] }],
    };
    let refused_of = |name: &str, license: Option<&str>| {
        let package = serde_json::json!({
            "id": name, "name": name, "version": "1.0.0", "license": license, "dependencies": [], "source": "a registry",
        });
        let package: Package = serde_json::from_value(package).expect("a package");
        !refused([&package], &licenses).is_empty()
    };
    for fine in ["MIT", "MIT/GPL-3.0", "GPL-3.0-only OR MIT", "Apache-2.0 AND (ISC OR GPL-3.0-only)"] {
        assert!(!refused_of("crate", Some(fine)), "{fine}");
    }
    for bad in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "MPL-2.0", "", "no licence"] {
        assert!(refused_of("crate", Some(bad)), "{bad}");
    }
    assert!(refused_of("crate", None), "no licence at all");
    assert!(!refused_of("excepted", Some("MPL-2.0")));
}

#[test]
fn versions_that_are_not_listed_and_lists_that_are_old_are_found() {
    let package = |name: &str, version: &str| Locked { name: name.into(), version: version.into(), source: None };
    let skip = |name: &str| Skip { name_and_version: name.into(), reason: "a reason".into() };
    let locked = [package("one", "1.0.0"), package("two", "1.0.0"), package("two", "2.0.0"), package("two", "3.0.0")];
    assert_eq!(wrong_duplicates(&locked, &[skip("two@1.0.0"), skip("two@2.0.0")]), Vec::<String>::new());
    for skips in [
        vec![],
        vec![skip("two@1.0.0")],
        vec![skip("two@1.0.0"), skip("two@2.0.0"), skip("two@3.0.0")],
        vec![skip("two@1.0.0"), skip("two@2.0.0"), skip("one@1.0.0")],
        vec![skip("two@1.0.0"), skip("two@2.0.0"), skip("gone@1.0.0")],
        vec![skip("two@1.0.0"), Skip { name_and_version: "two@2.0.0".into(), reason: String::new() }],
    ] {
        let names: Vec<_> = skips.iter().map(|skip| skip.name_and_version.clone()).collect();
        assert!(!wrong_duplicates(&locked, &skips).is_empty(), "{names:?}");
    }
}
