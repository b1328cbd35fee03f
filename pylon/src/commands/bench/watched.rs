//! What it costs that somebody looks inside: routes, norms and a head's attention are read back then.

use std::future::Future;
use std::pin::Pin;

use gptoss_model::{Backend, EngineError, Host};
use gptoss_protocol::{Event, Head, Watch};

use super::measure::{Bench, Sample};
use super::report::{Watched, WatchedPart};
use crate::backend::AnyModel;

const NOTHING: Watch = Watch { routes: false, residual: false, attention: None, times: false };
const HEAD: Option<Head> = Some(Head { layer: 0, head: 0 });

/// What the page watches while it is seen, and one head's attention.
const ALL: Watch = Watch { routes: true, residual: true, attention: HEAD, times: false };

/// Each of these alone.
const PARTS: [(&str, Watch); 3] = [
    ("routes", Watch { routes: true, ..NOTHING }),
    ("norms", Watch { residual: true, ..NOTHING }),
    ("one head", Watch { attention: HEAD, ..NOTHING }),
];

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

/// Decodes unwatched, watched, and with each of what is watched alone, in turn, so that a machine that gets slower or faster meanwhile does so for both.
///
/// # Errors
/// Those of the model.
pub async fn measure(
    bench: &Bench,
    rounds: u32,
    model: &mut AnyModel,
    host: &dyn Host,
) -> Result<Watched, EngineError> {
    let watches: Vec<Watch> = [NOTHING, ALL].into_iter().chain(PARTS.map(|(_, watch)| watch)).collect();
    let mut samples: Vec<Vec<Sample>> = watches.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (watch, samples) in watches.iter().zip(&mut samples) {
            samples.push(bench.run(model, &Watching(host, *watch)).await?);
        }
    }
    // Nothing is watched any more.
    model.set_watch(NOTHING);
    let rates: Vec<f64> = samples.iter().map(|of| Sample::together(of).decode_tokens_per_second).collect();
    let share = |rate: f64| rate / rates[0];
    let part =
        |(&(what, _), &watched): (&(&'static str, _), &f64)| WatchedPart { what, watched, share: share(watched) };
    let parts = PARTS.iter().zip(&rates[2..]).map(part).collect();
    Ok(Watched { rounds, unwatched: rates[0], watched: rates[1], share: share(rates[1]), parts })
}
