//! The scalar references against goldens that other software made (`goldens/README.md`), and the mistakes that earlier
//! implementations of these operations made: each golden is shown to tell the mistake from the right result.
//!
//! The references compute in F64 and round once, as the goldens were made: 1e-6 of the value leaves room for the last
//! bit of both, and an absolute 1e-6 for sums that cancel.

#[path = "../support/compare.rs"]
mod compare;
#[path = "../support/goldens.rs"]
mod goldens;

mod attention;
mod experts;
mod formats;
mod matmul;
mod quantised;
mod rms_norm;
mod rope;
mod router;
mod sample;

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

const ROUNDED_ONCE: compare::Tolerance = compare::Tolerance::new(1e-6, 1e-6);

/// Fails unless `got` is the golden.
fn check(case: &goldens::Case, what: &str, got: &[f32], want: &[f32], tolerance: compare::Tolerance) {
    if let Err(failure) = compare::compare(what, got, want, tolerance) {
        panic!("{}: {failure}", case.name());
    }
}

/// How far a mistaken result is from the golden, in units of the golden's largest value.
fn distance(mistaken: &[f32], want: &[f32]) -> f32 {
    assert_eq!(mistaken.len(), want.len());
    let scale = want.iter().fold(0.0f32, |scale, v| scale.max(v.abs()));
    mistaken.iter().zip(want).fold(0.0f32, |far, (m, w)| far.max((m - w).abs())) / scale
}
