//! Nodes of a document.

use std::rc::Rc;

/// A piece of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Text, which never becomes markup.
    Text(String),
    /// An element with what is inside it.
    Element(Element),
}

/// An element: a tag, attributes, children. In a box, since views hand elements on with every word they say of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Element(pub(super) Box<Parts>);

/// What an element consists of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts {
    pub(super) tag: &'static str,
    /// Tells the element from others in the same list, so that it stays itself when the list changes.
    pub(super) key: Option<String>,
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) children: Vec<Node>,
    /// As long as two elements have the same version, nothing below them is compared.
    pub(super) version: Option<Rc<str>>,
}

/// An element without attributes and children.
pub fn element(tag: &'static str) -> Element {
    Element(Box::new(Parts { tag, key: None, attributes: Vec::new(), children: Vec::new(), version: None }))
}

/// A text.
pub fn text(text: impl Into<String>) -> Node {
    Node::Text(text.into())
}

impl Element {
    /// With an attribute. Event handlers are no attributes: `data-do` says what a press does, see [`crate::action::Action`]. A name
    /// that begins with `--` is a custom property, which the element's style is worked out from.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.add(name, value.into());
        self
    }

    /// Not generic and not inlined: a view is hardly anything but calls of this.
    #[inline(never)]
    fn add(&mut self, name: &'static str, value: String) {
        debug_assert!(!name.starts_with("on"), "{name} would be a program in the document");
        self.0.attributes.push((name, value));
    }

    #[inline(never)]
    fn push(&mut self, child: Node) {
        self.0.children.push(child);
    }

    /// With a custom property that a style sheet draws from, as a share of one: `--share: 12.50%`.
    #[must_use]
    pub fn share(self, name: &'static str, share: f64) -> Self {
        debug_assert!(is_property(name), "{name} is no custom property");
        self.with(name, format!("{:.2}%", share.clamp(0.0, 1.0) * 100.0))
    }

    /// With an attribute that is there without a value, if `there`.
    #[must_use]
    pub fn flag(self, name: &'static str, there: bool) -> Self {
        if there { self.with(name, "") } else { self }
    }

    /// With a class.
    #[must_use]
    pub fn class(self, name: impl Into<String>) -> Self {
        self.with("class", name)
    }

    /// With an id.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with("id", id)
    }

    /// With a key, which tells it from its siblings.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    /// With a version: whoever gives the same one twice says that nothing below has changed.
    #[must_use]
    pub fn version(mut self, version: impl AsRef<str>) -> Self {
        self.0.version = Some(version.as_ref().into());
        self
    }

    /// With one more child.
    #[must_use]
    pub fn child(mut self, child: impl Into<Node>) -> Self {
        self.push(child.into());
        self
    }

    /// With more children.
    #[must_use]
    pub fn children<N: Into<Node>>(mut self, children: impl IntoIterator<Item = N>) -> Self {
        self.0.children.extend(children.into_iter().map(Into::into));
        self
    }

    /// With a text inside.
    #[must_use]
    pub fn text(self, content: impl Into<String>) -> Self {
        self.child(text(content))
    }

    /// What is inside.
    pub fn into_children(self) -> Vec<Node> {
        self.0.children
    }

    /// Value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.0.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

impl From<Element> for Node {
    fn from(element: Element) -> Self {
        Self::Element(element)
    }
}

impl Node {
    /// The text of everything inside, as a reader sees it.
    pub fn all_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Element(element) => element.0.children.iter().map(Self::all_text).collect(),
        }
    }

    /// The node as HTML.
    pub fn to_html(&self) -> String {
        match self {
            Self::Text(text) => escaped(text),
            Self::Element(element) => {
                let Parts { tag, attributes, children, .. } = &*element.0;
                let (properties, attributes): (Vec<_>, Vec<_>) =
                    attributes.iter().partition(|(name, _)| is_property(name));
                let mut attributes: String =
                    attributes.iter().map(|(name, value)| format!(" {name}=\"{}\"", escaped(value))).collect();
                if !properties.is_empty() {
                    let style: Vec<String> =
                        properties.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                    attributes += &format!(" style=\"{}\"", escaped(&style.join("; ")));
                }
                let inside: String = children.iter().map(Self::to_html).collect();
                if ["br", "hr", "input"].contains(tag) {
                    return format!("<{tag}{attributes}>");
                }
                format!("<{tag}{attributes}>{inside}</{tag}>")
            }
        }
    }

    /// The first element for which `is_wanted`, the node itself included.
    pub fn find(&self, is_wanted: &dyn Fn(&Element) -> bool) -> Option<&Element> {
        let Self::Element(element) = self else { return None };
        if is_wanted(element) {
            return Some(element);
        }
        element.0.children.iter().find_map(|child| child.find(is_wanted))
    }
}

/// Whether what is called an attribute is a custom property of the element's style.
pub(super) fn is_property(name: &str) -> bool {
    name.starts_with("--")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_html_and_text_is_never_markup() {
        let node: Node = element("p").class("a\"b").flag("hidden", true).text("1 < 2 & ").child(element("br")).into();
        assert_eq!(node.to_html(), "<p class=\"a&quot;b\" hidden=\"\">1 &lt; 2 &amp; <br></p>");
        assert_eq!(node.all_text(), "1 < 2 & ");
        assert!(node.find(&|element| element.0.tag == "br").is_some());
        assert!(node.find(&|element| element.0.tag == "b").is_none());
        let bar: Node = element("i").share("--share", 0.125).class("bar").into();
        assert_eq!(bar.to_html(), "<i class=\"bar\" style=\"--share: 12.50%\"></i>");
    }
}
