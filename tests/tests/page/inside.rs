//! The core: its numbers and its cells against the events of the same run.

use std::time::Duration;

use browser_driver::{Browser, GptossPage, NanoCase, PageState};
use gptoss_page::core::geometry::{Geometry, Shape};
use gptoss_page::core::{Cell, words};
use gptoss_page::panels::timeline::{moment_of, state_at};
use gptoss_page::state::State;
use gptoss_protocol::Event;
use serde_json::json;

use crate::event_log;
use crate::session::{Session, assert_answer, case, follow, load_and_answer};

/// Rows of the table that stands for the picture.
const READ_TWIN: &str = "return [...document.querySelectorAll('#core-twin tbody tr')] \
     .map((row) => [...row.children].map((cell) => cell.textContent));";

/// How opaque the most opaque pixel around each of some points of the canvas is, from 0 to 255; points are in CSS pixels. Themes
/// differ in what is bright, not in what is opaque.
const READ_PIXELS: &str = "const canvas = document.getElementById('core-canvas'); \
     const scale = canvas.width / canvas.clientWidth; \
     const copy = new OffscreenCanvas(canvas.width, canvas.height); \
     const context = copy.getContext('2d', { willReadFrequently: true }); \
     context.drawImage(canvas, 0, 0); \
     return arguments[0].map(([x, y]) => { \
         const { data } = context.getImageData(Math.round(x * scale) - 1, Math.round(y * scale) - 2, 3, 5); \
         let most = 0; \
         for (let at = 3; at < data.length; at += 4) { most = Math.max(most, data[at]); } \
         return most; \
     });";

#[tokio::test(flavor = "multi_thread")]
async fn every_number_and_cell_of_the_core_is_of_the_run_and_attention_is_told_while_it_is_watched() {
    let session = Session::start().await;
    let case = case("capitals");
    let page = session.open(&case.query()).await;
    assert_answer(&load_and_answer(&page).await, &case);
    let browser = &session.browser;
    browser.eval("document.getElementById('core-twin-button').click();", vec![]).await.expect("script");
    // Until nothing glows any more.
    tokio::time::sleep(Duration::from_secs(2)).await;

    let state: State = event_log::recording(browser).await.replay();
    let routes = event_log::all(&event_log::export(browser).await, |event| match event {
        Event::Routes(routes) => Some(routes.clone()),
        _ => None,
    });
    let tokens = state.answer.tokens.len();
    let alone = routes.iter().filter(|routes| routes.tokens == 1).count();
    assert!(alone + 1 >= tokens && tokens > 5, "{alone} routes of {tokens} tokens were told");
    for routes in &routes {
        for layer in &routes.layers {
            let sum: f32 = layer.iter().map(|route| route.weight).sum();
            assert!((sum - routes.tokens as f32).abs() < 1e-3, "weights of a token sum to 1: {layer:?}");
        }
    }

    let table = words::table(&state);
    let rows = serde_json::to_value(&table.rows).expect("text");
    assert_eq!(browser.eval(READ_TWIN, vec![]).await.expect("script"), rows);
    let last = routes.last().expect("routes were told");
    for (row, chosen) in table.rows.iter().zip(&last.layers) {
        for route in chosen {
            assert!(row[4].contains(&format!("{} ({:.2})", route.expert, route.weight)), "{row:?} {route:?}");
        }
    }
    for (id, expected) in [("#core-title", words::title(&state)), ("#core-line", words::readout(&state))] {
        assert_eq!(browser.text(id).await.expect(id), expected);
    }

    let size =
        "const canvas = document.getElementById('core-canvas'); return [canvas.clientWidth, canvas.clientHeight];";
    let size = browser.eval(size, vec![]).await.expect("script");
    let side = |at: usize| size[at].as_f64().expect("a number");
    let shape = Shape { layers: state.inside.layers, experts: state.inside.experts };
    let geometry = Geometry::new(side(0), side(1), shape);
    let cells: Vec<Cell> =
        (0..shape.layers).flat_map(|layer| (0..shape.experts).map(move |expert| Cell { layer, expert })).collect();
    let points: Vec<_> = cells
        .iter()
        .map(|cell| {
            // Its upper edge, which is drawn on whole pixels: what was chosen has a frame. Not in the middle, where the token's way goes through all cells.
            let rect = geometry.cell(*cell);
            json!([rect.x + rect.width * 0.35, rect.y])
        })
        .collect();
    let opacity = browser.eval(READ_PIXELS, vec![json!(points)]).await.expect("script");
    for layer in 0..shape.layers {
        let of = |is_chosen: bool| {
            let chosen = &last.layers[layer as usize];
            let known = |cell: &Cell| chosen.iter().any(|route| route.expert == cell.expert) == is_chosen;
            let cells = cells.iter().enumerate().filter(move |(_, cell)| cell.layer == layer && known(cell));
            cells.map(|(at, _)| opacity[at].as_f64().expect("a number")).collect::<Vec<_>>()
        };
        let (chosen, others) = (of(true), of(false));
        let least = chosen.iter().copied().fold(f64::INFINITY, f64::min);
        let most = others.iter().copied().fold(0.0, f64::max);
        assert!(least > most, "layer {layer}: chosen {chosen:?} are more opaque than {others:?}");
    }

    // A token that is pressed takes the core back to when it came.
    let recording = event_log::recording(browser).await;
    let (place, _) = state.answer.said.last().expect("it answered").ends[1];
    let pressed = format!("document.querySelector('[data-do=\"token 0 {place}\"]').click();");
    browser.eval(&pressed, vec![]).await.expect("script");
    let at = moment_of(recording.events(), &state.answer.tokens[place as usize]).expect("it is in the recording");
    let then = words::table(&state_at(&recording, at));
    assert_ne!(then.rows, table.rows);
    let then = serde_json::to_value(&then.rows).expect("text");
    let look = async |browser: &Browser| {
        let rows = browser.eval(READ_TWIN, vec![]).await?;
        Ok(if rows == then { Ok(()) } else { Err(rows.to_string()) })
    };
    browser.wait_for("the pressed token's experts", Duration::from_secs(30), look).await.expect("they are shown");

    attention_is_told_while_it_is_watched(&session, &page, &case).await;
    session.assert_quiet_console().await;
}

/// Not before the button is pressed; then every row is of the head that was chosen.
async fn attention_is_told_while_it_is_watched(session: &Session, page: &GptossPage<'_>, case: &NanoCase) {
    let browser = &session.browser;
    let rows = async || {
        event_log::all(&event_log::export(browser).await, |event| match event {
            Event::Attention(row) => Some(row.clone()),
            _ => None,
        })
    };
    assert_eq!(rows().await, [], "nobody watched");
    for (css, value) in [("#attention-layer", "1"), ("#attention-head", "2")] {
        browser.set_value(css, value).await.expect("type");
    }
    browser.click("#attention-on").await.expect("watch");
    page.ask().await.expect("ASK can be pressed");
    assert_answer(&follow(page, &[PageState::Done]).await, case);
    session.screenshot("attention").await;
    let rows = rows().await;
    assert!(rows.len() >= case.final_text.len() / 8, "{} rows", rows.len());
    for row in &rows {
        assert_eq!((row.head.layer, row.head.head), (1, 2));
        let sum: f32 = row.weights.iter().sum::<f32>() + row.sink;
        assert!((sum - 1.0).abs() < 1e-3, "weights and sink sum to 1: {sum}");
    }
    let is_told = async |browser: &Browser| {
        let line = browser.text("#attention-line").await?;
        Ok(if line.starts_with("layer 1 head 2 · sink ") { Ok(()) } else { Err(line) })
    };
    browser.wait_for("the line below the picture", Duration::from_secs(30), is_told).await.expect("it is drawn");
}
