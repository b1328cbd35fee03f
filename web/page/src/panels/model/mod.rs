//! The model card: what the file's header says.

use gptoss_protocol::ModelInfo;

use super::parts::{Rows, heading};
use super::{Panel, Seen, Shown};
use crate::format::{bytes, count, fraction, plural};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "model",
    title: "Model card",
    line_id: "model-line",
    how: "Read from the GGUF header of the file itself. The formats are those of its tensors, with their number and share of the file.",
    style: "",
    view,
};

fn view(seen: &Seen<'_>) -> Shown {
    let model = seen.state.model.as_ref();
    let line = model.map_or_else(|| "no header read yet".to_owned(), |model| bytes(model.file_bytes));
    let body = vec![
        model.map(facts).unwrap_or_default().view().id("model-facts").into(),
        heading("Formats").into(),
        model.map(formats).unwrap_or_default().view().id("model-formats").into(),
    ];
    Shown { line, body, is_empty: model.is_none(), ..Shown::default() }
}

fn facts(model: &ModelInfo) -> Rows {
    let number = |value: u32| count(u64::from(value));
    let tokens = |value: u32| plural(u64::from(value), "token");
    let layers = if model.layers_run == model.layers {
        number(model.layers)
    } else {
        format!("{} of {} run", number(model.layers_run), number(model.layers))
    };
    let mut rows = Rows::default();
    rows.add("", "Name", Some(model.name.clone()));
    rows.add("", "Architecture", Some(model.architecture.clone()));
    rows.add("", "File", Some(bytes(model.file_bytes)));
    rows.add("", "Layers", Some(layers));
    rows.add("", "Hidden size", Some(number(model.hidden)));
    let heads = format!("{} query, {} key/value", number(model.query_heads), number(model.kv_heads));
    rows.add("", "Heads", Some(heads));
    let experts = format!("{}, {} per token", number(model.experts), number(model.experts_per_token));
    rows.add("", "Experts", Some(experts));
    rows.add("", "Vocabulary", Some(tokens(model.vocabulary)));
    rows.add("", "Context", Some(tokens(model.context_tokens)));
    rows.add("", "Sliding window", Some(tokens(model.window_tokens)));
    rows
}

fn formats(model: &ModelInfo) -> Rows {
    let mut rows = Rows::default();
    for (name, tensors, size) in &model.formats {
        let note = plural(u64::from(*tensors), "tensor");
        rows.add("", name, Some(bytes(*size))).bar(fraction(*size, model.file_bytes)).note(note);
    }
    rows
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::Event;

    use super::super::tests::{html, model, state};
    use super::*;

    #[test]
    fn the_card_says_what_runs_and_what_the_file_is_made_of() {
        let Event::Model(mut info) = model() else { unreachable!("it is the model's event") };
        (info.layers_run, info.file_bytes, info.formats) = (2, 1000, vec![("MXFP4".into(), 18, 750)]);
        let said = html(&PANEL, &state([Event::Model(info)]));
        assert!(said.contains("<dd class=\"value\">2 of 6 run</dd>"), "{said}");
        let format = "<dt>MXFP4</dt><dd class=\"bar\" aria-hidden=\"true\" style=\"--share: 75.00%\"></dd>\
                      <dd class=\"value\">750 B</dd><dd class=\"note\">18 tensors</dd>";
        assert!(said.contains(format), "{said}");
        assert!(html(&PANEL, &state([])).contains("data-empty"));
    }
}
