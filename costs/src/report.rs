//! The figures as Markdown: what gpt-oss-20b's files use.

use std::collections::BTreeMap;
use std::fmt::Write;

use gptoss_gguf::WeightType;
use gptoss_kernels::Operation;
use gptoss_model::CacheFormat;

use crate::costs::Costs;
use crate::kernel_cost::KernelCost;
use crate::pass::{CONTEXT_TOKENS, FEW_THREADS, PROMPT_ROWS, PassCosts};

/// Two tables in Markdown: the kernels of gpt-oss-20b's files with a figure for each family in a cell, and the passes.
pub fn markdown(costs: &Costs) -> String {
    let mut text = String::new();
    let families: Vec<_> = costs.kernels.keys().map(String::as_str).collect();
    let _ = writeln!(text, "{}; each figure for {}\n", costs.driver, families.join(" / "));
    text += "| kernel | VALU per weight | hottest loop: VALU | loads | LDS | waits | VGPRs | spilled | waves per SIMD | instructions |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|\n";
    for name in costs.kernels.values().next().into_iter().flat_map(BTreeMap::keys).filter(|name| is_shown(name)) {
        let all: Vec<_> = costs.kernels.values().filter_map(|kernels| kernels.get(name)).collect();
        let _ = writeln!(text, "| {name} | {} |", cells(&all).join(" | "));
    }
    let _ = write!(
        text,
        "\nA token at a context of {CONTEXT_TOKENS}; a prompt of {PROMPT_ROWS} rows.\n\n{}",
        passes(&costs.passes)
    );
    text
}

/// The cells of a row, with one figure for each family.
fn cells(all: &[&KernelCost]) -> [String; 9] {
    let each = |figure: &dyn Fn(&KernelCost) -> Option<String>| {
        let figures: Vec<_> = all.iter().map(|cost| figure(cost).unwrap_or_else(|| "–".to_owned())).collect();
        // A figure that all families share is written once.
        let is_one = figures.iter().all(|figure| *figure == figures[0]);
        if is_one { figures[0].clone() } else { figures.join(" / ") }
    };
    [
        each(&|cost| cost.vector_per_weight().map(|figure| format!("{figure:.2}"))),
        each(&|cost| Some(cost.hottest_loop?.vector.to_string())),
        each(&|cost| Some((cost.hottest_loop?.vector_loads + cost.hottest_loop?.scalar_loads).to_string())),
        each(&|cost| Some(cost.hottest_loop?.lds.to_string())),
        each(&|cost| Some(cost.hottest_loop?.waits.to_string())),
        each(&|cost| Some(cost.vgprs.to_string())),
        each(&|cost| Some(cost.spilled.to_string())),
        each(&|cost| Some(cost.waves_per_simd.to_string())),
        each(&|cost| Some(cost.instructions.to_string())),
    ]
}

/// Whether files of gpt-oss-20b use the kernel: dense weights in Q8_0, experts in MXFP4, the cache in F16.
fn is_shown(name: &str) -> bool {
    let (dense, experts, cache) = (WeightType::Q8_0, WeightType::Mxfp4, CacheFormat::F16);
    let operations = [
        Operation::Matmul(dense),
        Operation::MatmulResidual(dense),
        Operation::Rope(cache),
        Operation::Attention(cache),
        Operation::AttentionRow(cache),
        Operation::Router,
        Operation::ExpertsGateUp(experts),
        Operation::ExpertsDown(experts),
        Operation::ExpertsCombine,
        Operation::Sample,
    ];
    let repack = [dense, experts].map(|format| format!("repack {}", format.name()));
    let shown = operations.iter().map(Operation::to_string).chain(repack);
    shown
        .into_iter()
        .any(|shown| name.strip_prefix(&shown).is_some_and(|rest| rest.is_empty() || rest.starts_with(',')))
}

/// A row of the table of passes.
type Figure<'a> = &'a dyn Fn(&PassCosts) -> String;

fn passes(passes: &BTreeMap<String, PassCosts>) -> String {
    let few = format!("of them with fewer than {FEW_THREADS} threads");
    let figures: [(&str, Figure<'_>); 14] = [
        ("batches", &|it| it.batches.to_string()),
        ("of them on the GPU at a time", &|it| it.batches_under_way.to_string()),
        ("dispatches", &|it| it.dispatches.to_string()),
        (&few, &|it| it.small_dispatches.to_string()),
        ("threads of the smallest", &|it| it.least_threads.to_string()),
        ("threads of the largest", &|it| it.most_threads.to_string()),
        ("barriers", &|it| it.barriers.to_string()),
        ("serial steps of the busiest threads", &|it| it.serial_steps.to_string()),
        ("passes over the logits", &|it| it.logit_passes.to_string()),
        ("matrices, each once a batch", &|it| megabytes(it.weight_bytes_once)),
        ("matrices, as read", &|it| megabytes(it.weight_bytes_read)),
        ("how often a byte of a matrix is read in a batch", &|it| ratio(it.weight_bytes_read, it.weight_bytes_once)),
        ("keys and values, each once a batch", &|it| megabytes(it.kv_bytes_once)),
        ("keys and values, as read", &|it| megabytes(it.kv_bytes_read)),
    ];
    let titles = passes.keys().cloned().collect::<Vec<_>>().join(" | ");
    let mut text = format!("| gpt-oss-20b | {titles} |\n|---|{}\n", "---|".repeat(passes.len()));
    for (figure, of) in figures {
        let cells: Vec<_> = passes.values().map(of).collect();
        let _ = writeln!(text, "| {figure} | {} |", cells.join(" | "));
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn ratio(of: u64, to: u64) -> String {
    format!("{:.2}", of as f64 / to as f64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn tables_show_what_files_of_gpt_oss_use() {
        let kept = Costs::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("costs.json")).expect("costs.json");
        let text = markdown(&kept);
        let rows = |name: &str| text.lines().filter(|line| line.starts_with(&format!("| {name}"))).count();
        // There are kernels for one token and for several, with and without subgroups.
        assert_eq!(rows("matmul Q8_0, "), 4, "{text}");
        assert_eq!((rows("experts_gate_up MXFP4, "), rows("repack MXFP4 |"), rows("attention F16, ")), (1, 1, 2));
        assert_eq!((rows("matmul Q4_K"), rows("attention F32"), rows("experts_gate MXFP4")), (0, 0, 0));
        let mut columns = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("| ")) {
            *columns.entry(line.matches(" | ").count() + 1).or_insert(0) += 1;
        }
        assert_eq!(columns.keys().copied().collect::<Vec<_>>(), [1 + kept.passes.len(), 10], "{text}");
    }
}
