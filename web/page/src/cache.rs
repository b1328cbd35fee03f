//! What the page knows about the download cache. Pure, like the rest of the state.

use gptoss_protocol::{CacheNotice, CacheNoticeKind, CacheReport, CacheState, CachedModel, Event};
use gptoss_source::store::CACHED_SCHEME;
use serde::{Deserialize, Serialize};

use super::format::{bytes, count, fraction, percent, plural};

/// How many notices stay on the page; the event log has them all.
const MOST_NOTICES: usize = 5;

/// What the page knows about the download cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DownloadCache {
    /// State of each file of this load, in the order in which they were opened.
    pub files: Vec<CacheState>,
    /// Notices of this load, oldest first.
    pub notices: Vec<CacheNotice>,
    /// The whole cache, as last reported.
    pub report: Option<CacheReport>,
    /// The verification that is under way, or the last one.
    pub verify: Option<Verification>,
}

/// Progress of a verification, which reads a cached file again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Id of the cached file.
    pub id: String,
    /// Chunks that were read so far.
    pub done_chunks: u32,
    /// Chunks to be read.
    pub chunks: u32,
    /// Chunks that had changed, and were dropped.
    pub damaged_chunks: u32,
    /// Chunks whose SHA-256 is the one that the host published.
    pub verified_chunks: u32,
    /// Whether it has ended.
    pub finished: bool,
}

impl DownloadCache {
    /// Begins a new load: forgets files and notices of the one before.
    pub fn load_requested(&mut self) {
        self.files.clear();
        self.notices.clear();
    }

    /// Takes note of an event; ignores those that are not about the cache.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Cached(state) => match self.files.iter_mut().find(|known| known.file == state.file) {
                Some(known) => known.clone_from(state),
                None => self.files.push(state.clone()),
            },
            Event::CacheNotice(notice) => {
                if self.notices.len() == MOST_NOTICES {
                    self.notices.remove(0);
                }
                self.notices.push(notice.clone());
            }
            Event::Cache(report) => {
                self.report = Some(report.clone());
                if let Some(verify) = &mut self.verify {
                    verify.finished = true;
                }
            }
            Event::CacheVerify { id, done_chunks, chunks, damaged_chunks, verified_chunks } => {
                self.verify = Some(Verification {
                    id: id.clone(),
                    done_chunks: *done_chunks,
                    chunks: *chunks,
                    damaged_chunks: *damaged_chunks,
                    verified_chunks: *verified_chunks,
                    finished: false,
                });
            }
            _ => {}
        }
    }

    /// Whether some chunk of a cached file of this load has no published hash.
    pub fn is_unvouched(&self) -> bool {
        self.files.iter().any(|file| file.verified_chunks < file.chunks)
    }

    /// Bytes of this load from the cache, and from a host or a picked file; `None` before any file is opened.
    pub fn loaded_bytes(&self) -> Option<(u64, u64)> {
        let sum = |of: fn(&CacheState) -> u64| self.files.iter().map(of).sum();
        (!self.files.is_empty()).then(|| (sum(|file| file.storage_bytes), sum(|file| file.network_bytes)))
    }
}

/// The notices to show: without those that only repeat what is shown as the storage's problem.
pub fn shown_notices(cached: &DownloadCache) -> impl Iterator<Item = &CacheNotice> {
    let problem = cached.report.as_ref().is_some_and(|report| report.problem.is_some());
    cached.notices.iter().filter(move |notice| !(problem && notice.kind == CacheNoticeKind::Unavailable))
}

/// A cached model's line in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheLine {
    /// Id of the cached file.
    pub id: String,
    /// File name, or the name of a picked file.
    pub name: String,
    /// The whole address.
    pub url: String,
    /// Cached share of the file, from 0 to 1.
    pub share: f64,
    /// Bytes that are cached.
    pub stored_bytes: u64,
    /// How much is cached, in words.
    pub amount: String,
    /// How much of it was verified, in words.
    pub check: String,
    /// Time of the last addition, in milliseconds since 1970.
    pub written_ms: f64,
    /// Whether it is being verified right now.
    pub busy: bool,
}

/// The lines of the list, the latest first.
pub fn cache_lines(cached: &DownloadCache) -> Vec<CacheLine> {
    let models = cached.report.iter().flat_map(|report| &report.models);
    models.map(|model| cache_line(model, cached.verify.as_ref().filter(|verify| verify.id == model.id))).collect()
}

fn cache_line(model: &CachedModel, verify: Option<&Verification>) -> CacheLine {
    let (id, written_ms) = (model.id.clone(), model.written_ms);
    let busy = verify.is_some_and(|verify| !verify.finished);
    let Some(contents) = &model.contents else {
        let amount = format!("{} that this version cannot read", bytes(model.disk_bytes));
        let name = "unknown".to_owned();
        let (url, check) = (String::new(), String::new());
        return CacheLine {
            id,
            name,
            url,
            share: 0.0,
            stored_bytes: model.disk_bytes,
            amount,
            check,
            written_ms,
            busy,
        };
    };
    let share = fraction(contents.stored_bytes, contents.file_bytes).unwrap_or(0.0);
    let amount = match contents.stored_bytes == contents.file_bytes {
        true => format!("{}, complete", bytes(contents.file_bytes)),
        false => format!("{} of {} · {}", bytes(contents.stored_bytes), bytes(contents.file_bytes), percent(share)),
    };
    let verified = match contents.url.starts_with(CACHED_SCHEME) {
        true => "from a file that was picked".to_owned(),
        false => format!(
            "{} of {} verified by the host's SHA-256",
            count(u64::from(contents.verified_chunks)),
            plural(u64::from(contents.stored_chunks), "chunk")
        ),
    };
    let check = match verify {
        Some(verify) if busy => {
            format!("reading {} of {}", verify.done_chunks, plural(u64::from(verify.chunks), "chunk"))
        }
        Some(verify) if verify.damaged_chunks > 0 => {
            format!("{} damaged and deleted; {verified}", plural(u64::from(verify.damaged_chunks), "chunk"))
        }
        Some(_) if contents.verified_chunks >= contents.stored_chunks => format!("sound: {verified}"),
        // The bytes are those that were received; whether they are those that the publisher made, nobody can say.
        Some(_) => {
            format!("unverified: unchanged since it came, but no published hash vouches for all of it; {verified}")
        }
        None => verified,
    };
    let (name, url) = (file_name(&contents.url).to_owned(), contents.url.clone());
    CacheLine { id, name, url, share, stored_bytes: contents.stored_bytes, amount, check, written_ms, busy }
}

/// The last name in an address.
fn file_name(url: &str) -> &str {
    if let Some(name) = url.strip_prefix(CACHED_SCHEME) {
        return name;
    }
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(url)
}

/// Words for whether the browser may delete the cache by itself.
pub fn persisted_words(persisted: Option<bool>) -> Option<&'static str> {
    persisted.map(|persisted| if persisted { "yes" } else { "no: it may be deleted when disk runs low" })
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::CachedContents;

    use super::*;

    fn model(stored_bytes: u64) -> CachedModel {
        let contents = CachedContents {
            url: "http://h/api/models/m/file/m.gguf?x=/y".into(),
            file_bytes: 10_000_000,
            stored_bytes,
            chunks: 3,
            stored_chunks: (stored_bytes / 4_000_000) as u32,
            verified_chunks: 1,
        };
        CachedModel { id: "a1".into(), contents: Some(contents), disk_bytes: 5, written_ms: 1e12, in_use: false }
    }

    fn with(models: Vec<CachedModel>) -> DownloadCache {
        let mut cached = DownloadCache::default();
        cached.apply(&Event::Cache(CacheReport { models, ..CacheReport::default() }));
        cached
    }

    #[test]
    fn lines_say_how_much_is_there() {
        let lines = cache_lines(&with(vec![model(4_000_000), model(10_000_000)]));
        assert_eq!((lines[0].name.as_str(), lines[0].share), ("m.gguf", 0.4));
        assert_eq!(lines[0].amount, "4.00 MB of 10.0 MB · 40.0 %");
        assert_eq!(lines[0].check, "1 of 1 chunk verified by the host's SHA-256");
        assert_eq!((lines[1].amount.as_str(), lines[1].share), ("10.0 MB, complete", 1.0));
        let mut picked = model(4_000_000);
        picked.contents.as_mut().expect("given").url = "cached:my model?.gguf".into();
        let line = cache_lines(&with(vec![picked])).remove(0);
        assert_eq!((line.name.as_str(), line.check.as_str()), ("my model?.gguf", "from a file that was picked"));
        let unknown = CachedModel { contents: None, disk_bytes: 77, ..model(0) };
        assert_eq!(cache_lines(&with(vec![unknown]))[0].amount, "77 B that this version cannot read");
    }

    #[test]
    fn a_verification_shows_on_its_own_line_until_its_end() {
        let mut cached = with(vec![model(10_000_000), CachedModel { id: "b2".into(), ..model(0) }]);
        let report = cached.report.clone().expect("given");
        let verify = |done_chunks, damaged_chunks| Event::CacheVerify {
            id: "a1".into(),
            done_chunks,
            chunks: 2,
            damaged_chunks,
            verified_chunks: 2,
        };
        cached.apply(&verify(1, 0));
        let lines = cache_lines(&cached);
        assert_eq!((lines[0].check.as_str(), lines[0].busy, lines[1].busy), ("reading 1 of 2 chunks", true, false));
        cached.apply(&verify(2, 1));
        cached.apply(&Event::Cache(report.clone()));
        assert!(cache_lines(&cached)[0].check.starts_with("1 chunk damaged and deleted; "));
        // Only one of two chunks has a published hash.
        cached.apply(&verify(2, 0));
        cached.apply(&Event::Cache(report.clone()));
        assert!(cache_lines(&cached)[0].check.starts_with("unverified: "), "{:?}", cache_lines(&cached)[0]);
        let mut vouched = report;
        vouched.models[0].contents.as_mut().expect("given").verified_chunks = 2;
        cached.apply(&Event::Cache(vouched));
        assert!(
            cache_lines(&cached)[0].check.starts_with("sound: 2 of 2 chunks verified"),
            "{:?}",
            cache_lines(&cached)[0]
        );
    }

    #[test]
    fn files_are_told_apart_and_notices_are_bounded() {
        let mut cached = DownloadCache::default();
        assert_eq!(cached.loaded_bytes(), None);
        let state = |file: &str, storage_bytes| CacheState {
            file: file.into(),
            file_bytes: 9,
            stored_bytes: 9,
            resumed_bytes: 4,
            chunks: 1,
            stored_chunks: 1,
            verified_chunks: 0,
            network_bytes: 1,
            storage_bytes,
            hashes_known: false,
        };
        for event in [state("a", 1), state("b", 2), state("a", 5)] {
            cached.apply(&Event::Cached(event));
        }
        assert_eq!((cached.files.len(), cached.loaded_bytes()), (2, Some((7, 2))));
        let kind = CacheNoticeKind::Damaged;
        for number in 0..9 {
            let message = number.to_string();
            cached.apply(&Event::CacheNotice(CacheNotice { kind, file: "a".into(), message, advice: String::new() }));
        }
        assert_eq!(cached.notices.len(), MOST_NOTICES);
        assert_eq!(cached.notices[MOST_NOTICES - 1].message, "8");
        cached.load_requested();
        assert!(cached.notices.is_empty() && cached.files.is_empty());
    }
}
