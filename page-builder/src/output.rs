//! The page's files, and the folder they are written to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::bindgen::collect;
use crate::budget::Size;
use crate::tags::start_tags;

/// Files by name, which is their path below the page's folder.
#[derive(Debug, Default)]
pub struct Output {
    files: BTreeMap<String, Vec<u8>>,
}

impl Output {
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        match self.files.insert(name.to_owned(), bytes) {
            Some(_) => bail!("two files of the page would be called {name}"),
            None => Ok(()),
        }
    }

    /// Adds what wasm-bindgen made of one program. Snippets of crates that both programs use come with both.
    pub fn add_all(&mut self, files: BTreeMap<String, Vec<u8>>) -> Result<()> {
        for (name, bytes) in files {
            if self.files.get(&name) != Some(&bytes) {
                self.add(&name, bytes)?;
            }
        }
        Ok(())
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Sizes of each wasm file, and of all files together that are there before anything is loaded: those of `worker` are
    /// fetched beside them, and a page that shows a recording needs none of them.
    pub fn sizes(&self, worker: &str) -> Result<BTreeMap<String, Size>> {
        let mut sizes = BTreeMap::new();
        let mut all = Size { raw: 0, gzip: 0 };
        for (name, bytes) in &self.files {
            let size = Size::of(bytes)?;
            if !name.starts_with(worker) {
                all = Size { raw: all.raw + size.raw, gzip: all.gzip + size.gzip };
            }
            if has_extension(name, "wasm") {
                sizes.insert(name.clone(), size);
            }
        }
        sizes.insert(format!("all but the {worker}"), all);
        Ok(sizes)
    }

    /// Makes `folder` hold these files and no others, and gives back their names. What is the same already is left as it
    /// is: gguf-serve is compiled anew whenever one of them is newer than it.
    pub fn write(&self, folder: &Path) -> Result<BTreeSet<String>> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut present = BTreeMap::new();
        collect(folder, "", &mut present)?;
        for name in present.keys().filter(|name| !self.files.contains_key(*name)) {
            fs::remove_file(folder.join(name)).with_context(|| format!("cannot remove {name}"))?;
        }
        for (name, bytes) in self.files.iter().filter(|(name, bytes)| present.get(*name) != Some(*bytes)) {
            let path = folder.join(name);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(self.files.keys().cloned().collect())
    }
}

/// Fails when `index.html` of the page in `folder`, or a script of it, refers to a file that is not there.
pub fn ensure_complete(folder: &Path, names: &BTreeSet<String>, public_url: &str) -> Result<()> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let html = read("index.html")?;
    let mut referred = BTreeMap::new();
    for tag in start_tags(&html)?.iter().filter(|tag| tag.name != "base") {
        let address = tag.attribute("href").or(tag.attribute("src"));
        let name = address.and_then(|address| address.strip_prefix(public_url));
        referred.extend(name.map(|name| (name.to_owned(), "index.html")));
    }
    referred.extend(following(&html, &format!("'{public_url}")).map(|name| (name, "index.html")));
    for script in names.iter().filter(|name| has_extension(name, "js") && !name.contains('/')) {
        let text = read(script)?;
        for before in ["'./", "new URL('"] {
            referred.extend(following(&text, before).map(|name| (name, script.as_str())));
        }
    }
    ensure!(!referred.is_empty(), "index.html refers to no file below {public_url}");
    for (name, by) in &referred {
        ensure!(folder.join(name).is_file(), "{by} refers to {name}, which is not in {}", folder.display());
    }
    Ok(())
}

/// What stands between `before` and the next single quote on the same line: addresses in imports.
fn following<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = String> + 'a {
    text.match_indices(before).filter_map(move |(start, _)| {
        let line = text[start + before.len()..].lines().next()?;
        let (name, _) = line.split_once('\'')?;
        (!name.is_empty()).then(|| name.to_owned())
    })
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_worker_needs_is_not_part_of_what_the_page_needs() {
        let mut output = Output::default();
        for (name, bytes) in [("index.html", 100), ("page_bg.wasm", 2000), ("worker_bg.wasm", 30_000), ("worker.js", 7)]
        {
            output.add(name, vec![0; bytes]).expect("another name");
        }
        let sizes = output.sizes("worker").expect("sizes");
        let raw: Vec<(&str, u64)> = sizes.iter().map(|(name, size)| (name.as_str(), size.raw)).collect();
        assert_eq!(raw, [("all but the worker", 2100), ("page_bg.wasm", 2000), ("worker_bg.wasm", 30_000)]);
        assert_eq!(
            sizes["all but the worker"].gzip,
            Size::of(&[0; 100]).expect("size").gzip + sizes["page_bg.wasm"].gzip
        );
    }

    fn output(files: &[(&str, &str)]) -> Output {
        let mut output = Output::default();
        for (name, text) in files {
            output.add(name, text.as_bytes().to_vec()).expect("a new name");
        }
        output
    }

    #[test]
    fn the_folder_holds_the_page_and_nothing_else() {
        let folder = tempfile::tempdir().expect("temp folder");
        let dist = folder.path().join("web/dist");
        let names = output(&[("a.js", "1"), ("snippets/b/c.js", "2"), ("old.css", "3")]).write(&dist).expect("write");
        assert_eq!(names.len(), 3);
        let before = fs::metadata(dist.join("a.js")).and_then(|file| file.modified()).expect("a.js");
        output(&[("a.js", "1"), ("snippets/b/c.js", "changed")]).write(&dist).expect("write again");
        let mut present = BTreeMap::new();
        collect(&dist, "", &mut present).expect("read");
        let present: Vec<_> = present.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        assert_eq!(present, [("a.js", &b"1"[..]), ("snippets/b/c.js", b"changed")]);
        let after = fs::metadata(dist.join("a.js")).and_then(|file| file.modified()).expect("a.js");
        assert_eq!(before, after, "what did not change is not written");
    }

    #[test]
    fn one_name_cannot_be_two_files() {
        let mut files = output(&[("a.js", "1")]);
        files.add_all(BTreeMap::from([("a.js".to_owned(), b"1".to_vec())])).expect("the same snippet");
        files.add_all(BTreeMap::from([("a.js".to_owned(), b"2".to_vec())])).expect_err("another one");
    }

    #[test]
    fn a_file_that_is_referred_to_and_absent_is_named() {
        let complete = [
            ("index.html", "<link href=\"/p/a.css\"/><script>import init from '/p/page.js';</script>"),
            ("a.css", ""),
            ("page.js", "module_or_path = new URL('page_bg.wasm', import.meta.url);"),
            ("page_bg.wasm", ""),
            ("loader.js", "import init from './worker.js';"),
            ("worker.js", "import * as s from './snippets/s.js';"),
            ("snippets/s.js", ""),
        ];
        let check = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().expect("temp folder");
            let names = output(files).write(folder.path()).expect("write");
            ensure_complete(folder.path(), &names, "/p/")
        };
        check(&complete).expect("complete");
        for (absent, by) in [
            ("a.css", "index.html"),
            ("page.js", "index.html"),
            ("page_bg.wasm", "page.js"),
            ("worker.js", "loader.js"),
            ("snippets/s.js", "worker.js"),
        ] {
            let rest: Vec<_> = complete.iter().copied().filter(|(name, _)| *name != absent).collect();
            let error = check(&rest).expect_err(absent).to_string();
            assert!(error.contains(&format!("{by} refers to {absent}")), "{error}");
        }
        let error = check(&[("index.html", "<p>")]).expect_err("no references").to_string();
        assert!(error.contains("refers to no file"), "{error}");
    }
}
