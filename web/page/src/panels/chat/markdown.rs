//! What a model writes, as it means it: Markdown into nodes, every token of the text still to be found in them.
//!
//! Nothing of the text becomes markup but by way of [`Tag`]s that are listed here: HTML in it is shown as text, addresses are
//! links only where they lead to a web page, pictures are links to pictures.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag};

use crate::view::{Element, Node, element, text};

/// Where the tokens of a text are, and how each is shown.
pub struct Tokens<'a> {
    /// Place of each token in its answer, and where its text ends, in bytes, in order.
    pub ends: &'a [(u32, u32)],
    /// Attributes of a token's span; `None` leaves its text without a span.
    pub span: &'a dyn Fn(u32) -> Option<Element>,
}

impl Tokens<'_> {
    /// The text at `range` as spans, one for each token or part of one.
    pub fn spans(&self, all: &str, range: Range<usize>) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut at = range.start;
        let first = self.ends.partition_point(|(_, end)| *end as usize <= at);
        for &(place, end) in &self.ends[first..] {
            let end = (end as usize).min(range.end);
            if at >= range.end {
                break;
            }
            match (self.span)(place) {
                Some(span) => nodes.push(span.text(&all[at..end]).into()),
                None => nodes.push(text(&all[at..end])),
            }
            at = end;
        }
        if at < range.end {
            nodes.push(text(&all[at..range.end]));
        }
        nodes
    }
}

/// The blocks of a text. `version` stands for everything that [`Tokens::span`] depends on besides the token.
pub fn blocks(source: &str, tokens: &Tokens<'_>, version: u64) -> Vec<Node> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut events = Parser::new_ext(source, options).into_offset_iter();
    let mut made = Vec::new();
    while let Some((event, range)) = events.next() {
        let start = range.start;
        let node = match event {
            Event::Start(tag) => Some(container(source, &tag, &mut events, tokens).key(format!("b{start}"))),
            other => inline(source, &other, range.clone(), tokens)
                .into_iter()
                .next()
                .map(|node| element("p").child(node).key(format!("b{start}"))),
        };
        made.extend(node.map(|node| Node::from(node.version(block_version(source, &range, version)))));
    }
    made
}

/// The same as long as neither the block's text nor how it is shown changes.
fn block_version(source: &str, range: &Range<usize>, version: u64) -> String {
    let mut hasher = DefaultHasher::new();
    (range.start, &source[range.clone()], version).hash(&mut hasher);
    hasher.finish().to_string()
}

type Events<'a> = pulldown_cmark::OffsetIter<'a>;

/// The element of a tag, with everything up to its end inside.
fn container(source: &str, tag: &Tag<'_>, events: &mut Events<'_>, tokens: &Tokens<'_>) -> Element {
    if let Tag::CodeBlock(kind) = tag {
        return code_block(source, kind, events, tokens);
    }
    let mut shell = shell(tag);
    let in_head = matches!(tag, Tag::TableHead);
    while let Some((event, range)) = events.next() {
        match event {
            Event::End(_) => break,
            Event::Start(inner) => {
                let mut child = container(source, &inner, events, tokens);
                if in_head && matches!(inner, Tag::TableCell) {
                    child = retagged(child, "th");
                }
                shell = shell.child(child);
            }
            other => shell = shell.children(inline(source, &other, range, tokens)),
        }
    }
    if in_head { element("thead").child(shell) } else { shell }
}

fn retagged(cell: Element, tag: &'static str) -> Element {
    element(tag).children(cell.into_children())
}

/// What stands for a tag. Whatever is not listed is a plain span.
fn shell(tag: &Tag<'_>) -> Element {
    match tag {
        Tag::Paragraph => element("p"),
        // The page has headings of its own above these.
        Tag::Heading { level, .. } => element(match level {
            HeadingLevel::H1 => "h4",
            HeadingLevel::H2 => "h5",
            _ => "h6",
        }),
        Tag::BlockQuote(_) => element("blockquote"),
        Tag::List(None) => element("ul"),
        Tag::List(Some(1)) => element("ol"),
        Tag::List(Some(first)) => element("ol").with("start", first.to_string()),
        Tag::Item => element("li"),
        Tag::Emphasis => element("em"),
        Tag::Strong => element("strong"),
        Tag::Strikethrough => element("del"),
        Tag::Table(_) => element("table"),
        Tag::TableHead | Tag::TableRow => element("tr"),
        Tag::TableCell => element("td"),
        Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => match safe_address(dest_url) {
            Some(address) => {
                element("a").with("href", address).with("target", "_blank").with("rel", "noopener noreferrer nofollow")
            }
            None => element("span"),
        },
        Tag::HtmlBlock => element("p"),
        _ => element("span"),
    }
}

/// An address that leads to a web page or a letter, and to nothing else.
fn safe_address(address: &str) -> Option<&str> {
    let scheme = address.split_once(':')?.0;
    ["http", "https", "mailto"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(address)
}

fn code_block(source: &str, kind: &CodeBlockKind<'_>, events: &mut Events<'_>, tokens: &Tokens<'_>) -> Element {
    let language = match kind {
        CodeBlockKind::Fenced(language) => language.split([' ', ',']).next().unwrap_or_default().to_owned(),
        CodeBlockKind::Indented => String::new(),
    };
    let mut code = element("code");
    for (event, range) in events.by_ref() {
        match event {
            Event::End(_) => break,
            other => code = code.children(inline(source, &other, range, tokens)),
        }
    }
    let copy = element("button").class("quiet").with("type", "button").with("data-do", "copy-code").text("copy");
    let head = element("figcaption").child(element("span").text(language)).child(copy);
    element("figure").class("code").child(head).child(element("pre").with("tabindex", "0").child(code))
}

fn inline(source: &str, event: &Event<'_>, range: Range<usize>, tokens: &Tokens<'_>) -> Vec<Node> {
    match event {
        Event::Text(said) | Event::Html(said) | Event::InlineHtml(said) => spans_of(source, said, range, tokens),
        Event::Code(said) => {
            // The ticks around it are part of the range.
            let inside = source[range.clone()].find(&**said).map(|at| range.start + at..range.start + at + said.len());
            let nodes = inside.map_or_else(|| vec![text(&**said)], |inside| tokens.spans(source, inside));
            vec![element("code").children(nodes).into()]
        }
        Event::SoftBreak => vec![text("\n")],
        Event::HardBreak => vec![element("br").into()],
        Event::Rule => vec![element("hr").into()],
        Event::TaskListMarker(done) => vec![text(if *done { "☑ " } else { "☐ " })],
        Event::FootnoteReference(said) => vec![text(format!("[^{said}]"))],
        _ => Vec::new(),
    }
}

/// A text that stands in the source as it is shown is shown token by token; one with escapes belongs to the token it begins in.
fn spans_of(source: &str, said: &str, range: Range<usize>, tokens: &Tokens<'_>) -> Vec<Node> {
    if source[range.clone()] == *said {
        return tokens.spans(source, range);
    }
    let place = tokens.ends.iter().find(|(_, end)| *end as usize > range.start).map(|(place, _)| *place);
    vec![match place.and_then(|place| (tokens.span)(place)) {
        Some(span) => span.text(said).into(),
        None => text(said),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(source: &str) -> String {
        let tokens = Tokens { ends: &[], span: &|_| None };
        blocks(source, &tokens, 0).iter().map(Node::to_html).collect()
    }

    #[test]
    fn markdown_becomes_what_it_means() {
        assert_eq!(html("One **two** `x < y`\nthree"), "<p>One <strong>two</strong> <code>x &lt; y</code>\nthree</p>");
        assert_eq!(
            html("# A\n\n- b\n- c\n\n3. d"),
            "<h4>A</h4><ul><li>b</li><li>c</li></ul><ol start=\"3\"><li>d</li></ol>"
        );
        assert_eq!(
            html("| a | b |\n|---|---|\n| 1 | ~~2~~ |"),
            "<table><thead><tr><th>a</th><th>b</th></tr></thead><tr><td>1</td><td><del>2</del></td></tr></table>"
        );
        let code = html("```rust,ignore\nfn f() {}\n```");
        assert!(code.contains("<span>rust</span>") && code.contains("<code>fn f() {}\n</code>"), "{code}");
    }

    #[test]
    fn nothing_of_the_text_becomes_a_program() {
        for source in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](data:text/html,x)",
            "![a](javascript:x)",
            "<javascript:alert(1)>",
            "a <b onclick=x>b</b>",
            "[a](\"onmouseover=alert(1))",
        ] {
            let made = html(source).to_lowercase();
            for bad in ["<script", "<img", "<b ", "href=\"javascript", "href=\"data", " onerror=", " onclick="] {
                assert!(!made.contains(bad) || made.contains("&lt;"), "{source}: {made}");
            }
            assert!(
                !made.contains("href=\"javascript") && !made.contains("<script") && !made.contains("<img"),
                "{made}"
            );
        }
        assert!(html("[a](https://x.org/?a=1&b=2)").contains("href=\"https://x.org/?a=1&amp;b=2\""));
        assert!(html("![a picture](https://x.org/p.png)").contains("<a href=\"https://x.org/p.png\""), "not fetched");
    }

    #[test]
    fn every_token_is_found_in_the_nodes() {
        // Tokens cut the text anywhere, in the middle of marks, too.
        let source = "Ab **bold** `code` &amp; é";
        let cuts = [2, 5, 7, 12, 15, 19, 24, source.len()];
        let ends: Vec<(u32, u32)> = cuts.iter().enumerate().map(|(at, end)| (at as u32, *end as u32)).collect();
        let span = |place: u32| Some(element("i").with("data-token", place.to_string()));
        let made: String = blocks(source, &Tokens { ends: &ends, span: &span }, 0).iter().map(Node::to_html).collect();
        assert_eq!(
            made,
            "<p><i data-token=\"0\">Ab</i><i data-token=\"1\"> </i><strong><i data-token=\"2\">bo</i>\
             <i data-token=\"3\">ld</i></strong><i data-token=\"3\"> </i><code><i data-token=\"4\">co</i>\
             <i data-token=\"5\">de</i></code><i data-token=\"5\"> </i><i data-token=\"6\">&amp;</i>\
             <i data-token=\"7\"> é</i></p>"
        );
    }

    #[test]
    fn any_beginning_of_a_text_can_be_shown_and_blocks_that_are_done_stay() {
        let source =
            "# T\n\nOne *two* [three](https://x.org) `four`\n\n```py\nx = \"é\"\n```\n\n| a |\n|---|\n| 1 |\n\n> q\n";
        let tokens = Tokens { ends: &[], span: &|_| None };
        for (end, _) in source.char_indices() {
            drop(blocks(&source[..end], &tokens, 0));
        }
        let (short, long) = (blocks("One\n\nTw", &tokens, 0), blocks("One\n\nTwo", &tokens, 0));
        assert_eq!(short[0], long[0], "with the same version");
        assert_ne!(short[1], long[1]);
    }
}
