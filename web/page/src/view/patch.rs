//! Brings a part of the document to what a view says, and leaves alone what is as it should be: focus, selection and scroll
//! positions are with elements, so elements stay.

use std::collections::HashMap;

use wasm_bindgen::JsCast;
use web_sys::{Document, Element as DomElement, HtmlElement, Node as DomNode};

use super::node::{Node, Parts, is_property};
use crate::ui::dom::{document, report};

/// The children of one element of the document, which nobody else changes.
pub struct Mounted {
    parent: DomElement,
    nodes: Vec<Node>,
}

impl Mounted {
    /// Takes over `parent`; what was inside goes with the first drawing.
    pub fn new(parent: DomElement) -> Self {
        Self { parent, nodes: Vec::new() }
    }

    /// Whether an element with this key stands there in this version: then nothing has to be said of what is inside.
    pub fn has(&self, wanted: &str, version: &str) -> bool {
        let there = self.nodes.iter().find(|node| key(node) == Some(wanted)).and_then(parts);
        there.is_some_and(|there| there.version.as_deref() == Some(version))
    }

    /// Brings the document to `nodes`.
    pub fn draw(&mut self, mut nodes: Vec<Node>) {
        if self.nodes.is_empty() && self.parent.has_child_nodes() {
            self.parent.set_text_content(None);
        }
        patch_children(&document(), &self.parent, &self.nodes, &nodes);
        for node in &mut nodes {
            let Some(Parts { key: Some(wanted), version: Some(version), .. }) = parts(node) else { continue };
            let is_same = |old: &&mut Node| {
                parts(old).is_some_and(|old| old.key.as_ref() == Some(wanted) && old.version.as_ref() == Some(version))
            };
            // The old one knows what is inside; the new one may only name it.
            if let Some(old) = self.nodes.iter_mut().find(is_same) {
                std::mem::swap(node, old);
            }
        }
        self.nodes = nodes;
    }
}

/// Makes the children of `parent` `new`; they are `old` now.
fn patch_children(document: &Document, parent: &DomNode, old: &[Node], new: &[Node]) {
    let is_keyed = |nodes: &[Node]| nodes.first().and_then(key).is_some();
    if is_keyed(old) || is_keyed(new) {
        return patch_keyed(document, parent, old, new);
    }
    let mut at = parent.first_child();
    for (index, node) in new.iter().enumerate() {
        match (&at, old.get(index)) {
            (Some(there), Some(before)) => {
                let next = there.next_sibling();
                patch(document, parent, there, before, node);
                at = next;
            }
            _ => {
                if let Some(made) = make(document, node) {
                    report(parent.append_child(&made));
                }
            }
        }
    }
    while let Some(rest) = at.filter(|_| old.len() > new.len()) {
        at = rest.next_sibling();
        report(parent.remove_child(&rest));
    }
}

fn parts(node: &Node) -> Option<&Parts> {
    match node {
        Node::Element(element) => Some(&element.0),
        Node::Text(_) => None,
    }
}

fn key(node: &Node) -> Option<&str> {
    parts(node)?.key.as_deref()
}

/// Lists whose elements have keys: they are moved, not made anew.
fn patch_keyed(document: &Document, parent: &DomNode, old: &[Node], new: &[Node]) {
    let mut there: HashMap<&str, (&Node, DomNode)> = HashMap::new();
    let mut child = parent.first_child();
    let mut nameless = Vec::new();
    for before in old {
        let Some(dom) = child else { break };
        child = dom.next_sibling();
        match key(before) {
            Some(key) => drop(there.insert(key, (before, dom))),
            None => nameless.push(dom),
        }
    }
    for dom in nameless {
        report(parent.remove_child(&dom));
    }
    let wanted: std::collections::HashSet<&str> = new.iter().filter_map(key).collect();
    there.retain(|key, (_, dom)| {
        let stays = wanted.contains(key);
        if !stays {
            report(parent.remove_child(dom));
        }
        stays
    });
    let mut at = parent.first_child();
    for node in new {
        let dom = match key(node).and_then(|key| there.remove(key)) {
            Some((before, dom)) => {
                if at.as_ref().is_some_and(|at| at.is_same_node(Some(&dom))) {
                    at = dom.next_sibling();
                } else {
                    report(parent.insert_before(&dom, at.as_ref()));
                }
                patch(document, parent, &dom, before, node);
                continue;
            }
            None => make(document, node),
        };
        if let Some(dom) = dom {
            report(parent.insert_before(&dom, at.as_ref()));
        }
    }
}

/// Makes one child of `parent` what `new` says; it is `old` now.
fn patch(document: &Document, parent: &DomNode, there: &DomNode, old: &Node, new: &Node) {
    match (old, new) {
        (Node::Text(before), Node::Text(now)) => {
            if before != now {
                there.set_text_content(Some(now));
            }
        }
        (Node::Element(before), Node::Element(now)) if before.0.tag == now.0.tag && before.0.key == now.0.key => {
            let (before, now) = (&before.0, &now.0);
            let attribute = |of: &Parts, wanted: &str| of.attributes.iter().any(|(name, _)| *name == wanted);
            let same = before.version.is_some() && before.version == now.version;
            if same {
                return;
            }
            let dom: &DomElement = there.unchecked_ref();
            for (name, _) in &before.attributes {
                if !attribute(now, name) {
                    remove_attribute(dom, name);
                }
            }
            for (name, value) in &now.attributes {
                if !before.attributes.iter().any(|known| (known.0, &known.1) == (*name, value)) {
                    set_attribute(dom, name, value);
                }
            }
            patch_children(document, dom, &before.children, &now.children);
        }
        _ => {
            if let Some(made) = make(document, new) {
                report(parent.replace_child(&made, there));
            }
        }
    }
}

fn make(document: &Document, node: &Node) -> Option<DomNode> {
    match node {
        Node::Text(text) => Some(document.create_text_node(text).into()),
        Node::Element(element) => {
            let Parts { tag, attributes, children, .. } = &*element.0;
            let made = report(match PICTURE_TAGS.contains(tag) {
                true => document.create_element_ns(Some("http://www.w3.org/2000/svg"), tag),
                false => document.create_element(tag),
            })?;
            for (name, value) in attributes {
                set_attribute(&made, name, value);
            }
            for child in children.iter().filter_map(|child| make(document, child)) {
                report(made.append_child(&child));
            }
            Some(made.into())
        }
    }
}

/// Tags of SVG.
const PICTURE_TAGS: [&str; 2] = ["svg", "path"];

fn set_attribute(element: &DomElement, name: &str, value: &str) {
    report(match is_property(name) {
        // Not as a `style` attribute, which a content security policy may forbid.
        true => element.unchecked_ref::<HtmlElement>().style().set_property(name, value),
        false => element.set_attribute(name, value),
    });
}

fn remove_attribute(element: &DomElement, name: &str) {
    match is_property(name) {
        true => drop(report(element.unchecked_ref::<HtmlElement>().style().remove_property(name))),
        false => drop(report(element.remove_attribute(name))),
    }
}
