//! What it costs that somebody looks inside: routes, norms and a head's attention are read back then.

use std::future::Future;
use std::pin::Pin;

use gptoss_model::{Backend, EngineError, Host};
use gptoss_protocol::{Event, Head, Watch};

use super::measure::{Bench, Sample};
use super::report::Watched;
use crate::backend::AnyModel;

/// What the page watches while it is seen, and one head's attention.
const ALL: Watch = Watch { routes: true, residual: true, attention: Some(Head { layer: 0, head: 0 }), times: false };

/// Whoever runs the model, as one who watches so much of it. Events are dropped, watched or not: what is made of them is not the
/// engine's.
struct Watching<'a>(&'a dyn Host, Watch);

impl Host for Watching<'_> {
    fn emit(&self, _event: Event) {}

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    fn until_cancelled(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.0.until_cancelled()
    }

    fn watch(&self) -> Watch {
        self.1
    }
}

/// Decodes unwatched and watched in turn, so that a machine that gets slower or faster meanwhile does so for both.
///
/// # Errors
/// Those of the model.
pub async fn measure(
    bench: &Bench,
    rounds: u32,
    model: &mut AnyModel,
    host: &dyn Host,
) -> Result<Watched, EngineError> {
    let (mut unwatched, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        unwatched.push(bench.run(model, &Watching(host, Watch::default())).await?);
        watched.push(bench.run(model, &Watching(host, ALL)).await?);
    }
    // Nothing is watched any more.
    model.set_watch(Watch::default());
    let rate = |samples: &[Sample]| Sample::together(samples).decode_tokens_per_second;
    let (unwatched, watched) = (rate(&unwatched), rate(&watched));
    Ok(Watched { rounds, unwatched, watched, share: watched / unwatched })
}
