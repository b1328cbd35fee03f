//! What the GPU tests share.

pub mod bench;
#[path = "../../../model/tests/support/compare.rs"]
pub mod compare;
pub mod normed;
pub mod random;
pub mod report;
pub mod seam;
pub mod weights;
