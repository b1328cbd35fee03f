//! From the fuzzer's bytes to a request, a file and a server.

use std::fmt;
use std::time::{Duration, SystemTime};

use arbitrary::Arbitrary;
use gguf_serve::plan::{Facts, LastModified};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri, Version};

use crate::text::{Header, Origin, Target, Words, pick};

const METHODS: [Method; 6] = [Method::GET, Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::DELETE];

/// Secrets, none of which is a part of another, or of what a log shows in place of a token.
const SECRETS: [&str; 8] = ["s3cr/+", "a b", "q;z", "%41", "\"c\"", "ü", " pad ", "0123456789abcdef0123456789ABCDEF"];

const ETAGS: [&str; 4] = ["\"abc\"", "\"\"", "\"18f-2a,7\"", "\"W/\""];

/// Host names that a server can be told to answer to.
const HOSTS: [&str; 4] = ["models.lan", "192.168.1.5", "[fe80::1]", "Example.COM:81"];

/// Origins that a server can be told.
const ORIGINS: [&str; 4] = ["*", "https://example.com", "HTTP://Models.LAN:8090", "chrome-extension://abc"];

/// The first second that an HTTP date cannot express.
const YEAR_10000_SECONDS: u64 = 253_402_300_800;

/// The fuzzer's bytes as recipes, from which [`Input::case`] makes requests.
#[derive(Arbitrary)]
pub struct Input<'a> {
    method: u8,
    http_2: bool,
    length: Length,
    etag: u8,
    modified: Option<Modified>,
    server: ServerRecipe<'a>,
    target: Target<'a>,
    headers: Vec<Header<'a>>,
}

/// Length of the file.
#[derive(Arbitrary, Clone, Copy)]
enum Length {
    Tiny(u8),
    Small(u16),
    Over4GiB(u32),
    Any(u64),
    NearMax(u8),
}

#[derive(Arbitrary, Clone, Copy)]
struct Modified {
    seconds: u64,
    /// How long the file had been unchanged when it was first served.
    age_milliseconds: u16,
}

#[derive(Arbitrary)]
struct ServerRecipe<'a> {
    secret: u8,
    port: u16,
    /// One bit for each of [`HOSTS`].
    hosts: u8,
    /// One bit for each of [`ORIGINS`].
    origins: u8,
    further_origin: Option<Origin<'a>>,
}

/// A request with everything that decides its answer.
#[derive(Debug)]
pub struct Case {
    pub method: Method,
    pub version: Version,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub facts: Facts,
    /// The parts of `facts.modified` that are private.
    pub modified: Option<KnownTime>,
    pub server: Server,
}

/// When the file was modified, and whether it can have been a different one within the same second.
#[derive(Clone, Copy, Debug)]
pub struct KnownTime {
    pub seconds: u64,
    pub strong: bool,
}

/// The settings of a server.
#[derive(Debug)]
pub struct Server {
    pub secret: &'static str,
    pub port: u16,
    pub hosts: Vec<&'static str>,
    pub origins: Vec<String>,
}

impl Input<'_> {
    /// Makes the case. Parts that HTTP does not allow, such as a line end in a header, are left out.
    pub fn case(&self) -> Case {
        let modified = self.modified.map(Modified::known);
        let words = Words {
            len: self.length.bytes(),
            etag: pick(&ETAGS, self.etag),
            modified_seconds: modified.map(|time| time.seconds),
            secret: pick(&SECRETS, self.server.secret),
            port: self.server.port,
        };
        Case {
            method: METHODS[usize::from(self.method) % METHODS.len()].clone(),
            version: if self.http_2 { Version::HTTP_2 } else { Version::HTTP_11 },
            uri: Uri::try_from(words.target(&self.target)).unwrap_or_default(),
            headers: self.headers(&words),
            facts: Facts {
                len: words.len,
                etag: words.etag.to_owned(),
                modified: self.modified.map(Modified::last_modified),
            },
            modified,
            server: self.server.told(&words),
        }
    }

    fn headers(&self, words: &Words) -> HeaderMap {
        let mut map = HeaderMap::new();
        for header in &self.headers {
            let (name, value) = words.header(header);
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.append(HeaderName::from_static(name), value);
            }
        }
        map
    }
}

/// Prints the case that the bytes stand for, so that a person can read a finding.
impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.case().fmt(f)
    }
}

impl Length {
    fn bytes(self) -> u64 {
        match self {
            Self::Tiny(bytes) => bytes.into(),
            Self::Small(bytes) => bytes.into(),
            Self::Over4GiB(more) => (1 << 32) + u64::from(more),
            Self::Any(bytes) => bytes,
            Self::NearMax(fewer) => u64::MAX - u64::from(fewer),
        }
    }
}

impl Modified {
    fn known(self) -> KnownTime {
        KnownTime { seconds: self.seconds % YEAR_10000_SECONDS, strong: self.age_milliseconds >= 2000 }
    }

    fn last_modified(self) -> LastModified {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(self.known().seconds);
        let served_since = modified + Duration::from_millis(self.age_milliseconds.into());
        LastModified::new(modified, served_since, served_since).expect("a date can express it, and it is past")
    }
}

impl ServerRecipe<'_> {
    fn told(&self, words: &Words) -> Server {
        let mut origins: Vec<String> = chosen(&ORIGINS, self.origins).map(str::to_owned).collect();
        if let Some(origin) = &self.further_origin {
            origins.push(String::from_utf8_lossy(&words.origin(origin)).into_owned());
        }
        Server { secret: words.secret, port: words.port, hosts: chosen(&HOSTS, self.hosts).collect(), origins }
    }
}

fn chosen(table: &[&'static str], bits: u8) -> impl Iterator<Item = &'static str> {
    table.iter().enumerate().filter(move |(index, _)| (bits >> index) & 1 == 1).map(|(_, text)| *text)
}
