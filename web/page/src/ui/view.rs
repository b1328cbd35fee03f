//! One drawing: the state into the document. Everything is compared with what is there before it is written.

use gptoss_protocol::{FailureKind, Head, Recording, Stage, StageStatus, TokenInfo};
use web_sys::{Element, HtmlElement, HtmlInputElement, HtmlProgressElement, HtmlTextAreaElement};

use super::charts::{self, Picture, RibbonKey, set_share};
use super::controls::Controls;
use super::dom::{Texts, append, document, element, report, show};
use super::inside::CoreView;
use super::log::LogView;
use super::long_tasks::LongTasks;
use super::looking::Looking;
use super::storage::CacheView;
use crate::action::{Action, Tab};
use crate::cards::{device_facts, model_facts};
use crate::describe::{disk_sentence, left_to_load, page_title, question, sentence, stage_name, status_word};
use crate::format::{self, NOT_MEASURED, bytes, count, fraction, milliseconds, percent};
use crate::panels::{attention, chat, probabilities, timeline, times};
use crate::state::{Answer, Phase, StageState, State, all_stages};
use crate::view::{Mounted, element as dom_element};

const NOT_PLANNED: &str = "not planned";
/// Names of the latest tensors on the page.
const LATEST_TENSORS: usize = 4;

/// One line of the stage list.
struct StageRow {
    stage: Stage,
    item: Element,
    mark: Element,
    time: Element,
    drawn: Option<StageState>,
}

/// One line of the most likely tokens.
struct TopRow {
    item: Element,
    mark: Element,
    token: Element,
    bar: Element,
    probability: Element,
}

/// Answer, tokens so far, and the token that is looked at.
type TopKey = (u32, u32, Option<(usize, u32)>);

pub struct View {
    texts: Texts,
    stages: Vec<StageRow>,
    top: Vec<TopRow>,
    cells: Picture<(usize, u32)>,
    entropy: Picture<(u32, usize)>,
    rate: Picture<(u32, usize)>,
    ribbon: Picture<RibbonKey>,
    line: Picture<(u64, usize, Option<usize>)>,
    attention: Picture<(u64, usize)>,
    turns: Mounted,
    controls: Mounted,
    tabs: Mounted,
    times: Mounted,
    storage: CacheView,
    log: LogView,
    facts: [Vec<(String, String)>; 2],
    phase: Option<Phase>,
    tensors: usize,
    top_drawn: Option<TopKey>,
    tab: Option<Tab>,
    memory_parts: [u64; 4],
    load_share: f64,
    bars: [f64; 2],
    model_loaded: bool,
    asked: bool,
    refusal: u32,
    announced_final_bytes: usize,
}

impl View {
    pub fn new() -> Self {
        Self {
            texts: Texts::default(),
            stages: stage_list(),
            top: Vec::new(),
            cells: Picture::new("weights-cells"),
            entropy: Picture::new("entropy-line"),
            rate: Picture::new("rate-line"),
            ribbon: Picture::new("ribbon"),
            line: Picture::new("timeline-line"),
            attention: Picture::new("attention-map"),
            turns: Mounted::new(element("turns")),
            controls: Mounted::new(element("timeline-controls")),
            tabs: Mounted::new(element("tabs")),
            times: Mounted::new(element("times")),
            storage: CacheView::default(),
            log: LogView::new(),
            facts: [Vec::new(), Vec::new()],
            phase: None,
            tensors: 0,
            top_drawn: None,
            tab: None,
            memory_parts: [0; 4],
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
        self.entropy.redraw();
        self.rate.redraw();
        self.ribbon.redraw();
        self.line.redraw();
        self.attention.redraw();
    }

    /// Draws the state; `false` when there is more to draw later though nothing changes any more. What can be done follows from what
    /// is going on now; what is seen, from the moment that is looked at.
    pub fn draw(
        &mut self,
        live: &State,
        recording: &Recording<State>,
        looking: &Looking,
        core: &mut CoreView,
        controls: &Controls,
        long_tasks: &LongTasks,
    ) -> bool {
        let instruments = looking.shown(live);
        // The picture of an idle page is one of the instruments; nothing was said on this page, and nothing loaded.
        let state = if looking.is_idle_picture { live } else { instruments };
        self.draw_status(live, instruments, looking);
        self.draw_buttons(live, controls);
        self.draw_failure(live);
        self.draw_refusal(live, controls);
        self.draw_question(live);
        self.draw_stages(state);
        self.draw_weights(state);
        self.draw_memory(state);
        self.draw_cards(state);
        self.draw_next_token(instruments, looking);
        let inside = looking.inside(live);
        core.draw_words(inside, &mut self.texts);
        self.draw_attention(inside, core.head);
        self.draw_caches(state);
        self.draw_work(state);
        self.draw_page(live, recording, long_tasks);
        self.storage.draw(&live.cache, &mut self.texts);
        let turns = chat::turns(state, looking.chat, &|key, version| self.turns.has(key, version));
        self.turns.draw(turns);
        self.draw_time(recording, looking, instruments);
        self.draw_tabs(looking.tab);
        self.announce(live);
        self.log.draw(recording)
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
        let device = match &state.adapter {
            Some(adapter) => format!("{} · {} tier", adapter.name, adapter.tier),
            None => "no GPU asked for yet".to_owned(),
        };
        self.texts.set("chip-device", &device);
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

    fn draw_stages(&mut self, state: &State) {
        for row in &mut self.stages {
            let stage = state.stage(row.stage);
            if row.drawn == Some(stage) {
                continue;
            }
            row.drawn = Some(stage);
            let word = status_word(stage.status);
            report(row.item.set_attribute("data-status", word));
            row.mark.set_text_content(Some(stage_mark(stage.status)));
            row.time.set_text_content(Some(&match stage.status {
                None => String::new(),
                Some(StageStatus::Started) => "running".to_owned(),
                Some(StageStatus::Completed) => milliseconds(stage.elapsed_ms),
                Some(StageStatus::Failed | StageStatus::Cancelled) => {
                    format!("{word}, {}", milliseconds(stage.elapsed_ms))
                }
            }));
        }
    }

    fn draw_weights(&mut self, state: &State) {
        let fetch = state.fetch;
        let header = state.header_under_way();
        let summary = match (fetch, header) {
            (Some(fetch), _) => Some(format!("{} of {}", bytes(fetch.fetched_bytes), bytes(fetch.needed_bytes))),
            (None, Some(header)) => Some(format!("header, {} so far", bytes(header.fetched_bytes))),
            (None, None) => None,
        };
        self.measured("weights-summary", summary);
        let share = state.read_share().unwrap_or(0.0);
        let progress: HtmlProgressElement = element("weights-progress");
        if progress.value() != share {
            progress.set_value(share);
        }
        let rate = match fetch {
            Some(fetch) => fetch.bytes_per_second,
            None => header.and_then(|header| header.bytes_per_second),
        };
        self.measured("weights-rate", rate.map(|rate| format::bytes_per_second(Some(rate))));
        self.measured("weights-requests", fetch.map(|fetch| count(u64::from(fetch.requests))));
        self.measured("weights-wire", fetch.and_then(|fetch| fetch.wire_bytes).map(bytes));
        let tensors = state.tensor_count.map(|all| format!("{} of {}", state.tensors.len(), count(u64::from(all))));
        self.measured("weights-tensors", tensors);
        self.measured("load-time", state.load_ms.map(|ms| milliseconds(Some(ms))));
        charts::draw_tensors(&mut self.cells, state);
        if self.tensors != state.tensors.len() {
            self.tensors = state.tensors.len();
            let list: Element = element("weights-latest");
            list.set_text_content(None);
            for tensor in state.tensors.iter().rev().take(LATEST_TENSORS) {
                let Some(line) = append(&list, "li", "", "") else { continue };
                append(&line, "span", "", &tensor.name);
                append(&line, "span", "", &tensor.format);
                append(&line, "span", "", &bytes(tensor.bytes));
            }
        }
    }

    fn draw_memory(&mut self, state: &State) {
        let plan = state.plan.as_ref();
        let mut planned = |id: &'static str, value: Option<String>| self.texts.value(id, value, NOT_PLANNED);
        planned("memory-summary", plan.map(|plan| format!("{} planned on the GPU", bytes(plan.gpu_total_bytes))));
        planned("plan-dense", plan.map(|plan| bytes(plan.dense_bytes)));
        planned(
            "plan-experts",
            plan.map(|plan| {
                let (slots, experts) = (plan.expert_slots_per_layer, plan.experts_per_layer);
                format!("{} · {slots} of {experts} per layer", bytes(plan.expert_bytes))
            }),
        );
        planned(
            "plan-kv",
            plan.map(|plan| format!("{} · {} tokens", bytes(plan.kv_bytes), count(u64::from(plan.kv_capacity_tokens)))),
        );
        planned("plan-scratch", plan.map(|plan| bytes(plan.scratch_bytes)));
        planned("plan-host", plan.map(|plan| bytes(plan.host_bytes)));
        planned("plan-given", plan.map(|plan| plan.budget_bytes.map_or("what the GPU gives".to_owned(), bytes)));
        planned("plan-load", plan.map(|plan| bytes(plan.load_bytes)));
        planned("plan-first-token", plan.map(|plan| bytes(plan.first_token_bytes)));
        planned("plan-all", plan.map(|plan| bytes(plan.all_bytes)));
        planned("plan-disk", disk_sentence(state));
        self.measured("plan-seconds", left_to_load(state));
        self.measured("memory-allocated", state.gpu_allocated_bytes.map(bytes));
        self.measured("memory-wasm-heap", state.wasm_heap_bytes.map(bytes));
        let parts =
            plan.map_or([0; 4], |plan| [plan.dense_bytes, plan.expert_bytes, plan.kv_bytes, plan.scratch_bytes]);
        if self.memory_parts != parts {
            self.memory_parts = parts;
            let total = parts.iter().sum();
            let bar = element::<Element>("memory-bar").children();
            for (index, part) in parts.into_iter().enumerate() {
                if let Some(part_of_bar) = bar.item(index as u32) {
                    set_share(&part_of_bar, "flex-basis", fraction(part, total).unwrap_or(0.0));
                }
            }
        }
    }

    fn draw_cards(&mut self, state: &State) {
        let cards =
            [("model", state.model.as_ref().map(model_facts)), ("device", state.adapter.as_ref().map(device_facts))];
        for ((name, facts), drawn) in cards.into_iter().zip(&mut self.facts) {
            let facts = facts.unwrap_or_default();
            if *drawn != facts {
                fill_facts(&element(&format!("{name}-facts")), &facts);
                show(&format!("{name}-empty"), facts.is_empty());
                *drawn = facts;
            }
        }
    }

    /// The candidates of the token that is looked at, or of the last one; the ribbon of its answer.
    fn draw_next_token(&mut self, state: &State, looking: &Looking) {
        let (answer, place) = match looking.token() {
            Some((turn, place)) => match state.all_turns().nth(turn) {
                Some((_, answer)) => (answer, Some(place)),
                None => (&state.answer, None),
            },
            None => (&state.answer, None),
        };
        let token = match place {
            Some(place) => answer.tokens.get(place as usize),
            None => answer.tokens.last(),
        };
        self.draw_top(answer, token, looking.token());
        let nats = |value: f32| format!("{value:.2} nats");
        self.measured("entropy-last", token.map(|token| nats(token.entropy_nats)));
        self.measured("entropy-mean", answer.mean_entropy_nats().map(nats));
        self.measured("token-time", token.map(|token| milliseconds(Some(token.elapsed_ms))));
        charts::draw_entropy(&mut self.entropy, answer);
        charts::draw_ribbon(&mut self.ribbon, answer, place);
        self.texts.set("probabilities-line", &probabilities::line(&answer.tokens, place));
        fold("panel-next-token", answer.tokens.is_empty());
        fold("panel-probabilities", answer.tokens.is_empty());
    }

    fn draw_attention(&mut self, state: &State, head: Option<Head>) {
        let rows = &state.inside.attention;
        charts::draw_attention(&mut self.attention, rows, state.inside.revision);
        self.texts.set("attention-line", &attention::line(rows, head));
    }

    /// The token of the ribbon at a point of its canvas.
    pub fn ribbon_hit(&mut self, tokens: &[TokenInfo], x: f64, y: f64) -> Option<u32> {
        charts::ribbon_hit(&mut self.ribbon, tokens, x, y)
    }

    /// Drawn once per token: the number of tokens tells whether there is a new one.
    fn draw_top(&mut self, answer: &Answer, token: Option<&TokenInfo>, looked_at: Option<(usize, u32)>) {
        let drawn = (answer.number, answer.generated(), looked_at);
        if self.top_drawn == Some(drawn) {
            return;
        }
        self.top_drawn = Some(drawn);
        let top = token.map_or(&[][..], |token| &token.top);
        show("top-empty", top.is_empty());
        let list: Element = element("top-tokens");
        while self.top.len() < top.len() {
            let Some(row) = top_row(&list) else { return };
            self.top.push(row);
        }
        for row in self.top.drain(top.len()..) {
            row.item.remove();
        }
        let chosen_id = token.map(|token| token.id);
        for (row, token) in self.top.iter().zip(top) {
            let chosen = chosen_id == Some(token.id);
            row.item.set_class_name(if chosen { "chosen" } else { "" });
            row.mark.set_text_content(Some(if chosen { "▸" } else { "" }));
            row.token.set_text_content(Some(&format::visible_token(&token.text)));
            row.probability.set_text_content(Some(&percent(f64::from(token.probability))));
            set_share(&row.bar, "--p", f64::from(token.probability));
        }
    }

    fn draw_caches(&mut self, state: &State) {
        let experts = state.experts;
        let rate = experts.and_then(|experts| fraction(experts.hits, experts.hits + experts.misses));
        self.measured("experts-summary", rate.map(|rate| format!("{} hits", percent(rate))));
        set_meter("experts-meter", rate);
        self.measured("experts-hits", experts.map(|experts| count(experts.hits)));
        self.measured("experts-misses", experts.map(|experts| count(experts.misses)));
        self.measured("experts-evictions", experts.map(|experts| count(experts.evictions)));
        let resident = experts.map(|experts| format!("{} of {}", experts.resident, experts.slots));
        self.measured("experts-resident", resident);
        self.measured("experts-loaded", experts.map(|experts| bytes(experts.loaded_bytes)));
        let kv = state.kv;
        let summary = kv.map(|kv| {
            let (used, capacity) = (u64::from(kv.used_tokens), u64::from(kv.capacity_tokens));
            format!("{} of {} tokens · {}", count(used), count(capacity), bytes(kv.bytes))
        });
        self.measured("kv-summary", summary);
        set_meter("kv-meter", kv.and_then(|kv| fraction(u64::from(kv.used_tokens), u64::from(kv.capacity_tokens))));
    }

    fn draw_work(&mut self, state: &State) {
        let work = state.work;
        self.times.draw(times::lines(&state.times));
        self.texts.set("times-line", &times::line(&state.times));
        self.measured("work-submits", work.map(|work| count(work.submits)));
        self.measured("work-dispatches", work.map(|work| count(work.dispatches)));
        self.measured("work-buffers", work.map(|work| count(work.buffers_created)));
        self.measured("work-bind-groups", work.map(|work| count(work.bind_groups_created)));
        self.measured("work-pipelines", work.map(|work| count(work.pipelines_created)));
        self.measured("work-status", work.map(|work| bytes(work.status_readback_bytes)));
        self.measured("work-sampling", work.map(|work| bytes(work.sampling_readback_bytes)));
        self.measured("work-fetched", work.map(|work| bytes(work.weights_fetched_bytes)));
        self.measured("work-used", work.map(|work| bytes(work.weights_used_bytes)));
    }

    fn draw_page(&mut self, state: &State, recording: &Recording<State>, long_tasks: &LongTasks) {
        let counts = long_tasks.counts();
        self.measured("long-tasks-busy", counts.map(|counts| count(u64::from(counts.busy))));
        self.measured("long-tasks-all", counts.map(|counts| count(u64::from(counts.all))));
        let longest = counts
            .map(|counts| if counts.all == 0 { "none".to_owned() } else { milliseconds(Some(counts.longest_ms)) });
        self.measured("long-tasks-longest", longest);
        let received = recording.dropped() + recording.events().len() as u64;
        self.texts.set("events-received", &count(received));
        self.texts.set("events-missing", &count(state.missing_events));
        let summary = match received {
            0 => "no events".to_owned(),
            received => format::plural(received, "event"),
        };
        self.texts.set("log-summary", &summary);
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

/// A panel with nothing to say yet is one line.
fn fold(id: &str, is_empty: bool) {
    let panel: Element = element(id);
    if panel.has_attribute("data-empty") != is_empty {
        report(panel.toggle_attribute_with_force("data-empty", is_empty));
    }
}

fn stage_list() -> Vec<StageRow> {
    let list: Element = element("stages");
    let add = |stage| {
        let class = if stage == Stage::ANSWER[0] { "answer-begins" } else { "" };
        let item = append(&list, "li", class, "")?;
        let mark = append(&item, "span", "mark", "")?;
        append(&item, "span", "name", stage_name(stage))?;
        let time = append(&item, "span", "time", "")?;
        Some(StageRow { stage, item, mark, time, drawn: None })
    };
    all_stages().filter_map(add).collect()
}

fn top_row(list: &Element) -> Option<TopRow> {
    let item = append(list, "li", "", "")?;
    let part = |class| append(&item, "span", class, "");
    let (mark, token, bar, probability) = (part("mark")?, part("token")?, part("bar")?, part("p")?);
    Some(TopRow { item, mark, token, bar, probability })
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

fn stage_mark(status: Option<StageStatus>) -> &'static str {
    match status {
        None => "·",
        Some(StageStatus::Started) => "▸",
        Some(StageStatus::Completed) => "✓",
        Some(StageStatus::Failed) => "✕",
        Some(StageStatus::Cancelled) => "■",
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
        FailureKind::Internal => "A fault of this program",
    }
}

fn fill_facts(list: &Element, facts: &[(String, String)]) {
    list.set_text_content(None);
    for (name, value) in facts {
        let Some(row) = append(list, "div", "", "") else { continue };
        append(&row, "dt", "", name);
        append(&row, "dd", "", value);
    }
}

fn set_meter(id: &str, share: Option<f64>) {
    let meter: web_sys::HtmlMeterElement = element(id);
    let share = share.unwrap_or(0.0);
    if meter.value() != share {
        meter.set_value(share);
    }
}

fn enable(id: &str, enabled: bool) {
    let button: web_sys::HtmlButtonElement = element(id);
    if button.disabled() == enabled {
        button.set_disabled(!enabled);
    }
}
