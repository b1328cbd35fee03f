//! From a model's location to an engine that can answer.

use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use gptoss_engine::{Engine, EngineError, Host, StageError, arrange_parts, part_names};
use gptoss_source::retry::RetryPolicy;
use gptoss_source::{BlobSource, HttpOptions, HttpSource, JoinedSource, Source, sibling_url, url_file_name};
use gptoss_telemetry::{Event, LoadOptions, ModelLocation, Stage, StageStatus};
use web_sys::File;
use web_time::Instant;

use super::host::WorkerHost;

/// Files of a split model that are reached for at once; browsers allow six connections to an HTTP/1.1 host.
const OPENINGS_IN_FLIGHT: usize = 4;

/// Runs every load stage: reaches the file, then hands over to the engine.
pub async fn load(
    host: &Rc<WorkerHost>,
    model: &ModelLocation,
    files: &[File],
    options: &LoadOptions,
) -> Result<Engine, StageError> {
    let observer = Some(Rc::clone(host) as _);
    let fetch = HttpOptions { retry: retry_policy(options), observer };
    let source = check_source(host.as_ref(), model, files, &fetch).await?;
    Engine::load(source, &Default::default(), options, host.as_ref()).await
}

fn retry_policy(options: &LoadOptions) -> RetryPolicy {
    let default = RetryPolicy::default();
    RetryPolicy {
        attempts: options.fetch_attempts.unwrap_or(default.attempts),
        stall: options.fetch_stall_ms.map_or(default.stall, Duration::from_millis),
        ..default
    }
}

/// The range check: reaches the host and proves that it serves ranges. A picked file has nothing to prove.
async fn check_source(
    host: &dyn Host,
    model: &ModelLocation,
    files: &[File],
    fetch: &HttpOptions,
) -> Result<Rc<dyn Source>, StageError> {
    let stage = Stage::RangeCheck;
    let report = |status, elapsed_ms| host.emit(Event::Stage { stage, status, elapsed_ms });
    report(StageStatus::Started, None);
    let begin = Instant::now();
    let opened = open(model, files, fetch).await;
    let status = if opened.is_ok() { StageStatus::Completed } else { StageStatus::Failed };
    report(status, Some(begin.elapsed().as_secs_f64() * 1000.0));
    opened.map_err(|error| StageError { stage, error })
}

async fn open(model: &ModelLocation, files: &[File], fetch: &HttpOptions) -> Result<Rc<dyn Source>, EngineError> {
    match model {
        ModelLocation::Url { url } => open_url(url, fetch).await,
        ModelLocation::PickedFile { .. } if !files.is_empty() => open_files(files),
        ModelLocation::PickedFile { name } => Err(EngineError::Option {
            what: "picked file",
            expected: "the file itself beside its name",
            got: format!("only the name {name:?}"),
        }),
    }
}

/// Of a split model the URL of any part names them all: they lie in one folder.
async fn open_url(url: &str, fetch: &HttpOptions) -> Result<Rc<dyn Source>, EngineError> {
    let names = part_names(url_file_name(url));
    let urls = match &names[..] {
        [_] => vec![url.to_owned()],
        names => names.iter().map(|name| sibling_url(url, name)).collect(),
    };
    let openings = urls.into_iter().map(|url| async move {
        let source = HttpSource::open(&url, fetch).await.map(|source| Rc::new(source) as Rc<dyn Source>);
        (url, source)
    });
    let opened = futures_util::stream::iter(openings).buffered(OPENINGS_IN_FLIGHT).collect().await;
    Ok(JoinedSource::of_opened(opened)?)
}

/// Several files are the parts of a split model, in whatever order they were picked.
fn open_files(files: &[File]) -> Result<Rc<dyn Source>, EngineError> {
    let names: Vec<String> = files.iter().map(File::name).collect();
    let ordered = arrange_parts(&names)?.into_iter().map(|index| {
        let source: Rc<dyn Source> = Rc::new(BlobSource::from_file(&files[index]));
        (names[index].clone(), Ok(source))
    });
    Ok(JoinedSource::of_opened(ordered.collect())?)
}
