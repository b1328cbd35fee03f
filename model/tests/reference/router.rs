use gptoss_model::ops::router::{Route, reference};

use crate::goldens::{Case, cases};
use crate::{ROUNDED_ONCE, check, distance};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FILE: &str = include_str!("../goldens/router.json");

fn routes(case: &Case, k: usize) -> Vec<Route> {
    let (weight, bias) = (case.floats("weight"), case.floats("bias"));
    case.floats("x").chunks_exact(case.size("hidden")).flat_map(|x| reference(x, &weight, &bias, k)).collect()
}

#[test]
fn router_is_the_golden() {
    for case in cases(FILE) {
        let got = routes(&case, case.size("top_k"));
        let ids: Vec<usize> = got.iter().map(|route| route.expert as usize).collect();
        assert_eq!(ids, case.integers("ids"), "{}", case.name());
        let weights: Vec<f32> = got.iter().map(|route| route.weight).collect();
        check(&case, "weights", &weights, &case.floats("weights"), ROUNDED_ONCE);
    }
}

#[test]
fn equal_logits_choose_the_lower_index() {
    let weight = [1.0, 2.0, 1.0, 2.0, 2.0];
    let ids: Vec<u32> = reference(&[1.0], &weight, &[0.0; 5], 4).iter().map(|route| route.expert).collect();
    assert_eq!(ids, [1, 3, 4, 0]);
}

/// The softmax is over the chosen, not over all experts.
#[test]
fn softmax_comes_after_the_choice() {
    for case in cases(FILE) {
        let (top_k, experts) = (case.size("top_k"), case.size("experts"));
        let of_all = routes(&case, experts);
        let mistaken: Vec<f32> =
            of_all.chunks_exact(experts).flat_map(|token| token[..top_k].iter().map(|route| route.weight)).collect();
        assert!(distance(&mistaken, &case.floats("weights")) > 1e-3, "{}", case.name());
    }
}
