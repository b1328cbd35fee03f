//! One request on a connection of its own: whoever drops its answer closes the connection, and the server learns of it at once.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::address::Address;
use crate::trust::Trust;

/// What is asked of a server.
pub(crate) struct Asked<'a> {
    pub address: &'a Address,
    /// For addresses with `https`.
    pub trust: Option<&'a Trust>,
    pub key: Option<&'a str>,
    pub path: &'a str,
    /// JSON that is posted; `None` only looks.
    pub body: Option<String>,
}

/// An answer whose body is on its way.
pub(crate) struct Answer {
    pub status: u16,
    pub body: Body,
}

/// The bytes of an answer as they come.
pub(crate) struct Body {
    incoming: Incoming,
    connection: AbortHandle,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Body {
    /// More bytes; `None` at the end.
    ///
    /// # Errors
    /// The connection ended before the body did.
    pub async fn next(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        loop {
            let Some(frame) = self.incoming.frame().await.transpose()? else { return Ok(None) };
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    /// All of it, up to so many bytes; what comes beyond them, or after the connection broke, is left out.
    pub async fn first_bytes(mut self, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(Some(bytes)) = self.next().await {
            all.extend_from_slice(&bytes);
            if all.len() >= most {
                all.truncate(most);
                break;
            }
        }
        all
    }
}

impl Asked<'_> {
    /// Connects, asks, and waits for the status.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub async fn send(self, connect: Duration) -> Result<Answer, String> {
        let Self { address, trust, key, path, body } = self;
        let opening = timeout(connect, open(address, trust)).await;
        let stream = opening.map_err(|_| format!("no connection within {} s", connect.as_secs()))??;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // It ends with the body, which holds its handle, or here.
        let connection = AbortOnDrop(Some(tokio::spawn(connection).abort_handle()));
        let mut request = Request::builder()
            .method(if body.is_some() { Method::POST } else { Method::GET })
            .uri(address.path_of(path))
            .header(HOST, address.authority())
            .header(CONNECTION, "close")
            .header(ACCEPT, "application/json, text/event-stream");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let request =
            request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        Ok(Answer { status, body: Body { incoming: answer.into_body(), connection: connection.keep() } })
    }
}

/// What bytes go over, encrypted or not.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

async fn open(address: &Address, trust: Option<&Trust>) -> Result<Box<dyn Connection>, String> {
    let stream = TcpStream::connect((address.host(), address.port())).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    match (address.is_encrypted(), trust) {
        (false, _) => Ok(Box::new(stream)),
        (true, Some(trust)) => Ok(Box::new(trust.encrypt(address.host(), stream).await?)),
        (true, None) => Err("there are no certificates to check its own against".into()),
    }
}

/// A connection that nobody reads from yet.
struct AbortOnDrop(Option<AbortHandle>);

impl AbortOnDrop {
    fn keep(mut self) -> AbortHandle {
        self.0.take().expect("it is taken once")
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.abort();
        }
    }
}
