//! Time on the page: moments of recordings, live or from files.

use std::rc::Rc;

use gptoss_protocol::Recording;
use web_sys::{Event, File, HtmlElement, HtmlInputElement};

use super::dom::{element, listen, window};
use super::looking::Looking;
use super::{App, files};
use crate::action::Moment;
use crate::panels::timeline::{first_load, first_token};
use crate::state::{Phase, State};

/// Lies beside the page; `index.html` names it.
const IDLE_PICTURE: &str = "nano.jsonl";

/// The idle picture stays at its end for so long before it begins again.
const REST_MS: f64 = 4000.0;

/// Lets a playing recording go on; whether it plays.
pub fn go_on(looking: &mut Looking, own: &Recording<State>, elapsed_ms: f64) -> bool {
    if looking.playhead.playing {
        let events = looking.opened.as_ref().map_or(own, |(_, recording)| recording).events();
        // The first frame after a pause has waited for nothing that was to be played.
        let elapsed_ms = elapsed_ms.min(250.0);
        let at_end = |looking: &Looking| looking.playhead.at.is_some_and(|at| at >= events.len());
        if looking.is_idle_picture && at_end(looking) {
            looking.left_ms += elapsed_ms;
            if looking.left_ms >= REST_MS {
                (looking.playhead.at, looking.left_ms) = (Some(first_load(events)), 0.0);
            }
            return true;
        }
        looking.left_ms = looking.playhead.advance(events, looking.left_ms + elapsed_ms);
        looking.playhead.playing |= looking.is_idle_picture;
    }
    looking.playhead.playing
}

impl App {
    /// Goes to a moment.
    pub(super) fn go_to(self: &Rc<Self>, moment: Moment) {
        {
            let own = self.recording.borrow();
            let mut looking = self.looking.borrow_mut();
            let mut playhead = looking.playhead;
            let events = looking.recording(&own).events();
            match moment {
                Moment::Live => looking.go_live(),
                Moment::Faster => looking.playhead.faster(),
                Moment::Play => {
                    let ended = playhead.at.is_none_or(|at| at >= events.len());
                    playhead.playing = !playhead.playing;
                    if playhead.playing && ended {
                        playhead.at = Some(0);
                    }
                    looking.playhead = playhead;
                }
                Moment::Back | Moment::On => {
                    playhead.step(events, moment);
                    looking.playhead = playhead;
                }
            }
        }
        self.request_frame();
    }

    /// The slider, and recordings that are opened from files.
    pub(super) fn listen_to_time(self: &Rc<Self>) {
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>("moment"), "input", move |_: Event| {
            let at = element::<HtmlInputElement>("moment").value().parse::<usize>().ok();
            {
                let own = app.recording.borrow();
                let mut looking = app.looking.borrow_mut();
                let count = looking.recording(&own).events().len();
                looking.playhead.playing = false;
                // The end of the page's own recording is what is going on now.
                let is_live = looking.opened.is_none() && at.is_some_and(|at| at >= count);
                looking.playhead.at = at.map(|at| at.min(count)).filter(|_| !is_live);
            }
            app.request_frame();
        });
        let app = Rc::clone(self);
        listen(&element::<HtmlElement>("recording-file"), "change", move |_: Event| {
            let input: HtmlInputElement = element("recording-file");
            let file = input.files().and_then(|files| files.get(0));
            if let Some(file) = file {
                app.open_recording(file);
            }
            input.set_value("");
        });
    }

    fn open_recording(self: &Rc<Self>, file: File) {
        let app = Rc::clone(self);
        files::read_text(file, move |name, text| app.show_recording(name, &text));
    }

    /// Shows a recording, or says why it is none.
    pub(super) fn show_recording(self: &Rc<Self>, name: String, text: &str) {
        match Recording::from_json_lines(text) {
            Ok(recording) => self.looking.borrow_mut().open(name, recording),
            Err(error) => self.cannot_open(&name, &error.to_string()),
        }
        self.request_frame();
    }

    /// While nothing has happened, a recording that came with the page plays: what there is to be seen once there is a model. A page
    /// without it is as good.
    pub(super) fn play_idle_picture(self: &Rc<Self>) {
        let app = Rc::clone(self);
        wasm_bindgen_futures::spawn_local(async move {
            let Ok(text) = fetch(IDLE_PICTURE).await else { return };
            let Ok(recording) = Recording::from_json_lines(&text) else { return };
            if app.state.borrow().phase != Phase::Idle || app.looking.borrow().opened.is_some() {
                return;
            }
            {
                let mut looking = app.looking.borrow_mut();
                // All of it is to be seen at once; how it was loaded comes when it begins again.
                let begin = first_token(recording.events());
                looking.open("2026-11-30".to_owned(), recording);
                looking.is_idle_picture = true;
                looking.playhead.at = Some(begin);
                let calm = window().match_media("(prefers-reduced-motion: reduce)").ok().flatten();
                if calm.is_some_and(|calm| calm.matches()) {
                    let end = looking.opened.as_ref().map(|(_, recording)| recording.events().len());
                    (looking.playhead.at, looking.playhead.playing) = (end, false);
                }
            }
            app.request_frame();
        });
    }

    /// `?data=`: the recording at this address.
    pub(super) fn open_recording_at(self: &Rc<Self>, address: String) {
        let app = Rc::clone(self);
        wasm_bindgen_futures::spawn_local(async move {
            match fetch(&address).await {
                Ok(text) => app.show_recording(address.rsplit('/').next().unwrap_or(&address).to_owned(), &text),
                Err(error) => app.cannot_open(&address, &error),
            }
        });
    }
}

/// A text from a host, or why there is none.
async fn fetch(address: &str) -> Result<String, String> {
    match gloo_net::http::Request::get(address).send().await {
        Ok(response) if response.ok() => response.text().await.map_err(|error| error.to_string()),
        Ok(response) => Err(format!("the host answered HTTP {}", response.status())),
        Err(error) => Err(error.to_string()),
    }
}
