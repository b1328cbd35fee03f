//! A server over real sockets: who is cut off and who is not, and how it stops.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread::spawn;
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::{Request, Response};
use serve_kit::Responder;
use serve_kit::activity::{Activity, Answering};
use serve_kit::limits::Limits;
use serve_kit::server::{Running, Stopped, Tasks, address_of, listen, start};
use tokio::time::sleep;

const STALL: Duration = Duration::from_millis(200);

/// Computes for three times as long as a client may take nothing, and then sends without an end.
#[derive(Default)]
struct Endless {
    ended: Arc<AtomicBool>,
    /// Whether answers are ended rather than cut.
    ends_answers: bool,
}

struct EndlessBody {
    answering: Answering,
    ended: Arc<AtomicBool>,
}

impl Responder for Endless {
    type Body = EndlessBody;

    const ANSWERS_HALF_CLOSED: bool = true;

    async fn answer(&self, _request: Request<Incoming>, activity: &Arc<Activity>) -> Response<EndlessBody> {
        let mut answering = activity.answering();
        answering.set_computing(true);
        sleep(3 * STALL).await;
        answering.set_computing(false);
        Response::new(EndlessBody { answering, ended: Arc::clone(&self.ended) })
    }

    fn end_answers(&self) -> bool {
        self.ended.store(self.ends_answers, Ordering::SeqCst);
        self.ends_answers
    }
}

impl Body for EndlessBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.answering.set_computing(false);
        if this.ended.load(Ordering::SeqCst) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 4096])))))
    }
}

async fn started(limits: Limits, responder: Endless) -> (SocketAddr, Running) {
    let listeners = listen(Some([127, 0, 0, 1].into()), 0).await.unwrap();
    let address = address_of(&listeners[0]).unwrap();
    (address, start(listeners, None, limits, Tasks::default(), Arc::new(responder)))
}

fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_cut_off_and_who_waits_is_not() {
    let limits = Limits { write_stall: STALL, drain: Duration::ZERO, ..Limits::default() };
    let (address, running) = started(limits, Endless::default()).await;
    let begun = Instant::now();
    let deaf = spawn(move || {
        let mut stream = ask(address);
        // Nothing is read before the server has had enough, which is when the system buffers have taken what they can.
        std::thread::sleep(10 * STALL);
        let mut all = Vec::new();
        let outcome = stream.read_to_end(&mut all);
        (outcome.is_ok(), all.len())
    });
    let heard = spawn(move || {
        let mut stream = ask(address);
        let (mut buffer, begun) = (vec![0; 1 << 16], Instant::now());
        while begun.elapsed() < 10 * STALL {
            assert!(stream.read(&mut buffer).unwrap() > 0, "who takes something is cut off");
        }
        begun.elapsed()
    });
    heard.join().unwrap();
    let (_, bytes) = deaf.join().unwrap();
    assert!(bytes > 0, "it waited for three times the limit, and was answered");
    assert!(begun.elapsed() < Duration::from_secs(20));
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_ended_where_that_is_possible_and_cut_where_it_is_not() {
    for (ends_answers, stopped) in [(true, Stopped::Ended), (false, Stopped::Cut)] {
        let limits = Limits { drain: STALL, ..Limits::default() };
        let (address, running) = started(limits, Endless { ends_answers, ..Endless::default() }).await;
        let client = spawn(move || {
            let mut stream = ask(address);
            let mut buffer = vec![0; 1 << 16];
            let mut last = Vec::new();
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return (true, last),
                    Ok(bytes) => last = buffer[..bytes].to_vec(),
                    Err(_) => return (false, last),
                }
            }
        });
        sleep(4 * STALL).await;
        assert_eq!(running.shutdown().await, stopped);
        let (_, last) = client.join().unwrap();
        // The last chunk of a body that is whole is an empty one.
        assert_eq!(last.ends_with(b"0\r\n\r\n"), ends_answers);
    }
}
