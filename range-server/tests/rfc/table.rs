//! Rows of requests, and what every answer to them must be.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use crate::fixtures::MODIFIED;
use crate::multipart;
use crate::support::{Subject, request};
use crate::wire::Response;

/// See `main.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Must,
    Should,
    Project,
}

pub use Level::{Must, Project, Should};

pub struct Row {
    pub level: Level,
    pub section: &'static str,
    method: &'static str,
    target: String,
    /// Request headers. In values, `{etag}` stands for the file's entity tag, `{opaque}` for what is between its
    /// quotes.
    headers: Vec<(String, String)>,
    /// The whole request, where the other fields cannot say it.
    verbatim: Option<String>,
    statuses: Vec<u16>,
    /// The file whose bytes these are, relative to the root.
    file: Option<String>,
    body: Body,
    wants: Vec<Want>,
}

#[derive(Clone)]
enum Body {
    Whatever,
    Slice(Range<u64>),
    Parts(Vec<Range<u64>>),
    Contains(&'static str),
}

enum Want {
    Is(&'static str, String),
    Has(&'static str),
    Lacks(&'static str),
    Lists(&'static str, &'static str),
}

/// A GET of a file below the root.
pub fn get(level: Level, section: &'static str, file: &str) -> Row {
    ask(level, section, "GET", &format!("/{file}")).of(file)
}

/// Any request.
pub fn ask(level: Level, section: &'static str, method: &'static str, target: &str) -> Row {
    Row {
        level,
        section,
        method,
        target: target.to_owned(),
        headers: Vec::new(),
        verbatim: None,
        statuses: vec![200],
        file: None,
        body: Body::Whatever,
        wants: Vec::new(),
    }
}

impl Row {
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn verbatim(self, text: impl Into<String>) -> Self {
        Self { verbatim: Some(text.into()), ..self }
    }

    pub fn of(self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// The answer has one of these statuses. Those of 200 and 206 have the bytes of the file, if there is one.
    pub fn gives(self, statuses: &[u16]) -> Self {
        Self { statuses: statuses.to_vec(), ..self }
    }

    pub fn slice(self, range: Range<u64>) -> Self {
        Self { statuses: vec![206], body: Body::Slice(range), ..self }
    }

    pub fn parts(self, ranges: &[Range<u64>]) -> Self {
        Self { statuses: vec![206], body: Body::Parts(ranges.to_vec()), ..self }
    }

    pub fn contains(self, text: &'static str) -> Self {
        Self { body: Body::Contains(text), ..self }
    }

    pub fn is(mut self, header: &'static str, value: &str) -> Self {
        self.wants.push(Want::Is(header, value.to_owned()));
        self
    }

    pub fn has(mut self, header: &'static str) -> Self {
        self.wants.push(Want::Has(header));
        self
    }

    pub fn lacks(mut self, header: &'static str) -> Self {
        self.wants.push(Want::Lacks(header));
        self
    }

    /// The header is a list with this member.
    pub fn lists(mut self, header: &'static str, member: &'static str) -> Self {
        self.wants.push(Want::Lists(header, member));
        self
    }

    fn sent(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }
}

/// Puts all rows to the server, on one connection as long as it lasts, and reports all faults together.
pub fn run(subject: &Subject, rows: Vec<Row>) {
    let rows: Vec<_> = rows.into_iter().filter(|row| !subject.is_peer || row.level == Must).collect();
    let mut etags = HashMap::new();
    let mut wire = subject.connect();
    let mut faults = Vec::new();
    // The request before on this connection.
    let mut before: Option<String> = None;
    // One more request that is sure to be answered: had the last answer been longer than it says, this one would fail.
    let last = ask(Must, "RFC 9112, 6.3", "HEAD", "/tiny.gguf").of("tiny.gguf");
    let counts = [Must, Should, Project].map(|level| rows.iter().filter(|row| row.level == level).count());
    for row in rows.into_iter().chain([last]) {
        let etag =
            row.file.as_ref().map(|file| etags.entry(file.clone()).or_insert_with(|| etag(subject, &row)).as_str());
        let text = request_text(&row, etag.unwrap_or("\"none\""));
        let label: String = text.chars().take(200).collect();
        let label = label.trim_end().replace("\r\nHost: localhost", "").replace(" HTTP/1.1", "").replace("\r\n", " | ");
        let mut found = Faults { subject, row: &row, list: Vec::new() };
        let mut outcome = wire.exchange(row.method, &text);
        if let (Err(fault), Some(before)) = (&outcome, &before) {
            // Then the fault is that of the request before: bytes after the end of its answer, or no `close` in it.
            if fault.starts_with("not a status line") {
                faults.push(format!("{before}\n    [Must, RFC 9112, 6.3] after the answer: {fault}"));
            } else if !subject.is_peer {
                faults.push(format!("{before}\n    [Should, RFC 9112, 9.6] no Connection: close, and then: {fault}"));
            }
            wire = subject.connect();
            outcome = wire.exchange(row.method, &text);
        }
        before = Some(label.clone());
        match &outcome {
            Ok(response) => found.check(response, etag),
            Err(fault) => found.add(Must, "RFC 9112, 6.3", fault.as_str()),
        }
        faults.extend(found.list.into_iter().map(|fault| format!("{label}\n    {fault}")));
        if outcome.map_or(true, |response| response.closes()) {
            (wire, before) = (subject.connect(), None);
        }
    }
    eprintln!("Must, Should, Project: {counts:?} requests");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The entity tag of the row's file.
fn etag(subject: &Subject, row: &Row) -> String {
    let response = subject.connect().exchange("HEAD", request("HEAD", &row.target, &[])).unwrap();
    response.header("etag").unwrap_or_default().to_owned()
}

fn request_text(row: &Row, etag: &str) -> String {
    let fill = |text: &str| text.replace("{etag}", etag).replace("{opaque}", etag.trim_matches('"'));
    if let Some(text) = &row.verbatim {
        return fill(text);
    }
    let headers: Vec<_> = row.headers.iter().map(|(name, value)| (name.as_str(), fill(value))).collect();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    request(row.method, &row.target, &headers)
}

/// What is wrong with the answer to a row.
struct Faults<'a> {
    subject: &'a Subject,
    row: &'a Row,
    list: Vec<String>,
}

impl Faults<'_> {
    fn add(&mut self, level: Level, section: &str, text: impl Into<String>) {
        // Another server need not do what our project wants.
        if level == Must || !self.subject.is_peer {
            self.list.push(format!("[{level:?}, {section}] {}", text.into()));
        }
    }

    fn header(&mut self, level: Level, section: &str, response: &Response, name: &str, expected: Option<&str>) {
        let got = response.header(name);
        if got != expected {
            self.add(level, section, format!("{name}: expected {expected:?}, got {got:?}"));
        }
    }

    fn check(&mut self, response: &Response, etag: Option<&str>) {
        let Row { level, section, .. } = *self.row;
        if !self.row.statuses.contains(&response.status) {
            let body = String::from_utf8_lossy(&response.body[..response.body.len().min(60)]).into_owned();
            let text = format!("expected {:?}, got {}; {body:?}", self.row.statuses, response.status);
            return self.add(level, section, text);
        }
        self.check_all(response);
        if let Some(file) = self.row.file.clone() {
            let etag = etag.unwrap_or_default();
            match response.status {
                200 | 206 => self.check_file(response, &file, etag),
                304 => self.check_not_modified(response, &file, etag),
                416 => {
                    let range = format!("bytes */{}", self.subject.len(&file));
                    self.header(Must, "15.5.17", response, "content-range", Some(&range));
                }
                _ => {}
            }
        }
        if response.status == 405 {
            let allow = response.members("allow");
            if !["get", "head"].iter().all(|method| allow.iter().any(|allowed| allowed == method)) {
                self.add(Must, "15.5.6", format!("Allow: {allow:?}"));
            }
        }
        for want in &self.row.wants {
            match want {
                Want::Is(name, value) => self.header(level, section, response, name, Some(value)),
                Want::Lacks(name) => self.header(level, section, response, name, None),
                Want::Has(name) if response.header(name).is_none() => self.add(level, section, format!("no {name}")),
                Want::Lists(name, member) if !response.members(name).iter().any(|m| m == member) => {
                    self.add(level, section, format!("{name}: {:?} without {member}", response.header(name)));
                }
                Want::Has(_) | Want::Lists(..) => {}
            }
        }
        let body = String::from_utf8_lossy(&response.body);
        if let Body::Contains(text) = self.row.body
            && !body.contains(text)
        {
            self.add(level, section, format!("no {text:?} in {body:?}"));
        }
    }

    /// What holds for every answer.
    fn check_all(&mut self, response: &Response) {
        let date = response.header("date").and_then(|date| {
            let time = httpdate::parse_http_date(date).ok()?;
            // The preferred format only.
            (httpdate::fmt_http_date(time) == date).then_some(time)
        });
        let now = SystemTime::now();
        let minute = Duration::from_secs(60);
        if !date.is_some_and(|date| now < date + minute && date < now + minute) {
            self.add(Must, "6.6.1", format!("Date: {:?}", response.header("date")));
        }
        for name in ["date", "content-length", "content-range", "content-type", "etag", "last-modified", "location"] {
            let values: Vec<_> = response.all(name).collect();
            if values.len() > 1 {
                self.add(Must, "5.3", format!("{name} occurs more than once: {values:?}"));
            }
        }
        if response.status == 204 {
            self.header(Must, "8.6", response, "content-length", None);
        }
        if !matches!(response.status, 206 | 416) {
            self.header(Must, "14.4", response, "content-range", None);
        }
        for name in ["content-encoding", "transfer-encoding", "access-control-allow-credentials", "set-cookie"] {
            self.header(Project, "project", response, name, None);
        }
        // What is no request at all is answered before any of our rules.
        if response.status != 400 {
            self.header(Project, "project", response, "x-content-type-options", Some("nosniff"));
            self.header(Project, "project", response, "vary", Some("Origin"));
        }
    }

    /// An answer with bytes of a file.
    fn check_file(&mut self, response: &Response, file: &str, etag: &str) {
        let len = self.subject.len(file);
        let strong = etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"') && etag.matches('"').count() == 2;
        if !strong {
            self.add(Must, "8.8.3", format!("ETag: {etag} is not a strong entity tag"));
        }
        self.header(Must, "15.3.7", response, "etag", Some(etag));
        self.header(Project, "project", response, "accept-ranges", Some("bytes"));
        self.header(Project, "project", response, "cache-control", Some("no-store"));
        self.header(Project, "project", response, "cross-origin-resource-policy", Some("cross-origin"));
        // With If-Range, the client has these headers already.
        if response.status == 200 || !self.row.sent("if-range") {
            self.header(Must, "15.3.7", response, "last-modified", Some(MODIFIED));
        }
        if response.status == 206
            && let Body::Parts(ranges) = self.row.body.clone()
        {
            return self.check_parts(response, file, &ranges);
        }
        self.header(Project, "project", response, "content-type", Some("application/octet-stream"));
        let range = match (response.status, &self.row.body) {
            (200, _) => 0..len,
            (_, Body::Slice(range)) => range.clone(),
            _ => return self.add(self.row.level, self.row.section, "a 206 that was not asked for"),
        };
        if response.status == 206 {
            let expected = format!("bytes {}-{}/{len}", range.start, range.end - 1);
            self.header(Must, "15.3.7.1", response, "content-range", Some(&expected));
        }
        self.header(Must, "8.6", response, "content-length", Some(&(range.end - range.start).to_string()));
        if self.row.method != "HEAD" && response.body != self.subject.slice(file, &range) {
            self.add(Must, "14.1.2", format!("not the bytes {range:?}"));
        }
    }

    fn check_parts(&mut self, response: &Response, file: &str, ranges: &[Range<u64>]) {
        let len = self.subject.len(file);
        self.header(Must, "15.3.7.2", response, "content-range", None);
        let content_type = response.header("content-type").unwrap_or_default();
        let parts = match multipart::parse(content_type, &response.body) {
            Ok(parts) => parts,
            Err(fault) => return self.add(Must, "14.6", fault),
        };
        let got: Vec<_> = parts.iter().map(|part| part.range).collect();
        let expected: Vec<_> = ranges.iter().map(|range| (range.start, range.end - 1, len)).collect();
        if got != expected {
            self.add(self.row.level, self.row.section, format!("expected the parts {expected:?}, got {got:?}"));
        }
        for part in parts {
            if part.bytes != self.subject.slice(file, &(part.range.0..part.range.1 + 1)) {
                self.add(Must, "15.3.7.2", format!("not the bytes of {:?}", part.range));
            }
            let types: Vec<_> = part.headers.iter().filter(|(name, _)| name == "content-type").collect();
            if !matches!(types[..], [(_, value)] if value == "application/octet-stream") {
                self.add(Should, "15.3.7.2", format!("Content-Type of a part: {types:?}"));
            }
        }
    }

    fn check_not_modified(&mut self, response: &Response, file: &str, etag: &str) {
        self.header(Must, "15.4.5", response, "etag", Some(etag));
        self.header(Project, "15.4.5", response, "cache-control", Some("no-store"));
        for name in ["content-type", "content-encoding"] {
            self.header(Should, "15.4.5", response, name, None);
        }
        let len = self.subject.len(file).to_string();
        if response.header("content-length").is_some_and(|value| value != len) {
            self.header(Must, "8.6", response, "content-length", Some(&len));
        }
    }
}
