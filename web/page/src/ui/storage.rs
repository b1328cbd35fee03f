//! The storage panel: what is cached, verifying and deleting it, and whether the browser will keep it.

use std::rc::Rc;

use gptoss_protocol::{CacheAction, Command};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Element, Event, HtmlElement};

use super::App;
use super::dom::{Texts, append, element, listen, report, show, window};
use super::worker_link::WorkerLink;
use crate::cache::{CacheLine, DownloadCache, cache_lines, persisted_words, shown_notices};
use crate::format::{NOT_MEASURED, bytes};

/// What was drawn last, so that buttons stay where they are while nothing changes.
#[derive(Default)]
pub struct CacheView {
    lines: Vec<CacheLine>,
    notices: usize,
    latest_notice: String,
}

impl CacheView {
    pub fn draw(&mut self, cached: &DownloadCache, texts: &mut Texts) {
        let measured = |texts: &mut Texts, id, value| texts.value(id, value, NOT_MEASURED);
        let loaded = cached.loaded_bytes();
        measured(texts, "weights-cached", loaded.map(|(storage_bytes, _)| bytes(storage_bytes)));
        measured(texts, "weights-network", loaded.map(|(_, network_bytes)| bytes(network_bytes)));
        let room = cached.report.as_ref();
        let usage_bytes = room.and_then(|room| room.usage_bytes);
        let quota_bytes = room.and_then(|room| room.quota_bytes);
        measured(texts, "cache-used", usage_bytes.map(bytes));
        let free = usage_bytes.zip(quota_bytes).map(|(usage, quota)| bytes(quota.saturating_sub(usage)));
        measured(texts, "cache-free", free);
        let persisted = room.and_then(|room| room.persisted);
        measured(texts, "cache-persisted", persisted_words(persisted).map(str::to_owned));
        show("cache-persist", persisted == Some(false));
        texts.set("cache-problem", room.and_then(|room| room.problem.as_deref()).unwrap_or_default());
        self.draw_notices(cached);
        self.draw_lines(cached);
    }

    fn draw_lines(&mut self, cached: &DownloadCache) {
        let lines = cache_lines(cached);
        if lines == self.lines {
            return;
        }
        let list: Element = element("cache-models");
        list.set_text_content(None);
        for line in &lines {
            // A node that cannot be made was reported.
            let _ = draw_line(&list, line);
        }
        show("cache-empty", lines.is_empty());
        self.lines = lines;
    }

    fn draw_notices(&mut self, cached: &DownloadCache) {
        let shown: Vec<_> = shown_notices(cached).collect();
        let latest = shown.last().map_or("", |notice| &notice.message);
        if (self.notices, self.latest_notice.as_str()) == (shown.len(), latest) {
            return;
        }
        (self.notices, self.latest_notice) = (shown.len(), latest.to_owned());
        let list: Element = element("cache-notices");
        list.set_text_content(None);
        for notice in shown {
            let mut message = notice.message.clone();
            // Messages begin as parts of sentences do.
            if let Some(first) = message.get_mut(..1).filter(|_| !message_begins_with(notice)) {
                first.make_ascii_uppercase();
            }
            append(&list, "li", "", &format!("{message}. {}", notice.advice));
        }
    }
}

/// A file's name is written as it is.
fn message_begins_with(notice: &gptoss_protocol::CacheNotice) -> bool {
    notice.message.starts_with(&notice.file)
}

fn draw_line(list: &Element, line: &CacheLine) -> Option<()> {
    let item = append(list, "li", "", "")?;
    report(item.set_attribute("data-id", &line.id));
    let name = append(&item, "p", "name", &line.name)?;
    report(name.set_attribute("title", &line.url));
    let meter: web_sys::HtmlMeterElement = append(&item, "meter", "", "")?.dyn_into().ok()?;
    meter.set_value(line.share);
    report(meter.set_attribute("aria-label", &format!("{} cached", line.name)));
    append(&item, "p", "amount", &format!("{} · {}", line.amount, local_time(line.written_ms)))?;
    if !line.check.is_empty() {
        append(&item, "p", "check", &line.check)?;
    }
    let actions = append(&item, "p", "row-actions", "")?;
    for action in ["use", "verify", "delete"] {
        if action == "use" && line.url.is_empty() {
            continue;
        }
        let button = append(&actions, "button", "quiet", action)?;
        report(button.set_attribute("type", "button"));
        report(button.set_attribute("data-action", action));
        report(button.set_attribute("aria-label", &format!("{action} {}", line.name)));
        if line.busy {
            report(button.set_attribute("disabled", ""));
        }
    }
    Some(())
}

/// `2026-11-25 14:05`, where the user is.
fn local_time(ms: f64) -> String {
    let time = js_sys::Date::new(&ms.into());
    let (year, month, day) = (time.get_full_year(), time.get_month() + 1, time.get_date());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", time.get_hours(), time.get_minutes())
}

/// Wires the panel up and asks what there is.
pub fn listen_to_cache(app: &Rc<App>) {
    let pressed = Rc::clone(app);
    listen(&element::<HtmlElement>("cache-models"), "click", move |event: Event| press(&pressed, &event));
    let persisting = Rc::clone(app);
    listen(&element::<HtmlElement>("cache-persist"), "click", move |_: Event| persist(&persisting));
    send(app, CacheAction::List);
}

fn send(app: &Rc<App>, action: CacheAction) {
    WorkerLink::ask(app, Command::Cache { action }, &[]);
}

/// Deleting takes two presses: gigabytes are not fetched again for a slip of the hand.
fn press(app: &Rc<App>, event: &Event) {
    const SURE: &str = "really delete?";
    let Some(button) = event.target().and_then(|target| target.dyn_into::<Element>().ok()) else { return };
    let Some(action) = button.get_attribute("data-action") else { return };
    let item = button.closest("[data-id]").ok().flatten();
    let Some(id) = item.and_then(|item| item.get_attribute("data-id")) else { return };
    match action.as_str() {
        "use" => {
            let lines = cache_lines(&app.state.borrow().cache);
            if let Some(line) = lines.iter().find(|line| line.id == id) {
                app.use_address(&line.url);
            }
        }
        "verify" => send(app, CacheAction::Verify { id }),
        _ if button.text_content().as_deref() == Some(SURE) => send(app, CacheAction::Delete { id }),
        _ => {
            button.set_text_content(Some(SURE));
            report(button.remove_attribute("aria-label"));
        }
    }
}

/// Asks the browser never to delete what is cached by itself. It may ask the user, or decide by itself.
fn persist(app: &Rc<App>) {
    let Some(asked) = report(window().navigator().storage().persist()) else { return };
    let app = Rc::clone(app);
    spawn_local(async move {
        report(JsFuture::from(asked).await);
        send(&app, CacheAction::List);
    });
}
