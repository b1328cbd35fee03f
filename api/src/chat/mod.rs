//! `/v1/chat/completions`.

mod reply;
mod request;

pub(crate) use self::reply::{UsageOut, create};
pub(crate) use self::request::Stop;
