//! Brings a part of the document to what a view says, and leaves alone what is as it should be: focus, selection and scroll
//! positions are with elements, so elements stay.

use std::collections::HashMap;

use wasm_bindgen::JsCast;
use web_sys::{Document, Element as DomElement, Node as DomNode};

use super::node::{Element, Node};
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
        let there = self.nodes.iter().find(|node| key(node) == Some(wanted));
        matches!(there, Some(Node::Element(element)) if element.version.as_deref() == Some(version))
    }

    /// Brings the document to `nodes`.
    pub fn draw(&mut self, mut nodes: Vec<Node>) {
        if self.nodes.is_empty() && self.parent.has_child_nodes() {
            self.parent.set_text_content(None);
        }
        patch_children(&document(), &self.parent, &self.nodes, &nodes);
        for node in &mut nodes {
            let Node::Element(Element { key: Some(wanted), version: Some(version), .. }) = node else { continue };
            let is_same = |old: &&mut Node| match old {
                Node::Element(old) => old.key.as_ref() == Some(wanted) && old.version.as_ref() == Some(version),
                Node::Text(_) => false,
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
    let is_keyed = |nodes: &[Node]| matches!(nodes.first(), Some(Node::Element(Element { key: Some(_), .. })));
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

fn key(node: &Node) -> Option<&str> {
    match node {
        Node::Element(element) => element.key.as_deref(),
        Node::Text(_) => None,
    }
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
        (Node::Element(before), Node::Element(now)) if before.tag == now.tag && before.key == now.key => {
            let same = before.version.is_some() && before.version == now.version;
            if same {
                return;
            }
            let dom: &DomElement = there.unchecked_ref();
            for (name, _) in &before.attributes {
                if now.attribute(name).is_none() {
                    report(dom.remove_attribute(name));
                }
            }
            for (name, value) in &now.attributes {
                if before.attribute(name) != Some(value) {
                    report(dom.set_attribute(name, value));
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
        Node::Element(Element { tag, attributes, children, .. }) => {
            let made = report(document.create_element(tag))?;
            for (name, value) in attributes {
                report(made.set_attribute(name, value));
            }
            for child in children.iter().filter_map(|child| make(document, child)) {
                report(made.append_child(&child));
            }
            Some(made.into())
        }
    }
}
