use thiserror::Error;

use crate::Place;

/// Why bytes could not be read. The message says what happened; [`SourceError::advice`] says what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SourceError {
    /// The caller asked for bytes that the file does not have.
    #[error(
        "{name} is {file_bytes} bytes long, but {len_bytes} bytes from offset {offset_bytes} are needed: the file is cut short or damaged"
    )]
    OutOfBounds { name: String, offset_bytes: u64, len_bytes: u64, file_bytes: u64 },

    /// The text is no absolute http or https URL.
    #[error("\"{url}\" is not an absolute http or https URL")]
    NotHttpUrl { url: String },

    /// The address belongs to a known hub and leads to a page about a file, not to the file.
    #[error("{url} is the address of a page{}", file_is_at(.file_url.as_deref(), "; the file itself is at "))]
    PageAddress {
        url: String,
        /// The file's own address; `None` if the page is about no single file.
        file_url: Option<String>,
    },

    /// The host answered a range request with HTTP 200 and HTML: it is a page, not a file.
    #[error(
        "{url} leads to a web page, not to a file (HTTP 200 with {content_type}){}", file_is_at(.file_url.as_deref(), "; the file itself may be at ")
    )]
    WebPage {
        url: String,
        content_type: String,
        /// Where the file may be, by the habit of hubs.
        file_url: Option<String>,
    },

    /// The browser gave no response. It does not say whether the network or the CORS check is to blame.
    #[error("no response from {url} that the browser would let this page read ({detail})")]
    Network { url: String, detail: String },

    /// HTTP 404 or 410: the host has no such file.
    #[error("{url} does not exist on its host (HTTP {status})")]
    NotFound { url: String, status: u16 },

    /// HTTP 401 or 403: the host wants a login or a signature.
    #[error("the host refused access to {url} (HTTP {status})")]
    Forbidden { url: String, status: u16 },

    /// HTTP 5xx.
    #[error("the host of {url} failed (HTTP {status})")]
    HostFailed { url: String, status: u16 },

    /// HTTP 408 or 429: the host works, but has no time for this request now.
    #[error("the host of {url} cannot answer right now (HTTP {status})")]
    HostBusy { url: String, status: u16 },

    /// A status that no other variant covers, such as a redirect that the browser did not follow.
    #[error("the host answered HTTP {status} for {url}, expected 206 (partial content)")]
    UnexpectedStatus { url: String, status: u16 },

    /// HTTP 200 to a range request: the host sends the whole file.
    #[error(
        "the host of {url} ignores byte ranges: it answered HTTP 200 with the whole file, expected 206 with a part"
    )]
    RangesIgnored { url: String },

    /// HTTP 416: the host has fewer bytes than an earlier answer said.
    #[error("the host says that bytes {first}-{last} lie outside {url} (HTTP 416)")]
    RangeRefused { url: String, first: u64, last: u64 },

    /// The file has no bytes.
    #[error("{url} is empty")]
    Empty { url: String },

    /// Content-Range is absent, or not listed in `Access-Control-Expose-Headers`; a page cannot tell the two apart.
    #[error("the answer from {url} has no readable Content-Range header, so its bytes cannot be placed")]
    ContentRangeUnreadable { url: String },

    /// The Content-Range header does not have the form `bytes first-last/size`.
    #[error("the answer from {url} has Content-Range \"{got}\", expected \"bytes {first}-{last}/{{size}}\"")]
    ContentRangeInvalid { url: String, got: String, first: u64, last: u64 },

    /// The host answered with another range than the one asked for.
    #[error("the host of {url} sent bytes {got_first}-{got_last}, expected {first}-{last}")]
    WrongRange { url: String, first: u64, last: u64, got_first: u64, got_last: u64 },

    /// Length or ETag differ from those of earlier answers.
    #[error("{url} changed while it was being read: {what} was {expected}, is now {got}")]
    Changed { url: String, what: &'static str, expected: String, got: String },

    /// The connection broke while a body was arriving.
    #[error("{url}: the transfer of bytes {first}-{last} broke off ({detail})")]
    BodyInterrupted { url: String, first: u64, last: u64, detail: String },

    /// The body has more or fewer bytes than the range.
    #[error("{url}: the body for bytes {first}-{last} has {got_bytes} bytes, expected {expected_bytes}")]
    BodyLength { url: String, first: u64, last: u64, expected_bytes: u64, got_bytes: u64 },

    /// No byte arrived for longer than [`RetryPolicy::stall`](crate::retry::RetryPolicy::stall) allows.
    #[error("{url}: no byte of {first}-{last} arrived for {seconds:.1} s")]
    Stalled { url: String, first: u64, last: u64, seconds: f64 },

    /// All attempts met faults that might have passed.
    #[error("{last}; tried {attempts} times in {seconds:.1} s without receiving a byte")]
    GaveUp {
        last: Box<SourceError>,
        attempts: u32,
        seconds: f64,
        /// Whether an earlier answer for this file was good.
        was_read: bool,
    },

    /// `Retry-After` asks for a longer wait than the user should sit through without having agreed to it.
    #[error("{last}, and it asks to wait {asked_seconds} s before the next request")]
    WaitTooLong { last: Box<SourceError>, asked_seconds: u64 },
    /// A chunk's SHA-256 is wrong twice in a row, so that the network is not to blame.
    #[error(
        "{name}: bytes {first}-{last} (chunk {chunk}) arrived twice with other contents than the host itself publishes the SHA-256 of"
    )]
    WrongContents { name: String, chunk: u32, first: u64, last: u64 },

    /// The bytes arrived without an error, but cannot be what the file's header says they are.
    #[error("{} is damaged{}: {tensor}, at byte {}: expected {expected}, got {got}", .place.file, from_host(.place), .place.offset_bytes)]
    Nonsense { place: Box<Place>, tensor: String, expected: String, got: String },

    /// The file is read from the download cache alone, which does not have these bytes.
    #[error("bytes {first}-{last} of {name} are not cached in this browser, or were damaged there")]
    NotCached { name: String, first: u64, last: u64 },

    /// The file is read from the download cache alone, which has nothing of it.
    #[error("nothing is cached of {name} in this browser")]
    NothingCached { name: String },

    /// The download cache has something of the file, but cannot open it.
    #[error("what is cached of {name} in this browser cannot be read: {detail}")]
    CacheUnreadable { name: String, detail: String },

    /// Some files of a split model are missing.
    #[error("{name} is one of the {count} files of a split model, and these are missing: {}", .missing.join(", "))]
    PartsMissing { name: String, count: usize, missing: Vec<String> },

    /// A file on disk is no longer the one that was opened.
    #[error("{name} changed on disk while it was being read: {detail}")]
    FileChanged { name: String, detail: String },

    /// A file on disk was cut while it was being read.
    #[error("{name} became shorter while it was being read: it had {expected_bytes} bytes, now {got_bytes}")]
    FileShrank { name: String, expected_bytes: u64, got_bytes: u64 },

    /// The path leads to a directory, a device or the like.
    #[error("{name} is not a regular file")]
    NotAFile { name: String },

    /// The operating system refused to open or read a file on disk.
    #[error("cannot {action} {name}: {source}")]
    Io { name: String, action: &'static str, source: std::io::Error },

    /// The browser threw an exception where none is expected.
    #[error("{action} failed in the browser: {detail}")]
    Browser { action: &'static str, detail: String },
}

fn file_is_at(file_url: Option<&str>, words: &str) -> String {
    file_url.map_or_else(String::new, |file_url| format!("{words}{file_url}"))
}

impl SourceError {
    /// Whether the file does not exist, as opposed to one that cannot be read.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::NothingCached { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether no response arrived that the page may read. A browser does not say why.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::GaveUp { last, .. } => last.is_unreachable(),
            _ => false,
        }
    }

    /// What the user can do about it, in a sentence or two.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::OutOfBounds { .. } => {
                "The file ends too early: let its download finish, or download it again and compare its size with the publisher's."
            }
            Self::NotHttpUrl { .. } => {
                "Give the full address, for example http://127.0.0.1:8090/models/model.gguf, or pick the file from disk."
            }
            Self::PageAddress { file_url: Some(_), .. } => {
                "Use the address of the file itself, which the message names."
            }
            Self::PageAddress { file_url: None, .. } => {
                "Give the address of a .gguf file. On Hugging Face it has /resolve/ in it: open the file's page and copy its download link."
            }
            Self::WebPage { .. } => {
                "Give the address of the file itself, not of the page about it: on Hugging Face and its like it has /resolve/ where the \
                 page's has /blob/. A host that wants a login shows a page, too: then download the file and pick it from disk."
            }
            Self::Network { .. } => {
                "Check that the host is running and the address is right. If the file opens in a tab of its own, the host does not allow \
                 this page to read it: it has to send Access-Control-Allow-Origin (CORS), and a public https page may need your permission \
                 to reach this machine. gguf-serve serves page and file from one address and needs none of this; picking the file from disk works too."
            }
            Self::NotFound { .. } => "Check the address; the host's catalogue lists what it has.",
            Self::Forbidden { .. } => {
                "The file needs a login or an allowed address. Download it and pick it from disk, or serve it with gguf-serve."
            }
            Self::HostFailed { .. } => "The fault is at the host. Try again later, or serve the file with gguf-serve.",
            Self::HostBusy { .. } | Self::WaitTooLong { .. } => {
                "The host limits how much it serves. Try again later, or serve the file with gguf-serve."
            }
            Self::UnexpectedStatus { .. } => {
                "Check that the address leads to the file itself and not to a page about it."
            }
            Self::RangesIgnored { .. } => {
                "The file is read in parts, so the host must honour Range requests. Serve it with gguf-serve, or pick the file from disk."
            }
            Self::RangeRefused { .. } => "The file is shorter than its header says: download it again.",
            Self::Empty { .. } => "The host has an empty file there. Check the address, or put the file there again.",
            Self::ContentRangeUnreadable { .. } => {
                "The host must send Content-Range and, to a page of another origin, list it in Access-Control-Expose-Headers. gguf-serve \
                 does both; picking the file from disk works too."
            }
            Self::ContentRangeInvalid { .. } | Self::WrongRange { .. } => {
                "Something between this page and the host handles ranges wrongly, perhaps a proxy or a cache. Serve the file with gguf-serve, or pick it from disk."
            }
            Self::Changed { .. } | Self::FileChanged { .. } => "Load the model again once the file no longer changes.",
            Self::BodyInterrupted { .. } => {
                "The connection broke. Load again; if it keeps breaking, check the host and the network."
            }
            Self::BodyLength { .. } => {
                "The host, or a proxy or cache on the way, delivered the wrong number of bytes. Load again, or pick the file from disk."
            }
            Self::Stalled { .. } => "Check the network and whether the host is still running, then try again.",
            Self::GaveUp { last, was_read: true, .. } => match **last {
                Self::Network { .. } | Self::Stalled { .. } => {
                    "The host was there before. Check that it is still running and that this machine is on the network, then try again."
                }
                Self::NotFound { .. } | Self::Forbidden { .. } => {
                    "The file could be read before: the address may have expired. Get a fresh one and load again, or serve the file with gguf-serve."
                }
                ref last => last.advice(),
            },
            Self::GaveUp { last, .. } => last.advice(),
            Self::WrongContents { .. } => {
                "Something between this page and the host's disk changes bytes: a proxy, a cache, or the disk itself. Nothing of them was used. \
                 Check the file where it is served (gguf-serve hash does), load again, or pick the file from disk."
            }
            Self::Nonsense { place, .. } if place.host.is_some() => {
                "Delete what is cached of it and fetch it again: nothing of it that no published hash vouches for is cached any longer. If it happens \
                 again, the host's own file is damaged, or something on the way (a proxy, a cache) changes bytes: get the file from somewhere else."
            }
            Self::Nonsense { .. } => {
                "Delete this copy and download the file again; compare its SHA-256 with the one that its publisher states (pylon gguf hash)."
            }
            Self::NotCached { .. } | Self::NothingCached { .. } => {
                "Pick the file from disk; Cache in browser then caches all of it. The download cache panel lists what is cached."
            }
            Self::CacheUnreadable { .. } => {
                "Close other tabs that use it and load again, or pick the file from disk. The download cache panel lists what is cached."
            }
            Self::PartsMissing { .. } => {
                "Put all files of the model into one place, with the names they were published under."
            }
            Self::FileShrank { .. } => "The file is incomplete now. Download or copy it again.",
            Self::NotAFile { .. } => "Give the path of a GGUF file.",
            Self::Io { .. } => "Check that the file is there and may be read.",
            Self::Browser { .. } => {
                "Reload the page; if it happens again, the event log holds what is needed to report it."
            }
        }
    }
}

fn from_host(place: &Place) -> String {
    place.host.as_ref().map(|host| format!(" as it came from {host}")).unwrap_or_default()
}
