//! Routes of real answers, kept in a file, and what a pager would have done with them: so that policies are chosen by
//! figures.

mod replay;
mod trace;

pub use replay::{Figures, Policy, Setting, replay};
pub use trace::{Batch, Header, Trace, TraceFile};
