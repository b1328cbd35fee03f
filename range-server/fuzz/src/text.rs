//! Targets and headers, put together from what means something to the server: random bytes would hardly ever get past
//! the first check. Everything has a form that is right, and one in which anything may stand.

use std::time::{Duration, SystemTime};

use arbitrary::Arbitrary;

/// Those that matter, those that make a request a preflight, and two that mean nothing.
const NAMES: [&str; 14] = [
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "host",
    "origin",
    "authorization",
    "cookie",
    "access-control-request-method",
    "access-control-request-private-network",
    "accept",
    "x-token",
];
const WITH_TAGS: [&str; 3] = ["if-match", "if-none-match", "if-range"];
const WITH_DATE: [&str; 3] = ["if-modified-since", "if-unmodified-since", "if-range"];

const HOSTS: [&str; 16] = [
    "localhost",
    "LocalHost",
    "127.0.0.1",
    "127.255.255.254",
    "[::1]",
    "models.lan",
    "Models.LAN",
    "192.168.1.5",
    "[fe80::1]",
    "[fe80:0::0:1]",
    "example.com",
    "localhost.example.com",
    "127.0.0.1.example.com",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
    "abc",
];

const SCHEMES: [&str; 4] = ["http", "https", "HTTP", "chrome-extension"];

const AUTHORIZATIONS: [&str; 6] = ["Bearer ", "bearer ", "BEARER  ", "Bearer", "Bearer\t", "Basic  "];

const WORDS: [&str; 44] = [
    "bytes=",
    "bytes",
    "BYTES=",
    "items=",
    "=",
    "-",
    ",",
    ", ",
    " ",
    "\t",
    "*",
    "\"",
    "W/",
    "\"x\"",
    "\"\"",
    "Bearer ",
    "bearer",
    "Basic ",
    ";",
    "; ",
    "localhost",
    "127.",
    "::1",
    "example.com",
    "[",
    "]",
    ":",
    ":80",
    "65536",
    "://",
    "http://",
    "https://",
    "null",
    ".",
    "@",
    "/",
    "?",
    "&",
    "#",
    "token",
    "token=",
    "Token=",
    "%",
    "%74oken=",
];

const MAX_RANGE_SPECS: usize = 32;
const MAX_SINGLE_BYTES: u8 = 20;

#[derive(Arbitrary)]
pub enum Fragment<'a> {
    Word(u8),
    Bytes(&'a [u8]),
    Number(Number),
    Etag,
    /// Near when the file was modified.
    Date(i8),
    Secret,
    EncodedSecret,
    CookieName,
}

#[derive(Arbitrary)]
pub enum Target<'a> {
    Structured { authority: Option<(u8, Authority<'a>)>, parameters: Option<Vec<Parameter<'a>>> },
    Text(Vec<Fragment<'a>>),
}

#[derive(Arbitrary)]
pub enum Parameter<'a> {
    Token(Secret<'a>),
    Text(Vec<Fragment<'a>>),
}

#[derive(Arbitrary)]
pub enum Secret<'a> {
    Plain,
    Encoded,
    Text(Vec<Fragment<'a>>),
}

#[derive(Arbitrary)]
pub enum Origin<'a> {
    Structured(u8, Authority<'a>),
    Text(Vec<Fragment<'a>>),
}

#[derive(Arbitrary)]
pub struct Authority<'a> {
    host: Host<'a>,
    port: Option<Port<'a>>,
}

#[derive(Arbitrary)]
enum Host<'a> {
    Known(u8),
    Text(Vec<Fragment<'a>>),
}

#[derive(Arbitrary)]
enum Port<'a> {
    Number(u16),
    Text(Vec<Fragment<'a>>),
}

#[derive(Arbitrary)]
pub enum Header<'a> {
    Ranges(Vec<RangeSpec>),
    Tags(u8, Vec<Tag<'a>>),
    Date(u8, i8),
    Host(Authority<'a>),
    Origin(Origin<'a>),
    Authorization(u8, Secret<'a>),
    Cookies(Vec<Cookie<'a>>),
    Field(u8, Vec<Fragment<'a>>),
}

#[derive(Arbitrary)]
pub enum Tag<'a> {
    Any,
    Strong,
    Weak,
    Text(Vec<Fragment<'a>>),
}

#[derive(Arbitrary)]
pub enum Cookie<'a> {
    Token(Secret<'a>),
    /// The cookie of a server on another port.
    Foreign(Secret<'a>),
    Text(Vec<Fragment<'a>>),
}

/// An element of a range set.
#[derive(Arbitrary, Clone, Copy)]
pub enum RangeSpec {
    /// Begins this many bytes after the end of the previous element.
    Next {
        gap: u8,
        extent: u8,
    },
    At {
        first: u16,
        extent: u8,
    },
    /// Single bytes, each as far from the end of the one before.
    Many {
        gap: u8,
        count: u8,
    },
    Between(Number, Number),
    From(Number),
    Suffix(Number),
    Empty,
}

#[derive(Arbitrary, Clone, Copy)]
pub enum Number {
    Small(u8),
    Any(u64),
    NearLength(i8),
    /// Repeats this digit many times.
    Long {
        digit: u8,
        times: u8,
    },
    Padded {
        zeros: u8,
        number: u16,
    },
}

/// Values that the words stand for, which differ between cases.
pub struct Words {
    pub len: u64,
    pub etag: &'static str,
    pub modified_seconds: Option<u64>,
    pub secret: &'static str,
    pub port: u16,
}

impl Words {
    pub fn target(&self, target: &Target) -> Vec<u8> {
        let (authority, parameters) = match target {
            Target::Structured { authority, parameters } => (authority, parameters),
            Target::Text(text) => return self.text(text),
        };
        let mut text = match authority {
            Some((scheme, authority)) => self.with_scheme(*scheme, authority),
            None => Vec::new(),
        };
        text.extend_from_slice(b"/gptoss");
        if let Some(parameters) = parameters {
            let parameters: Vec<_> = parameters.iter().map(|parameter| self.parameter(parameter)).collect();
            text.push(b'?');
            text.extend(parameters.join(&b'&'));
        }
        text
    }

    /// Name and value.
    pub fn header(&self, header: &Header) -> (&'static str, Vec<u8>) {
        match header {
            Header::Ranges(specs) => ("range", self.range_set(specs).into_bytes()),
            Header::Tags(name, tags) => (pick(&WITH_TAGS, *name), self.tags(tags)),
            Header::Date(name, offset) => (pick(&WITH_DATE, *name), self.date(*offset).into_bytes()),
            Header::Host(authority) => ("host", self.authority(authority)),
            Header::Origin(origin) => ("origin", self.origin(origin)),
            Header::Authorization(scheme, secret) => {
                ("authorization", [pick(&AUTHORIZATIONS, *scheme).as_bytes(), &self.secret(secret)].concat())
            }
            Header::Cookies(cookies) => ("cookie", self.cookies(cookies)),
            Header::Field(name, value) => (pick(&NAMES, *name), self.text(value)),
        }
    }

    fn text(&self, fragments: &[Fragment]) -> Vec<u8> {
        let mut text = Vec::new();
        for fragment in fragments {
            match fragment {
                Fragment::Word(word) => text.extend_from_slice(pick(&WORDS, *word).as_bytes()),
                Fragment::Bytes(bytes) => text.extend_from_slice(bytes),
                Fragment::Number(number) => text.extend_from_slice(self.number(*number).as_bytes()),
                Fragment::Etag => text.extend_from_slice(self.etag.as_bytes()),
                Fragment::Date(offset) => text.extend_from_slice(self.date(*offset).as_bytes()),
                Fragment::Secret => text.extend(self.secret(&Secret::Plain)),
                Fragment::EncodedSecret => text.extend(self.secret(&Secret::Encoded)),
                Fragment::CookieName => text.extend_from_slice(self.cookie_name().as_bytes()),
            }
        }
        text
    }

    pub fn origin(&self, origin: &Origin) -> Vec<u8> {
        match origin {
            Origin::Structured(scheme, authority) => self.with_scheme(*scheme, authority),
            Origin::Text(text) => self.text(text),
        }
    }

    fn with_scheme(&self, scheme: u8, authority: &Authority) -> Vec<u8> {
        [pick(&SCHEMES, scheme).as_bytes(), b"://", &self.authority(authority)].concat()
    }

    fn authority(&self, authority: &Authority) -> Vec<u8> {
        let mut text = match &authority.host {
            Host::Known(host) => pick(&HOSTS, *host).as_bytes().to_vec(),
            Host::Text(text) => self.text(text),
        };
        if let Some(port) = &authority.port {
            text.push(b':');
            match port {
                Port::Number(port) => text.extend_from_slice(port.to_string().as_bytes()),
                Port::Text(port) => text.extend(self.text(port)),
            }
        }
        text
    }

    fn parameter(&self, parameter: &Parameter) -> Vec<u8> {
        match parameter {
            Parameter::Token(secret) => [b"token=", &*self.secret(secret)].concat(),
            Parameter::Text(text) => self.text(text),
        }
    }

    fn secret(&self, secret: &Secret) -> Vec<u8> {
        match secret {
            Secret::Plain => self.secret.as_bytes().to_vec(),
            Secret::Encoded => self.secret.bytes().flat_map(|b| format!("%{b:02x}").into_bytes()).collect(),
            Secret::Text(text) => self.text(text),
        }
    }

    fn cookie_name(&self) -> String {
        format!("gguf-serve-{}", self.port)
    }

    fn cookies(&self, cookies: &[Cookie]) -> Vec<u8> {
        let pairs: Vec<Vec<u8>> = cookies
            .iter()
            .map(|cookie| match cookie {
                Cookie::Token(secret) => [self.cookie_name().as_bytes(), b"=", &*self.secret(secret)].concat(),
                Cookie::Foreign(secret) => [self.cookie_name().as_bytes(), b"0=", &*self.secret(secret)].concat(),
                Cookie::Text(text) => self.text(text),
            })
            .collect();
        pairs.join(&b"; "[..])
    }

    fn tags(&self, tags: &[Tag]) -> Vec<u8> {
        let tags: Vec<Vec<u8>> = tags
            .iter()
            .map(|tag| match tag {
                Tag::Any => b"*".to_vec(),
                Tag::Strong => self.etag.as_bytes().to_vec(),
                Tag::Weak => [b"W/", self.etag.as_bytes()].concat(),
                Tag::Text(text) => self.text(text),
            })
            .collect();
        tags.join(&b", "[..])
    }

    fn range_set(&self, specs: &[RangeSpec]) -> String {
        let mut end = 0;
        // Far more than are ever answered; the second opinion takes its time over every pair.
        let specs = specs.iter().take(MAX_RANGE_SPECS);
        let elements: Vec<String> = specs.map(|spec| self.range_spec(*spec, &mut end)).collect();
        format!("bytes={}", elements.join(","))
    }

    /// `end`: where the last element ended whose end is known.
    fn range_spec(&self, spec: RangeSpec, end: &mut u64) -> String {
        let (first, extent) = match spec {
            RangeSpec::Next { gap, extent } => (*end + u64::from(gap), extent),
            RangeSpec::At { first, extent } => (first.into(), extent),
            RangeSpec::Many { gap, count } => return single_bytes(gap, count % MAX_SINGLE_BYTES, end),
            RangeSpec::Between(first, last) => return format!("{}-{}", self.number(first), self.number(last)),
            RangeSpec::From(first) => return format!("{}-", self.number(first)),
            RangeSpec::Suffix(length) => return format!("-{}", self.number(length)),
            RangeSpec::Empty => return String::new(),
        };
        let last = first + u64::from(extent);
        *end = last + 1;
        format!("{first}-{last}")
    }

    fn number(&self, number: Number) -> String {
        match number {
            Number::Small(number) => number.to_string(),
            Number::Any(number) => number.to_string(),
            Number::NearLength(offset) => (i128::from(self.len) + i128::from(offset)).max(0).to_string(),
            Number::Long { digit, times } => (digit % 10).to_string().repeat(times.into()),
            Number::Padded { zeros, number } => format!("{}{number}", "0".repeat(zeros.into())),
        }
    }

    /// Sixteen to a second, so that the very second is hit often.
    fn date(&self, sixteenths: i8) -> String {
        const RFC_EXAMPLE_SECONDS: u64 = 784_111_777;
        const LAST_SECONDS: u64 = 253_402_300_799;
        let seconds = self.modified_seconds.unwrap_or(RFC_EXAMPLE_SECONDS);
        let seconds = seconds.saturating_add_signed(i64::from(sixteenths / 16)).min(LAST_SECONDS);
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

fn single_bytes(gap: u8, count: u8, end: &mut u64) -> String {
    let mut bytes = Vec::new();
    for _ in 0..count {
        let at = *end + u64::from(gap);
        bytes.push(format!("{at}-{at}"));
        *end = at + 1;
    }
    bytes.join(",")
}

pub fn pick(table: &[&'static str], index: u8) -> &'static str {
    table[usize::from(index) % table.len()]
}
