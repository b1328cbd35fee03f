//! The form in `index.html` says what the table of options says.
//!
//! It is written out there, and not made when the page starts, so that it is seen before the page's program is there,
//! and without it; this test is what keeps the two together.

use gptoss_protocol::OptionId;
use gptoss_protocol::options::{Kind, OptionRow};

use super::element_id;
use crate::panels::gate::Field;

const INDEX: &str = include_str!("../../../../index.html");

/// The text between `begin` and `end`, after the first `begin`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(inside, _)| inside)
}

/// The begin tag with this id, without its brackets, and everything behind it.
fn element(id: &str) -> Option<(&'static str, &'static str)> {
    let attribute = format!("id=\"{id}\"");
    let mut places = INDEX.match_indices(&attribute).map(|(at, _)| at);
    let (at, None) = (places.next()?, places.next()) else { return None };
    let begin = INDEX[..at].rfind('<')? + 1;
    INDEX[begin..].split_once('>')
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    between(tag, &format!(" {name}=\""), "\"")
}

/// Value, text and initial choice of every entry of a list.
fn entries(after: &str) -> Vec<(&str, &str, bool)> {
    let list = after.split_once("</select>").map_or("", |(list, _)| list);
    list.split("<option ")
        .skip(1)
        .filter_map(|entry| {
            let (tag, rest) = entry.split_once('>')?;
            Some((between(tag, "value=\"", "\"")?, rest.split_once("</option>")?.0, tag.contains(" selected")))
        })
        .collect()
}

/// All differences between the input of an option and its row in the table.
fn problems(row: &OptionRow) -> Vec<String> {
    let id = element_id(row.id);
    let Some((tag, after)) = element(&id) else { return vec![format!("there is no element #{id}, or two")] };
    let mut wrong = Vec::new();
    let mut compare = |what: &str, is: Option<&str>, should: Option<&str>| {
        if is != should {
            wrong.push(format!("{what} of #{id} is {is:?}, by the table {should:?}"));
        }
    };
    let kind = match row.kind {
        Kind::Text { .. } => "textarea",
        Kind::Words { .. } => "select",
        _ => "input",
    };
    compare("the kind", tag.split_whitespace().next(), Some(kind));
    compare("the label", between(INDEX, &format!("for=\"{id}\">"), "</label>"), Some(row.label));
    compare("the title", attribute(tag, "title"), Some(&format!("{}.", row.help)));
    let keyboard = match row.kind {
        Kind::Whole { instead: None, .. } => Some("numeric"),
        Kind::Number { .. } | Kind::Seconds { .. } => Some("decimal"),
        _ => None,
    };
    compare("the keyboard", attribute(tag, "inputmode"), keyboard);
    match row.kind {
        Kind::Words { words, .. } => {
            let entries = entries(after);
            let is: Vec<_> = entries.iter().map(|entry| (entry.0, entry.1)).collect();
            let should: Vec<_> = words
                .iter()
                .map(|word| (word.text, if word.meaning.is_empty() { word.text } else { word.meaning }))
                .collect();
            compare("the list", Some(&format!("{is:?}")), Some(&format!("{should:?}")));
            let chosen = entries.iter().find(|entry| entry.2).or(entries.first()).map(|entry| entry.0);
            compare("the choice at first", chosen, Some(row.default.page));
        }
        // The input shows an example, or what a blank means where the page fills something in.
        Kind::Text { .. } | Kind::Address { .. } | Kind::Date { .. } => {}
        _ => {
            let placeholder = attribute(tag, "placeholder").unwrap_or_default();
            let default = placeholder.get(..row.default.page.len());
            compare("the begin of the placeholder", default, Some(row.default.page));
        }
    }
    wrong
}

#[test]
fn the_form_says_what_the_table_says() {
    let wrong: Vec<String> = OptionId::in_form().flat_map(|option| problems(option.row())).collect();
    assert!(wrong.is_empty(), "index.html differs from protocol/src/options/table.rs:\n{}", wrong.join("\n"));
}

#[test]
fn every_label_of_the_form_is_one_of_an_option() {
    // The gate page has a form of its own.
    let ids: Vec<String> = OptionId::in_form().map(element_id).chain(Field::ALL.map(Field::id)).collect();
    for label in INDEX.split(" for=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id) {
        // The hosts' lists of models only fill in an address.
        assert!(
            ["model-select", "gate-models"].contains(&label) || ids.iter().any(|id| id == label),
            "{label} is no option"
        );
    }
}
