//! HTTPS and HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gguf_serve::{Limits, Options, TlsIdentity};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{TestServer, folder, pattern, start, write};

struct Served {
    server: TestServer,
    /// The certificate that a client has to trust.
    root: CertificateDer<'static>,
    _folders: [tempfile::TempDir; 2],
}

fn served(limits: Limits) -> Served {
    let (models, identity) = (folder(), folder());
    let paths = vec![write(&models, "m.gguf", &pattern(3_000_000))];
    let tls = Some(TlsIdentity::SelfSigned { folder: identity.path().into() });
    let server = start(Options { paths, tls, limits, ..Options::default() }).unwrap();
    let files = std::fs::read_dir(identity.path()).unwrap().map(|entry| entry.unwrap().path());
    let certificate = files.into_iter().find(|path| path.to_str().unwrap().contains("certificate")).unwrap();
    Served { server, root: CertificateDer::from_pem_file(certificate).unwrap(), _folders: [models, identity] }
}

impl Served {
    async fn connect(&self, name: &str, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.server.addr()).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        stream
    }
}

fn ask(uri: &str, range: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(uri).header("range", range);
    // In HTTP/2 the authority of the URI takes the place of Host.
    let request = if uri.starts_with('/') { request.header("host", "localhost") } else { request };
    request.body(Empty::new()).unwrap()
}

#[test]
fn http_1_1_and_2_over_tls() {
    let served = served(Limits::default());
    Runtime::new().unwrap().block_on(both_protocols(&served));
}

async fn both_protocols(served: &Served) {
    assert!(served.server.server().page_url().starts_with("https://127.0.0.1:"));
    let bytes = pattern(3_000_000);

    let stream = TokioIo::new(served.connect("127.0.0.1", "http/1.1").await);
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(ask("/m.gguf", "bytes=100-2000099")).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::PARTIAL_CONTENT, Version::HTTP_11));
    assert!(response.into_body().collect().await.unwrap().to_bytes() == bytes[100..2_000_100]);

    let stream = TokioIo::new(served.connect("localhost", "h2").await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    // Several at once on one connection.
    let requests = (0..8usize).map(|index| {
        let mut sender = sender.clone();
        let (first, last) = (index * 300_000, index * 300_000 + 299_999);
        tokio::spawn(async move {
            let request = ask("https://localhost/m.gguf", &format!("bytes={first}-{last}"));
            let response = sender.send_request(request).await.unwrap();
            assert_eq!((response.status(), response.version()), (StatusCode::PARTIAL_CONTENT, Version::HTTP_2));
            (first..=last, response.into_body().collect().await.unwrap().to_bytes())
        })
    });
    for request in requests.collect::<Vec<_>>() {
        let (range, body) = request.await.unwrap();
        assert!(body == bytes[range.clone()], "{range:?}");
    }
    let mut sender = sender;
    let foreign = sender.send_request(ask("https://attacker.example/m.gguf", "bytes=0-3")).await.unwrap();
    assert_eq!(foreign.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[test]
fn a_stream_that_is_not_taken_and_a_connection_that_says_nothing_are_cut() {
    let limit = Duration::from_millis(400);
    let served = served(Limits { header_read: limit, write_stall: limit, idle: limit, ..Limits::default() });
    Runtime::new().unwrap().block_on(both_are_cut(&served));
}

async fn both_are_cut(served: &Served) {
    let stream = TokioIo::new(served.connect("localhost", "h2").await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let ended = tokio::spawn(connection);
    // More than the stream's window, and nobody reads it.
    let response = sender.send_request(ask("https://localhost/m.gguf", "bytes=0-2999999")).await.unwrap();
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    let in_time = tokio::time::timeout(Duration::from_secs(5), ended).await;
    assert!(in_time.is_ok(), "the connection is still there");
    assert!(served.server.record_of("/m.gguf").aborted());

    // Nothing is sent, not even the choice of a protocol.
    let silent = TcpStream::connect(served.server.addr()).await.unwrap();
    silent.readable().await.unwrap();
    assert_eq!(silent.try_read(&mut [0; 1]).ok(), Some(0), "closed");
}
