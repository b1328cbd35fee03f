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
mod utterance;

pub use self::answer::{Answer, AnswerLimits, Engine, check_tokens};
pub use self::answers::{Answers, Ended};
pub use self::conversation::{check_prompt_fits, encode_prompt, require_room_for_answer};
pub use self::restriction::{AllowedTokens, Restriction, Restrictions};
pub use self::sampling::{Draw, Sampler};
pub use self::speech::Reading;
pub use self::utterance::{Likelihood, Utterance};
