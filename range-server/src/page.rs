//! The page: the files that `cargo xtask page` made, from the program itself or from a folder.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hyper::body::Bytes;

use crate::content::Content;

/// Name and bytes of every file that was in `web/dist` when this was compiled. Made by build.rs.
static EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

const INDEX: &str = "index.html";

/// Where a server's page comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageSource {
    /// Compiled into the program.
    Embedded,
    /// A folder, read at start.
    Folder(PathBuf),
    /// The program was compiled before the page was built.
    Missing,
}

/// One file of the page.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) content: Content,
    pub(crate) content_type: &'static str,
}

/// Name, bytes and modification time of a file.
type PageFile = (String, Bytes, Option<SystemTime>);

/// All files of the page, by their name below `web/dist`.
pub(crate) struct Page {
    source: PageSource,
    assets: HashMap<String, Asset>,
}

impl Page {
    /// The page that is compiled in.
    pub(crate) fn embedded() -> Self {
        let source = if EMBEDDED.is_empty() { PageSource::Missing } else { PageSource::Embedded };
        // The files are as old as the program that holds them.
        let program = std::env::current_exe().and_then(fs::metadata).and_then(|metadata| metadata.modified()).ok();
        let file = |&(name, bytes): &(&str, &'static [u8])| (name.to_owned(), Bytes::from_static(bytes), program);
        Self::new(source, EMBEDDED.iter().map(file))
    }

    /// A page built elsewhere. It is read at once, because a page whose parts have different ages does not work.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        collect(folder, "", &mut files)?;
        if !files.iter().any(|(name, ..)| name == INDEX) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no index.html in it"));
        }
        Ok(Self::new(PageSource::Folder(folder.to_owned()), files.into_iter()))
    }

    fn new(source: PageSource, files: impl Iterator<Item = PageFile>) -> Self {
        let asset = |(name, bytes, modified): PageFile| {
            let content_type = content_type(&name);
            (name, Asset { content: Content::memory(bytes, modified), content_type })
        };
        Self { source, assets: files.map(asset).collect() }
    }

    /// The page of a build without one.
    #[cfg(test)]
    pub(crate) fn missing() -> Self {
        Self::new(PageSource::Missing, std::iter::empty())
    }

    pub(crate) fn source(&self) -> &PageSource {
        &self.source
    }

    pub(crate) fn index(&self) -> Option<&Asset> {
        self.assets.get(INDEX)
    }

    pub(crate) fn asset(&self, name: &str) -> Option<&Asset> {
        self.assets.get(name)
    }
}

/// Reads all files below `folder`, but hidden ones, which are trunk's own.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<PageFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name =
            entry.file_name().into_string().map_err(|name| io::Error::other(format!("{name:?} is not UTF-8")))?;
        if name.starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else {
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            files.push((format!("{prefix}{name}"), fs::read(entry.path())?.into(), modified));
        }
    }
    Ok(())
}

/// The type by extension. With a wrong type browsers neither compile wasm while it streams in, nor run modules, nor
/// apply style sheets.
fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "jsonl" => "application/jsonl",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::content_type;

    #[test]
    fn content_types() {
        assert_eq!(content_type("index.html"), "text/html; charset=utf-8");
        assert_eq!(content_type("snippets/a-1.2/inline0.js"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("web-3f_bg.wasm"), "application/wasm");
        assert_eq!(content_type("STYLE.CSS"), "text/css; charset=utf-8");
        assert_eq!(content_type("LICENSE"), "application/octet-stream");
    }
}
