//! Counts from assembly as RADV prints it: blocks by label, loops by branches back, instructions by what they keep
//! busy.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Numbers of instructions by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Instructions of the vector ALU: one serves all lanes of a wave.
    pub vector: u64,
    /// Instructions of the scalar ALU.
    pub scalar: u64,
    /// Loads from buffers by lanes, of whatever width.
    pub vector_loads: u64,
    /// Loads that all lanes share: descriptors, parameters, and values with one address.
    pub scalar_loads: u64,
    /// Stores to buffers, and atomics.
    pub stores: u64,
    /// Reads and writes of workgroup memory.
    pub lds: u64,
    /// Waits for memory.
    pub waits: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self { vector, scalar, vector_loads, scalar_loads, stores, lds, waits } = other;
        self.vector += vector;
        self.scalar += scalar;
        self.vector_loads += vector_loads;
        self.scalar_loads += scalar_loads;
        self.stores += stores;
        self.lds += lds;
        self.waits += waits;
    }
}

/// A run of instructions that nothing jumps into.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    counts: Counts,
    /// Labels of the blocks that it may jump to.
    targets: Vec<String>,
}

/// A loop: the blocks from the one that is jumped back to, up to the last that does so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    first: usize,
    last: usize,
    /// How many loops contain it.
    pub depth: usize,
    /// Instructions of one round, without inner loops. Both sides of a branch count, so this is the most that a lane
    /// can execute.
    pub own: Counts,
}

/// The loops of a kernel, in the order of their first blocks.
///
/// # Errors
/// It has no labels, or jumps to one that it has not: the text is in another form than RADV's.
pub fn loops(isa: &str) -> Result<Vec<Loop>> {
    let (labels, blocks) = blocks(isa);
    ensure!(!labels.is_empty(), "assembly without labels such as `BB0:`; this is read from Mesa 22.3.6");
    let mut last_by_first = BTreeMap::new();
    for (at, block) in blocks.iter().enumerate() {
        for label in &block.targets {
            let target = *labels.get(label.as_str()).with_context(|| format!("assembly without the label {label}"))?;
            if target <= at {
                let last = last_by_first.entry(target).or_insert(at);
                *last = at.max(*last);
            }
        }
    }
    let spans: Vec<_> = last_by_first.into_iter().collect();
    let holds = |outer: (usize, usize), inner: (usize, usize)| outer.0 <= inner.0 && inner.1 <= outer.1;
    let told = |&span: &(usize, usize)| {
        let depth = spans.iter().filter(|&&outer| outer != span && holds(outer, span)).count();
        let mut own = Counts::default();
        for (at, block) in blocks.iter().enumerate().take(span.1 + 1).skip(span.0) {
            let is_inner = spans.iter().any(|&inner| inner != span && holds(span, inner) && holds(inner, (at, at)));
            if !is_inner {
                own += block.counts;
            }
        }
        Loop { first: span.0, last: span.1, depth, own }
    };
    Ok(spans.iter().map(told).collect())
}

/// The loop with the most vector instructions of its own. It need not be an innermost one: an inner loop that the
/// driver unrolled is part of the outer one. `None` for a kernel without loops.
pub fn hottest(loops: &[Loop]) -> Option<&Loop> {
    loops.iter().max_by_key(|it| (it.own.vector, std::cmp::Reverse(it.first)))
}

impl Loop {
    /// Whether no loop contains it, and it contains none.
    pub fn is_alone(&self, all: &[Self]) -> bool {
        let overlaps = |other: &Self| other.first <= self.last && self.first <= other.last;
        all.iter().all(|other| other == self || !overlaps(other))
    }
}

/// The blocks in order, and their indices by label. Only what follows a label is read.
fn blocks(isa: &str) -> (BTreeMap<&str, usize>, Vec<Block>) {
    let mut labels = BTreeMap::new();
    let mut blocks: Vec<Block> = Vec::new();
    for line in isa.lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        if let Some(label) = line.strip_suffix(':') {
            labels.insert(label, blocks.len());
            blocks.push(Block { counts: Counts::default(), targets: Vec::new() });
        } else if let (Some(block), Some(mnemonic)) = (blocks.last_mut(), line.split_whitespace().next()) {
            count(&mut block.counts, mnemonic);
            let is_jump = mnemonic.starts_with("s_cbranch") || mnemonic == "s_branch";
            block.targets.extend(line.split_whitespace().nth(1).filter(|_| is_jump).map(str::to_owned));
        }
    }
    (labels, blocks)
}

/// Counts an instruction. Names differ between generations (`buffer_load_dword` became `buffer_load_b32`), their
/// beginnings do not.
fn count(counts: &mut Counts, mnemonic: &str) {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| mnemonic.starts_with(prefix));
    // Instructions that neither compute nor move data: they steer, or tell the hardware how to fetch and when results
    // are there.
    let steers = [
        "s_branch",
        "s_cbranch",
        "s_endpgm",
        "s_barrier",
        "s_nop",
        "s_clause",
        "s_delay_alu",
        "s_inst_prefetch",
        "s_code_end",
        "s_sendmsg",
        "s_waitcnt_depctr",
    ];
    let kind = if starts(&["v_"]) {
        &mut counts.vector
    } else if starts(&["buffer_load", "global_load", "flat_load", "scratch_load"]) {
        &mut counts.vector_loads
    } else if starts(&["s_load", "s_buffer_load"]) {
        &mut counts.scalar_loads
    } else if starts(&["buffer_", "global_", "flat_", "scratch_"]) {
        &mut counts.stores
    } else if starts(&["ds_"]) {
        &mut counts.lds
    } else if starts(&steers) {
        return;
    } else if starts(&["s_waitcnt", "s_wait_"]) {
        &mut counts.waits
    } else if starts(&["s_"]) {
        &mut counts.scalar
    } else {
        return;
    };
    *kind += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole kernel as RADV of Mesa 22.3.6 prints it for vega10.
    const COMBINE: &str = include_str!("isa_texts/experts_combine.vega10.s");
    /// A part of `sample` as RADV prints it for gfx1100, without encodings: a loop with two inner loops.
    const PASSES: &str = include_str!("isa_texts/sample_passes.gfx1100.s");

    #[test]
    fn a_loop_is_what_is_jumped_back_to() {
        let loops = loops(COMBINE).expect("assembly");
        // One loop sums choices, the other squares.
        let [choices, squares] = &loops[..] else { panic!("{loops:#?}") };
        let expected =
            Counts { vector: 2, scalar: 12, vector_loads: 1, scalar_loads: 4, waits: 4, ..Counts::default() };
        assert_eq!(choices.own, expected);
        assert_eq!(squares.own, Counts { vector: 2, scalar: 9, lds: 1, waits: 1, ..Counts::default() });
        assert!(choices.is_alone(&loops) && squares.is_alone(&loops));
        assert_eq!(hottest(&loops), Some(choices), "the first of equals");
    }

    #[test]
    fn loops_within_a_loop_are_not_its_own() {
        let loops = loops(PASSES).expect("assembly");
        let [pass, keys, bins] = &loops[..] else { panic!("{loops:#?}") };
        assert_eq!([pass, keys, bins].map(|it| it.depth), [0, 1, 1]);
        assert_eq!(pass.own, Counts { vector: 5, scalar: 15, lds: 3, waits: 4, ..Counts::default() });
        let of_keys = Counts { vector: 18, scalar: 12, vector_loads: 1, scalar_loads: 1, lds: 1, waits: 2, stores: 0 };
        assert_eq!(keys.own, of_keys);
        assert_eq!(bins.own, Counts { vector: 11, scalar: 11, lds: 3, waits: 2, ..Counts::default() });
        assert_eq!(hottest(&loops), Some(keys));
        assert!(loops.iter().all(|it| !it.is_alone(&loops)));
    }

    #[test]
    fn another_form_of_text_is_refused() {
        let told = loops("s_endpgm").expect_err("no labels").to_string();
        assert!(told.contains("without labels"), "{told}");
        let told = loops("BB0:\n s_branch BB1").expect_err("no such label").to_string();
        assert!(told.contains("BB1"), "{told}");
        assert_eq!(loops("BB0:\n s_endpgm").expect("assembly"), []);
    }
}
