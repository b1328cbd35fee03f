use std::collections::BTreeSet;

use super::*;
use crate::{CacheMode, Effort, PromptFormat};

/// Settings in which no default hides what an option sets.
fn settings() -> Settings {
    Settings { today: "2026-02-03".into(), ..Settings::page() }
}

fn set(id: OptionId, text: &str) -> Settings {
    let mut settings = settings();
    id.row().apply(&mut settings, text).unwrap_or_else(|expected| panic!("{id:?}: {text:?}, expected {expected}"));
    settings
}

#[test]
fn rows_stand_in_the_order_of_their_ids() {
    for (index, row) in OPTIONS.iter().enumerate() {
        assert_eq!(row.id as usize, index, "{:?}", row.id);
        assert_eq!(row.id.row().id, row.id);
    }
}

#[test]
fn names_are_unique_and_plain() {
    let mut keys = BTreeSet::new();
    let mut flags = BTreeSet::new();
    let mut labels = BTreeSet::new();
    for row in &OPTIONS {
        assert!(row.key.is_some() || row.flag.is_some(), "{:?} can be chosen nowhere", row.id);
        if let Some(key) = row.key {
            assert!(keys.insert(key.name), "two options are {}", key.name);
            assert!(key.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", key.name);
            assert_eq!(OptionId::of_key(key.name), Some(row.id));
        }
        if let Some(flag) = row.flag {
            assert!(flags.insert(flag.name), "two options are --{}", flag.name);
            assert!(flag.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", flag.name);
        }
        assert!(labels.insert(row.label), "two options are called {}", row.label);
        assert!(!row.help.is_empty() && !row.help.ends_with('.') && !row.help.contains('|'), "{:?}", row.id);
        assert!(!row.default.page.is_empty() && !row.default.pylon.is_empty(), "{:?}", row.id);
    }
}

#[test]
fn every_documented_value_can_be_used() {
    for row in &OPTIONS {
        let words = row.words().iter().flat_map(|word| std::iter::once(&word.text).chain(word.also));
        let mut values: Vec<_> = row.examples.iter().chain(words).copied().collect();
        if let Some(word) = row.flag.and_then(|flag| flag.means).filter(|_| row.id != OptionId::Moe) {
            values.push(word);
        }
        assert!(!values.is_empty(), "{:?} has no example", row.id);
        for text in values {
            assert_eq!(row.check(text), Ok(()), "{:?}: {text:?}", row.id);
        }
    }
}

/// What a word sets survives the wire, no other word of the list sets the same, and other words for it do.
#[test]
fn every_word_of_a_list_means_something_of_its_own() {
    for row in &OPTIONS {
        let mut seen: Vec<Settings> = Vec::new();
        for word in row.words() {
            let chosen = set(row.id, word.text);
            let json = serde_json::to_string(&chosen).expect("serialises");
            assert_eq!(serde_json::from_str::<Settings>(&json).expect("reads back"), chosen, "{:?}", row.id);
            assert!(!seen.contains(&chosen), "{:?}: {} is another word, too", row.id, word.text);
            for also in word.also {
                assert_eq!(set(row.id, also), chosen, "{:?}: {also}", row.id);
                assert_eq!(row.canonical(also), word.text);
            }
            seen.push(chosen);
        }
        if let Kind::Words { refused, .. } = row.kind {
            for text in refused.iter().flat_map(|refused| refused.words) {
                assert!(row.check(text).is_err(), "{:?}: {text}", row.id);
            }
        }
    }
}

/// A default that is a value must be the one that applies if nothing is chosen, also in pylon.
#[test]
fn defaults_are_what_they_are_said_to_be() {
    for row in OPTIONS.iter().filter(|row| !matches!(row.kind, Kind::Text { .. } | Kind::Address { .. })) {
        // The page fills in today's date; network defaults are the source's, which a test of the page compares.
        if matches!(row.owner, Owner::Network) || row.id == OptionId::Date {
            continue;
        }
        for (place, words, before) in
            [("page", row.default.page, Settings::page()), ("pylon", row.default.pylon, Settings::pylon())]
        {
            let mut after = before.clone();
            let is_value = row.apply(&mut after, words).is_ok();
            let is_here = if place == "page" { row.key.is_some() } else { row.flag.is_some() };
            assert!(!is_value || !is_here || before == after, "{:?}: {words} is not the default of {place}", row.id);
            assert!(
                is_value || row.words().is_empty() || words.contains(' '),
                "{:?}: {words} is none of its words",
                row.id
            );
        }
    }
}

#[test]
fn a_refused_text_changes_nothing_and_says_what_was_expected() {
    for row in OPTIONS.iter().filter(|row| !matches!(row.kind, Kind::Text { .. })) {
        for text in ["", "\u{1F642}", "-1", "+1", "NaN"] {
            let mut after = settings();
            let expected = row.apply(&mut after, text).expect_err("no option takes it");
            assert!(!expected.is_empty() && after == settings(), "{:?}: {text}", row.id);
        }
    }
    for row in OPTIONS.iter().filter(|row| matches!(row.kind, Kind::Text { .. })) {
        assert!(row.check("").is_err(), "{:?}", row.id);
    }
}

#[test]
fn texts_become_values() {
    assert_eq!(set(OptionId::Effort, "high").prompt.effort, Effort::High);
    assert_eq!(set(OptionId::PromptFormat, "text").prompt.format, PromptFormat::Text);
    assert_eq!(set(OptionId::Cache, "no").load.cache.mode, CacheMode::Off);
    assert_eq!(set(OptionId::FetchStall, "2.5").load.network.stall_ms, Some(2500));
    assert_eq!(set(OptionId::Layers, "ALL").load.engine.layers, None);
    assert_eq!(set(OptionId::Layers, "0").load.engine.layers, Some(0));
    assert_eq!(set(OptionId::Date, "today").prompt.date.as_deref(), Some("2026-02-03"));
    assert_eq!(set(OptionId::Date, "none").prompt.date, None);
    assert_eq!(set(OptionId::Seed, "18446744073709551615").prompt.sampling.seed, u64::MAX);
}

#[test]
fn an_option_is_named_by_what_it_is_known_as() {
    assert_eq!(OptionId::Temperature.name(), "Temperature (temp)");
    assert_eq!(OptionId::Threads.name(), "Threads (--threads)");
    assert_eq!(OptionId::Autostart.name(), "autostart");
    assert_eq!(OptionId::MaxNewTokens.flag().as_deref(), Some("--max-tokens"));
}
