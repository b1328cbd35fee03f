//! From a model's location to an engine that can answer.

use std::rc::Rc;

use gptoss_engine::{Engine, EngineError, Host, StageError};
use gptoss_source::{BlobSource, HttpSource, Source};
use gptoss_telemetry::{Event, LoadOptions, ModelLocation, Stage, StageStatus};
use web_sys::File;
use web_time::Instant;

/// Runs every load stage: reaches the file, then hands over to the engine.
pub async fn load(
    host: &dyn Host,
    model: &ModelLocation,
    file: Option<File>,
    options: &LoadOptions,
) -> Result<Engine, StageError> {
    let source = check_source(host, model, file).await?;
    Engine::load(source, &Default::default(), options, host).await
}

/// The range check: reaches the host and proves that it serves ranges. A picked file has nothing to prove.
async fn check_source(
    host: &dyn Host,
    model: &ModelLocation,
    file: Option<File>,
) -> Result<Rc<dyn Source>, StageError> {
    let stage = Stage::RangeCheck;
    let report = |status, elapsed_ms| host.emit(Event::Stage { stage, status, elapsed_ms });
    report(StageStatus::Started, None);
    let begin = Instant::now();
    let opened = open(model, file).await;
    let status = if opened.is_ok() { StageStatus::Completed } else { StageStatus::Failed };
    report(status, Some(begin.elapsed().as_secs_f64() * 1000.0));
    opened.map_err(|error| StageError { stage, error })
}

async fn open(model: &ModelLocation, file: Option<File>) -> Result<Rc<dyn Source>, EngineError> {
    match (model, file) {
        (ModelLocation::Url { url }, _) => Ok(Rc::new(HttpSource::open(url).await?)),
        (ModelLocation::PickedFile { .. }, Some(file)) => Ok(Rc::new(BlobSource::from_file(&file))),
        (ModelLocation::PickedFile { name }, None) => Err(EngineError::Option {
            what: "picked file",
            expected: "the file itself beside its name",
            got: format!("only the name {name:?}"),
        }),
    }
}
