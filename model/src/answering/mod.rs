//! From a conversation to an answer, on any [`crate::Backend`].

mod answer;
mod conversation;
mod sampling;
mod speech;
mod stop;

pub use self::answer::{Answer, AnswerLimits, Engine};
pub use self::conversation::{Chat, check_prompt_fits};
pub use self::sampling::{Draw, Sampler};
pub use self::speech::Reading;
