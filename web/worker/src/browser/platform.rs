//! The browser as a node's platform: from a model's location to an engine that can answer.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use gptoss_engine::{GpuEngine, GpuOptions, Loader, Session, open_engine};
use gptoss_gates::Reopen;
use gptoss_gates::determinism::Opening;
use gptoss_gguf::{arrange_parts, part_names};
use gptoss_model::{EngineError, Host, StageError};
use gptoss_node::{Download, Downloaded, Gates, Load, Platform, Teller};
use gptoss_protocol::{
    CacheAction, CacheMode, CacheOptions, DeviceOptions, Event, ModelLocation, NetworkOptions, OptionId, Stage,
    StageStatus,
};
use gptoss_source::retry::RetryPolicy;
use gptoss_source::store::cache_id;
use gptoss_source::{
    BlobSource, HttpOptions, HttpSource, JoinedSource, Source, SourceError, sibling_url, url_file_name,
};
use wasm_bindgen_futures::spawn_local;
use web_sys::{DedicatedWorkerGlobalScope, File};
use web_time::Instant;

use super::cache::{DownloadCache, OpenedSource};
use super::timer::within;
use super::{download, hashes, storage};

/// Something that a browser in good health says at once.
const SOON: Duration = Duration::from_millis(500);

/// Files of a split model that are reached for at once; browsers allow six connections to an HTTP/1.1 host.
const OPENINGS_IN_FLIGHT: usize = 4;

/// A worker's sources, its download cache and its memory of earlier loads.
pub struct BrowserPlatform {
    scope: DedicatedWorkerGlobalScope,
    teller: Rc<Teller>,
    pub cache: DownloadCache,
    remembered: RefCell<HashSet<String>>,
}

/// A model that is wanted.
pub struct Wanted<'a> {
    pub model: &'a ModelLocation,
    /// Those that were picked.
    pub files: &'a [File],
    pub network: &'a NetworkOptions,
    pub cache: &'a CacheOptions,
}

impl BrowserPlatform {
    pub fn new(scope: DedicatedWorkerGlobalScope, teller: Rc<Teller>) -> Rc<Self> {
        let cache = DownloadCache::new(Rc::clone(&teller));
        Rc::new(Self { scope, teller, cache, remembered: RefCell::default() })
    }

    /// The engine knows adapter and build; another version of the browser may compile the same kernels to something else.
    fn full_key(&self, key: &str) -> String {
        let browser = self.scope.navigator().user_agent().unwrap_or_default();
        format!("{key} {browser}")
    }

    /// Reaches the model's files; with `cached` they go into the download cache as they are read.
    pub async fn reach(
        &self,
        cached: bool,
        wanted: &Wanted<'_>,
        host: &dyn Host,
    ) -> Result<Rc<dyn Source>, StageError> {
        let observer = Some(Rc::clone(&self.teller) as _);
        let fetch = HttpOptions { retry: retry_policy(wanted.network), observer };
        self.cache.begin_work();
        let opening = async {
            if let (CacheMode::Refetch, ModelLocation::Url { url }) = (wanted.cache.mode, wanted.model) {
                delete_all(&self.cache, url).await?;
            }
            open(&self.cache, cached, wanted.model, wanted.files, &fetch).await
        };
        check_source(host, opening).await
    }
}

/// Reaches a file once more, for gates.
struct Again<'a> {
    platform: &'a BrowserPlatform,
    wanted: Wanted<'a>,
}

impl Reopen for Again<'_> {
    fn reopen<'a>(&'a self, host: &'a dyn Host) -> Opening<'a> {
        Box::pin(async move { self.platform.reach(false, &self.wanted, host).await.map_err(|error| error.error) })
    }
}

impl Platform for BrowserPlatform {
    type Model = Session;
    type Attachment = Vec<File>;

    /// Runs every load stage: reaches the file, then hands over to the engine.
    async fn load(&self, wanted: Load<'_, Vec<File>>, host: &dyn Host) -> Result<GpuEngine, StageError> {
        let Load { model, attachment: files, options, prompt } = wanted;
        // A picked file is on this disk already: it is cached only when that is asked for.
        let cached = options.cache.mode != CacheMode::Off && matches!(model, ModelLocation::Url { .. });
        let wanted = Wanted { model, files, network: &options.network, cache: &options.cache };
        let source = self.reach(cached, &wanted, host).await?;
        let DeviceOptions { default_limits, tier } = options.gpu;
        let gpu = GpuOptions { default_limits, tier, ..GpuOptions::default() };
        let loader = Loader { source, gpu, options: options.engine.clone(), all_logits: false, sequences: 1 };
        open_engine(loader, prompt, host).await
    }

    async fn download(&self, wanted: Download<'_, Vec<File>>, host: &dyn Host) -> Result<Downloaded, StageError> {
        let Download { model, attachment: files, network, cache } = wanted;
        download::download(self, &Wanted { model, files, network, cache }, host).await
    }

    /// The download cache is neither read nor written: what is measured is the way from where the file is.
    async fn gate(&self, wanted: Gates<'_, Vec<File>>, host: &dyn Host) -> Result<(), StageError> {
        let Gates { model, attachment: files, slice, whole } = wanted;
        let cache = CacheOptions { mode: CacheMode::Off };
        let wanted = Wanted { model, files, network: &NetworkOptions::default(), cache: &cache };
        let source = self.reach(false, &wanted, host).await?;
        let path = match model {
            ModelLocation::Url { url } => url,
            ModelLocation::PickedFile { name } | ModelLocation::Cached { name } => name,
            // What reaches it has refused this.
            ModelLocation::Node { address } => address,
        };
        let again = &Again { platform: self, wanted };
        gptoss_gates::run(source, gptoss_gates::Wanted { path, slice, whole, again }, host).await.map(drop)
    }

    async fn cache(&self, action: CacheAction, host: &dyn Host) {
        storage::act(host, &self.cache, action).await;
    }

    /// Tells what is cached now, before anything else is told; later, where the browser takes its time to say so.
    async fn settled(&self, _host: &dyn Host) {
        self.cache.tell_progress();
        if within(SOON, storage::tell(self.teller.as_ref(), None)).await.is_none() {
            let teller = Rc::clone(&self.teller);
            spawn_local(async move { storage::tell(teller.as_ref(), None).await });
        }
    }

    fn recall(&self, keys: Vec<String>) {
        self.remembered.borrow_mut().extend(keys);
    }

    fn remembered(&self, key: &str) -> bool {
        self.remembered.borrow().contains(&self.full_key(key))
    }

    fn remember(&self, key: &str) -> Option<String> {
        let key = self.full_key(key);
        self.remembered.borrow_mut().insert(key.clone());
        Some(key)
    }
}

fn retry_policy(options: &NetworkOptions) -> RetryPolicy {
    let default = RetryPolicy::default();
    RetryPolicy {
        attempts: options.attempts.unwrap_or(default.attempts),
        stall: options.stall_ms.map_or(default.stall, Duration::from_millis),
        ..default
    }
}

/// The range check: reaches the host and proves that it serves ranges. A picked file has nothing to prove.
async fn check_source(
    host: &dyn Host,
    opening: impl Future<Output = Result<Rc<dyn Source>, EngineError>>,
) -> Result<Rc<dyn Source>, StageError> {
    let stage = Stage::RangeCheck;
    let report = |status, elapsed_ms| host.emit(Event::Stage { stage, status, elapsed_ms });
    report(StageStatus::Started, None);
    let begin = Instant::now();
    let opened = opening.await;
    let status = if opened.is_ok() { StageStatus::Completed } else { StageStatus::Failed };
    report(status, Some(begin.elapsed().as_secs_f64() * 1000.0));
    opened.map_err(|error| StageError { stage, error })
}

async fn open(
    cache: &DownloadCache,
    keep: bool,
    model: &ModelLocation,
    files: &[File],
    fetch: &HttpOptions,
) -> Result<Rc<dyn Source>, EngineError> {
    let cached_by = keep.then_some(cache);
    match model {
        ModelLocation::Url { url } => open_url(cached_by, url, fetch).await,
        ModelLocation::PickedFile { .. } if !files.is_empty() => open_files(cached_by, files).await,
        ModelLocation::PickedFile { name } => Err(EngineError::Option {
            option: OptionId::Gguf,
            expected: "the file itself beside its name",
            got: format!("only the name of a picked file, {name:?}"),
        }),
        ModelLocation::Cached { name } => open_cached(cache, name).await,
        ModelLocation::Node { address } => Err(EngineError::Option {
            option: OptionId::Gguf,
            expected: "a file: a node's model is where the node is",
            got: address.clone(),
        }),
    }
}

/// The addresses of a model's files. Of a split model the URL of any part names them all: they lie in one folder.
fn file_urls(url: &str) -> Vec<String> {
    match &part_names(url_file_name(url))[..] {
        [_] => vec![url.to_owned()],
        names => names.iter().map(|name| sibling_url(url, name)).collect(),
    }
}

/// Deletes what is cached of a model.
async fn delete_all(cache: &DownloadCache, url: &str) -> Result<(), EngineError> {
    for url in file_urls(url) {
        if let Err(detail) = storage::delete_if_cached(cache, &cache_id(&url)).await {
            return Err(SourceError::CacheUnreadable { name: url_file_name(&url).to_owned(), detail }.into());
        }
    }
    Ok(())
}

/// What comes from a URL is cached, if anything is.
async fn open_url(
    cache: Option<&DownloadCache>,
    url: &str,
    fetch: &HttpOptions,
) -> Result<Rc<dyn Source>, EngineError> {
    let openings = file_urls(url).into_iter().map(|url| async move {
        let source = match (HttpSource::open(&url, fetch).await, cache) {
            (Ok(source), Some(cache)) => Ok(cache.before_network(source).await),
            (Ok(source), None) => Ok(OpenedSource { source: Rc::new(source), checked: None }),
            (Err(error), _) => Err(error),
        };
        (url, source)
    });
    let opened: Vec<_> = futures_util::stream::iter(openings).buffered(OPENINGS_IN_FLIGHT).collect().await;
    let checked = opened.iter().filter_map(|(_, source)| source.as_ref().ok()?.checked.as_ref());
    // A store that is shared with the model that is loaded may have them already.
    let checked = checked.filter(|(_, store)| !store.has_hashes());
    hashes::ask_for(checked.map(|(file, store)| (file.clone(), store)).collect()).await;
    let opened = opened.into_iter().map(|(url, source)| (url, source.map(|cached| cached.source)));
    Ok(JoinedSource::of_opened(opened.collect())?)
}

/// Several files are the parts of a split model, in whatever order they were picked.
async fn open_files(cache: Option<&DownloadCache>, files: &[File]) -> Result<Rc<dyn Source>, EngineError> {
    let names: Vec<String> = files.iter().map(File::name).collect();
    let mut ordered = Vec::new();
    for index in arrange_parts(&names)? {
        let source: Rc<dyn Source> = match cache {
            Some(cache) => cache.before_file(&files[index]).await,
            None => Rc::new(BlobSource::from_file(&files[index])),
        };
        ordered.push((names[index].clone(), Ok(source)));
    }
    Ok(JoinedSource::of_opened(ordered)?)
}

/// The name of any part of a split model names all of them.
async fn open_cached(cache: &DownloadCache, name: &str) -> Result<Rc<dyn Source>, EngineError> {
    let mut parts = Vec::new();
    for name in part_names(name) {
        let source = cache.alone(&name).await;
        parts.push((name, source));
    }
    Ok(JoinedSource::of_opened(parts)?)
}
