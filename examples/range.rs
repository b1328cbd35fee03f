//! Reads the header of a model from a web server by byte ranges, and says how little of the file that took.
//!
//! ```text
//! cargo run -p gguf-serve -- models/nano/gpt-oss-nano.gguf
//! cargo run --release -p gptoss-examples --bin range -- http://127.0.0.1:8090/gpt-oss-nano.gguf
//! ```
//!
//! The page has a source of its own, made of the browser's `fetch`, that also repeats what failed. This one is the smallest that
//! a native program can do with: plain HTTP, one request for each read, and an error where anything is not as it should be.

use std::cell::Cell;
use std::error::Error;
use std::io;

use gptoss_model::{Quiet, read_header};
use gptoss_source::{
    AcceptedRange, ByteRange, Bytes, KnownFile, ReadFuture, ResponseHead, Source, SourceError, check_range_response,
    url_file_name,
};
use http::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

struct HttpSource {
    client: Client<HttpConnector, Empty<&'static [u8]>>,
    url: String,
    /// What the first answer said; every later one has to agree.
    file: Option<KnownFile>,
    identity: String,
    requests: Cell<u32>,
}

impl HttpSource {
    /// Asks for the first byte: the answer says how long the file is, and whether the host honours ranges at all.
    async fn open(url: &str) -> Result<Self, SourceError> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut source =
            Self { client, url: url.to_owned(), file: None, identity: String::new(), requests: Cell::new(0) };
        let (first, _) = source.get(ByteRange { first: 0, last: 0 }).await?;
        source.identity = first.file.identity();
        source.file = Some(first.file);
        Ok(source)
    }

    async fn get(&self, asked: ByteRange) -> Result<(AcceptedRange, Vec<u8>), SourceError> {
        let failed = |error: Box<dyn Error + Send + Sync>| SourceError::Io {
            name: self.url.clone(),
            action: "read",
            source: io::Error::other(error),
        };
        let request = http::Request::get(&self.url).header(RANGE, asked.header_value()).body(Empty::new());
        self.requests.set(self.requests.get() + 1);
        let response = self.client.request(request.map_err(|error| failed(error.into()))?).await;
        let response = response.map_err(|error| failed(error.into()))?;
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let head = ResponseHead {
            status: response.status().as_u16(),
            content_range: text(CONTENT_RANGE),
            etag: text(ETAG),
            content_type: text(CONTENT_TYPE),
        };
        let accepted = check_range_response(&self.url, asked, self.file.as_ref(), &head)?;
        let body = response.into_body().collect().await.map_err(|error| failed(error.into()))?.to_bytes();
        if body.len() as u64 != accepted.range.len_bytes() {
            let (expected_bytes, got_bytes) = (accepted.range.len_bytes(), body.len() as u64);
            let ByteRange { first, last } = accepted.range;
            return Err(SourceError::BodyLength { url: self.url.clone(), first, last, expected_bytes, got_bytes });
        }
        Ok((accepted, body.into()))
    }
}

impl Source for HttpSource {
    fn name(&self) -> &str {
        url_file_name(&self.url)
    }

    fn len_bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.len_bytes)
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(async move {
            match ByteRange::new(offset_bytes, len_bytes) {
                Some(range) => Ok(Bytes::from_vec(self.get(range).await?.1)),
                None => Ok(Bytes::from_vec(Vec::new())),
            }
        })
    }

    fn requests(&self) -> u32 {
        self.requests.get()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("expected the http address of a GGUF file")?;
    let source = HttpSource::open(&url).await?;
    let header = read_header(&source, &Quiet).await?;
    let config = header.config;
    println!("{}: {} layers, {} experts, {} tokens", source.name(), config.layers, config.experts, config.vocabulary);
    println!("{} tensors, data from byte {}", header.gguf.tensors.len(), header.gguf.data_offset);
    println!("{} bytes, {} requests, {}", source.len_bytes(), source.requests(), source.identity());
    Ok(())
}
