//! One drawing: the state into the document. Everything is compared with what is there before it is written.

use gptoss_protocol::{FailureKind, OptionId, Recording, TokenInfo};
use web_sys::{Element, HtmlElement, HtmlInputElement, HtmlTextAreaElement};

use super::charts::{self, Picture, RibbonKey, set_share};
use super::controls::Controls;
use super::dom::{Texts, document, element, report, show};
use super::inside::CoreView;
use super::looking::Looking;
use super::panels::{LogView, PanelsView};
use super::storage::local_time;
use crate::action::{Action, Tab};
use crate::describe::{node, page_title, question, sentence, stage_name};
use crate::format::{self, NOT_MEASURED, bytes, count, fraction, milliseconds, percent};
use crate::node_address::NodeAddress;
use crate::panels::network::cells::{TensorCell, cells};
use crate::panels::next_token::looked_at;
use crate::panels::page::Counted;
use crate::panels::{Seen, chat, timeline};
use crate::state::{Phase, State};
use crate::view::{Mounted, element as dom_element};

/// Everything that a drawing is made from.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// What goes on now.
    pub live: &'a State,
    /// All that it was worked out from.
    pub recording: &'a Recording<State>,
    /// What the user looks at.
    pub looking: &'a Looking,
    /// The inputs.
    pub controls: &'a Controls,
    /// What the page counts of itself.
    pub counted: Counted,
}

pub struct View {
    texts: Texts,
    panels: PanelsView,
    pub log: LogView,
    cells: Picture<Vec<TensorCell>>,
    rate: Picture<(u32, usize)>,
    ribbon: Picture<RibbonKey>,
    line: Picture<(u64, usize, Option<usize>)>,
    attention: Picture<(u64, usize)>,
    turns: Mounted,
    controls: Mounted,
    tabs: Mounted,
    phase: Option<Phase>,
    tab: Option<Tab>,
    load_share: f64,
    bars: [f64; 2],
    model_loaded: bool,
    asked: bool,
    refusal: u32,
    announced_final_bytes: usize,
}

impl View {
    pub fn new() -> Self {
        let mut panels = PanelsView::new();
        // The canvases and the log are in panels.
        panels.draw(&Seen::nothing(&State::default()), None);
        Self {
            texts: Texts::default(),
            panels,
            log: LogView::new(),
            cells: Picture::new("weights-cells"),
            rate: Picture::new("rate-line"),
            ribbon: Picture::new("ribbon"),
            line: Picture::new("timeline-line"),
            attention: Picture::new("attention-map"),
            turns: Mounted::new(element("turns")),
            controls: Mounted::new(element("timeline-controls")),
            tabs: Mounted::new(element("tabs")),
            phase: None,
            tab: None,
            load_share: 0.0,
            bars: [0.0; 2],
            model_loaded: false,
            asked: false,
            refusal: 0,
            announced_final_bytes: 0,
        }
    }

    /// The canvases have another width, or were lost: they have to be drawn again though nothing else changed.
    pub fn redraw_pictures(&mut self) {
        self.cells.redraw();
        self.rate.redraw();
        self.ribbon.redraw();
        self.line.redraw();
        self.attention.redraw();
    }

    /// Draws the state; `false` when there is more to draw later though nothing changes any more. What can be done follows from what
    /// is going on now; what is seen, from the moment that is looked at.
    pub fn draw(&mut self, scene: Scene<'_>, core: &mut CoreView) -> bool {
        let Scene { live, recording, looking, controls, counted } = scene;
        let picture = looking.shown(live);
        let inside = looking.inside(live);
        self.draw_status(live, picture, looking);
        self.draw_place(live, controls);
        self.draw_buttons(live, controls);
        self.draw_failure(live);
        self.draw_refusal(live, controls);
        self.draw_question(live);
        core.draw_words(inside, &mut self.texts);
        self.log.take(recording);
        let seen = Seen {
            live,
            // The picture of an idle page is below the core only: nothing was said on this page, and nothing loaded.
            state: if looking.is_idle_picture { live } else { picture },
            picture,
            inside,
            token: looking.token(),
            head: core.head,
            head_problem: &core.head_problem,
            counted,
            log: self.log.log().summary(),
            doomed: looking.doomed.as_deref(),
            local_time,
        };
        let is_complete = self.panels.draw(&seen, looking.tab);
        let turns = chat::turns(if looking.is_idle_picture { live } else { picture }, looking.chat, &|key, version| {
            self.turns.has(key, version)
        });
        self.turns.draw(turns);
        self.draw_time(recording, looking, picture);
        self.draw_tabs(looking.tab);
        self.draw_pictures(picture, inside, looking);
        self.announce(live);
        is_complete & (looking.tab != Some(Tab::Events) || self.log.draw(recording))
    }

    /// What is drawn on canvases, in panels that are seen.
    fn draw_pictures(&mut self, picture: &State, inside: &State, looking: &Looking) {
        let (answer, place) = looked_at(picture, looking.token());
        charts::draw_ribbon(&mut self.ribbon, answer, place);
        charts::draw_attention(&mut self.attention, &inside.inside.attention, inside.inside.revision);
        if looking.tab == Some(Tab::Network) && !looking.is_idle_picture {
            charts::draw_tensors(&mut self.cells, cells(&picture.inside));
        }
    }

    /// The timeline, and what is done with it.
    fn draw_time(&mut self, own: &Recording<State>, looking: &Looking, shown: &State) {
        let recording = looking.recording(own);
        let events = recording.events();
        let opened = looking.opened.as_ref().map(|(name, _)| name.as_str());
        self.controls.draw(timeline::controls(looking.playhead, events.len(), opened, shown));
        let run = if opened.is_some() { u64::MAX } else { recording.dropped() };
        charts::draw_timeline(&mut self.line, events, run, looking.playhead);
        let slider: HtmlInputElement = element("moment");
        let (most, at) = (events.len().to_string(), looking.playhead.at.unwrap_or(events.len()).to_string());
        if slider.max() != most {
            slider.set_max(&most);
        }
        if slider.value() != at {
            slider.set_value(&at);
            report(slider.set_attribute("aria-valuetext", &timeline::position(looking.playhead, events.len())));
        }
    }

    fn draw_tabs(&mut self, tab: Option<Tab>) {
        let button = |known: Tab| {
            let expanded = if tab == Some(known) { "true" } else { "false" };
            let button = dom_element("button").class("quiet").with("type", "button").with("aria-expanded", expanded);
            let controls = format!("tab-{}", known.name());
            button.with("aria-controls", controls).with("data-do", Action::Tab(known).to_string()).text(known.name())
        };
        self.tabs.draw(Tab::ALL.into_iter().map(|tab| button(tab).into()).collect());
        if self.tab != tab {
            self.tab = tab;
            show("drawer", tab.is_some());
            for known in Tab::ALL {
                show(&format!("tab-{}", known.name()), tab == Some(known));
            }
            // Canvases have a place only where they are shown.
            self.redraw_pictures();
        }
    }

    fn measured(&mut self, id: &'static str, value: Option<String>) {
        self.texts.value(id, value, NOT_MEASURED);
    }

    fn draw_status(&mut self, live: &State, state: &State, looking: &Looking) {
        if self.phase != Some(live.phase)
            && let Some(body) = document().body()
        {
            report(body.set_attribute("data-state", live.phase.name()));
        }
        let what_is_seen =
            if live.phase == Phase::Idle && looking.is_idle_picture { " What you see is a recording." } else { "" };
        self.texts.set("status", &format!("{}{what_is_seen}", sentence(live)));
        let answer = &state.answer;
        self.measured("prefill-rate", answer.prefill_tokens_per_second().map(|rate| format::rate(Some(rate))));
        let title = page_title(live);
        if document().title() != title {
            document().set_title(&title);
        }
        self.measured("decode-rate", answer.decode_rate().map(|rate| format::rate(Some(rate))));
        self.measured("ttft", answer.time_to_first_token_ms.map(|ms| milliseconds(Some(ms))));
        self.measured("gpu-allocated", state.gpu_allocated_bytes.map(bytes));
        let planned = state.plan.as_ref().map(|plan| plan.gpu_total_bytes);
        let share = state.gpu_allocated_bytes.zip(planned).and_then(|(now, all)| fraction(now, all));
        self.draw_bar(0, "gpu-bar", share.unwrap_or(0.0));
        let context = state.kv.map(|kv| (u64::from(kv.used_tokens), u64::from(kv.capacity_tokens)));
        self.measured("context-used", context.map(|(used, all)| format!("{} of {}", count(used), count(all))));
        self.draw_bar(1, "context-bar", context.and_then(|(used, all)| fraction(used, all)).unwrap_or(0.0));
        charts::draw_rate(&mut self.rate, answer);
        let model = state.model.as_ref().map_or("no model", |model| &model.name);
        let recorded = live.model.is_none() && state.model.is_some();
        let of_recording = recorded.then(|| format!("recording of {model}"));
        self.texts.set("chip-model", of_recording.as_deref().unwrap_or(model));
        self.texts.set("chip-device", &node::device(state));
        report(element::<Element>("chip-device").toggle_attribute_with_force("data-node", state.node().is_some()));
    }

    /// Where the model computes, or will by what stands in the address field: here, or at a node.
    fn draw_place(&mut self, live: &State, controls: &Controls) {
        let typed = NodeAddress::parse(&controls.text(OptionId::Gguf)).filter(|_| controls.files().is_empty());
        let [heading, lead] = node::lead(typed.map(|typed| typed.public()).as_deref());
        self.texts.set("title-source", &heading);
        self.texts.set("source-lead", &lead);
        let [words, button] = node::stuck(live);
        self.texts.set("stuck", &words);
        self.texts.set("end-engine", &button);
    }

    fn draw_bar(&mut self, number: usize, id: &str, share: f64) {
        if self.bars[number] != share {
            self.bars[number] = share;
            set_share(&element::<Element>(id), "--share", share);
        }
    }

    fn draw_buttons(&mut self, state: &State, controls: &Controls) {
        let busy = state.phase.busy();
        let share = state.read_share();
        let prompt_is_empty = element::<HtmlTextAreaElement>("prompt").value().trim().is_empty();
        let (label, note) = match state.phase {
            Phase::Loading if state.downloading => ("DOWNLOADING", loading_note(state, share)),
            Phase::Loading => ("LOADING", loading_note(state, share)),
            _ if state.model_loaded => ("MODEL LOADED", if busy { "answering" } else { "load again" }.to_owned()),
            Phase::Error => ("LOAD MODEL", "try again".to_owned()),
            _ if prompt_is_empty => ("LOAD MODEL", String::new()),
            _ => ("LOAD MODEL", "then answer the prompt".to_owned()),
        };
        self.texts.set("load-label", label);
        self.texts.set("load-note", &note);
        let load: HtmlElement = element("load");
        if self.load_share != share.unwrap_or(0.0) {
            self.load_share = share.unwrap_or(0.0);
            set_share(&load, "--loaded", self.load_share);
        }
        let attribute = |name: &str, value: bool| {
            let value = if value { "true" } else { "false" };
            if load.get_attribute(name).as_deref() != Some(value) {
                report(load.set_attribute(name, value));
            }
        };
        // Not `disabled`: that would take the focus away from whoever pressed it.
        attribute("aria-disabled", busy);
        attribute("aria-busy", state.phase == Phase::Loading);
        attribute("data-loaded", state.model_loaded);
        if self.model_loaded != state.model_loaded {
            self.model_loaded = state.model_loaded;
            // What it was chosen by makes room for the conversation.
            if state.model_loaded {
                report(element::<Element>("source-more").remove_attribute("open"));
            }
        }
        // A button that goes takes the focus with it: it goes on to what can be done next.
        let focused = document().active_element().map(|element| element.id()).unwrap_or_default();
        let can_ask = state.model_loaded && !busy && !prompt_is_empty;
        enable("ask", can_ask);
        enable("stop", state.can_stop());
        let next = match focused.as_str() {
            "ask" if !can_ask && state.can_stop() => Some("stop"),
            "stop" if !state.can_stop() && can_ask => Some("ask"),
            // Not the prompt: that would bring up the keyboard of a phone over the answer.
            "ask" | "stop" if !can_ask && !state.can_stop() => Some("talk"),
            _ => None,
        };
        if let Some(next) = next {
            report(element::<HtmlElement>(next).focus());
        }
        show("stuck-panel", state.offers_end());
        enable("new-talk", !busy && state.all_turns().next().is_some());
        enable("pick", !busy);
        enable("download", !busy);
        enable("unpick", !busy && !controls.files().is_empty());
    }

    fn draw_failure(&mut self, state: &State) {
        let failure = state.failure.as_ref();
        self.texts.set("error-title", failure.map_or("", |failure| failure_title(failure.kind)));
        self.texts.set("error", failure.map_or("", |failure| &failure.message));
        self.texts.set("error-advice", failure.map_or("", |failure| &failure.advice));
        show("error-panel", state.failure.is_some());
        show("refetch-offer", state.offers_refetch());
    }

    /// Marks what was refused once per refusal, so that each moves the focus; the marks go once inputs were accepted.
    fn draw_refusal(&mut self, state: &State, controls: &Controls) {
        if self.refusal != state.refused.number {
            self.refusal = state.refused.number;
            controls.mark_invalid(&state.refused.errors);
        }
    }

    fn draw_question(&mut self, state: &State) {
        let asked = question(state);
        self.texts.set("question", asked.as_deref().unwrap_or_default());
        if self.asked != asked.is_some() {
            self.asked = asked.is_some();
            show("question-panel", self.asked);
            if self.asked {
                report(element::<HtmlElement>("approve").focus());
            }
        }
    }

    /// The token of the ribbon at a point of its canvas.
    pub fn ribbon_hit(&mut self, tokens: &[TokenInfo], x: f64, y: f64) -> Option<u32> {
        charts::ribbon_hit(&mut self.ribbon, tokens, x, y)
    }

    /// For those who listen: every change of phase, and the answer sentence by sentence.
    fn announce(&mut self, state: &State) {
        let text = &state.answer.final_text;
        if self.phase != Some(state.phase) {
            // The page just opened: nothing happened yet.
            if self.phase.is_some() {
                self.texts.set("announce", &sentence(state));
            }
            self.phase = Some(state.phase);
        }
        // After a question that was refused the earlier answer stands there again: it was read out when it came.
        if text.len() < self.announced_final_bytes {
            self.announced_final_bytes = 0;
        } else if state.phase == Phase::Error {
            self.announced_final_bytes = text.len();
        }
        let rest = text.get(self.announced_final_bytes..).unwrap_or_default();
        let complete = match state.phase {
            Phase::Done => rest.len(),
            _ => rest.rfind(['.', '!', '?', '\n']).map_or(0, |end| end + 1),
        };
        if complete > 0 {
            self.texts.set("announce", &rest[..complete]);
            self.announced_final_bytes += complete;
        }
    }
}

/// How far the weights are, or the stage before them.
fn loading_note(state: &State, share: Option<f64>) -> String {
    match (share, state.running_stage()) {
        (Some(share), _) if state.fetch.is_some() => percent(share),
        (Some(_), Some(stage)) => {
            let here = state.header_under_way().map_or(0, |header| header.fetched_bytes);
            format!("{}, {} so far", stage_name(stage), bytes(here))
        }
        (_, Some(stage)) => stage_name(stage).to_owned(),
        (_, None) => "starting".to_owned(),
    }
}

fn failure_title(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::NoGpu => "No usable GPU",
        FailureKind::Source | FailureKind::Unreachable => "The file cannot be reached",
        FailureKind::File => "This file cannot be used",
        FailureKind::Damaged => "The file is damaged",
        FailureKind::NotFinite => "The answer cannot be trusted",
        FailureKind::Model => "This model does not run here",
        FailureKind::Memory => "Not enough GPU memory",
        FailureKind::Storage => "The model was not cached",
        FailureKind::WrongResults => "This GPU computes wrongly",
        FailureKind::Request => "This cannot be done as asked",
        FailureKind::DeviceLost => "The GPU went away",
        FailureKind::Unavailable | FailureKind::Upstream => "What computes elsewhere did not answer",
        FailureKind::Internal => "A fault of this program",
    }
}

pub(super) fn enable(id: &str, enabled: bool) {
    let button: web_sys::HtmlButtonElement = element(id);
    if button.disabled() == enabled {
        button.set_disabled(!enabled);
    }
}
