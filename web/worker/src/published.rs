//! The hashes that a gguf-serve publishes of its files: where they are, and what they say. Pure, so its tests run
//! natively.

use serde::Deserialize;

/// Version of the answer that this code reads.
const HASHES_VERSION: u32 = 1;

/// Where the hashes of a file are published, if its host is a gguf-serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashesAddress {
    pub url: String,
    /// Name of the file among the model's files; `None` is the first.
    pub file_name: Option<String>,
}

/// Turns `…/api/models/{id}/file/{name}` into `…/api/models/{id}/hashes`, with the same query; `None` for addresses of
/// other shapes.
pub fn hashes_address(file_url: &str) -> Option<HashesAddress> {
    let path_end = file_url.find(['?', '#']).unwrap_or(file_url.len());
    let (path, rest) = file_url.split_at(path_end);
    let query = rest.split('#').next().unwrap_or_default();
    let (before, after) = path.rsplit_once("/api/models/")?;
    let parts: Vec<&str> = after.split('/').collect();
    let (id, name) = match parts[..] {
        [id, "file"] => (id, None),
        [id, "file", name] => (id, Some(percent_decoded(name)?)),
        _ => return None,
    };
    let url = format!("{before}/api/models/{id}/hashes{query}");
    (!id.is_empty()).then_some(HashesAddress { url, file_name: name })
}

/// The published hashes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    pub name: String,
    pub size_bytes: u64,
    pub etag: String,
    pub chunk_bytes: u64,
    /// SHA-256 of each chunk, in order; `None` while they are being computed.
    pub chunks: Option<Vec<[u8; 32]>>,
}

impl PublishedFile {
    /// Whether the hashes are of the very version of a file that is being read.
    pub fn is_of(&self, name: Option<&str>, len_bytes: u64, etag: &str) -> bool {
        name.is_none_or(|name| name == self.name) && self.size_bytes == len_bytes && self.etag == etag
    }
}

/// Reads the answer, complete or not; the error says what is wrong with it.
pub fn parse(json: &str) -> Result<Vec<PublishedFile>, String> {
    #[derive(Deserialize)]
    struct Answer {
        version: u32,
        files: Vec<File>,
    }
    #[derive(Deserialize)]
    struct File {
        name: String,
        size_bytes: u64,
        etag: String,
        chunk_bytes: u64,
        chunks: Option<Vec<String>>,
    }
    let answer: Answer = serde_json::from_str(json).map_err(|error| format!("the hashes cannot be read: {error}"))?;
    if answer.version != HASHES_VERSION {
        return Err(format!("the hashes have version {}, this page reads {HASHES_VERSION}", answer.version));
    }
    let file = |file: File| {
        let File { name, size_bytes, etag, chunk_bytes, chunks } = file;
        let chunks = chunks.map(|chunks| chunks.iter().map(|text| sha256(text)).collect::<Option<Vec<_>>>());
        match chunks {
            Some(None) => Err(format!("a hash of {name} is not a SHA-256")),
            chunks => Ok(PublishedFile { name, size_bytes, etag, chunk_bytes, chunks: chunks.flatten() }),
        }
    };
    answer.files.into_iter().map(file).collect()
}

/// Parses 64 hexadecimal digits.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Decodes a name in a path: `%41` is a byte, `+` is itself.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_one_shape_have_hashes() {
        let address = |url, file_name: Option<&str>| {
            Some(HashesAddress { url: String::from(url), file_name: file_name.map(String::from) })
        };
        for (file, hashes) in [
            (
                "http://h:1/api/models/m/file/a%20b+c.gguf",
                address("http://h:1/api/models/m/hashes", Some("a b+c.gguf")),
            ),
            ("https://h/under/api/models/m-1/file", address("https://h/under/api/models/m-1/hashes", None)),
            (
                "http://h/api/models/m/file/a.gguf?token=x#y",
                address("http://h/api/models/m/hashes?token=x", Some("a.gguf")),
            ),
            ("http://h/m.gguf", None),
            ("http://h/m.gguf?x=/api/models/m/file/a", None),
            ("http://h/api/models//file/a", None),
            ("http://h/api/models/m/file/a/b", None),
            ("http://h/api/models/m/hashes", None),
            ("http://h/api/models/m/file/%zz", None),
        ] {
            assert_eq!(hashes_address(file), hashes, "{file}");
        }
    }

    fn answer(chunks: &str) -> String {
        format!(
            r#"{{"version":1,"id":"m","status":"complete","files":[{{"name":"m.gguf","size_bytes":5,"etag":"\"e\"",
                "hashed_bytes":5,"sha256":null,"chunk_bytes":4194304,"chunks":{chunks}}}]}}"#
        )
    }

    #[test]
    fn hashes_are_read_and_belong_to_one_version_of_the_file() {
        let hash = "0f".repeat(31) + "Fe";
        let files = parse(&answer(&format!("[\"{hash}\"]"))).expect("well formed");
        let mut want = [0x0f; 32];
        want[31] = 0xfe;
        assert_eq!((files[0].chunk_bytes, files[0].chunks.as_deref()), (4 << 20, Some(&[want][..])));
        let is_of = |name, len, etag| files[0].is_of(name, len, etag);
        assert!(is_of(Some("m.gguf"), 5, "\"e\"") && is_of(None, 5, "\"e\""));
        assert!(!is_of(Some("n.gguf"), 5, "\"e\"") && !is_of(None, 6, "\"e\"") && !is_of(None, 5, "\"f\""));
        assert_eq!(parse(&answer("null")).expect("well formed")[0].chunks, None, "still being worked out");
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for chunks in ["[\"0f\"]", &format!("[\"{}\"]", "0g".repeat(32)), "[3]"] {
            assert!(parse(&answer(chunks)).is_err(), "{chunks}");
        }
        assert!(
            parse(&answer("null").replace("\"version\":1", "\"version\":2")).expect_err("v2").contains("version 2")
        );
        assert!(parse("<html>").is_err());
    }
}
