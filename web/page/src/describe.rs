//! Plain sentences for people, made from typed state. Nothing ever reads them back.

use gptoss_protocol::{
    Attention, CacheReport, CacheState, Channel, Command, Event, ExpertMoves, FileRange, FinishReason, KvBlocks,
    LoadOptions, Missing, ModelLocation, NextAttempt, PlacesInUse, Prefetch, Stage, StageStatus, TokenInfo, Trouble,
    TroubleKind,
};

use super::format;
use super::state::{Answer, HeaderProgress, Phase, Recovery, State, Waiting};

pub mod node;

/// Name of a stage in the stage list.
pub fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::GpuDevice => "GPU device",
        Stage::RangeCheck => "Range check",
        Stage::GgufHeader => "GGUF header",
        Stage::Tokenizer => "Tokenizer",
        Stage::MemoryPlan => "Memory plan",
        Stage::Kernels => "Kernels",
        Stage::SelfCheck => "Self-check",
        Stage::GpuMemory => "GPU memory",
        Stage::WeightsFetch => "Weights",
        Stage::PromptEncode => "Prompt",
        Stage::Prefill => "Prefill",
        Stage::Decode => "Decode",
    }
}

/// Name of a channel above its text.
pub fn channel_name(channel: Channel) -> &'static str {
    match channel {
        Channel::Analysis => "analysis",
        Channel::Commentary => "commentary",
        Channel::Final => "final",
        Channel::ToolCall => "tool call",
    }
}

/// Word for a stage's status, also its value of `data-status`; `waiting` without one.
pub fn status_word(status: Option<StageStatus>) -> &'static str {
    match status {
        None => "waiting",
        Some(StageStatus::Started) => "running",
        Some(StageStatus::Completed) => "done",
        Some(StageStatus::Failed) => "failed",
        Some(StageStatus::Cancelled) => "stopped",
    }
}

/// What is going on, in one sentence.
pub fn sentence(state: &State) -> String {
    if state.offers_end() {
        return format!("Stopping, but the {} does not react.", if state.node().is_some() { "node" } else { "engine" });
    }
    if state.stopping() {
        return "Stopping.".to_owned();
    }
    if state.asks() {
        return "Waiting for you: not all of the model fits.".to_owned();
    }
    if let Some(recovery) = &state.recovery {
        return recovering_sentence(recovery);
    }
    match state.phase {
        Phase::Idle => with_download(state, "No model is loaded."),
        Phase::Loading => with_trouble(state, loading_sentence(state)),
        Phase::Ready => {
            let node = state.node().map(|node| format!("The model waits for a question, at the node {node}."));
            let said = node.as_deref().unwrap_or("The model is loaded and waits for a question.");
            with_download(state, &with_rest(state, said))
        }
        Phase::Generating => with_trouble(state, generating_sentence(state)),
        Phase::Done => with_rest(state, &done_sentence(state)),
        Phase::Stopped if state.model_loaded => with_rest(state, "Stopped. The model is still loaded."),
        Phase::Stopped => "Stopped. No model is loaded.".to_owned(),
        Phase::Error if state.model_loaded => {
            "That failed; the message says why. The model is still loaded.".to_owned()
        }
        Phase::Error => "That failed; the message says why.".to_owned(),
    }
}

/// Puts the outcome of a download before the sentence.
fn with_download(state: &State, said: &str) -> String {
    match state.downloaded {
        Some(model_bytes) => format!("All {} are cached in this browser. {said}", format::bytes(model_bytes)),
        None => said.to_owned(),
    }
}

/// Adds why nothing moves, if nothing does.
pub(crate) fn with_trouble(state: &State, sentence: String) -> String {
    match state.worst_trouble() {
        Some(trouble) => format!("{sentence} {}.", trouble_sentence(trouble)),
        None => sentence,
    }
}

fn trouble_sentence(trouble: &Trouble) -> String {
    let what = match trouble.what {
        TroubleKind::NoAnswer => "The host does not answer",
        TroubleKind::BrokenOff => "The connection broke off",
        TroubleKind::ShortBody => "The host ended its answer too early",
        TroubleKind::Stalled => "The host went silent",
        TroubleKind::HostFailed => "The host reports a failure",
        TroubleKind::HostBusy => "The host is busy",
        TroubleKind::Refused => "The host no longer hands the file out",
        TroubleKind::Offline => "There is no network",
        TroubleKind::NodeGone => "The connection to the node broke",
    };
    match trouble.next {
        Some(NextAttempt { attempt, attempts, wait_ms }) => {
            format!("{what}: attempt {attempt} of {attempts} after {}", format::milliseconds(Some(wait_ms)))
        }
        None => format!("{what}: going on when it is back"),
    }
}

/// The question that the user has to answer before the load goes on, if there is one.
pub fn question(state: &State) -> Option<String> {
    let plan = state.plan.as_ref().filter(|_| state.asks())?;
    let bytes = format::bytes;
    let memory = match plan.budget_bytes {
        Some(budget) => format!("{} of GPU memory", bytes(budget)),
        None => "the GPU memory there is".to_owned(),
    };
    let experts = plan.paged.then(|| {
        let (slots, experts) = (plan.expert_slots_per_layer, plan.experts_per_layer);
        format!(
            "Of each layer {slots} of {experts} experts at a time fit {memory}. The others are fetched when they are needed: {} \
             before the first token, up to {} in all, and answers wait for it.",
            bytes(plan.first_token_bytes),
            bytes(plan.all_bytes)
        )
    });
    let context = plan.shortened_from_tokens.map(|wanted| {
        let (tokens, wanted) = (u64::from(plan.kv_capacity_tokens), u64::from(wanted));
        format!(
            "Prompt and answer together can be {} tokens long instead of {}.",
            format::count(tokens),
            format::count(wanted)
        )
    });
    Some(experts.into_iter().chain(context).collect::<Vec<_>>().join(" "))
}

/// How much room the browser has for its cache, and how much of this load is still to be cached, if it is cached at all, in bytes;
/// `None` until it is known.
pub fn disk(state: &State) -> Option<(u64, Option<u64>)> {
    let report = state.cache.report.as_ref()?;
    let free = report.quota_bytes?.saturating_sub(report.usage_bytes?);
    let missing = |file: &CacheState| file.file_bytes.saturating_sub(file.stored_bytes);
    let files = &state.cache.files;
    Some((free, (!files.is_empty()).then(|| files.iter().map(missing).sum())))
}

/// How long the load will still take, or how much is prefetched after it and how long that will take; `None` while
/// nobody knows.
pub fn left_to_load(state: &State) -> Option<String> {
    let time = |seconds: f64| format::milliseconds(Some(seconds * 1000.0));
    if let Some(seconds) = state.seconds_to_load() {
        return Some(time(seconds));
    }
    if !state.model_loaded {
        return None;
    }
    let Some(rest) = state.prefetch.filter(|_| state.is_prefetching()) else { return Some("nothing".to_owned()) };
    let left = format::bytes(rest.missing_bytes);
    let rate = rest.bytes_per_second.filter(|rate| *rate > 0.0);
    Some(rate.map_or(left.clone(), |rate| format!("{left} · {}", time(rest.missing_bytes as f64 / rate))))
}

/// Describes the recovery from a lost GPU.
fn recovering_sentence(recovery: &Recovery) -> String {
    match recovery.waiting {
        None => {
            format!("The GPU went away. Loading the model again, attempt {} of {}.", recovery.attempt, recovery.most)
        }
        Some(Waiting { waited_ms, patience_ms }) => format!(
            "The GPU went away, and the browser gives no other yet; after crashes it may refuse one for two minutes. \
             Waited {:.0} of at most {:.0} s.",
            waited_ms / 1e3,
            patience_ms / 1e3
        ),
    }
}

/// Note in place of an answer's text while there is none.
pub fn stream_note(answer: &Answer) -> Option<String> {
    match (!answer.is_silent(), answer.generated()) {
        (true, _) => None,
        (false, 0) => Some("Tokens appear here as the model produces them, each on the channel it wrote.".to_owned()),
        (false, generated) => {
            Some(format!("No text so far: {}, all of the format.", format::plural(u64::from(generated), "token")))
        }
    }
}

/// In what ways these options make another model of the one that was loaded.
pub fn experiment(options: &LoadOptions) -> String {
    let layers = options.layers.map(|layers| match layers {
        0 => "none of its layers was run".to_owned(),
        1 => "only its first layer was run".to_owned(),
        layers => format!("only its first {layers} layers were run"),
    });
    let window = (options.attention == Attention::Dense).then(|| "no layer has its sliding window".to_owned());
    let yarn = options.yarn_truncate.then(|| "YaRN's range is rounded".to_owned());
    let all: Vec<String> = layers.into_iter().chain(window).chain(yarn).collect();
    format!("Not the model\u{2019}s own answer: {}.", all.join(", "))
}

/// Title of the tab, for users who look at another one.
pub fn page_title(state: &State) -> String {
    const NAME: &str = "gpt-oss in this tab";
    let doing = match state.phase {
        Phase::Loading if state.asks() => "waiting for you".to_owned(),
        Phase::Loading => match (state.fetch, state.header_under_way()) {
            (Some(fetch), _) => {
                format::percent(format::fraction(fetch.fetched_bytes, fetch.needed_bytes).unwrap_or(1.0))
            }
            (None, Some(header)) => format!("header {}", format::bytes(header.fetched_bytes)),
            (None, None) => "loading".to_owned(),
        },
        Phase::Generating => "answering".to_owned(),
        Phase::Done => "answered".to_owned(),
        Phase::Error => "failed".to_owned(),
        Phase::Idle | Phase::Ready | Phase::Stopped => return NAME.to_owned(),
    };
    format!("{doing} · {NAME}")
}

fn loading_sentence(state: &State) -> String {
    match (state.running_stage(), state.fetch) {
        (Some(Stage::WeightsFetch), Some(fetch)) => {
            let doing = if state.downloading { "Caching the model" } else { "Loading weights" };
            format!("{doing}: {} of {}.", format::bytes(fetch.fetched_bytes), format::bytes(fetch.needed_bytes))
        }
        (Some(Stage::GpuDevice), _) => "Asking the browser for a GPU.".to_owned(),
        (Some(Stage::RangeCheck), _) => "Checking that the host serves byte ranges.".to_owned(),
        (Some(Stage::GgufHeader), _) => match state.header_under_way() {
            Some(header) => format!("Reading the file's header: {}.", header_words(&header)),
            None => "Reading the file's header.".to_owned(),
        },
        (Some(Stage::Tokenizer), _) => "Building the tokenizer.".to_owned(),
        (Some(Stage::MemoryPlan), _) => "Working out what goes where in GPU memory.".to_owned(),
        (Some(Stage::Kernels), _) => "Compiling the GPU kernels.".to_owned(),
        (Some(Stage::SelfCheck), _) => "Checking that this GPU computes what it should.".to_owned(),
        (Some(Stage::GpuMemory), _) => "Allocating GPU memory.".to_owned(),
        _ => "Loading the model.".to_owned(),
    }
}

/// How much of the header has arrived, and how fast; its length is known only at its end.
pub fn header_words(header: &HeaderProgress) -> String {
    let here = format::bytes(header.fetched_bytes);
    match header.bytes_per_second {
        Some(rate) => format!("{here} so far, {}", format::bytes_per_second(Some(rate))),
        None => format!("{here} so far"),
    }
}

fn generating_sentence(state: &State) -> String {
    let answer = &state.answer;
    let said = match (&answer.prefill, answer.missing, answer.generated()) {
        (.., generated) if generated > 0 => {
            return format!("Answering: {}.", format::plural(u64::from(generated), "token"));
        }
        (Some(prefill), ..) => format!(
            "Reading the prompt: {} of {} tokens.",
            format::count(u64::from(prefill.done_tokens)),
            format::count(u64::from(prefill.total_tokens))
        ),
        (None, Some(_), _) => "Reading the prompt.".to_owned(),
        (None, None, _) => "Preparing the prompt.".to_owned(),
    };
    match answer.missing {
        Some(missing) => format!("{said} {}.", missing_words(&missing)),
        None => said,
    }
}

/// How many experts moved, by what became of them.
fn moves_line(moves: &ExpertMoves) -> String {
    let parts = [
        ("evicted", &moves.evicted),
        ("missed", &moves.missed),
        ("on their way", &moves.awaited),
        ("arrived", &moves.arrived),
    ];
    let said = parts.iter().filter(|(_, places)| !places.is_empty());
    said.map(|(what, places)| format!("{} {what}", places.len())).collect::<Vec<_>>().join(" · ")
}

fn missing_words(missing: &Missing) -> String {
    let Missing { layer, layers, experts, bytes } = missing;
    let experts = format::plural(u64::from(*experts), "expert");
    format!("Layer {} of {layers} waits for {experts}, {}", layer + 1, format::bytes(*bytes))
}

/// Adds to the sentence how far the prefetch of experts is.
fn with_rest(state: &State, said: &str) -> String {
    if let Some(problem) = &state.prefetch_problem {
        return format!("{said} The other experts come when a question needs them: {}.", problem.message);
    }
    match state.prefetch.filter(|_| state.is_prefetching()) {
        Some(rest) => {
            let missing = format::bytes(rest.missing_bytes);
            with_trouble(
                state,
                format!("{said} Experts that were not needed so far are read meanwhile: {missing} left."),
            )
        }
        // Without its node no question is answered.
        None if state.worst_trouble().is_some_and(|trouble| trouble.what == TroubleKind::NodeGone) => {
            with_trouble(state, said.to_owned())
        }
        None => said.to_owned(),
    }
}

fn done_sentence(state: &State) -> String {
    let Some(finished) = &state.answer.finished else { return "The answer is complete.".to_owned() };
    let tokens = format::plural(u64::from(finished.new_tokens), "token");
    if finished.junk_tokens > 0 {
        let junk = format::count(u64::from(finished.junk_tokens));
        return format!("This is no answer: {junk} tokens in a row belong to no message. The file may be damaged.");
    }
    match finished.reason {
        FinishReason::Return => format!("The answer is complete: {tokens}."),
        FinishReason::Call => format!("The model calls a function and waits for what it gives: {tokens}."),
        FinishReason::MaxTokens => format!("Cut off after {tokens}, the most that was allowed."),
        FinishReason::ContextFull => format!("Cut off after {tokens}: the KV cache is full."),
        FinishReason::StopSequence => format!("Ended by a stop sequence after {tokens}."),
        FinishReason::Stopped => format!("Stopped after {tokens}."),
    }
}

/// One line of the event log.
pub fn event_line(event: &Event) -> (&'static str, String) {
    let bytes = format::bytes;
    match event {
        Event::HostReady => ("worker", "takes commands".to_owned()),
        Event::Stage { stage, status, elapsed_ms } => {
            let elapsed = elapsed_ms.map(|ms| format!(" after {}", format::milliseconds(Some(ms)))).unwrap_or_default();
            ("stage", format!("{}: {}{elapsed}", stage_name(*stage), status_word(Some(*status))))
        }
        Event::Adapter(adapter) => ("gpu", format!("{} · {} · {} tier", adapter.name, adapter.backend, adapter.tier)),
        Event::Model(model) => ("model", format!("{} · {} · {} layers", model.name, model.architecture, model.layers)),
        Event::FileNote { text } => ("note", text.clone()),
        Event::Plan(plan) => {
            ("plan", format!("{} on the GPU, {} to load", bytes(plan.gpu_total_bytes), bytes(plan.load_bytes)))
        }
        Event::Header { fetched_bytes, asked_bytes, bytes_per_second } => {
            let rate = format::bytes_per_second(*bytes_per_second);
            ("header", format!("{} of {} asked for · {rate}", bytes(*fetched_bytes), bytes(*asked_bytes)))
        }
        Event::Unloaded => ("unloaded", "the model that was loaded".to_owned()),
        Event::Preflight { waits, bytes_per_second } => {
            let rate = format::bytes_per_second(*bytes_per_second);
            ("plan", format!("header at {rate} · {}", if *waits { "waits for APPROVE" } else { "goes on" }))
        }
        Event::Remember { key } => ("check", format!("remembered for the next time: {key}")),
        Event::Prefetch(rest) => {
            let Prefetch { resident, slots, missing_bytes, bytes_per_second } = rest;
            let (left, rate) = (bytes(*missing_bytes), format::bytes_per_second(*bytes_per_second));
            ("prefetch", format!("{resident} of {slots} experts are there · {left} left · {rate}"))
        }
        Event::PrefetchPaused => ("prefetch", "not read any further for now".to_owned()),
        Event::PrefetchFailed(failure) => ("prefetch", format!("{} {}", failure.message, failure.advice)),
        Event::SelfCheck(check) if check.remembered => ("check", "passed before on this adapter".to_owned()),
        Event::SelfCheck(check) => {
            let worst = check.worst_error.map_or(format::NOT_MEASURED.to_owned(), |error| format!("{error:.1e}"));
            let elapsed = format::milliseconds(Some(check.elapsed_ms));
            ("check", format!("{} kernels right in {elapsed} · worst error {worst}", check.kernels))
        }
        Event::Fetch { fetched_bytes, needed_bytes, requests, wire_bytes, .. } => {
            let received = wire_bytes.map(|wire| format!(" · {} received", bytes(wire))).unwrap_or_default();
            let progress = format!("{} of {}", bytes(*fetched_bytes), bytes(*needed_bytes));
            ("fetch", format!("{progress} in {requests} requests{received}"))
        }
        Event::Trouble(trouble) => {
            let place = format!("{} at byte {}", trouble.file, trouble.offset_bytes);
            ("trouble", format!("{place}, {} missing · {}", bytes(trouble.missing_bytes), trouble_sentence(trouble)))
        }
        Event::TroubleOver { file, offset_bytes, attempts, elapsed_ms } => {
            let after = format!("attempt {attempts}, {} without a byte", format::milliseconds(Some(*elapsed_ms)));
            ("trouble", format!("{file} at byte {offset_bytes} · over: {after}"))
        }
        Event::Tensor { name, format, bytes: size, index, count } => {
            ("tensor", format!("{name} · {format} · {} · {} of {count}", bytes(*size), index + 1))
        }
        Event::Mapped { bytes: mapped } => ("memory", format!("{} of the file are mapped", bytes(*mapped))),
        Event::GpuMemory { allocated_bytes } => ("memory", format!("{} of GPU buffers", bytes(*allocated_bytes))),
        Event::WasmHeap { bytes: heap } => ("memory", format!("{} of wasm heap", bytes(*heap))),
        Event::Downloaded { cached_bytes, model_bytes, elapsed_ms } => {
            let (cached, all) = (bytes(*cached_bytes), bytes(*model_bytes));
            ("cached", format!("{cached} of {all} after {}", format::milliseconds(Some(*elapsed_ms))))
        }
        Event::Ready { load_ms } => ("ready", format!("loaded in {}", format::milliseconds(Some(*load_ms)))),
        Event::Recovering { stage, attempt, most, tokens, reason } => {
            let during = stage_name(*stage);
            ("lost", format!("{during}: {reason} · attempt {attempt} of {most}, {tokens} tokens to replay"))
        }
        Event::AwaitingGpu { waited_ms, patience_ms, reason } => {
            let (waited, patience) = (format::milliseconds(Some(*waited_ms)), format::milliseconds(Some(*patience_ms)));
            ("lost", format!("{reason} · waited {waited} of at most {patience}"))
        }
        Event::Recovered { tokens, elapsed_ms } => {
            ("recovered", format!("{tokens} tokens replayed after {}", format::milliseconds(Some(*elapsed_ms))))
        }
        Event::Counted { tokens } => ("prompt", format!("{tokens} tokens, counted only")),
        Event::PromptEncoded { tokens, context_tokens } => ("prompt", format!("{tokens} tokens of {context_tokens}")),
        Event::Prefill { done_tokens, total_tokens, elapsed_ms, .. } => (
            "prefill",
            format!("{done_tokens} of {total_tokens} tokens after {}", format::milliseconds(Some(*elapsed_ms))),
        ),
        Event::Token(token) => ("token", token_line(token)),
        Event::Kv { used_tokens, capacity_tokens, bytes: size } => {
            ("kv", format!("{used_tokens} of {capacity_tokens} tokens · {}", bytes(*size)))
        }
        Event::KvBlocks(KvBlocks { full, sliding, sequences, .. }) => {
            let used = |of: &PlacesInUse| format!("{} busy, {} idle of {}", of.busy, of.idle, of.places);
            let (full, sliding, sequences) = (used(full), used(sliding), used(sequences));
            ("kv", format!("blocks: {full} · with a window: {sliding} · sequences: {sequences}"))
        }
        Event::Missing(missing) => ("experts", missing_words(missing)),
        Event::FileMap(map) => {
            let tensors = format::plural(map.tensors.len() as u64, "tensor");
            ("file", format!("{} of header, {tensors} in {}", bytes(map.header_bytes), bytes(map.file_bytes)))
        }
        Event::Reads(reads) => {
            let sum = |ranges: &[FileRange]| bytes(ranges.iter().map(|range| range.bytes).sum());
            let (arrived, under_way) = (sum(&reads.arrived), reads.under_way.len() as u64);
            ("reads", format!("{arrived} arrived · {} under way", format::plural(under_way, "read")))
        }
        Event::ExpertMoves(moves) => ("experts", moves_line(moves)),
        Event::Routes(routes) => {
            let chosen: usize = routes.layers.iter().map(Vec::len).sum();
            ("routes", format!("{} at position {}", format::plural(chosen as u64, "expert"), routes.position))
        }
        Event::Residual(residual) => {
            let last = residual.norms.last().copied().unwrap_or_default();
            ("residual", format!("norm {last:.1} after the last layer, position {}", residual.position))
        }
        Event::Attention(row) => {
            let keys = format::plural(row.weights.len() as u64, "key");
            ("attention", format!("layer {} head {}: {keys}, sink {:.3}", row.head.layer, row.head.head, row.sink))
        }
        Event::OperationTimes { times } => {
            let sum: f64 = times.iter().map(|time| time.elapsed_ms).sum();
            let kernels = format::plural(times.len() as u64, "kernel");
            ("times", format!("{kernels}, {} on the GPU", format::milliseconds(Some(sum))))
        }
        Event::Experts(counters) => (
            "experts",
            format!("{} hits · {} misses · {} evictions", counters.hits, counters.misses, counters.evictions),
        ),
        Event::Work(work) => ("work", format!("{} submits · {} dispatches", work.submits, work.dispatches)),
        Event::GateTensors { tensors } => ("gates", format::plural(tensors.len() as u64, "tensor")),
        Event::GateProgress(progress) => ("gates", progress.tensor.clone()),
        Event::GateReport { .. } => ("gates", "a report".to_owned()),
        Event::GatesEnded { verdict, .. } => ("gates", format!("ended: {}", verdict.name())),
        Event::Queued { before } => ("queued", format!("{} first", format::plural(u64::from(*before), "request"))),
        Event::Asked { command } => ("asked", asked_line(command)),
        Event::HostStarted => ("page", "started a worker".to_owned()),
        Event::HostEnded => ("page", "ended the worker".to_owned()),
        Event::ConversationTaken { history } => match history.len() {
            0 => ("page", "began a new conversation".to_owned()),
            messages => ("page", format!("took up a conversation of {}", format::plural(messages as u64, "message"))),
        },
        Event::InputsRefused { errors } => {
            let said: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            ("refused", said.join(" "))
        }
        Event::HostDied(failure) | Event::WatcherFailed(failure) | Event::FailureExplained(failure) => {
            ("failed", format!("{} {}", failure.message, failure.advice))
        }
        Event::TimePassed => ("page", "still waiting".to_owned()),
        Event::Finished { reason, new_tokens, .. } => ("finished", format!("{reason:?} after {new_tokens} tokens")),
        Event::Stopped { model_loaded } => {
            ("stopped", if *model_loaded { "the model stays loaded" } else { "no model is loaded" }.to_owned())
        }
        Event::Failed { stage, failure } => ("failed", format!("{}: {}", stage_name(*stage), failure.message)),
        Event::Cached(cached) => ("cached", cache_line(cached)),
        Event::CacheNotice(notice) => ("notice", notice.message.clone()),
        Event::Cache(report) => ("cache", cache_report_line(report)),
        Event::CacheVerify { done_chunks, chunks, damaged_chunks, .. } => {
            ("verify", format!("{done_chunks} of {chunks} chunks read, {damaged_chunks} damaged"))
        }
    }
}

fn cache_line(cached: &CacheState) -> String {
    let bytes = format::bytes;
    format!(
        "{}: {} of {} cached, {} from before · {} from storage, {} from host or file · {} of {} chunks verified",
        cached.file,
        bytes(cached.stored_bytes),
        bytes(cached.file_bytes),
        bytes(cached.resumed_bytes),
        bytes(cached.storage_bytes),
        bytes(cached.network_bytes),
        cached.verified_chunks,
        cached.chunks
    )
}

fn cache_report_line(report: &CacheReport) -> String {
    let models = format::plural(report.models.len() as u64, "model");
    match (&report.problem, report.usage_bytes) {
        (Some(problem), _) => format!("{models} cached · {problem}"),
        (None, Some(usage_bytes)) => format!("{models} cached · {} in use", format::bytes(usage_bytes)),
        (None, None) => format!("{models} cached"),
    }
}

/// Format tokens complete no text; their names are among the most likely tokens.
fn token_line(token: &TokenInfo) -> String {
    let channel = token.channel.map_or("format", channel_name);
    let text = match token.top.iter().find(|top| top.id == token.id) {
        Some(top) if token.text.is_empty() => &top.text,
        _ => &token.text,
    };
    let probability = token.probability.map_or(format::NOT_MEASURED.to_owned(), |p| format::percent(f64::from(p)));
    format!("{} · {channel} \"{}\" · id {} · p {probability}", token.index, format::visible_token(text), token.id)
}

/// What the user asked for, without the texts that may be long.
fn asked_line(command: &Command) -> String {
    let place = |model: &ModelLocation| match model {
        ModelLocation::Url { url } => url.clone(),
        ModelLocation::PickedFile { name } => format!("picked file {name}"),
        ModelLocation::Cached { name } => format!("cached file {name}"),
        ModelLocation::Node { address } => format!("by way of {address}"),
    };
    match command {
        Command::Load { model, .. } => format!("to load {}", place(model)),
        Command::Download { model, .. } => format!("to cache {}", place(model)),
        Command::Gate { model, .. } => format!("for gates on {}", place(model)),
        Command::Generate { prompt } => {
            format!("a question of {}", format::plural(prompt.user.chars().count() as u64, "character"))
        }
        Command::Count { .. } => "how many tokens a question has".to_owned(),
        Command::Approve { .. } => "to go on as planned".to_owned(),
        Command::Stop { .. } => "to stop".to_owned(),
        Command::Cache { .. } => "about the download cache".to_owned(),
        Command::Watch { .. } => "to see what goes on inside the model".to_owned(),
    }
}

#[cfg(test)]
mod tests;
