//! Asks the host of this page which models it serves, and offers them.

use std::rc::Rc;

use gloo_net::http::Request;
use gptoss_protocol::OptionId;
use wasm_bindgen_futures::spawn_local;
use web_sys::{HtmlElement, HtmlSelectElement};

use super::App;
use super::dom::{append, element, report, show};
use crate::catalog::{CATALOG_PATH, HostedModel, first_supported, parse};
use crate::format;

/// Fills the list, chooses the first model that runs here, and loads it when `autostart` says so.
pub fn offer(app: &Rc<App>, autostart: bool) {
    let app = Rc::clone(app);
    spawn_local(async move {
        match ask().await {
            Ok(models) => offer_models(&app, &models),
            Err(note) => {
                element::<HtmlElement>("host-note").set_text_content(Some(&note));
                want_address();
            }
        }
        if autostart {
            app.load();
        }
    });
}

/// What the host says it serves.
///
/// # Errors
/// It does not say; in words.
pub async fn ask() -> Result<Vec<HostedModel>, String> {
    let unreachable = || "This host does not say which models it serves. Give an address, or pick a file.".to_owned();
    let response = Request::get(CATALOG_PATH).send().await.map_err(|_| unreachable())?;
    if !response.ok() {
        return Err(unreachable());
    }
    parse(&response.text().await.map_err(|_| unreachable())?)
}

/// Shows where an address is given or a file picked, in place of what the host has.
pub fn want_address() {
    show("host-models", false);
    report(element::<HtmlElement>("source-more").set_attribute("open", ""));
}

fn offer_models(app: &Rc<App>, models: &[HostedModel]) {
    let select: HtmlSelectElement = element("model-select");
    select.set_text_content(None);
    let chosen = first_supported(models);
    for (index, model) in models.iter().enumerate() {
        let text = match &model.reason {
            _ if model.supported => format!("{} · {}", model.name, format::bytes(model.size_bytes)),
            Some(reason) => format!("{} · cannot run: {reason}", model.name),
            None => format!("{} · cannot run", model.name),
        };
        let Some(option) = append(&select, "option", "", &text) else { continue };
        report(option.set_attribute("value", &model.file_url));
        if !model.supported {
            report(option.set_attribute("disabled", ""));
        }
        if chosen == Some(index) {
            report(option.set_attribute("selected", ""));
        }
    }
    if chosen.is_none() {
        want_address();
    }
    show("host-models", !models.is_empty());
    let note = match chosen {
        Some(_) => "",
        None if models.is_empty() => "This host serves no models. Give an address, or pick a file.",
        None => "None of this host's models can run here. Give an address, or pick a file.",
    };
    element::<HtmlElement>("host-note").set_text_content(Some(note));
    // What the user typed while the answer was on its way stays.
    if let Some(index) = chosen.filter(|_| app.controls.is_blank(OptionId::Gguf)) {
        app.controls.set(OptionId::Gguf, &models[index].file_url);
    }
}
