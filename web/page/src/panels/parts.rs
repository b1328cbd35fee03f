//! What panels are made of, so that the same kind of thing looks the same everywhere.

use crate::action::Action;
use crate::format::{CPU_DOES_NOT_TELL, NOT_MEASURED};
use crate::view::{Element, Node, element};

/// Measured quantities below each other, in columns.
#[derive(Default)]
pub struct Rows(Vec<Row>);

/// A measured quantity: its name, a bar, the number and what belongs to it.
pub struct Row {
    id: &'static str,
    name: String,
    value: Option<String>,
    share: Option<f64>,
    note: String,
    kind: &'static str,
}

impl Rows {
    /// With one more quantity; `None` reads "not measured". The id is the number's, and may be empty.
    pub fn add(&mut self, id: &'static str, name: &str, value: Option<String>) -> &mut Row {
        self.0.push(Row { id, name: name.to_owned(), value, share: None, note: String::new(), kind: "" });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// The rows as an element.
    pub fn view(self) -> Element {
        element("dl").class("rows").children(self.0.into_iter().map(Row::view))
    }
}

impl Row {
    /// With a bar that is filled to a share of one.
    pub fn bar(&mut self, share: Option<f64>) -> &mut Self {
        self.share = Some(share.unwrap_or(0.0));
        self
    }

    /// With something that belongs to the number.
    pub fn note(&mut self, note: String) -> &mut Self {
        self.note = note;
        self
    }

    /// With a class, which gives the bar its colour.
    pub fn kind(&mut self, kind: &'static str) -> &mut Self {
        self.kind = kind;
        self
    }

    fn view(self) -> Element {
        let mut all = element("div").class(self.kind).child(element("dt").text(self.name));
        if let Some(share) = self.share {
            all = all.child(element("dd").class("bar").with("aria-hidden", "true").share("--share", share));
        }
        let class = if self.value.is_some() { "value" } else { "value unmeasured" };
        let mut value = element("dd").class(class);
        if !self.id.is_empty() {
            value = value.id(self.id);
        }
        all = all.child(value.text(or_not_measured(self.value)));
        if self.note.is_empty() { all } else { all.child(element("dd").class("note").text(self.note)) }
    }
}

/// A line with a text of its own, over quantities that belong together.
pub fn heading(text: &str) -> Element {
    element("h3").text(text)
}

/// Values as a line, the newest at the right, from 0 to the highest of them or `least`, whichever is more.
pub fn line(values: &[f32], least: f32, label: String) -> Element {
    let highest = values.iter().copied().fold(least, f32::max).max(f32::MIN_POSITIVE);
    let last = values.len().saturating_sub(1).max(1);
    let mut path = String::with_capacity(values.len() * 9);
    for (at, value) in values.iter().enumerate() {
        // Thousandths of width and height are finer than a screen.
        let (x, y) = (at * 1000 / last, (1000.0 - value / highest * 1000.0) as u32);
        path += &format!("{}{x} {y}", if at == 0 { 'M' } else { 'L' });
    }
    let picture = element("svg").class("line").with("viewBox", "0 -20 1000 1040").with("preserveAspectRatio", "none");
    picture.with("role", "img").with("aria-label", label).child(element("path").with("d", path))
}

/// A button that does something with what is shown.
pub fn tool(id: &'static str, action: Action, label: String) -> Element {
    let button = element("button").id(id).class("quiet").with("type", "button");
    button.with("data-do", action.to_string()).text(label)
}

/// The name of an input.
pub fn label(of: &'static str, text: &str) -> Element {
    element("label").with("for", of).text(text)
}

/// The line or, where nothing was measured, that.
pub fn or_not_measured(line: Option<String>) -> String {
    line.unwrap_or_else(|| NOT_MEASURED.to_owned())
}

/// The line or, where nothing was measured, that; what the CPU computes with is mapped, and then nothing will be.
pub fn or_not_told(line: Option<String>, is_mapped: bool) -> String {
    let absent = if is_mapped { CPU_DOES_NOT_TELL } else { NOT_MEASURED };
    line.unwrap_or_else(|| absent.to_owned())
}

/// A piece of text.
pub fn note(text: String) -> Node {
    element("p").class("note").text(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_measured_and_what_was_not() {
        let mut rows = Rows::default();
        rows.add("a", "Hits", Some("7".into())).bar(Some(0.5)).note("of 14".into());
        rows.add("", "Misses", None);
        assert_eq!(
            Node::from(rows.view()).to_html(),
            "<dl class=\"rows\"><div class=\"\"><dt>Hits</dt><dd class=\"bar\" aria-hidden=\"true\" style=\"--share: 50.00%\"></dd>\
             <dd class=\"value\" id=\"a\">7</dd><dd class=\"note\">of 14</dd></div>\
             <div class=\"\"><dt>Misses</dt><dd class=\"value unmeasured\">not measured</dd></div></dl>"
        );
    }

    #[test]
    fn a_line_goes_from_the_oldest_to_the_newest_and_its_scale_begins_at_zero() {
        let path = |values: &[f32], least| line(values, least, String::new()).into_children()[0].to_html();
        assert_eq!(path(&[0.0, 1.0, 2.0], 0.0), "<path d=\"M0 1000L500 500L1000 0\"></path>");
        assert_eq!(path(&[1.0, 1.0], 4.0), "<path d=\"M0 750L1000 750\"></path>", "the scale is not all noise");
        assert_eq!(path(&[3.0], 0.0), "<path d=\"M0 0\"></path>");
        assert_eq!(path(&[], 0.0), "<path d=\"\"></path>");
    }
}
