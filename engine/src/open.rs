//! From a file to an engine that answers on a GPU.

use gptoss_model::{Engine, Host, Sampler, StageError, check_prompt_fits, milliseconds_since};
use gptoss_protocol::{Event, Prompt, Stage};
use gptoss_text::Tokenizer;
use web_time::Instant;

use crate::load::Preflight;
use crate::session::{Loader, Session};

/// An engine that answers on a GPU.
pub type GpuEngine = Engine<Session>;

/// Opens a GPU, reads the model and puts it on the GPU. A GPU that is lost, now or later, is replaced.
///
/// With a first question, `prompt`, one that could not be asked is refused before anything big is fetched.
///
/// # Errors
/// What stopped the load, and at which stage.
pub async fn open_engine(loader: Loader, prompt: Option<&Prompt>, host: &dyn Host) -> Result<GpuEngine, StageError> {
    let begin = Instant::now();
    let refused = |error| StageError { stage: Stage::PromptEncode, error };
    if let Some(prompt) = prompt {
        Sampler::new(prompt.sampling).map_err(refused)?;
    }
    let fits = |tokenizer: &Tokenizer, prepared: &Preflight| match prompt {
        Some(prompt) => {
            let longest = prepared.header.config.context_tokens;
            check_prompt_fits(prompt, tokenizer, prepared.plan.kv_capacity, longest).map_err(refused)
        }
        None => Ok(()),
    };
    let (session, tokenizer) = Session::open_if(loader, fits, host).await?;
    let engine = Engine::new(session, tokenizer);
    engine.model.report(host);
    host.emit(Event::Ready { load_ms: milliseconds_since(begin) });
    Ok(engine)
}
