//! The download cache: what of which models this browser has stored, and what can be done with it.

use gptoss_protocol::CacheNotice;

use super::parts::{Rows, note, or_not_measured};
use super::{Panel, Seen, Shown};
use crate::cache::{CacheLine, DownloadCache, cache_lines, persisted_words, shown_notices};
use crate::format::{bytes, fraction, plural};
use crate::view::{Element, Node, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "cache",
    title: "Download cache",
    line_id: "cache-summary",
    how: "Files that come over the network are cached in this browser, chunk by chunk, so that a load that broke off goes on where it \
          was and the next one needs no network. A picked file is cached only if you say so. Whatever is read of what is cached is \
          checked, every time. Used and free are what the browser says of this page's whole origin.",
    style: include_str!("style.css"),
    view,
};

fn view(seen: &Seen<'_>) -> Shown {
    let cached = &seen.live.cache;
    let room = cached.report.as_ref();
    let lines = cache_lines(cached);
    let notices: Vec<&CacheNotice> = shown_notices(cached).collect();
    let problem = room.and_then(|room| room.problem.clone()).unwrap_or_default();
    let (used, quota) = (room.and_then(|room| room.usage_bytes), room.and_then(|room| room.quota_bytes));
    let free = used.zip(quota).map(|(used, quota)| bytes(quota.saturating_sub(used)));
    let line = room.map(|_| match (lines.len() as u64, &free) {
        (0, Some(free)) => format!("nothing is cached · {free} free"),
        (0, None) => "nothing is cached".to_owned(),
        (files, _) => {
            format!("{} · {}", plural(files, "file"), bytes(lines.iter().map(|line| line.stored_bytes).sum()))
        }
    });
    let persisted = room.and_then(|room| room.persisted);
    let is_empty = lines.is_empty() && notices.is_empty() && problem.is_empty();
    let items = lines.iter().map(|line| item(line, seen));
    let said = notices.iter().map(|notice| element("li").text(sentence(notice)));
    let share = used.zip(quota).and_then(|(used, quota)| fraction(used, quota));
    let mut table = Rows::default();
    table.add("cache-used", "Used", used.map(bytes)).bar(share);
    table.add("cache-free", "Free", free);
    if let Some(words) = persisted_words(persisted) {
        table.add("cache-persisted", "Stays", Some(words.to_owned()));
    }
    let persist =
        element("button").id("cache-persist").class("quiet").with("type", "button").with("data-action", "persist");
    let body = vec![
        element("ul").id("cache-models").class("cached").children(items).into(),
        // A list has no other role.
        element("div")
            .with("role", "status")
            .child(element("ul").id("cache-notices").class("notices").children(said))
            .into(),
        note(problem),
        table.view().into(),
        persist.flag("hidden", persisted != Some(false)).text("ask the browser to keep the cache").into(),
    ];
    Shown { is_empty, line: or_not_measured(line), body, ..Shown::default() }
}

fn item(line: &CacheLine, seen: &Seen<'_>) -> Node {
    let meter = element("meter").with("value", format!("{:.4}", line.share));
    let amount = format!("{} · {}", line.amount, (seen.local_time)(line.written_ms));
    let mut item = element("li")
        .key(line.id.clone())
        .with("data-id", line.id.clone())
        .child(element("p").class("name").with("title", line.url.clone()).text(&line.name))
        .child(meter.with("aria-label", format!("{} cached", line.name)))
        .child(element("p").class("amount").text(amount));
    if !line.check.is_empty() {
        item = item.child(element("p").class("check").text(&line.check));
    }
    let is_doomed = seen.doomed == Some(line.id.as_str());
    let actions = ["use", "verify", "delete"].into_iter().filter(|action| *action != "use" || !line.url.is_empty());
    item.child(element("p").class("row-actions").children(actions.map(|action| button(action, line, is_doomed)))).into()
}

/// Deleting takes two presses: gigabytes are not fetched again for a slip of the hand.
fn button(action: &str, line: &CacheLine, is_doomed: bool) -> Element {
    let words = if action == "delete" && is_doomed { "really delete" } else { action };
    let button = element("button").class("quiet").with("type", "button").with("data-action", action);
    let button = button.with("aria-label", format!("{words} {}", line.name)).flag("disabled", line.busy);
    button.text(if words == action { action.to_owned() } else { format!("{words}?") })
}

/// Messages begin as parts of sentences do; a file's name is written as it is.
fn sentence(notice: &CacheNotice) -> String {
    let mut message = notice.message.clone();
    if !message.starts_with(&notice.file)
        && let Some(first) = message.get_mut(..1)
    {
        first.make_ascii_uppercase();
    }
    format!("{message}. {}", notice.advice)
}

/// What the user asks for when a button of a cached file is pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Press {
    /// Take the file's address for the next load.
    Use(String),
    /// Read it again.
    Verify,
    /// Delete it.
    Delete,
    /// Nothing yet: the same press once more deletes it.
    Doom,
}

/// What a press on the button `action` of the cached file `id` means.
pub fn press(cached: &DownloadCache, action: &str, id: &str, doomed: Option<&str>) -> Option<Press> {
    let line = cache_lines(cached).into_iter().find(|line| line.id == id)?;
    Some(match action {
        "use" => Press::Use(line.url),
        "verify" => Press::Verify,
        "delete" if doomed == Some(id) => Press::Delete,
        "delete" => Press::Doom,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{CacheNoticeKind, CacheReport, CachedContents, CachedModel, Event};

    use super::super::tests::{html, html_of, seen, state};
    use super::*;

    fn report() -> Event {
        let contents = CachedContents {
            url: "http://h/m.gguf".into(),
            file_bytes: 10_000_000,
            stored_bytes: 4_000_000,
            chunks: 3,
            stored_chunks: 1,
            verified_chunks: 1,
        };
        let model =
            CachedModel { id: "a1".into(), contents: Some(contents), disk_bytes: 5, written_ms: 1e12, in_use: false };
        let (usage_bytes, quota_bytes) = (Some(5_000_000), Some(20_000_000));
        Event::Cache(CacheReport {
            models: vec![model],
            usage_bytes,
            quota_bytes,
            persisted: Some(false),
            problem: None,
        })
    }

    #[test]
    fn cached_files_are_listed_with_what_can_be_done() {
        let said = html(&PANEL, &state([report()]));
        for words in [
            "id=\"cache-summary\">1 file · 4.00 MB<",
            "<li data-id=\"a1\"><p class=\"name\" title=\"http://h/m.gguf\">m.gguf</p><meter value=\"0.4000\"",
            "<p class=\"amount\">4.00 MB of 10.0 MB · 40.0 % · at 1000000000000</p>",
            "data-action=\"verify\" aria-label=\"verify m.gguf\">verify<",
            "id=\"cache-free\">15.0 MB<",
        ] {
            assert!(said.contains(words), "no {words} in {said}");
        }
        assert!(
            !said.contains("cache-persist\" class=\"quiet\" type=\"button\" data-action=\"persist\" hidden"),
            "{said}"
        );
    }

    #[test]
    fn a_file_is_deleted_with_the_second_press_only() {
        let state = state([report()]);
        let pressed = |doomed| press(&state.cache, "delete", "a1", doomed);
        assert_eq!(
            (pressed(None), pressed(Some("b2")), pressed(Some("a1"))),
            (Some(Press::Doom), Some(Press::Doom), Some(Press::Delete))
        );
        assert_eq!(press(&state.cache, "delete", "gone", None), None);
        assert_eq!(press(&state.cache, "use", "a1", None), Some(Press::Use("http://h/m.gguf".into())));
        let mut seen = seen(&state);
        seen.doomed = Some("a1");
        assert!(html_of(&PANEL, &seen).contains("aria-label=\"really delete m.gguf\">really delete?<"));
    }

    #[test]
    fn with_nothing_cached_it_is_one_line_unless_there_is_a_problem() {
        let empty = |problem: Option<&str>| {
            let problem = problem.map(str::to_owned);
            html(&PANEL, &state([Event::Cache(CacheReport { problem, ..CacheReport::default() })]))
        };
        assert!(empty(None).contains("data-empty") && empty(None).contains("nothing is cached"));
        assert!(!empty(Some("no disk")).contains("data-empty") && empty(Some("no disk")).contains("no disk"));
        let (kind, file) = (CacheNoticeKind::Damaged, "m.gguf".to_owned());
        let notice = CacheNotice { kind, file, message: "a part changed".into(), advice: "Nothing to do.".into() };
        let said = html(&PANEL, &state([Event::CacheNotice(notice)]));
        assert!(said.contains("<li>A part changed. Nothing to do.</li>") && !said.contains("data-empty"), "{said}");
    }
}
