//! The syntax of `multipart/byteranges`: RFC 2046, 5.1.1, and RFC 9110, 14.6 and 15.3.7.2.

/// One part of a body.
#[derive(Debug, PartialEq)]
pub struct Part {
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// First and last byte, and the length of the whole, as Content-Range says.
    pub range: (u64, u64, u64),
    pub bytes: Vec<u8>,
}

/// The boundary that a Content-Type names.
pub fn boundary(content_type: &str) -> Result<&str, String> {
    let fault = || format!("Content-Type: {content_type}");
    let (media_type, parameter) = content_type.split_once(';').ok_or_else(fault)?;
    let (name, value) = parameter.trim().split_once('=').ok_or_else(fault)?;
    if media_type.trim() != "multipart/byteranges" || !name.eq_ignore_ascii_case("boundary") {
        return Err(fault());
    }
    // RFC 2046 allows more, in quotes, which "some existing implementations handle incorrectly" (14.6).
    let token = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'+_-.".contains(&byte));
    if value.is_empty() || value.len() > 70 || !token {
        return Err(format!("the boundary {value:?} needs quotes, or is too long"));
    }
    Ok(value)
}

pub fn parse(content_type: &str, body: &[u8]) -> Result<Vec<Part>, String> {
    let delimiter = format!("--{}", boundary(content_type)?);
    let delimiter = delimiter.as_bytes();
    // "Additional CRLFs might precede the first boundary string in the body."
    let mut rest = body;
    while let Some(shorter) = rest.strip_prefix(b"\r\n") {
        rest = shorter;
    }
    rest = rest.strip_prefix(delimiter).ok_or("the body does not begin with the boundary")?;
    let mut parts = Vec::new();
    loop {
        if let Some(epilogue) = rest.strip_prefix(b"--") {
            return match epilogue {
                b"" | b"\r\n" if !parts.is_empty() => Ok(parts),
                b"" | b"\r\n" => Err("no parts".into()),
                _ => Err(format!("{} bytes after the last boundary", epilogue.len())),
            };
        }
        rest = rest.strip_prefix(b"\r\n").ok_or("a boundary that no line break follows")?;
        let (headers, after) = parse_headers(rest)?;
        let range = content_range(&headers)?;
        let len = usize::try_from(range.1 - range.0 + 1).unwrap();
        let bytes = after.get(..len).ok_or_else(|| format!("the body ends inside the part {range:?}"))?;
        if bytes.windows(delimiter.len()).any(|window| window == delimiter) {
            return Err(format!("the boundary occurs inside the part {range:?}"));
        }
        rest = after[len..].strip_prefix(b"\r\n").ok_or_else(|| format!("no line break after the part {range:?}"))?;
        rest = rest.strip_prefix(delimiter).ok_or_else(|| format!("no boundary after the part {range:?}"))?;
        parts.push(Part { headers, range, bytes: bytes.to_vec() });
    }
}

type Headers = Vec<(String, String)>;

fn parse_headers(mut rest: &[u8]) -> Result<(Headers, &[u8]), String> {
    let mut headers = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").ok_or("the headers of a part do not end")?;
        let line = std::str::from_utf8(&rest[..end]).map_err(|error| error.to_string())?;
        rest = &rest[end + 2..];
        if line.is_empty() {
            return Ok((headers, rest));
        }
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("not a header of a part: {line:?}"))?;
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
}

fn content_range(headers: &Headers) -> Result<(u64, u64, u64), String> {
    let values: Vec<_> = headers.iter().filter(|(name, _)| name == "content-range").collect();
    let [(_, value)] = values[..] else { return Err(format!("a part has {} Content-Range", values.len())) };
    let numbers = value.strip_prefix("bytes ").and_then(|rest| {
        let (first, rest) = rest.split_once('-')?;
        let (last, len) = rest.split_once('/')?;
        Some((first.parse().ok()?, last.parse().ok()?, len.parse().ok()?))
    });
    numbers
        .filter(|(first, last, len)| first <= last && last < len)
        .ok_or_else(|| format!("Content-Range of a part: {value}"))
}

#[test]
fn the_parser_is_strict() {
    let good =
        "--x\r\nContent-Range: bytes 0-2/9\r\n\r\nabc\r\n--x\r\nContent-Range: bytes 8-8/9\r\n\r\ni\r\n--x--\r\n";
    let parts = parse("multipart/byteranges; boundary=x", good.as_bytes()).unwrap();
    let read: Vec<_> = parts.iter().map(|part| (part.range, part.bytes.as_slice())).collect();
    assert_eq!(read, [((0, 2, 9), &b"abc"[..]), ((8, 8, 9), b"i")]);
    for (from, to) in [
        ("0-2/9", "0-3/9"),         // longer than said
        ("0-2/9", "0-1/9"),         // shorter
        ("8-8/9", "9-9/9"),         // beyond the end
        ("8-8/9", "*/9"),           // no range
        ("Content-Range", "Range"), // no Content-Range
        ("--x--\r\n", "--x\r\n"),   // no end
        ("--x--\r\n", "--x--\r\n."),
        ("\r\n--x\r\n", "--x\r\n"),
        ("--x\r\nContent-Range: bytes 0", "Content-Range: bytes 0"),
    ] {
        assert!(good.contains(from));
        assert!(parse("multipart/byteranges; boundary=x", good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
    assert!(parse("multipart/byteranges; boundary=y", good.as_bytes()).is_err());
    assert!(parse("multipart/mixed; boundary=x", good.as_bytes()).is_err());
    assert!(parse("multipart/byteranges", good.as_bytes()).is_err());
}
