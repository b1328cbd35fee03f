//! What this browser keeps of models, and what was told about it. Pure, like the rest of the state.

use gptoss_protocol::{Event, KeepNotice, KeepNoticeKind, KeptModel, KeptState, StorageReport};
use gptoss_source::store::KEPT_SCHEME;

use super::format::{bytes, count, fraction, percent, plural};

/// Notices that are kept on the page; the event log has more.
const MOST_NOTICES: usize = 5;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The files of this load, in the order in which they were opened.
    pub files: Vec<KeptState>,
    /// What was told during this load, oldest first.
    pub notices: Vec<KeepNotice>,
    /// Everything that is kept, as last reported.
    pub report: Option<StorageReport>,
    /// The verification that is under way, or the last one.
    pub verify: Option<Verification>,
}

/// How far reading a kept file again is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    pub id: String,
    pub done_chunks: u32,
    pub chunks: u32,
    pub damaged_chunks: u32,
    pub verified_chunks: u32,
    pub finished: bool,
}

impl Kept {
    /// The user asked for a model: what was told about the load before is over.
    pub fn load_requested(&mut self) {
        self.files.clear();
        self.notices.clear();
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Kept(state) => match self.files.iter_mut().find(|known| known.file == state.file) {
                Some(known) => known.clone_from(state),
                None => self.files.push(state.clone()),
            },
            Event::KeepNotice(notice) => {
                if self.notices.len() == MOST_NOTICES {
                    self.notices.remove(0);
                }
                self.notices.push(notice.clone());
            }
            Event::Storage(report) => {
                self.report = Some(report.clone());
                if let Some(verify) = &mut self.verify {
                    verify.finished = true;
                }
            }
            Event::StorageVerify { id, done_chunks, chunks, damaged_chunks, verified_chunks } => {
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

    /// Whether a file of this load was put before the cache, and not every chunk has a published hash.
    pub fn is_unvouched(&self) -> bool {
        self.files.iter().any(|file| file.verified_chunks < file.chunks)
    }

    /// Bytes of this load that came out of the browser's storage, and from a host or a picked file; `None` before any file is opened.
    pub fn loaded_bytes(&self) -> Option<(u64, u64)> {
        let sum = |of: fn(&KeptState) -> u64| self.files.iter().map(of).sum();
        (!self.files.is_empty()).then(|| (sum(|file| file.storage_bytes), sum(|file| file.network_bytes)))
    }
}

/// The notices as they are shown: one that says no more than what already stands there as the storage's problem is left out.
pub fn shown_notices(kept: &Kept) -> impl Iterator<Item = &KeepNotice> {
    let problem = kept.report.as_ref().is_some_and(|report| report.problem.is_some());
    kept.notices.iter().filter(move |notice| !(problem && notice.kind == KeepNoticeKind::Unavailable))
}

/// A model's line in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptLine {
    pub id: String,
    pub name: String,
    /// The whole address, for those who want to know.
    pub url: String,
    pub share: f64,
    pub amount: String,
    pub check: String,
    pub written_ms: f64,
    /// Being verified right now.
    pub busy: bool,
}

/// The lines of the list, the latest first.
pub fn kept_lines(kept: &Kept) -> Vec<KeptLine> {
    let models = kept.report.iter().flat_map(|report| &report.models);
    models.map(|model| kept_line(model, kept.verify.as_ref().filter(|verify| verify.id == model.id))).collect()
}

fn kept_line(model: &KeptModel, verify: Option<&Verification>) -> KeptLine {
    let (id, written_ms) = (model.id.clone(), model.written_ms);
    let busy = verify.is_some_and(|verify| !verify.finished);
    let Some(contents) = &model.contents else {
        let amount = format!("{} that this version cannot read", bytes(model.disk_bytes));
        let name = "unknown".to_owned();
        return KeptLine { id, name, url: String::new(), share: 0.0, amount, check: String::new(), written_ms, busy };
    };
    let share = fraction(contents.stored_bytes, contents.file_bytes).unwrap_or(0.0);
    let amount = match contents.stored_bytes == contents.file_bytes {
        true => format!("{}, complete", bytes(contents.file_bytes)),
        false => format!("{} of {} · {}", bytes(contents.stored_bytes), bytes(contents.file_bytes), percent(share)),
    };
    let verified = match contents.url.starts_with(KEPT_SCHEME) {
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
            format!("{} damaged and let go of; {verified}", plural(u64::from(verify.damaged_chunks), "chunk"))
        }
        Some(_) if contents.verified_chunks >= contents.stored_chunks => format!("sound: {verified}"),
        // What was received is what is there; whether that is what the publisher made nobody can say.
        Some(_) => {
            format!("unverified: unchanged since it came, but no published hash vouches for all of it; {verified}")
        }
        None => verified,
    };
    let name = file_name(&contents.url).to_owned();
    KeptLine { id, name, url: contents.url.clone(), share, amount, check, written_ms, busy }
}

/// The last name in an address.
fn file_name(url: &str) -> &str {
    if let Some(name) = url.strip_prefix(KEPT_SCHEME) {
        return name;
    }
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(url)
}

/// Whether the browser will let go of what is kept by itself.
pub fn persisted_words(persisted: Option<bool>) -> Option<&'static str> {
    persisted.map(|persisted| if persisted { "yes" } else { "no: it may be deleted when disk runs low" })
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::KeptContents;

    use super::*;

    fn model(stored_bytes: u64) -> KeptModel {
        let contents = KeptContents {
            url: "http://h/api/models/m/file/m.gguf?x=/y".into(),
            file_bytes: 10_000_000,
            stored_bytes,
            chunks: 3,
            stored_chunks: (stored_bytes / 4_000_000) as u32,
            verified_chunks: 1,
        };
        KeptModel { id: "a1".into(), contents: Some(contents), disk_bytes: 5, written_ms: 1e12, in_use: false }
    }

    fn with(models: Vec<KeptModel>) -> Kept {
        let mut kept = Kept::default();
        kept.apply(&Event::Storage(StorageReport { models, ..StorageReport::default() }));
        kept
    }

    #[test]
    fn lines_say_how_much_is_there() {
        let lines = kept_lines(&with(vec![model(4_000_000), model(10_000_000)]));
        assert_eq!((lines[0].name.as_str(), lines[0].share), ("m.gguf", 0.4));
        assert_eq!(lines[0].amount, "4.00 MB of 10.0 MB · 40.0 %");
        assert_eq!(lines[0].check, "1 of 1 chunk verified by the host's SHA-256");
        assert_eq!((lines[1].amount.as_str(), lines[1].share), ("10.0 MB, complete", 1.0));
        let mut picked = model(4_000_000);
        picked.contents.as_mut().expect("given").url = "kept:my model?.gguf".into();
        let line = kept_lines(&with(vec![picked])).remove(0);
        assert_eq!((line.name.as_str(), line.check.as_str()), ("my model?.gguf", "from a file that was picked"));
        let unknown = KeptModel { contents: None, disk_bytes: 77, ..model(0) };
        assert_eq!(kept_lines(&with(vec![unknown]))[0].amount, "77 B that this version cannot read");
    }

    #[test]
    fn a_verification_shows_on_its_own_line_until_its_end() {
        let mut kept = with(vec![model(10_000_000), KeptModel { id: "b2".into(), ..model(0) }]);
        let report = kept.report.clone().expect("given");
        let verify = |done_chunks, damaged_chunks| Event::StorageVerify {
            id: "a1".into(),
            done_chunks,
            chunks: 2,
            damaged_chunks,
            verified_chunks: 2,
        };
        kept.apply(&verify(1, 0));
        let lines = kept_lines(&kept);
        assert_eq!((lines[0].check.as_str(), lines[0].busy, lines[1].busy), ("reading 1 of 2 chunks", true, false));
        kept.apply(&verify(2, 1));
        kept.apply(&Event::Storage(report.clone()));
        assert!(kept_lines(&kept)[0].check.starts_with("1 chunk damaged and let go of; "));
        // One of two chunks has a published hash: nobody vouches for the other.
        kept.apply(&verify(2, 0));
        kept.apply(&Event::Storage(report.clone()));
        assert!(kept_lines(&kept)[0].check.starts_with("unverified: "), "{:?}", kept_lines(&kept)[0]);
        let mut vouched = report;
        vouched.models[0].contents.as_mut().expect("given").verified_chunks = 2;
        kept.apply(&Event::Storage(vouched));
        assert!(kept_lines(&kept)[0].check.starts_with("sound: 2 of 2 chunks verified"), "{:?}", kept_lines(&kept)[0]);
    }

    #[test]
    fn files_are_told_apart_and_notices_are_bounded() {
        let mut kept = Kept::default();
        assert_eq!(kept.loaded_bytes(), None);
        let state = |file: &str, storage_bytes| KeptState {
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
            kept.apply(&Event::Kept(event));
        }
        assert_eq!((kept.files.len(), kept.loaded_bytes()), (2, Some((7, 2))));
        let kind = KeepNoticeKind::Damaged;
        for number in 0..9 {
            let message = number.to_string();
            kept.apply(&Event::KeepNotice(KeepNotice { kind, file: "a".into(), message, advice: String::new() }));
        }
        assert_eq!(kept.notices.len(), MOST_NOTICES);
        assert_eq!(kept.notices[MOST_NOTICES - 1].message, "8");
        kept.load_requested();
        assert!(kept.notices.is_empty() && kept.files.is_empty());
    }
}
