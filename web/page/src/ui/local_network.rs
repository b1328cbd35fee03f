//! Asks for the permission to read from this machine or its network, where the browser wants one. Workers are not asked: a request
//! of the window's own has to come first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gptoss_protocol::{Command, Event, FailureKind, ModelLocation, OptionId};
use js_sys::{Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{AbortController, File, Headers, PermissionState, PermissionStatus, RequestCache, RequestInit};

use super::App;
use super::dom::{report, window};
use super::tunnel_link::TunnelLink;
use super::worker_link::WorkerLink;
use crate::local_network::{LocalNetwork, Permission};
use crate::node_address::NodeAddress;

/// What was asked of the worker last and reads from a host, so that it can be asked again.
#[derive(Default)]
pub struct LocalNetworkLink {
    asking: Cell<bool>,
    reading: RefCell<Option<Reading>>,
}

#[derive(Clone)]
struct Reading {
    url: String,
    command: Command,
    again: bool,
}

/// Sends a command that reads a model, once the user was asked for what the browser wants to be asked for.
pub fn ask_worker(app: &Rc<App>, command: Command, files: Vec<File>) {
    let link = &app.local_network;
    // The browser's own question is still on the screen.
    if link.asking.get() {
        return;
    }
    let page = window().location().href().unwrap_or_default();
    let node = node_of(app, &command);
    let url = node.as_ref().map(|node| node.health_url(&page)).or_else(|| host_url(&command).cloned());
    link.reading.replace(url.clone().map(|url| Reading { url, command: command.clone(), again: false }));
    let needed = url.and_then(|url| LocalNetwork::for_page(&page, &url).map(|network| (network, url)));
    let Some((network, url)) = needed else {
        return send(app, command, &files, node);
    };
    link.asking.set(true);
    let app = Rc::clone(app);
    spawn_local(async move {
        if permission(network).await == Some(Permission::Prompt) {
            ask(network, &url).await;
        }
        app.local_network.asking.set(false);
        send(&app, command, &files, node);
    });
}

/// The node that a command loads by way of, with the key that stands in the address field: commands are recorded, and have none.
fn node_of(app: &App, command: &Command) -> Option<NodeAddress> {
    let Command::Load { model: ModelLocation::Node { address }, .. } = command else { return None };
    let typed = NodeAddress::parse(app.controls.read(String::new()).get(OptionId::Gguf));
    typed.filter(|typed| typed.public() == *address).or_else(|| NodeAddress::parse(address))
}

fn send(app: &Rc<App>, command: Command, files: &[File], node: Option<NodeAddress>) {
    match node {
        Some(node) => TunnelLink::load(app, command, node),
        None => {
            // The page has one model at a time.
            if matches!(command, Command::Load { .. }) {
                TunnelLink::close(app);
            }
            WorkerLink::ask(app, command, files);
        }
    }
}

/// The address of a host that a command reads from.
fn host_url(command: &Command) -> Option<&String> {
    match command {
        Command::Load { model: ModelLocation::Url { url }, .. }
        | Command::Download { model: ModelLocation::Url { url }, .. }
        | Command::Gate { model: ModelLocation::Url { url }, .. } => Some(url),
        _ => None,
    }
}

/// After an event of the worker: a host that could not be reached for want of a permission is named so. If nobody was asked yet,
/// the user is asked now and the worker tries once more.
pub fn look_at(app: &Rc<App>, event: &Event) {
    let Event::Failed { failure, .. } = event else { return };
    // What cannot be reached is a file, or a node.
    let is_unreachable = matches!(failure.kind, FailureKind::Unreachable | FailureKind::Unavailable);
    let reading = app.local_network.reading.take().filter(|_| is_unreachable);
    let Some((reading, network)) = reading.and_then(|it| LocalNetwork::for_host(&it.url).map(|network| (it, network)))
    else {
        return;
    };
    let (app, failure) = (Rc::clone(app), failure.clone());
    spawn_local(async move {
        let mut now = permission(network).await;
        if now == Some(Permission::Prompt) && !reading.again {
            ask(network, &reading.url).await;
            now = permission(network).await;
            // Meanwhile the user may have begun something else.
            if now == Some(Permission::Granted) && app.state.borrow().failure.as_ref() == Some(&failure) {
                let node = node_of(&app, &reading.command);
                send(&app, reading.command.clone(), &[], node);
                app.local_network.reading.replace(Some(Reading { again: true, ..reading }));
                return;
            }
        }
        let page = window().location().href().unwrap_or_default();
        let page_needs_it = LocalNetwork::for_page(&page, &reading.url).is_some();
        if let Some(explained) = now.and_then(|now| network.explain(&failure, now, page_needs_it)) {
            let is_last = app.state.borrow().failure.as_ref() == Some(&failure);
            if is_last {
                app.tell(Event::FailureExplained(explained));
            }
        }
    });
}

/// What the browser says; `None` where it knows no such permission.
async fn permission(network: LocalNetwork) -> Option<Permission> {
    let permissions = window().navigator().permissions().ok()?;
    for name in network.names() {
        let descriptor = Object::new();
        report(Reflect::set(&descriptor, &"name".into(), &name.into()))?;
        // Browsers refuse to be asked for what they do not know.
        let Ok(asked) = permissions.query(&descriptor) else { continue };
        let Ok(status) = JsFuture::from(asked).await else { continue };
        return match status.unchecked_into::<PermissionStatus>().state() {
            PermissionState::Granted => Some(Permission::Granted),
            PermissionState::Denied => Some(Permission::Denied),
            _ => Some(Permission::Prompt),
        };
    }
    None
}

/// Makes the browser ask the user, by one request for one byte. What comes of that is not looked at: the permission is.
async fn ask(network: LocalNetwork, url: &str) {
    let request = || {
        let headers = Headers::new()?;
        headers.set("Range", "bytes=0-0")?;
        let abort = AbortController::new()?;
        let init = RequestInit::new();
        init.set_cache(RequestCache::NoStore);
        init.set_headers(&headers);
        init.set_signal(Some(&abort.signal()));
        Reflect::set(&init, &"targetAddressSpace".into(), &network.target_address_space().into())?;
        Ok::<_, JsValue>((window().fetch_with_str_and_init(url, &init), abort))
    };
    let Some((answer, abort)) = report(request()) else { return };
    // A host that is not there is found by the load itself, in better words.
    let _ = JsFuture::from(answer).await;
    // One that ignores ranges would send the whole file.
    abort.abort();
}
