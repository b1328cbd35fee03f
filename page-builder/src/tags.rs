//! Finds start tags in HTML: as much of its grammar as index.html uses, and refusal of what could be misread.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

/// A start tag, and where it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub range: Range<usize>,
    /// In lower case.
    pub name: String,
    /// Names in lower case, in their order; a name without a value has an empty one.
    pub attributes: Vec<(String, String)>,
}

impl Tag {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Where it stands, for messages.
    pub fn line(&self, html: &str) -> usize {
        html[..self.range.start].matches('\n').count() + 1
    }
}

/// All start tags outside comments, scripts and style sheets, in their order.
pub fn start_tags(html: &str) -> Result<Vec<Tag>> {
    let mut tags = Vec::new();
    let mut position = 0;
    while let Some(found) = html[position..].find('<') {
        let start = position + found;
        let rest = &html[start..];
        if rest.starts_with("<!--") {
            let end = rest.find("-->").context("a comment does not end")?;
            position = start + end + 3;
        } else if rest[1..].starts_with(|first: char| first.is_ascii_alphabetic()) {
            let tag = read_tag(html, start)?;
            position = tag.range.end;
            if matches!(tag.name.as_str(), "script" | "style") {
                let end = format!("</{}", tag.name);
                let length = html[position..].find(&end).with_context(|| format!("a {} does not end", tag.name))?;
                position += length;
            }
            tags.push(tag);
        } else {
            position = start + 1;
        }
    }
    Ok(tags)
}

fn read_tag(html: &str, start: usize) -> Result<Tag> {
    let name_end = html[start + 1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '-').map(|end| start + 1 + end);
    let mut position = name_end.context("the text ends in a tag")?;
    let name = html[start + 1..position].to_ascii_lowercase();
    let mut attributes = Vec::new();
    loop {
        position +=
            html[position..].find(|c: char| !c.is_whitespace() && c != '/').context("the text ends in a tag")?;
        if html[position..].starts_with('>') {
            return Ok(Tag { range: start..position + 1, name, attributes });
        }
        let (attribute, next) = read_attribute(html, position).with_context(|| format!("in a {name} tag"))?;
        let is_new = attributes.iter().all(|(known, _)| *known != attribute.0);
        ensure!(is_new, "a {name} tag has the attribute {} twice", attribute.0);
        attributes.push(attribute);
        position = next;
    }
}

/// Reads `name`, `name=value` or `name="value"`; gives back what follows, too.
fn read_attribute(html: &str, start: usize) -> Result<((String, String), usize)> {
    let ends_name = |c: char| c.is_whitespace() || matches!(c, '=' | '>' | '/');
    let mut position = start + html[start..].find(ends_name).context("the text ends in an attribute")?;
    let name = html[start..position].to_ascii_lowercase();
    ensure!(!name.is_empty(), "an attribute without a name");
    if !html[position..].starts_with('=') {
        return Ok(((name, String::new()), position));
    }
    position += 1;
    let quote = html[position..].chars().next().context("the text ends in an attribute")?;
    if !matches!(quote, '"' | '\'') {
        bail!("the value of {name} has no quotes around it");
    }
    position += 1;
    let length = html[position..].find(quote).with_context(|| format!("the value of {name} does not end"))?;
    Ok(((name, html[position..position + length].to_owned()), position + length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(html: &str) -> Vec<String> {
        start_tags(html).expect(html).into_iter().map(|tag| tag.name).collect()
    }

    #[test]
    fn tags_are_found_with_their_attributes() {
        let html = "<!doctype html>\n<LINK data-trunk\n rel=\"css\" href='a b.css' data-empty=\"\"/><p>1 < 2</p>";
        let tags = start_tags(html).expect("tags");
        assert_eq!(tags.len(), 2, "{tags:?}");
        let link = &tags[0];
        assert_eq!(&html[link.range.clone()][..5], "<LINK");
        assert!(html[link.range.clone()].ends_with("/>"));
        assert_eq!((link.name.as_str(), link.line(html)), ("link", 2));
        assert_eq!(link.attribute("data-trunk"), Some(""));
        assert_eq!(link.attribute("href"), Some("a b.css"));
        assert_eq!(link.attribute("data-empty"), Some(""));
        assert_eq!(link.attribute("src"), None);
    }

    #[test]
    fn what_only_looks_like_a_tag_is_none() {
        assert_eq!(names("<!-- <link> --><i>1 < 2 <3</i>"), ["i"]);
        assert_eq!(names("<script>if (a <b) '<link>'</script><style>a<b{}</style><em>"), ["script", "style", "em"]);
        assert_eq!(names("<p title=\"<link>\">"), ["p"]);
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for (html, reason) in [
            ("<!-- <link>", "comment does not end"),
            ("<script>", "script does not end"),
            ("<p title=\"x>", "title does not end"),
            ("<p title=x>", "no quotes"),
            ("<p a=\"1\" A=\"2\">", "twice"),
            ("<p", "ends in a tag"),
            ("<p a", "ends in an attribute"),
        ] {
            let error = format!("{:#}", start_tags(html).expect_err(html));
            assert!(error.contains(reason), "{html}: {error}");
        }
    }
}
