//! The picture in words: its title and readout, one cell, and all of it for those who do not see it.

use crate::format::{bytes, bytes_per_second, count, plural, visible_token};
use crate::state::inside::{Expert, Head, Inside, Place};
use crate::state::{Phase, State};

use super::Cell;
use super::picture::{kv_positions, slides};

/// Title of the panel: `The model · 24 layers × 32 experts`.
pub fn title(state: &State) -> String {
    let Inside { layers, layers_run, experts, .. } = state.inside;
    match layers {
        0 => "The model".to_owned(),
        _ if layers_run < layers => format!("The model · {layers_run} of {layers} layers run × {experts} experts"),
        _ => format!("The model · {layers} layers × {experts} experts"),
    }
}

/// What is being read, in one line: `9.66 GB of 12.1 GB · 214 MB/s · 4 ranges in flight · blk.17.ffn_down_exps.weight ▸
/// expert 9`. Empty while nothing is known of a file.
pub fn readout(state: &State) -> String {
    let inside = &state.inside;
    let mut parts = Vec::new();
    let loading = state.fetch.filter(|_| state.phase == Phase::Loading);
    match (loading, &inside.map) {
        (Some(fetch), _) => parts.push(format!("{} of {}", bytes(fetch.fetched_bytes), bytes(fetch.needed_bytes))),
        (None, Some(map)) => {
            // What is in place counts also where no reads were told, as by engines that have the file in memory.
            parts.push(format!("{} of {} in place", bytes(placed_bytes(inside)), bytes(map.file_bytes)));
        }
        (None, None) => return String::new(),
    }
    let rate = match loading {
        Some(fetch) => fetch.bytes_per_second,
        None => state.prefetch.and_then(|prefetch| prefetch.bytes_per_second).filter(|_| state.is_prefetching()),
    };
    if rate.is_some() {
        parts.push(bytes_per_second(rate));
    }
    if !inside.under_way.is_empty() {
        parts.push(format!("{} in flight", plural(inside.under_way.len() as u64, "range")));
        parts.extend(inside.under_way.last().and_then(|read| place_in_file(inside, read.offset_bytes)));
    }
    parts.join(" · ")
}

/// What a byte of the file belongs to: `blk.17.ffn_down_exps.weight ▸ expert 9`.
pub fn place_in_file(inside: &Inside, offset_bytes: u64) -> Option<String> {
    let map = inside.map.as_ref()?;
    if offset_bytes < map.header_bytes {
        return Some("header".to_owned());
    }
    let name = &map.tensors[inside.tensor_at(offset_bytes)?].name;
    Some(match inside.expert_at(offset_bytes) {
        Some(cell) => format!("{name} ▸ expert {}", cell.expert),
        None => name.clone(),
    })
}

/// A part of the file as a hit on the strip gives it, from 0 to 1: where it is, and what it holds first.
pub fn file_part(inside: &Inside, from: f64, to: f64) -> Option<String> {
    let file_bytes = inside.map.as_ref()?.file_bytes;
    let at = |share: f64| (share * file_bytes as f64) as u64;
    let what = place_in_file(inside, at(from)).or_else(|| place_in_file(inside, at(to)));
    let arrived = inside.arrived.covered(at(from)..at(to));
    let verb = if inside.is_mapped { "mapped" } else { "read" };
    let here = format!("{} of {} {verb}", bytes(arrived), bytes(at(to).saturating_sub(at(from))));
    Some(
        [Some(format!("byte {}", count(at(from)))), what, Some(here)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" · "),
    )
}

/// One cell: what it is, where it is, and what the answer made of it.
pub fn cell(inside: &Inside, cell: Cell) -> Option<String> {
    let expert = inside.expert(cell)?;
    let mut parts = vec![format!("layer {}, expert {}", cell.layer, cell.expert)];
    let size = inside.expert_bytes(cell.layer);
    if size > 0 {
        parts.push(format!("{} in the file", bytes(size)));
    }
    parts.push(place(inside, cell, expert));
    if expert.miss > 0 {
        parts.push(format!("miss {} of {}", count(u64::from(expert.miss)), count(u64::from(inside.misses))));
    }
    parts.push(uses(inside, expert));
    Some(parts.join(" · "))
}

/// What is said at a cell that a batch waits for: `miss · 8.20 MB of 13.2 MB`.
pub fn miss(inside: &Inside, cell: Cell) -> String {
    match inside.expert_bytes(cell.layer) {
        0 => "miss".to_owned(),
        size => format!("miss · {} of {}", bytes(inside.arrived_bytes(cell)), bytes(size)),
    }
}

/// A token in quotation marks, on one line and not too long; blanks show where there is nothing else.
pub fn quoted(text: &str) -> String {
    const MOST: usize = 18;
    let shown = visible_token(if text.trim().is_empty() { text } else { text.trim() });
    match shown.char_indices().nth(MOST) {
        Some((end, _)) => format!("“{}…”", &shown[..end]),
        None => format!("“{shown}”"),
    }
}

/// What went through the model last: the token's text, its position where the text is not known, or how much of the
/// prompt.
pub fn newest_token(state: &State) -> String {
    let inside = &state.inside;
    let Some(total) = inside.prompt_tokens else { return String::new() };
    match inside.position.filter(|_| inside.head != Head::Start) {
        Some(position) if position >= total => match inside.text_at(position) {
            Some(text) => quoted(text),
            None => format!("position {}", count(u64::from(position))),
        },
        _ => prompt(state.answer.prefill.as_ref().map_or(0, |prefill| prefill.done_tokens), total),
    }
}

/// How much of a prompt was read: `prompt 512 of 1 204`.
pub fn prompt(done_tokens: u32, total_tokens: u32) -> String {
    format!("prompt {} of {}", count(u64::from(done_tokens)), count(u64::from(total_tokens)))
}

/// The whole picture in a sentence or two, as the canvas's label.
pub fn label(state: &State) -> String {
    let inside = &state.inside;
    if inside.layers == 0 {
        return "Picture of the model: none is known so far".to_owned();
    }
    let number = |value: usize| count(value as u64);
    let mut text = format!(
        "Picture of the model: {} layers of {} experts; {} of {} experts are {}",
        inside.layers,
        inside.experts,
        number(inside.resident()),
        number(inside.cells.len()),
        inside.place_name()
    );
    let evicted = inside.cells.iter().filter(|expert| expert.place == Place::Evicted).count();
    let missed = inside.cells.iter().filter(|expert| expert.is_missed()).count();
    if evicted > 0 {
        text += &format!(", {} gave up their place", number(evicted));
    }
    if missed > 0 {
        text += &format!(", {} are missed", number(missed));
    }
    if !inside.under_way.is_empty() {
        text += &format!("; {} in flight", plural(inside.under_way.len() as u64, "range"));
    }
    let said = inside.position.and_then(|position| Some((position, inside.text_at(position)?)));
    match (said, inside.head) {
        (_, Head::AtLayer(layer)) => text += &format!(". A batch waits for experts of layer {layer}"),
        (Some((position, said)), _) => text += &format!(". Newest token: {}, position {position}", quoted(said)),
        _ => {}
    }
    text + "."
}

/// The picture as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns.
    pub header: [&'static str; 5],
    /// One row for each layer.
    pub rows: Vec<[String; 5]>,
}

/// What the picture shows, layer by layer.
pub fn table(state: &State) -> Table {
    let inside = &state.inside;
    let row = |layer| {
        let kv = match kv_positions(state, layer) {
            Some((used, room)) => format!("{} of {} positions", count(u64::from(used)), count(u64::from(room))),
            None => "not told yet".to_owned(),
        };
        [
            layer.to_string(),
            if slides(state, layer) { "sliding" } else { "full" }.to_owned(),
            kv,
            format!("{} of {}", inside.resident_in(layer), inside.experts),
            chosen(inside, layer),
        ]
    };
    Table {
        header: ["layer", "attention", "KV cache", "experts in place", "chosen last (weight)"],
        rows: (0..inside.layers).map(row).collect(),
    }
}

/// The most experts that a row of the table names: a batch of a prompt chooses nearly all of them.
const MOST_NAMED: usize = 8;

/// `3 (0.41), 17 (0.32)`, the heaviest first.
fn chosen(inside: &Inside, layer: u32) -> String {
    let mut chosen: Vec<(usize, f32)> = inside
        .layer(layer)
        .iter()
        .enumerate()
        .filter(|(_, expert)| inside.is_chosen(expert))
        .map(|(number, expert)| (number, expert.weight))
        .collect();
    if chosen.is_empty() {
        return if inside.batch.is_some() { "none" } else { "not told" }.to_owned();
    }
    chosen.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named: Vec<_> =
        chosen.iter().take(MOST_NAMED).map(|(number, weight)| format!("{number} ({weight:.2})")).collect();
    let more = chosen.len().saturating_sub(MOST_NAMED);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

fn place(inside: &Inside, cell: Cell, expert: &Expert) -> String {
    let arrived = || format!("{} here", bytes(inside.arrived_bytes(cell)));
    match expert.place {
        Place::Resident => inside.place_name().to_owned(),
        _ if expert.is_missed() => format!("missed: a batch waits for it, {}", arrived()),
        Place::Awaited => format!("coming, {}", arrived()),
        Place::Evicted => "gave up its place on the GPU".to_owned(),
        Place::Absent => match inside.arrived_bytes(cell) {
            0 => "not fetched".to_owned(),
            _ => format!("not on the GPU, {}", arrived()),
        },
    }
}

fn uses(inside: &Inside, expert: &Expert) -> String {
    let Some(position) = expert.last_position else {
        return match inside.batches {
            0 => "uses not told".to_owned(),
            _ => "not used in this answer".to_owned(),
        };
    };
    let by = match inside.text_at(position) {
        Some(text) => quoted(text),
        None => format!("position {}", count(u64::from(position))),
    };
    format!(
        "used by {} of this answer, last by {by} with weight {:.2}",
        plural(u64::from(expert.uses), "token"),
        expert.weight
    )
}

/// Bytes of the file that are where they belong.
fn placed_bytes(inside: &Inside) -> u64 {
    let Some(map) = &inside.map else { return 0 };
    let dense = map.tensors.iter().zip(&inside.complete);
    let dense = dense.filter(|(tensor, complete)| **complete && tensor.experts_of_layer.is_none());
    let dense: u64 = dense.map(|(tensor, _)| tensor.bytes).sum();
    let experts = |layer| inside.resident_in(layer) as u64 * inside.expert_bytes(layer);
    map.header_bytes + dense + (0..inside.layers).map(experts).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{Event, Replay, Sequencer};

    use super::*;
    use crate::core::made_up::{self, Run};

    fn fold(run: &Run) -> State {
        let (mut state, mut sequencer) = (State::default(), Sequencer::new(1));
        run.events.iter().for_each(|(at_ms, event)| state.apply(&sequencer.wrap(*at_ms, None, event.clone())));
        state
    }

    #[test]
    fn the_title_has_the_shape_of_the_model() {
        assert_eq!(title(&State::default()), "The model");
        let mut state = fold(&Run::new(24, 32));
        assert_eq!(title(&state), "The model · 24 layers × 32 experts");
        state.inside.layers_run = 2;
        assert_eq!(title(&state), "The model · 2 of 24 layers run × 32 experts");
    }

    #[test]
    fn the_readout_says_what_is_read_and_where_it_belongs() {
        assert_eq!(readout(&State::default()), "");
        let mut run = made_up::whole(24, 32, 2);
        assert_eq!(
            readout(&fold(&run)),
            "2.21 GB of 2.52 GB in place · 1 range in flight · blk.12.ffn_down_exps.weight ▸ expert 31"
        );
        run.tell(Event::Fetch {
            fetched_bytes: 9_660_000_000,
            needed_bytes: 12_110_000_000,
            requests: 9,
            wire_bytes: None,
            bytes_per_second: Some(2.14e8),
        });
        let mut state = fold(&run);
        state.phase = Phase::Loading;
        assert!(readout(&state).starts_with("9.66 GB of 12.1 GB · 214 MB/s · 1 range"), "{}", readout(&state));
    }

    #[test]
    fn a_cell_says_where_it_is_and_what_it_was_used_for() {
        let inside = fold(&made_up::whole(24, 32, 5)).inside;
        let say = |layer, expert| cell(&inside, Cell { layer, expert }).expect("the model has it");
        assert_eq!(
            say(12, 31),
            "layer 12, expert 31 · 3.15 MB in the file · missed: a batch waits for it, 2.10 MB here · miss 1 of 1 · \
             not used in this answer"
        );
        assert!(say(12, 1).contains("gave up its place on the GPU"), "{}", say(12, 1));
        assert!(say(0, 31).contains("not fetched"));
        let mut run = Run::new(6, 8);
        run.tell(Event::Mapped { bytes: run.map.file_bytes });
        let mapped = fold(&run);
        let said = cell(&mapped.inside, Cell { layer: 5, expert: 7 }).expect("the model has it");
        assert!(said.contains("in the mapped file"), "{said}");
        assert!(label(&mapped).contains("48 of 48 experts are in the mapped file"), "{}", label(&mapped));
        let all = bytes(run.map.file_bytes);
        assert!(readout(&mapped).starts_with(&format!("{all} of {all} in place")), "{}", readout(&mapped));
        let heaviest = made_up::chosen(7, 4, 32)[0];
        assert!(say(7, heaviest).contains("on the GPU"), "{}", say(7, heaviest));
        assert!(say(7, heaviest).ends_with("last by “word4” with weight 0.40"), "{}", say(7, heaviest));
        assert_eq!(cell(&inside, Cell { layer: 24, expert: 0 }), None);
        let untold = fold(&Run::new(6, 8)).inside;
        assert!(cell(&untold, Cell { layer: 0, expert: 0 }).is_some_and(|text| text.ends_with("uses not told")));
    }

    #[test]
    fn parts_of_the_file_are_named() {
        let run = made_up::whole(24, 32, 1);
        let inside = fold(&run).inside;
        assert_eq!(place_in_file(&inside, 0).as_deref(), Some("header"));
        assert_eq!(place_in_file(&inside, made_up::HEADER_BYTES).as_deref(), Some("token_embd.weight"));
        assert_eq!(place_in_file(&inside, run.map.file_bytes), None);
        let slice = run.slices(Cell { layer: 3, expert: 9 })[1];
        let share = |byte: u64| (byte as f64 + 0.5) / run.map.file_bytes as f64;
        let text = file_part(&inside, share(slice.offset_bytes), share(slice.offset_bytes + slice.bytes));
        let text = text.expect("the file is known");
        assert!(text.ends_with(" · blk.3.ffn_up_exps.weight ▸ expert 9 · 1.05 MB of 1.05 MB read"), "{text}");
        assert_eq!(file_part(&Inside::default(), 0.0, 1.0), None);
    }

    #[test]
    fn the_label_and_the_table_say_what_the_picture_shows() {
        let state = fold(&made_up::whole(24, 32, 5));
        assert_eq!(
            label(&state),
            "Picture of the model: 24 layers of 32 experts; 671 of 768 experts are on the GPU, 1 gave up their place, \
             1 are missed; 1 range in flight. A batch waits for experts of layer 12."
        );
        assert!(label(&State::default()).contains("none is known"));
        let table = table(&state);
        assert_eq!(table.rows.len(), 24);
        let chosen = made_up::chosen(12, 4, 32);
        let weights = ["0.40", "0.30", "0.20", "0.10"];
        let named: Vec<_> = chosen.iter().zip(weights).map(|(expert, weight)| format!("{expert} ({weight})")).collect();
        let expected = ["12", "sliding", "45 of 128 positions", "27 of 32", &named.join(", ")].map(str::to_owned);
        assert_eq!(table.rows[12], expected);
        assert_eq!(table.rows[13][1..3], ["full".to_owned(), "45 of 8\u{202f}192 positions".to_owned()]);
        let untold = super::table(&fold(&Run::new(6, 8)));
        assert_eq!(untold.rows[0], ["0", "sliding", "not told yet", "0 of 8", "not told"].map(str::to_owned));
    }

    #[test]
    fn the_newest_token_is_a_text_a_position_or_a_part_of_the_prompt() {
        let mut run = Run::new(6, 8);
        assert_eq!(newest_token(&fold(&run)), "");
        run.answer_begins();
        assert_eq!(newest_token(&fold(&run)), "prompt 0 of 40");
        run.prompt_read();
        assert_eq!(newest_token(&fold(&run)), "prompt 40 of 40");
        (0..3).for_each(|index| run.token(index));
        assert_eq!(newest_token(&fold(&run)), "“word2”");
        let mut state = fold(&run);
        state.inside.said.clear();
        assert_eq!(newest_token(&state), "position 42", "and not the prompt, which is over");
        run.answer_begins();
        run.miss(Cell { layer: 3, expert: 1 });
        assert_eq!(newest_token(&fold(&run)), "prompt 0 of 40", "the position of another answer says nothing");
    }

    #[test]
    fn tokens_are_quoted_on_one_line() {
        for (text, shown) in
            [(" min(", "“min(”"), ("\n", "“⏎”"), (" ", "“␣”"), ("äöüäöüäöüäöüäöüäöüä", "“äöüäöüäöüäöüäöüäöü…”")]
        {
            assert_eq!(quoted(text), shown);
        }
    }
}
