//! What the GPU tests share.

pub mod bench;
pub mod compare;
pub mod random;
pub mod report;
pub mod seam;
pub mod weights;
