//! Asks the host of this page which models it serves, and offers them.

use std::rc::Rc;

use gptoss_protocol::OptionId;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{HtmlElement, HtmlSelectElement, Response};

use super::App;
use super::dom::{append, element, report, show, window};
use crate::page::catalog::{CATALOG_PATH, HostedModel, first_supported, parse};
use crate::page::format;

/// Fills the list, chooses the first model that runs here, and loads it when `autostart` says so.
pub fn offer(app: &Rc<App>, autostart: bool) {
    let app = Rc::clone(app);
    spawn_local(async move {
        match ask().await {
            Ok(models) => offer_models(&app, &models),
            Err(note) => element::<HtmlElement>("host-note").set_text_content(Some(&note)),
        }
        if autostart {
            app.load();
        }
    });
}

async fn ask() -> Result<Vec<HostedModel>, String> {
    let unreachable = |_| "This host does not say which models it serves. Give an address, or pick a file.".to_owned();
    let response = JsFuture::from(window().fetch_with_str(CATALOG_PATH)).await.map_err(unreachable)?;
    let response: Response = response.dyn_into().map_err(unreachable)?;
    if !response.ok() {
        return Err(unreachable(response.into()));
    }
    let text = JsFuture::from(response.text().map_err(unreachable)?).await.map_err(unreachable)?;
    parse(&text.as_string().unwrap_or_default())
}

fn offer_models(app: &Rc<App>, models: &[HostedModel]) {
    let select: HtmlSelectElement = element("model-select");
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
