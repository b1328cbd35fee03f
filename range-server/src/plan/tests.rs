use hyper::header::{HeaderName, HeaderValue};

use super::*;

const ETAG: &str = "\"abc\"";
/// Sun, 06 Nov 1994 08:49:37 GMT, the date of the RFC's examples.
const SECONDS: u64 = 784_111_777;
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn facts() -> Facts {
    Facts { len: 1000, etag: ETAG.into(), modified: Some(LastModified { seconds: SECONDS, strong: true }) }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn get(pairs: &[(&str, &str)]) -> Plan {
    plan(&Method::GET, &headers(pairs), &facts())
}

const PART: Plan = Plan::Range(ByteRange { first: 2, last: 5 });
const RANGE_2_5: (&str, &str) = ("range", "bytes=2-5");

#[test]
fn methods() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE, Method::CONNECT] {
        assert_eq!(plan(&method, &headers(&[RANGE_2_5]), &facts()), Plan::MethodNotAllowed, "{method}");
    }
    assert_eq!(plan(&Method::OPTIONS, &headers(&[RANGE_2_5]), &facts()), Plan::Options);
    assert_eq!(plan(&Method::HEAD, &headers(&[]), &facts()), Plan::Whole);
    assert_eq!(get(&[]), Plan::Whole);
}

#[test]
fn head_ignores_range_but_not_preconditions() {
    let head = |pairs: &[(&str, &str)]| plan(&Method::HEAD, &headers(pairs), &facts());
    assert_eq!(head(&[RANGE_2_5]), Plan::Whole);
    assert_eq!(head(&[("range", "bytes=5000-")]), Plan::Whole);
    assert_eq!(head(&[RANGE_2_5, ("if-none-match", ETAG)]), Plan::NotModified);
}

#[test]
fn ranges() {
    assert_eq!(get(&[RANGE_2_5]), PART);
    assert_eq!(get(&[("range", "bytes=1000-")]), Plan::Unsatisfiable);
    assert_eq!(get(&[("range", "bytes=0-1, 8-9")]), Plan::Range(ByteRange { first: 0, last: 9 }));
    let parts = [(900, 909), (0, 9)].map(|(first, last)| ByteRange { first, last });
    assert_eq!(get(&[("range", "bytes=900-909, 0-9")]), Plan::Parts(parts.to_vec()));
    assert_eq!(get(&[("range", "lines=2-5")]), Plan::Whole);
    assert_eq!(get(&[RANGE_2_5, ("range", "bytes=7-8")]), Plan::Whole, "two Range lines");
}

#[test]
fn if_match_compares_strongly() {
    for (value, expected) in [
        ("*", PART),
        (ETAG, PART),
        ("\"x\", \"abc\"", PART),
        (",\"x\",,\"abc\",", PART),
        ("\"a,b\" , \"abc\"", PART),
        ("W/\"abc\"", Plan::PreconditionFailed),
        ("\"ABC\"", Plan::PreconditionFailed),
        ("\"x\"", Plan::PreconditionFailed),
        ("abc", Plan::PreconditionFailed),
        ("", Plan::PreconditionFailed),
    ] {
        assert_eq!(get(&[RANGE_2_5, ("if-match", value)]), expected, "{value}");
    }
    assert_eq!(get(&[RANGE_2_5, ("if-match", "\"x\""), ("if-match", ETAG)]), PART, "two lines are one list");
}

#[test]
fn if_none_match_compares_weakly_and_outranks_range() {
    for (value, expected) in [
        ("*", Plan::NotModified),
        (ETAG, Plan::NotModified),
        ("W/\"abc\"", Plan::NotModified),
        ("\"x\", W/\"abc\"", Plan::NotModified),
        ("\"x\"", PART),
        ("abc", PART),
    ] {
        assert_eq!(get(&[RANGE_2_5, ("if-none-match", value)]), expected, "{value}");
    }
    assert_eq!(get(&[("range", "bytes=5000-"), ("if-none-match", ETAG)]), Plan::NotModified);
}

#[test]
fn dates_count_only_without_tags() {
    assert_eq!(get(&[("if-modified-since", DATE)]), Plan::NotModified);
    assert_eq!(get(&[("if-modified-since", LATER)]), Plan::NotModified);
    assert_eq!(get(&[("if-modified-since", EARLIER)]), Plan::Whole);
    assert_eq!(get(&[("if-modified-since", "yesterday")]), Plan::Whole);
    assert_eq!(get(&[("if-modified-since", DATE), ("if-none-match", "\"x\"")]), Plan::Whole);
    assert_eq!(get(&[("if-unmodified-since", DATE)]), Plan::Whole);
    assert_eq!(get(&[("if-unmodified-since", EARLIER)]), Plan::PreconditionFailed);
    assert_eq!(get(&[("if-unmodified-since", "yesterday")]), Plan::Whole);
    assert_eq!(get(&[("if-unmodified-since", EARLIER), ("if-match", ETAG)]), Plan::Whole);
}

#[test]
fn if_match_comes_before_if_none_match() {
    assert_eq!(get(&[("if-match", "\"x\""), ("if-none-match", ETAG)]), Plan::PreconditionFailed);
    assert_eq!(get(&[("if-match", ETAG), ("if-none-match", ETAG)]), Plan::NotModified);
}

#[test]
fn if_range() {
    for (value, expected) in [
        (ETAG, PART),
        ("W/\"abc\"", Plan::Whole),
        ("\"x\"", Plan::Whole),
        ("\"abc\", \"x\"", Plan::Whole),
        (DATE, PART),
        (EARLIER, Plan::Whole),
        (LATER, Plan::Whole),
        ("abc", Plan::Whole),
        ("", Plan::Whole),
    ] {
        assert_eq!(get(&[RANGE_2_5, ("if-range", value)]), expected, "{value}");
    }
    // Evaluated before satisfiability, and ignored without Range.
    assert_eq!(get(&[("range", "bytes=5000-"), ("if-range", "\"x\"")]), Plan::Whole);
    assert_eq!(get(&[("range", "bytes=5000-"), ("if-range", ETAG)]), Plan::Unsatisfiable);
    assert_eq!(get(&[("if-range", "\"x\"")]), Plan::Whole);
    // A date that does not tell versions apart is no reason to send a part.
    let weak = Facts { modified: Some(LastModified { seconds: SECONDS, strong: false }), ..facts() };
    assert_eq!(plan(&Method::GET, &headers(&[RANGE_2_5, ("if-range", DATE)]), &weak), Plan::Whole);
}

#[test]
fn last_modified() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let old = LastModified::new(at(SECONDS), at(SECONDS + 2), at(SECONDS + 9)).unwrap();
    assert_eq!((old.to_http_date().as_str(), old.strong), (DATE, true));
    assert!(!LastModified::new(at(SECONDS), at(SECONDS + 1), at(SECONDS + 9)).unwrap().strong);
    // The file was written while it was being served.
    assert!(!LastModified::new(at(SECONDS), at(SECONDS - 5), at(SECONDS + 9)).unwrap().strong);
    let future = LastModified::new(at(SECONDS + 9), at(SECONDS + 12), at(SECONDS)).unwrap();
    assert_eq!((future.to_http_date().as_str(), future.strong), (DATE, false), "not later than now");
    assert_eq!(LastModified::new(SystemTime::UNIX_EPOCH - Duration::from_secs(1), at(0), at(9)), None);
}
