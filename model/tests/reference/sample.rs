use gptoss_model::ops::sample::reference;

use crate::check;
use crate::compare::Tolerance;
use crate::goldens::cases;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FILE: &str = include_str!("../goldens/topk.json");

/// Sums of at most 5003 terms in F64, whose order differs.
const F64_SUMS: f64 = 1e-12;

#[test]
fn candidates_are_the_goldens() {
    for case in cases(FILE) {
        let logits = case.floats("logits");
        let got = reference(&logits, case.size("k"), 1.0).candidates;
        let ids: Vec<usize> = got.iter().map(|candidate| candidate.token as usize).collect();
        assert_eq!(ids, case.integers("ids"), "{}", case.name());
        let values: Vec<f32> = got.iter().map(|candidate| candidate.logit).collect();
        check(&case, "values", &values, &case.floats("values"), Tolerance::EXACT);
    }
}

#[test]
fn log_sum_exp_and_entropy_are_the_goldens() {
    for case in cases(FILE) {
        let got = reference(&case.floats("logits"), 1, 1.0);
        for (what, got, want) in [
            ("log-sum-exp", got.log_sum_exp, case.number("logsumexp")),
            ("tempered log-sum-exp at temperature 1", got.log_sum_exp_tempered, case.number("logsumexp")),
            ("entropy", got.entropy_nats, case.number("entropy_nats")),
        ] {
            let allowed = F64_SUMS * (1.0 + case.number("logsumexp").abs());
            assert!((got - want).abs() <= allowed, "{what}: got {got}, want {want}; {}", case.name());
        }
    }
}

/// ln Σ exp(l / T) is the golden's log-sum-exp of scaled logits.
#[test]
fn temperature_scales_the_logits() {
    for case in cases(FILE) {
        let logits = case.floats("logits");
        let scaled: Vec<f32> = logits.iter().map(|l| l * 0.5).collect();
        let (tempered, plain) =
            (reference(&logits, 1, 0.5).log_sum_exp_tempered, reference(&scaled, 1, 1.0).log_sum_exp);
        assert!((tempered - plain).abs() < 1e-9, "{}: {tempered} and {plain}", case.name());
    }
}
