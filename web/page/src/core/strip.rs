//! The file as a strip: which of its bytes are here, which are where they belong, and which gave way.

use std::ops::Range;

use gptoss_protocol::FileMap;

use crate::state::inside::{Inside, Place};

use super::Cell;

/// What bytes of the file are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// They say what the file is.
    #[default]
    Header,
    /// Weights that every token needs.
    Dense,
    /// Weights of experts.
    Experts,
}

impl Part {
    /// The part as the strip names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Dense => "dense",
            Self::Experts => "experts, layer by layer",
        }
    }
}

/// Bytes of the file that are next to each other, as shares of one. What is left over was not fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// What most of them are for.
    pub part: Part,
    /// Those that are where they belong: on the GPU, or in host memory.
    pub placed: f32,
    /// Those that came and are not all that is needed to use them.
    pub arrived: f32,
    /// Those that are being read.
    pub coming: f32,
    /// Those of experts that gave up their slot.
    pub evicted: f32,
}

/// The whole file, see the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Strip {
    /// Equal parts of the file, from its first byte to its last; none while it is not known what is where.
    pub bins: Vec<Bin>,
    /// Where the largest stretch of each part begins, as a share of the file; in ascending order.
    pub names: Vec<(Part, f64)>,
    bytes: Vec<[f64; COLUMNS]>,
}

const COLUMNS: usize = 7;
const DENSE: usize = 1;
const EXPERTS: usize = 2;
const PLACED: usize = 3;
const ARRIVED: usize = 4;
const COMING: usize = 5;
const EVICTED: usize = 6;

impl Strip {
    /// Works out so many equal parts of the file.
    pub fn update(&mut self, inside: &Inside, bins: usize) {
        self.bins.clear();
        self.names.clear();
        let Some(map) = inside.map.as_ref().filter(|map| map.file_bytes > 0 && bins > 0) else { return };
        self.bytes.clear();
        self.bytes.resize(bins, [0.0; COLUMNS]);
        let file_bytes = map.file_bytes;
        self.add(0..map.header_bytes, PLACED, file_bytes);
        for (index, tensor) in map.tensors.iter().enumerate() {
            let range = tensor.offset_bytes..tensor.offset_bytes + tensor.bytes;
            let is_dense = tensor.experts_of_layer.is_none();
            self.add(range.clone(), if is_dense { DENSE } else { EXPERTS }, file_bytes);
            if is_dense && inside.complete.get(index) == Some(&true) {
                self.add(range, PLACED, file_bytes);
            }
        }
        for tensor in &inside.expert_tensors {
            for (expert, number) in inside.layer(tensor.layer).iter().zip(0..) {
                match expert.place {
                    Place::Resident => self.add(tensor.slice(number), PLACED, file_bytes),
                    Place::Evicted => self.add(tensor.slice(number), EVICTED, file_bytes),
                    Place::Absent | Place::Awaited => {}
                }
            }
        }
        inside.arrived.iter().for_each(|range| self.add(range, ARRIVED, file_bytes));
        for read in &inside.under_way {
            self.add(read.offset_bytes..read.offset_bytes.saturating_add(read.bytes), COMING, file_bytes);
        }
        let whole = file_bytes as f64 / bins as f64;
        self.bins.extend(self.bytes.iter().map(|bytes| {
            let share = |column: usize| (bytes[column] / whole).clamp(0.0, 1.0) as f32;
            let part = match bytes {
                bytes if bytes[EXPERTS] > 0.0 && bytes[EXPERTS] >= bytes[DENSE] => Part::Experts,
                bytes if bytes[DENSE] > 0.0 => Part::Dense,
                _ => Part::Header,
            };
            let arrived = (share(ARRIVED) - share(PLACED)).max(0.0);
            Bin { part, placed: share(PLACED), arrived, coming: share(COMING), evicted: share(EVICTED) }
        }));
        self.name_parts(map);
    }

    fn add(&mut self, range: Range<u64>, column: usize, file_bytes: u64) {
        let per_byte = self.bytes.len() as f64 / file_bytes as f64;
        let (begin, end) = (range.start as f64 * per_byte, range.end.min(file_bytes) as f64 * per_byte);
        let last = self.bytes.len() - 1;
        for index in (begin as usize).min(last)..=(end as usize).min(last) {
            let here = (end.min(index as f64 + 1.0) - begin.max(index as f64)).max(0.0);
            self.bytes[index][column] += here / per_byte;
        }
    }

    /// Tensors of both kinds may take turns in a file: a part is named where most of it is.
    fn name_parts(&mut self, map: &FileMap) {
        self.names.push((Part::Header, 0.0));
        let mut longest: [Option<Range<u64>>; 2] = [None, None];
        let mut stretch: Option<(usize, Range<u64>)> = None;
        for tensor in &map.tensors {
            let kind = usize::from(tensor.experts_of_layer.is_some());
            let end = tensor.offset_bytes + tensor.bytes;
            let begin = match &stretch {
                Some((before, range)) if *before == kind => range.start,
                _ => tensor.offset_bytes,
            };
            let known = longest[kind].as_ref().map_or(0, |range| range.end - range.start);
            if end - begin > known {
                longest[kind] = Some(begin..end);
            }
            stretch = Some((kind, begin..end));
        }
        for (part, range) in [Part::Dense, Part::Experts].into_iter().zip(longest) {
            self.names.extend(range.map(|range| (part, range.start as f64 / map.file_bytes as f64)));
        }
        self.names.sort_by(|a, b| a.1.total_cmp(&b.1));
    }
}

/// Where the bytes of one expert are, as shares of the file from 0 to 1.
pub fn slices_of(inside: &Inside, cell: Cell) -> impl Iterator<Item = Range<f64>> {
    let file_bytes = inside.map.as_ref().map_or(1.0, |map| map.file_bytes.max(1) as f64);
    let slices = inside.tensors_of_layer(cell.layer).iter().map(move |tensor| tensor.slice(cell.expert));
    slices.map(move |slice| slice.start as f64 / file_bytes..slice.end as f64 / file_bytes)
}
