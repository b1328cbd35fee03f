//! From a conversation to an answer, on any [`crate::Backend`].

mod answer;
mod answers;
mod conversation;
mod logits;
mod restriction;
mod sampling;
mod speech;
mod stop;
mod under_way;

pub use self::answer::{Answer, AnswerLimits, Engine};
pub use self::answers::{Answers, Ended};
pub use self::conversation::check_prompt_fits;
pub use self::restriction::{AllowedTokens, Restriction, Restrictions};
pub use self::sampling::{Draw, Sampler};
pub use self::speech::Reading;
