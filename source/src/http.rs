//! What an answer to a range request must look like (RFC 9110 §14 and §15.3.7). Pure: headers in, verdict out.

use std::net::IpAddr;

use crate::SourceError;
use crate::hub_page::guessed_file;

/// A closed byte range, as HTTP writes it: both ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Index of the first byte.
    pub first: u64,
    /// Index of the last byte, which belongs to the range.
    pub last: u64,
}

impl ByteRange {
    /// The range of `len_bytes` bytes from `offset_bytes` on; `None` when it holds no byte or ends beyond `u64`.
    pub fn new(offset_bytes: u64, len_bytes: u64) -> Option<Self> {
        let last = offset_bytes.checked_add(len_bytes.checked_sub(1)?)?;
        Some(Self { first: offset_bytes, last })
    }

    /// Number of bytes in the range, at least 1.
    pub fn len_bytes(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Value of the `Range` request header. One range with both ends is CORS-safelisted: it needs no preflight.
    pub fn header_value(&self) -> String {
        format!("bytes={}-{}", self.first, self.last)
    }
}

/// The parts of a response that decide whether its body can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// HTTP status code.
    pub status: u16,
    /// `Content-Range`, where it can be read.
    pub content_range: Option<String>,
    /// `ETag`, where it can be read.
    pub etag: Option<String>,
    /// `Content-Type`, which pages may always read.
    pub content_type: Option<String>,
}

/// What earlier answers said about the file; later ones have to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Length of the whole file in bytes.
    pub len_bytes: u64,
    /// The strong ETag, if the host sent one. A weak one promises nothing about single bytes, so it is ignored.
    pub strong_etag: Option<String>,
}

impl KnownFile {
    /// The strong ETag with the length, or the length alone; equal for equal files as far as the host can tell.
    pub fn identity(&self) -> String {
        match &self.strong_etag {
            Some(etag) => format!("etag {etag} {} bytes", self.len_bytes),
            None => format!("{} bytes", self.len_bytes),
        }
    }
}

/// An answer that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedRange {
    /// What the body holds: the range asked for, or the part of it that the file has.
    pub range: ByteRange,
    /// What the answer said about the file.
    pub file: KnownFile,
}

/// Accepts absolute http and https URLs with a host.
pub fn check_http_url(url: &str) -> Result<(), SourceError> {
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => rest,
        _ => return Err(SourceError::NotHttpUrl { url: url.to_owned() }),
    };
    let host_is_empty = rest.is_empty() || rest.starts_with(['/', '?', '#', ':']);
    if host_is_empty || url.contains(char::is_whitespace) {
        return Err(SourceError::NotHttpUrl { url: url.to_owned() });
    }
    Ok(())
}

/// The last name in the path of a URL, percent-encoded as it stands there; empty if there is none.
pub fn url_file_name(url: &str) -> &str {
    let (begin, end) = file_name_bounds(url);
    &url[begin..end]
}

/// The host of an absolute URL, with the port where one is given.
pub fn url_host(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    (!host.is_empty()).then_some(host)
}

/// The URL of the file `name` (percent-encoded) in the same folder, with the same query.
pub fn sibling_url(url: &str, name: &str) -> String {
    let (begin, end) = file_name_bounds(url);
    [&url[..begin], name, &url[end..]].concat()
}

/// Where the last name in the path of a URL begins and ends.
fn file_name_bounds(url: &str) -> (usize, usize) {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let host = url[..end].find("://").map_or(0, |at| at + 3);
    let begin = url[host..end].rfind('/').map_or(end, |at| host + at + 1);
    (begin, end)
}

/// Where an address can be reached from, as the Local Network Access specification defines it; more private spaces come
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressSpace {
    /// This machine itself.
    Loopback,
    /// The network that this machine is in.
    Local,
    /// The internet.
    Public,
}

/// The address space of a URL's host, as far as its text says: nobody knows where a public name leads.
pub fn address_space(url: &str) -> AddressSpace {
    let host = host_of(url).to_ascii_lowercase();
    if let Ok(address) = host.parse() {
        return space_of(address);
    }
    let ends_with = |last: &str| host == last || host.strip_suffix(last).is_some_and(|rest| rest.ends_with('.'));
    if ends_with("localhost") {
        AddressSpace::Loopback
    } else if ends_with("local") || !host.contains('.') {
        AddressSpace::Local
    } else {
        AddressSpace::Public
    }
}

fn space_of(address: IpAddr) -> AddressSpace {
    let is_local = match address.to_canonical() {
        address if address.is_loopback() => return AddressSpace::Loopback,
        IpAddr::V4(v4) => {
            // 100.64.0.0/10 is the range that providers number their customers with.
            let [first, second, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || v4.is_unspecified() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    if is_local { AddressSpace::Local } else { AddressSpace::Public }
}

/// Whether the host is this machine itself, which is there without any network.
pub fn is_loopback_url(url: &str) -> bool {
    address_space(url) == AddressSpace::Loopback
}

/// The host without port and brackets.
fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host_and_port.strip_prefix('[') {
        Some(ipv6) => ipv6.split(']').next().unwrap_or(""),
        None => host_and_port.split(':').next().unwrap_or(""),
    }
}

/// Decides whether `head` answers a request for `asked`.
///
/// `known` is what the first answer (the probe) said; `None` makes this the probe, which may ask beyond the end and is
/// then answered with what there is. Later answers must deliver exactly `asked`, of a file with the same length and the
/// same strong ETag. The number of body bytes is the caller's to check.
pub fn check_range_response(
    url: &str,
    asked: ByteRange,
    known: Option<&KnownFile>,
    head: &ResponseHead,
) -> Result<AcceptedRange, SourceError> {
    check_status(url, asked, head)?;
    let Some(text) = head.content_range.as_deref() else {
        return Err(SourceError::ContentRangeUnreadable { url: url.to_owned() });
    };
    let Some((range, len_bytes)) = parse_content_range(text) else {
        return Err(SourceError::ContentRangeInvalid {
            url: url.to_owned(),
            got: text.to_owned(),
            first: asked.first,
            last: asked.last,
        });
    };
    if let Some(known) = known
        && known.len_bytes != len_bytes
    {
        return Err(changed(url, "its length in bytes", known.len_bytes.to_string(), len_bytes.to_string()));
    }
    let expected_last = if known.is_none() { asked.last.min(len_bytes - 1) } else { asked.last };
    if (range.first, range.last) != (asked.first, expected_last) {
        return Err(SourceError::WrongRange {
            url: url.to_owned(),
            first: asked.first,
            last: expected_last,
            got_first: range.first,
            got_last: range.last,
        });
    }
    let strong_etag = head.etag.as_deref().filter(|etag| is_strong(etag)).map(str::to_owned);
    if let Some(expected) = known.and_then(|known| known.strong_etag.as_ref())
        && strong_etag.as_ref() != Some(expected)
    {
        return Err(changed(
            url,
            "its ETag",
            expected.clone(),
            head.etag.clone().unwrap_or_else(|| "missing".to_owned()),
        ));
    }
    Ok(AcceptedRange { range, file: KnownFile { len_bytes, strong_etag } })
}

fn check_status(url: &str, asked: ByteRange, head: &ResponseHead) -> Result<(), SourceError> {
    let status = head.status;
    if let (200, Some(content_type)) = (status, web_page_type(head)) {
        let (file_url, content_type) = (guessed_file(url), content_type.to_owned());
        return Err(SourceError::WebPage { url: url.to_owned(), content_type, file_url });
    }
    let url = url.to_owned();
    Err(match status {
        206 => return Ok(()),
        200 => SourceError::RangesIgnored { url },
        404 | 410 => SourceError::NotFound { url, status },
        401 | 403 | 407 | 451 => SourceError::Forbidden { url, status },
        // `bytes */0`, or any unsatisfied range that starts at the first byte: there is no byte.
        416 if asked.first == 0 => SourceError::Empty { url },
        416 => SourceError::RangeRefused { url, first: asked.first, last: asked.last },
        408 | 429 => SourceError::HostBusy { url, status },
        500..=599 => SourceError::HostFailed { url, status },
        _ => SourceError::UnexpectedStatus { url, status },
    })
}

/// The Content-Type of an answer that is HTML.
fn web_page_type(head: &ResponseHead) -> Option<&str> {
    let kind = head.content_type.as_deref()?.split(';').next()?.trim();
    ["text/html", "application/xhtml+xml"].iter().any(|html| kind.eq_ignore_ascii_case(html)).then_some(kind)
}

/// `bytes 0-99/1234` → the range and the length of the file. `None` for anything else, an unknown length (`*`) and
/// numbers that contradict each other included.
fn parse_content_range(text: &str) -> Option<(ByteRange, u64)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (parse_digits(first)?, parse_digits(last)?, parse_digits(total)?);
    (first <= last && last < total).then_some((ByteRange { first, last }, total))
}

/// Like `str::parse`, without the leading `+` that it accepts.
fn parse_digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn is_strong(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

fn changed(url: &str, what: &'static str, expected: String, got: String) -> SourceError {
    SourceError::Changed { url: url.to_owned(), what, expected, got }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://host/m.gguf";
    const ASKED: ByteRange = ByteRange { first: 10, last: 19 };

    fn head(status: u16, content_range: Option<&str>, etag: Option<&str>) -> ResponseHead {
        let (content_range, etag) = (content_range.map(str::to_owned), etag.map(str::to_owned));
        ResponseHead { status, content_range, etag, content_type: None }
    }

    fn known(len_bytes: u64, etag: Option<&str>) -> KnownFile {
        KnownFile { len_bytes, strong_etag: etag.map(str::to_owned) }
    }

    /// One row: what was answered (status, Content-Range, ETag) and a word that the message must hold.
    type Refusal = (u16, Option<&'static str>, Option<&'static str>, &'static str);

    #[test]
    fn good_answers_are_accepted() {
        let file = known(100, Some("\"a\""));
        let cases = [
            (head(206, Some("bytes 10-19/100"), Some("\"a\"")), Some(&file)),
            (head(206, Some("Bytes 10-19/100"), Some("\"a\"")), None),
            (head(206, Some(" bytes  10-19/100 "), Some("\"a\"")), Some(&file)),
        ];
        for (head, known) in cases {
            let got = check_range_response(URL, ASKED, known, &head).expect("accepted");
            assert_eq!(got, AcceptedRange { range: ASKED, file: file.clone() }, "{head:?}");
        }
    }

    #[test]
    fn a_web_page_is_named_and_so_is_where_the_file_may_be() {
        let url = "http://host/O/R/blob/main/m.gguf";
        for content_type in ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"] {
            let head = ResponseHead { content_type: Some(content_type.into()), ..head(200, None, None) };
            let error = check_range_response(url, ASKED, None, &head).expect_err("a page");
            assert!(matches!(error, SourceError::WebPage { .. }), "{error}");
            let text = format!("{error} {}", error.advice());
            assert!(text.contains("web page") && text.contains("http://host/O/R/resolve/main/m.gguf"), "{text}");
        }
        // A part of a file is one whatever type a host gives it, and an error stays what it is.
        let html = |head: ResponseHead| ResponseHead { content_type: Some("text/html".into()), ..head };
        check_range_response(URL, ASKED, None, &html(head(206, Some("bytes 10-19/100"), None))).expect("a part");
        let error = check_range_response(URL, ASKED, None, &html(head(404, None, None))).expect_err("absent");
        assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
        let plain = ResponseHead { content_type: Some("text/plain".into()), ..head(200, None, None) };
        let error = check_range_response(url, ASKED, None, &plain).expect_err("no ranges");
        assert!(matches!(error, SourceError::RangesIgnored { .. }), "{error}");
    }

    #[test]
    fn weak_or_absent_etags_leave_the_length_as_identity() {
        for etag in [None, Some("W/\"a\""), Some("unquoted"), Some("\"")] {
            let got =
                check_range_response(URL, ASKED, None, &head(206, Some("bytes 10-19/100"), etag)).expect("accepted");
            assert_eq!(got.file, known(100, None), "{etag:?}");
            assert_eq!(got.file.identity(), "100 bytes");
            // A weak ETag may differ from answer to answer.
            check_range_response(URL, ASKED, Some(&got.file), &head(206, Some("bytes 10-19/100"), Some("W/\"b\"")))
                .expect("still the same length");
        }
        assert_eq!(known(7, Some("\"x\"")).identity(), "etag \"x\" 7 bytes");
    }

    #[test]
    fn only_the_probe_may_be_clamped_to_the_end() {
        let clamped = head(206, Some("bytes 10-14/15"), None);
        let got = check_range_response(URL, ASKED, None, &clamped).expect("a short file");
        assert_eq!((got.range, got.file.len_bytes), (ByteRange { first: 10, last: 14 }, 15));
        let error = check_range_response(URL, ASKED, Some(&known(15, None)), &clamped).expect_err("fewer than asked");
        assert!(matches!(error, SourceError::WrongRange { last: 19, got_last: 14, .. }), "{error}");
    }

    #[test]
    fn every_bad_answer_has_its_own_words() {
        let refusals: [Refusal; 28] = [
            (200, None, None, "ignores byte ranges"),
            (200, Some("bytes 10-19/100"), None, "ignores byte ranges"),
            (404, None, None, "does not exist"),
            (410, None, None, "does not exist"),
            (401, None, None, "refused access"),
            (403, None, None, "refused access"),
            (416, Some("bytes */15"), None, "lie outside"),
            (500, None, None, "failed (HTTP 500)"),
            (503, None, None, "failed (HTTP 503)"),
            (304, None, None, "HTTP 304"),
            (408, None, None, "cannot answer right now (HTTP 408)"),
            (429, None, None, "cannot answer right now (HTTP 429)"),
            (206, None, None, "no readable Content-Range"),
            (206, Some(""), None, "Content-Range \"\""),
            (206, Some("bytes */100"), None, "Content-Range"),
            (206, Some("bytes 10-19/*"), None, "Content-Range"),
            (206, Some("items 10-19/100"), None, "Content-Range"),
            (206, Some("bytes +10-19/100"), None, "Content-Range"),
            (206, Some("bytes 19-10/100"), None, "Content-Range"),
            (206, Some("bytes 10-19/19"), None, "Content-Range"),
            (206, Some("bytes 10-19/99999999999999999999"), None, "Content-Range"),
            (206, Some("bytes 9-19/100"), Some("\"a\""), "sent bytes 9-19, expected 10-19"),
            (206, Some("bytes 10-18/100"), Some("\"a\""), "sent bytes 10-18"),
            (206, Some("bytes 10-20/100"), Some("\"a\""), "sent bytes 10-20"),
            (206, Some("bytes 10-19/101"), Some("\"a\""), "length in bytes was 100, is now 101"),
            (206, Some("bytes 10-19/100"), Some("\"b\""), "ETag was \"a\", is now \"b\""),
            (206, Some("bytes 10-19/100"), Some("W/\"a\""), "ETag was \"a\", is now W/\"a\""),
            (206, Some("bytes 10-19/100"), None, "ETag was \"a\", is now missing"),
        ];
        let file = known(100, Some("\"a\""));
        let mut failures = Vec::new();
        for (status, content_range, etag, words) in refusals {
            match check_range_response(URL, ASKED, Some(&file), &head(status, content_range, etag)) {
                Ok(accepted) => failures.push(format!("{status} {content_range:?} {etag:?} accepted as {accepted:?}")),
                Err(error) if !error.to_string().contains(words) => {
                    failures.push(format!("{status}: \"{error}\" lacks \"{words}\""))
                }
                Err(error) if error.advice().is_empty() => failures.push(format!("{status}: no advice")),
                Err(_) => {}
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn a_refused_first_byte_means_an_empty_file() {
        let first = ByteRange { first: 0, last: 65535 };
        let error = check_range_response(URL, first, None, &head(416, Some("bytes */0"), None)).expect_err("no byte");
        assert!(matches!(error, SourceError::Empty { .. }), "{error}");
    }

    #[test]
    fn offsets_past_four_gibibytes_are_exact() {
        let asked = ByteRange::new(60_000_000_000, 4_406_400).expect("not empty");
        assert_eq!(asked.header_value(), "bytes=60000000000-60004406399");
        assert_eq!(asked.len_bytes(), 4_406_400);
        let answer = head(206, Some("bytes 60000000000-60004406399/63400000000"), None);
        assert_eq!(check_range_response(URL, asked, None, &answer).expect("accepted").range, asked);
        assert_eq!(ByteRange::new(5, 0), None);
        assert_eq!(ByteRange::new(u64::MAX, 2), None);
        assert_eq!(ByteRange::new(u64::MAX, 1).map(|range| range.len_bytes()), Some(1));
    }

    #[test]
    fn address_spaces_are_told_by_the_host() {
        for (space, hosts) in [
            (
                AddressSpace::Loopback,
                &["127.0.0.1:8090", "[::1]:80", "localhost", "a.LOCALHOST:1", "[::ffff:127.0.0.1]", "u:p@127.9.9.9"][..],
            ),
            (
                AddressSpace::Local,
                &[
                    "192.168.1.7:8090",
                    "10.0.0.1",
                    "172.31.0.1",
                    "169.254.1.1",
                    "100.64.0.1",
                    "[fd00::1]",
                    "[fe80::1]",
                    "nas.local",
                    "nas:80",
                ],
            ),
            (
                AddressSpace::Public,
                &[
                    "huggingface.co",
                    "172.32.0.1",
                    "100.128.0.1",
                    "1.1.1.1",
                    "[2606:4700::1]",
                    "local.example",
                    "localhost.example",
                ],
            ),
        ] {
            for host in hosts {
                assert_eq!(address_space(&format!("http://{host}/m.gguf?x=http://127.0.0.1")), space, "{host}");
            }
        }
        assert!(AddressSpace::Loopback < AddressSpace::Local && AddressSpace::Local < AddressSpace::Public);
    }

    #[test]
    fn siblings_lie_in_the_same_folder() {
        for (url, name, sibling) in [
            ("http://h/a.gguf", "a.gguf", "http://h/b.gguf"),
            (
                "https://h:1/x/y/a%20b-1.gguf?download=true#a/b",
                "a%20b-1.gguf",
                "https://h:1/x/y/b.gguf?download=true#a/b",
            ),
            ("http://h/?file=/a.gguf", "", "http://h/b.gguf?file=/a.gguf"),
        ] {
            assert_eq!((url_file_name(url), sibling_url(url, "b.gguf").as_str()), (name, sibling));
        }
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for here in [
            "http://127.0.0.1:8090/m.gguf",
            "http://LOCALHOST",
            "https://a.localhost:1/",
            "http://[::1]:80/m",
            "http://u:p@127.1.2.3",
        ] {
            assert!(is_loopback_url(here), "{here}");
        }
        for elsewhere in [
            "https://host/127.0.0.1",
            "http://192.168.1.2/m",
            "http://127.0.0.1.example/",
            "http://localhost@host/",
            "http://[2001:db8::1]/",
            "",
        ] {
            assert!(!is_loopback_url(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn only_absolute_http_urls_pass() {
        for good in ["http://127.0.0.1:8090/m.gguf", "https://host/a?b=c", "HTTPS://Host"] {
            check_http_url(good).expect(good);
        }
        for bad in [
            "",
            "m.gguf",
            "/m.gguf",
            "//host/m",
            "file:///m.gguf",
            "pylon://host:1",
            "http:",
            "http://",
            "http:///m",
            "http://:80/",
            "http://a b/",
        ] {
            assert!(matches!(check_http_url(bad), Err(SourceError::NotHttpUrl { .. })), "{bad}");
        }
    }
}
