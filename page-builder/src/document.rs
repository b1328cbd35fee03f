//! What index.html asks of whoever builds the page, in trunk's attributes, and the page that comes of it.
//!
//! trunk serves the page while it is being worked on, so both must read the same file alike. Whatever of trunk's language
//! is not understood here is an error: it would be in one of the two pages only.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::tags::{Tag, start_tags};

/// Marks what trunk replaces.
const MARK: &str = "data-trunk";
const PUBLIC_URL_MARK: &str = "data-trunk-public-url";

/// A program of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The binary's name, which its files are called by.
    pub bin: String,
    pub role: Role,
    /// The cargo profile of pages that are not for development.
    pub profile: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Started by index.html.
    Main,
    /// Started by the main program, through a loader that lies beside it.
    Worker,
}

impl Program {
    pub fn script(&self) -> String {
        format!("{}.js", self.bin)
    }

    pub fn wasm(&self) -> String {
        format!("{}_bg.wasm", self.bin)
    }

    /// What a worker is started with: its name, and its text.
    pub fn loader(&self) -> Option<(String, String)> {
        let text = format!("import init from './{}';await init();", self.script());
        (self.role == Role::Worker).then(|| (format!("{}_loader.js", self.bin), text))
    }
}

/// index.html, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Paths relative to index.html.
    pub styles: Vec<String>,
    /// Files that lie beside the page as they are; paths relative to index.html.
    pub copies: Vec<String>,
    pub programs: Vec<Program>,
    /// The finished page.
    pub html: String,
}

impl Document {
    /// Reads `html`; addresses in the finished page begin with `public_url`, which ends in a slash.
    pub fn read(html: &str, public_url: &str) -> Result<Self> {
        ensure!(public_url.ends_with('/'), "the public URL {public_url:?} does not end in a slash");
        let mut document = Self { styles: Vec::new(), copies: Vec::new(), programs: Vec::new(), html: String::new() };
        let mut replacements = Vec::new();
        for tag in start_tags(html)? {
            let new = document.replacement(&tag, public_url).with_context(|| format!("line {}", tag.line(html)))?;
            replacements.extend(new.map(|new| (tag.range.clone(), new)));
        }
        let mains: Vec<_> = document.programs.iter().filter(|program| program.role == Role::Main).collect();
        let [main] = mains.as_slice() else { bail!("{} main programs are linked, one is needed", mains.len()) };
        let head_end = html.find("</head>").context("the head does not end")?;
        replacements.push((head_end..head_end, preloads(main, public_url)));
        document.html = replaced(html, replacements)?;
        document.ensure_names_differ()?;
        Ok(document)
    }

    /// Notes what a tag asks for and gives back what stands in its place in the finished page; `None` leaves it.
    fn replacement(&mut self, tag: &Tag, public_url: &str) -> Result<Option<String>> {
        if tag.attribute(PUBLIC_URL_MARK).is_some() {
            ensure!(tag.name == "base" && tag.attributes.len() == 1, "only <base {PUBLIC_URL_MARK}> is understood");
            return Ok(Some(format!("<base href=\"{public_url}\" />")));
        }
        if tag.attribute(MARK).is_none() {
            return Ok(None);
        }
        ensure!(tag.name == "link", "<{} {MARK}> is not understood", tag.name);
        match tag.attribute("rel") {
            Some("css") => {
                ensure_known(tag, &["href"])?;
                let path = required(tag, "href")?;
                let address = format!("{public_url}{}", file_name(path)?);
                self.styles.push(path.to_owned());
                Ok(Some(format!("<link rel=\"stylesheet\" href=\"{address}\"/>")))
            }
            Some("copy-file") => {
                ensure_known(tag, &["href"])?;
                self.copies.push(required(tag, "href")?.to_owned());
                Ok(Some(String::new()))
            }
            Some("rust") => {
                let program = read_program(tag)?;
                let start = if program.role == Role::Main { starter(&program, public_url) } else { String::new() };
                self.programs.push(program);
                Ok(Some(start))
            }
            other => bail!("rel={other:?} is not understood"),
        }
    }

    /// Names of all files of the finished page.
    pub fn file_names(&self) -> Result<Vec<String>> {
        let mut names = vec!["index.html".to_owned()];
        for file in self.styles.iter().chain(&self.copies) {
            names.push(file_name(file)?.to_owned());
        }
        for program in &self.programs {
            names.extend([program.script(), program.wasm()]);
            names.extend(program.loader().map(|(name, _)| name));
        }
        Ok(names)
    }

    fn ensure_names_differ(&self) -> Result<()> {
        let mut names = self.file_names()?;
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => bail!("two files of the page would be called {}", pair[0]),
            None => Ok(()),
        }
    }
}

/// Reads `<link data-trunk rel="rust" …>`.
fn read_program(tag: &Tag) -> Result<Program> {
    let bin = required(tag, "data-bin")?.to_owned();
    let profile = required(tag, "data-cargo-profile-release")?.to_owned();
    ensure!(tag.attribute("data-wasm-opt") == Some("0"), "data-wasm-opt must be \"0\": nothing here runs wasm-opt");
    let common = ["href", "data-bin", "data-type", "data-cargo-profile-release", "data-wasm-opt"];
    let (role, own): (_, &[&str]) = match required(tag, "data-type")? {
        "main" => (Role::Main, &["data-wasm-no-import"]),
        "worker" => (Role::Worker, &["data-bindgen-target", "data-loader-shim"]),
        other => bail!("data-type={other:?} is not understood"),
    };
    ensure_known(tag, &[&common, own].concat())?;
    // Without it trunk puts all exports of the program into the page's global scope.
    ensure!(role != Role::Main || tag.attribute(own[0]).is_some(), "data-wasm-no-import is missing");
    if role == Role::Worker {
        ensure!(tag.attribute("data-bindgen-target") == Some("web"), "data-bindgen-target must be \"web\"");
        ensure!(tag.attribute("data-loader-shim").is_some(), "data-loader-shim is missing");
    }
    Ok(Program { bin, role, profile })
}

fn required<'a>(tag: &'a Tag, attribute: &str) -> Result<&'a str> {
    let value = tag.attribute(attribute).filter(|value| !value.is_empty());
    value.with_context(|| format!("{attribute} is missing"))
}

fn ensure_known(tag: &Tag, known: &[&str]) -> Result<()> {
    for (name, _) in &tag.attributes {
        let is_known = [MARK, "rel"].contains(&name.as_str()) || known.contains(&name.as_str());
        ensure!(is_known, "the attribute {name} is not understood");
    }
    Ok(())
}

pub fn file_name(path: &str) -> Result<&str> {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{path:?} names no file"))
}

/// Starts the main program, and says so with trunk's event.
fn starter(program: &Program, public_url: &str) -> String {
    let (script, wasm) = (program.script(), program.wasm());
    format!(
        "<script type=\"module\">\n\
         import init from '{public_url}{script}';\n\
         const wasm = await init({{ module_or_path: '{public_url}{wasm}' }});\n\
         dispatchEvent(new CustomEvent(\"TrunkApplicationStarted\", {{detail: {{wasm}}}}));\n\
         </script>"
    )
}

/// Lets the browser fetch the main program while it is still reading the page.
fn preloads(program: &Program, public_url: &str) -> String {
    let (script, wasm) = (program.script(), program.wasm());
    format!(
        "  <link rel=\"modulepreload\" href=\"{public_url}{script}\" crossorigin=\"anonymous\">\n    \
         <link rel=\"preload\" href=\"{public_url}{wasm}\" crossorigin=\"anonymous\" as=\"fetch\" type=\"application/wasm\">\n  "
    )
}

/// `text` with the ranges replaced; they must be in order.
fn replaced(text: &str, replacements: Vec<(Range<usize>, String)>) -> Result<String> {
    let mut result = String::with_capacity(text.len() + 1024);
    let mut position = 0;
    for (range, new) in replacements {
        ensure!(range.start >= position, "{MARK} stands outside the head");
        result.push_str(&text[position..range.start]);
        result.push_str(&new);
        position = range.end;
    }
    result.push_str(&text[position..]);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: &str = r#"<link data-trunk rel="css" href="web/style/a.css" />"#;
    const COPY: &str = r#"<link data-trunk rel="copy-file" href="web/recordings/a.jsonl" />"#;
    const MAIN: &str = r#"<link data-trunk rel="rust" href="web/page/Cargo.toml" data-bin="page" data-type="main"
        data-cargo-profile-release="web" data-wasm-opt="0" data-wasm-no-import />"#;
    const WORKER: &str = r#"<link data-trunk rel="rust" href="web/worker/Cargo.toml" data-bin="worker" data-type="worker"
        data-bindgen-target="web" data-loader-shim data-cargo-profile-release="web" data-wasm-opt="0" />"#;

    fn page(links: &str) -> String {
        format!("<head>\n<!-- {STYLE} -->\n<base data-trunk-public-url />\n{links}</head><body>text</body>")
    }

    #[test]
    fn links_become_what_a_browser_understands() {
        let links = [STYLE, MAIN, WORKER].concat();
        let document = Document::read(&page(&links), "/p/").expect("a page");
        let expected = format!(
            r#"<head>
<!-- {STYLE} -->
<base href="/p/" />
<link rel="stylesheet" href="/p/a.css"/><script type="module">
import init from '/p/page.js';
const wasm = await init({{ module_or_path: '/p/page_bg.wasm' }});
dispatchEvent(new CustomEvent("TrunkApplicationStarted", {{detail: {{wasm}}}}));
</script>  <link rel="modulepreload" href="/p/page.js" crossorigin="anonymous">
    <link rel="preload" href="/p/page_bg.wasm" crossorigin="anonymous" as="fetch" type="application/wasm">
  </head><body>text</body>"#
        );
        assert_eq!(document.html, expected);
        assert_eq!(document.styles, ["web/style/a.css"]);
        let programs: Vec<_> = document.programs.iter().map(|program| (program.bin.as_str(), program.role)).collect();
        assert_eq!(programs, [("page", Role::Main), ("worker", Role::Worker)]);
        assert!(document.programs.iter().all(|program| program.profile == "web"));
    }

    #[test]
    fn files_lie_beside_the_page() {
        let document = Document::read(&page(&[COPY, MAIN].concat()), "/").expect("a page");
        assert_eq!(document.copies, ["web/recordings/a.jsonl"]);
        assert!(document.file_names().expect("names").contains(&"a.jsonl".to_owned()));
        assert!(!document.html.replace(STYLE, "").contains("jsonl"), "the browser is not to fetch it by itself");
    }

    #[test]
    fn a_worker_comes_with_its_loader() {
        let document = Document::read(&page(&[MAIN, WORKER].concat()), "/").expect("a page");
        let expected = ["index.html", "page.js", "page_bg.wasm", "worker.js", "worker_bg.wasm", "worker_loader.js"];
        assert_eq!(document.file_names().expect("names"), expected);
        let (_, text) = document.programs[1].loader().expect("a loader");
        assert_eq!(text, "import init from './worker.js';await init();");
    }

    #[test]
    fn what_trunk_would_do_otherwise_is_refused() {
        let changed = |from: &str, to: &str| {
            let links = [MAIN, WORKER].concat();
            assert!(links.contains(from), "{from}");
            page(&links.replace(from, to))
        };
        for (html, reason) in [
            (changed(r#"data-wasm-opt="0""#, r#"data-wasm-opt="z""#), "wasm-opt"),
            (changed("data-wasm-no-import", ""), "data-wasm-no-import is missing"),
            (changed("data-loader-shim", ""), "data-loader-shim is missing"),
            (changed(r#"data-bindgen-target="web""#, ""), "data-bindgen-target"),
            (changed("data-loader-shim", "data-loader-shim data-weak-refs"), "data-weak-refs is not understood"),
            (changed(r#"data-bin="page""#, ""), "data-bin is missing"),
            (changed(r#"data-bin="page""#, r#"data-bin="worker""#), "worker.js"),
            (changed(r#"data-type="main""#, r#"data-type="other""#), "\"other\""),
            (changed(r#"rel="rust""#, r#"rel="icon""#), "icon"),
            (page(WORKER), "0 main programs"),
            (page(&[MAIN, STYLE, STYLE].concat()), "a.css"),
            (page(r#"<script data-trunk src="x.js"></script>"#), "<script data-trunk>"),
            (page(MAIN).replace("text", STYLE), "outside the head"),
        ] {
            let error = format!("{:#}", Document::read(&html, "/").expect_err(reason));
            assert!(error.contains(reason), "{reason}: {error}");
        }
        assert!(Document::read(&page(MAIN), "/p").is_err(), "file names would be appended to p");
    }

    #[test]
    fn the_projects_own_page_is_understood() {
        let html = include_str!("../../index.html");
        let document = Document::read(html, "/gptoss/").expect("index.html");
        assert!(document.file_names().expect("names").iter().any(|name| name == "worker_loader.js"));
        assert!(document.html.contains("<base href=\"/gptoss/\" />") && !document.html.contains("data-trunk"));
    }
}
