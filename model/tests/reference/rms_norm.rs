use gptoss_model::ops::rms_norm::reference;

use crate::check;
use crate::compare::Tolerance;
use crate::goldens::cases;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// This golden was computed in F32: mean, inverse root and two products, each rounded.
const IN_F32: Tolerance = Tolerance::new(1e-9, 6e-7);

#[test]
fn rms_norm_is_the_golden() {
    for case in cases(include_str!("../goldens/rms_norm.json")) {
        let got = reference(&case.floats("x"), &case.floats("weight"), case.number("eps"));
        check(&case, "y", &got, &case.floats("y"), IN_F32);
    }
}
