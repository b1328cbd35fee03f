//! Elements by function and not by chains of calls: the views of the gate page are large, and wanted by few.

use crate::view::{Element, Node, element};

/// An element with a class; none if that is empty.
#[inline(never)]
pub fn el(tag: &'static str, class: &str) -> Element {
    let element = element(tag);
    if class.is_empty() { element } else { element.class(class) }
}

/// With attributes.
#[inline(never)]
pub fn with(mut element: Element, attributes: &[(&'static str, &str)]) -> Element {
    for &(name, value) in attributes {
        element = element.with(name, value);
    }
    element
}

/// With these children.
#[inline(never)]
pub fn of(element: Element, children: Vec<Node>) -> Node {
    element.children(children).into()
}

/// An element with a text.
#[inline(never)]
pub fn say(tag: &'static str, class: &str, text: &str) -> Node {
    el(tag, class).text(text).into()
}

/// A name and a value of a list of facts.
#[inline(never)]
pub fn pair(name: &str, value: &str) -> Node {
    of(el("div", ""), vec![say("dt", "", name), say("dd", "", value)])
}

/// A table; of each line its class, whether what it says is right, and its cells.
#[inline(never)]
pub fn table(class: &str, names: &[&str], lines: Vec<(&str, bool, Vec<Node>)>) -> Node {
    let names = names.iter().map(|name| say("th", "", name)).collect();
    let line = |(class, ok, cells): (&str, bool, Vec<Node>)| {
        of(with(el("tr", class), &[("data-ok", if ok { "yes" } else { "no" })]), cells)
    };
    let lines = lines.into_iter().map(line).collect();
    let table = vec![of(el("thead", ""), vec![of(el("tr", ""), names)]), of(el("tbody", ""), lines)];
    of(el("div", class), vec![of(el("table", ""), table)])
}
