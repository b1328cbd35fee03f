//! What the GPU tests share.

pub mod bench;
pub mod blocks;
#[path = "../../../model/tests/support/compare.rs"]
pub mod compare;
pub mod normed;
pub mod random;
pub mod report;
pub mod seam;
pub mod weights;
