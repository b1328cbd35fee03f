//! The list of models for people: plain HTML, without scripts.

use std::fmt::{self, Write as _};

use gptoss_protocol::units::bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::catalogue::ModelInfo;

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Models · gguf-serve</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884; }
td.size { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
small { opacity: .75; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Models on this server</h1>
<table>
<tr><th>Model</th><th>Weights</th><th>Size</th><th>Files</th></tr>
"#;

const TAIL: &str = r#"</table>
<p>Programs read this list at <a href="/api/models">/api/models</a>.</p>
</body>
</html>
"#;

/// The whole page.
pub(crate) fn html(models: &[ModelInfo]) -> String {
    let mut page = HEAD.to_owned();
    for model in models {
        // Writing to a String cannot fail.
        let _ = row(&mut page, model);
    }
    page + TAIL
}

fn row(page: &mut String, model: &ModelInfo) -> fmt::Result {
    let name = escape(&model.name);
    page.push_str("<tr><td>");
    match &model.reason {
        None => {
            let gguf = utf8_percent_encode(&model.file_url, NON_ALPHANUMERIC);
            write!(page, "<a href=\"/gptoss?gguf={gguf}\">{name}</a>")?;
        }
        Some(reason) => write!(page, "{name}<br><small>The page cannot run it: {}</small>", escape(reason))?,
    }
    if let Some(hub) = &model.hub {
        write!(page, "<br><small>{} at {}</small>", escape(&hub.repo), escape(&hub.revision))?;
    }
    let kind: Vec<String> =
        [&model.architecture, &model.quantisation].into_iter().flatten().map(|it| escape(it)).collect();
    write!(page, "</td><td>{}</td><td class=\"size\">{}</td><td>", kind.join(" "), bytes(model.size_bytes))?;
    for file in &model.files {
        let own_name = file.name.rsplit('/').next().unwrap_or(&file.name);
        write!(page, "<a href=\"{}\" download>{}</a><br>", escape(&file.url), escape(own_name))?;
        if let Some(sha256) = &file.sha256 {
            write!(page, "<small>SHA-256 {}</small><br>", escape(sha256))?;
        }
    }
    page.push_str("</td></tr>\n");
    Ok(())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::FileInfo;

    #[test]
    fn names_are_text_not_markup() {
        let file = FileInfo {
            name: "a/<b>&\"c'.gguf".into(),
            url: "/a/%3Cb%3E".into(),
            file_url: "/api/models/x/file/%3Cb%3E".into(),
            size_bytes: 1_500_000,
            sha256: None,
        };
        let model = ModelInfo {
            id: "x".into(),
            name: file.name.clone(),
            url: file.url.clone(),
            file_url: file.file_url.clone(),
            size_bytes: file.size_bytes,
            sha256: None,
            architecture: Some("<script>".into()),
            quantisation: None,
            supported: false,
            reason: Some("<img src=x>".into()),
            files: vec![file],
            split: None,
            hub: None,
        };
        let page = html(&[model]);
        for text in
            ["&lt;b&gt;&amp;&quot;c&#39;.gguf", "&lt;script&gt;", "&lt;img src=x&gt;", "1.50 MB", "href=\"/a/%3Cb%3E\""]
        {
            assert!(page.contains(text), "{text} in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("<img"));
    }
}
