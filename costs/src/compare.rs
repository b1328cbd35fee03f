//! Compares new figures with the recorded ones: what is worse, and what cannot be compared.

use std::collections::BTreeMap;

use crate::costs::Costs;
use crate::kernel_cost::KernelCost;
use crate::pass::PassCosts;

/// By how many percent machine code may grow before it counts as worse: registers come in steps, and one more
/// instruction is no news.
const TOLERANCE_PERCENT: u64 = 2;

/// The outcome of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Remarks: what was not compared, and what is better than the recorded figures.
    pub notes: Vec<String>,
    /// What is worse, one sentence each; empty if all is well.
    pub worse: Vec<String>,
}

/// Compares the figures of now with the recorded ones. Machine code of different drivers cannot be compared and is left
/// out.
pub fn compare(kept: &Costs, now: &Costs) -> Comparison {
    let mut comparison = Comparison::default();
    comparison.entries("pass", &kept.passes, &now.passes, figures_of_pass, 0);
    if kept.driver != now.driver {
        comparison.notes.push(format!(
            "MACHINE CODE WAS NOT COMPARED: kept figures are those of {}, and here is {}. Only dispatches, barriers, steps and bytes were. \
             With the same driver on both sides: `cargo xtask shader-costs --update` on the tree before.",
            kept.driver, now.driver
        ));
        return comparison;
    }
    for (family, kernels) in &now.kernels {
        let none = BTreeMap::new();
        let known = kept.kernels.get(family).unwrap_or(&none);
        comparison.entries(family, known, kernels, figures_of_kernel, TOLERANCE_PERCENT);
    }
    comparison
}

impl Comparison {
    fn entries<T>(
        &mut self,
        what: &str,
        kept: &BTreeMap<String, T>,
        now: &BTreeMap<String, T>,
        figures: impl Fn(&T) -> Vec<(&'static str, u64)>,
        tolerance_percent: u64,
    ) {
        let update = "keep it with `cargo xtask shader-costs --update`";
        for (name, entry) in now {
            let Some(known) = kept.get(name) else {
                self.worse.push(format!("{what}, {name}: is new and has no kept figures: {update}"));
                continue;
            };
            for ((figure, now), (known_figure, kept)) in figures(entry).into_iter().zip(figures(known)) {
                let told = || format!("{what}, {name}: {figure} {kept} → {now}");
                if figure != known_figure {
                    self.worse.push(format!("{what}, {name}: {known_figure} are kept, and {figure} told: {update}"));
                } else if now * 100 > kept * (100 + tolerance_percent) {
                    self.worse.push(told());
                } else if now < kept {
                    self.notes.push(format!("better: {}", told()));
                }
            }
        }
        let gone = kept.keys().filter(|name| !now.contains_key(*name));
        self.worse.extend(gone.map(|name| format!("{what}, {name}: has kept figures and is no more: {update}")));
    }
}

/// Figures that must not grow at all.
fn figures_of_pass(costs: &PassCosts) -> Vec<(&'static str, u64)> {
    vec![
        ("dispatches", costs.dispatches),
        ("dispatches of few threads", costs.small_dispatches),
        ("barriers", costs.barriers),
        ("serial steps", costs.serial_steps),
        ("passes over logits", costs.logit_passes),
        ("bytes of weights, once", costs.weight_bytes_once),
        ("bytes of weights, as read", costs.weight_bytes_read),
        ("bytes of keys and values, once", costs.kv_bytes_once),
        ("bytes of keys and values, as read", costs.kv_bytes_read),
    ]
}

/// Figures that must not grow by more than the tolerance. If it is known how many weights a round takes, a round with
/// more weights may take more instructions.
fn figures_of_kernel(cost: &KernelCost) -> Vec<(&'static str, u64)> {
    // A kernel without a loop has no instructions in a loop.
    let of_loop = cost.hottest_loop.unwrap_or_default();
    let (vector, waits) = match cost.weights_per_round {
        Some(weights) => (
            ("vector instructions for 1000 weights", of_loop.vector * 1000 / weights),
            ("waits for 1000 weights", of_loop.waits * 1000 / weights),
        ),
        None => {
            (("vector instructions in the hottest loop", of_loop.vector), ("waits in the hottest loop", of_loop.waits))
        }
    };
    let (registers, spilled) = (("vector registers", cost.vgprs), ("spilled registers", cost.spilled));
    vec![vector, waits, registers, spilled, ("instructions", cost.instructions)]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const KERNEL: &str = "matmul Q8_0, 1 token, baseline";

    fn kept() -> Costs {
        Costs::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("costs.json")).expect("costs.json")
    }

    fn kernel(costs: &mut Costs) -> &mut KernelCost {
        costs.kernels.get_mut("gfx1100").and_then(|kernels| kernels.get_mut(KERNEL)).expect("a kernel")
    }

    /// What is worse after `change` changed some figures.
    fn worse(change: impl FnOnce(&mut Costs)) -> Vec<String> {
        let mut now = kept();
        change(&mut now);
        compare(&kept(), &now).worse
    }

    #[test]
    fn equal_figures_are_not_worth_a_word() {
        assert_eq!(compare(&kept(), &kept()), Comparison::default());
    }

    #[test]
    fn machine_code_may_grow_by_two_percent() {
        assert_eq!(worse(|costs| kernel(costs).instructions += kernel(costs).instructions / 50), [""; 0]);
        let told = worse(|costs| kernel(costs).instructions += kernel(costs).instructions / 50 + 1);
        assert!(told.len() == 1 && told[0].starts_with("gfx1100, matmul Q8_0, 1 token, baseline: instr"), "{told:?}");
        assert_eq!(worse(|costs| kernel(costs).spilled += 1).len(), 1, "one is more than none");
    }

    #[test]
    fn a_round_of_more_weights_may_take_more() {
        let double = |costs: &mut Costs, weights: u64| {
            let kernel = kernel(costs);
            let of_loop = kernel.hottest_loop.as_mut().expect("a loop");
            of_loop.vector *= 2;
            of_loop.waits *= 2;
            kernel.weights_per_round = kernel.weights_per_round.map(|known| known * weights);
        };
        assert_eq!(worse(|costs| double(costs, 2)), [""; 0]);
        assert_eq!(worse(|costs| double(costs, 1)).len(), 2);
        assert_eq!(worse(|costs| kernel(costs).weights_per_round = None).len(), 2, "another figure is not the same");
    }

    #[test]
    fn one_dispatch_more_is_worse() {
        let told = worse(|costs| costs.passes.get_mut("token, roomy limits").expect("a pass").dispatches += 1);
        assert!(told.len() == 1 && told[0].starts_with("pass, token, roomy limits: dispatches "), "{told:?}");
    }

    #[test]
    fn what_is_new_or_gone_has_to_be_kept() {
        let rename = |costs: &mut Costs| {
            let kernels = costs.kernels.get_mut("vega10").expect("a family");
            let kernel = kernels.remove(KERNEL).expect("a kernel");
            kernels.insert("matmul of tomorrow".to_owned(), kernel);
        };
        let told = worse(rename);
        assert!(told.len() == 2 && told.iter().all(|told| told.contains("--update")), "{told:?}");
    }

    #[test]
    fn another_driver_leaves_the_passes() {
        let mut now = kept();
        now.driver = "radv Mesa 99".to_owned();
        kernel(&mut now).instructions *= 2;
        now.passes.get_mut("prompt, default limits").expect("a pass").barriers += 1;
        let Comparison { notes, worse } = compare(&kept(), &now);
        assert!(notes.len() == 1 && notes[0].contains("radv Mesa 99"), "{notes:?}");
        assert!(worse.len() == 1 && worse[0].starts_with("pass, prompt, default limits: barriers "), "{worse:?}");
    }
}
