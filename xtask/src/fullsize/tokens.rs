//! Events, as pylon prints them and as the page exports them.

use anyhow::{Context, Result};
use browser_driver::Browser;
use serde_json::Value;

/// Keeps every blob that the page makes a link of, so that a script can read what a user would download.
const CATCH_DOWNLOADS: &str = "window.caughtBlobs = []; \
     const original = URL.createObjectURL.bind(URL); \
     URL.createObjectURL = (blob) => { window.caughtBlobs.push(blob); return original(blob); };";

const READ_LAST_BLOB: &str = "const done = arguments[arguments.length - 1]; \
     const blob = window.caughtBlobs.at(-1); \
     if (blob === undefined) { done(null); } else { blob.text().then(done, () => done(null)); }";

/// Presses the log's export button and reads what it has kept.
pub async fn export(browser: &Browser) -> Result<Vec<Value>> {
    browser.eval(CATCH_DOWNLOADS, vec![]).await?;
    browser.click("#log-export").await?;
    let text = browser.eval_async(READ_LAST_BLOB, vec![]).await?;
    let text = text.as_str().context("the page's export button makes no file")?;
    // The first line says what kind of file it is.
    let events = text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(serde_json::from_str);
    events.collect::<Result<_, _>>().context("the page's export is not JSON lines")
}

/// Ids of all tokens among envelopes, one to a line.
pub fn of_lines(lines: &str) -> Result<Vec<u32>> {
    let events = lines.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str);
    of_events(&events.collect::<Result<Vec<_>, _>>().context("not a line of JSON")?)
}

/// Ids of all tokens, in order.
pub fn of_events(envelopes: &[Value]) -> Result<Vec<u32>> {
    let tokens = envelopes.iter().filter_map(|envelope| envelope["event"].get("token"));
    tokens.map(|event| Ok(event["id"].as_u64().context("a token without an id")? as u32)).collect()
}

/// The largest value that events of a type have in a field; `None` if there are none.
pub fn largest(envelopes: &[Value], kind: &str, field: &str) -> Option<u64> {
    let events = envelopes.iter().filter_map(|envelope| envelope["event"].get(kind));
    events.filter_map(|event| event[field].as_u64()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_figures_are_read_from_envelopes() {
        let lines = "{\"event\":{\"gpu_memory\":{\"allocated_bytes\":7}}}\n\
                     {\"event\":{\"token\":{\"id\":3}}}\n\n{\"event\":{\"token\":{\"id\":200006}}}\n\
                     {\"event\":{\"gpu_memory\":{\"allocated_bytes\":5}}}\n";
        assert_eq!(of_lines(lines).expect("well formed"), [3, 200_006]);
        let events: Vec<Value> = lines
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(largest(&events, "gpu_memory", "allocated_bytes"), Some(7));
        assert_eq!(largest(&events, "wasm_heap", "bytes"), None);
        assert!(of_lines("nonsense").is_err());
    }
}
