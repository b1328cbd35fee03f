//! What is done with the download cache: using, verifying and deleting what is in it, and asking the browser to keep it.

use std::rc::Rc;

use gptoss_protocol::{CacheAction, Command};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Element, Event, HtmlElement};

use super::App;
use super::dom::{element, listen, report, window};
use super::worker_link::WorkerLink;
use crate::panels::cache::{Press, press};

/// `2026-11-25 14:05`, where the user is.
pub fn local_time(ms: f64) -> String {
    let time = js_sys::Date::new(&ms.into());
    let (year, month, day) = (time.get_full_year(), time.get_month() + 1, time.get_date());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", time.get_hours(), time.get_minutes())
}

/// Wires the panel up and asks what there is.
pub fn listen_to_cache(app: &Rc<App>) {
    let pressed = Rc::clone(app);
    listen(&element::<HtmlElement>("panel-cache"), "click", move |event: Event| take_press(&pressed, &event));
    send(app, CacheAction::List);
}

fn send(app: &Rc<App>, action: CacheAction) {
    WorkerLink::ask(app, Command::Cache { action }, &[]);
}

fn take_press(app: &Rc<App>, event: &Event) {
    let Some(target) = event.target().and_then(|target| target.dyn_into::<Element>().ok()) else { return };
    let Some(button) = target.closest("[data-action]").ok().flatten() else { return };
    let Some(action) = button.get_attribute("data-action") else { return };
    if action == "persist" {
        return persist(app);
    }
    let item = button.closest("[data-id]").ok().flatten();
    let Some(id) = item.and_then(|item| item.get_attribute("data-id")) else { return };
    let doomed = app.looking.borrow_mut().doomed.take();
    let pressed = press(&app.state.borrow().cache, &action, &id, doomed.as_deref());
    match pressed {
        Some(Press::Use(url)) => app.use_address(&url),
        Some(Press::Verify) => send(app, CacheAction::Verify { id }),
        Some(Press::Delete) => send(app, CacheAction::Delete { id }),
        Some(Press::Doom) => app.looking.borrow_mut().doomed = Some(id),
        None => {}
    }
    app.request_frame();
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
