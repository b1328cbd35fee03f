//! A file host in a few lines, for what gguf-serve rightly cannot do: ignore ranges, forget CORS, be slow, and fail in
//! every way a host can. It keeps a record of every request and counts the body bytes that it sends.

mod answer;
mod fault;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use answer::Request;
pub use fault::{Fault, When};

use fault::Schedule;

/// Serves one file at `/model.gguf` from threads of its own until it is dropped.
#[derive(Debug)]
pub struct TinyHost {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    file: Vec<u8>,
    behaviour: Mutex<Behaviour>,
    schedule: Mutex<Schedule>,
    requests: Mutex<Vec<Request>>,
    /// Body bytes that were handed to the system for sending.
    sent_bytes: AtomicU64,
    /// How long it is to stay away, while it is down.
    down: Mutex<Option<Down>>,
    changed: Condvar,
    stopping: AtomicBool,
}

/// An outage: of this length from when nobody listens any more, or until someone brings the host up.
#[derive(Clone, Copy, Debug)]
struct Down {
    time: Option<Duration>,
}

/// How the host treats its guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Answers ranges with 206; otherwise every answer is 200 with the whole file.
    pub ranges: bool,
    /// Lets pages of other origins read answers and their range headers.
    pub cors: bool,
    /// Delay before each answer.
    pub delay: Duration,
}

impl Behaviour {
    /// The behaviour of a good file host for web pages.
    pub const GOOD: Self = Self { ranges: true, cors: true, delay: Duration::ZERO };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TinyHost {
    pub fn start(file: Vec<u8>, behaviour: Behaviour) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            address,
            file,
            behaviour: Mutex::new(behaviour),
            schedule: Mutex::default(),
            requests: Mutex::default(),
            sent_bytes: AtomicU64::new(0),
            down: Mutex::new(None),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || keep_up(listener, &shared)
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    pub fn url(&self) -> String {
        format!("http://{}/model.gguf", self.address)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// One request will meet `fault`. Faults come in the order in which they were added.
    pub fn fail(&self, when: When, fault: Fault) {
        self.fail_times(when, fault, 1);
    }

    /// So many requests in a row will meet `fault`.
    pub fn fail_times(&self, when: When, fault: Fault, times: usize) {
        lock(&self.shared.schedule).add(when, fault, times);
    }

    /// Takes back all faults that no request has met.
    pub fn be_good(&self) {
        lock(&self.shared.schedule).clear();
    }

    /// Faults that no request has met yet.
    pub fn faults_left(&self) -> usize {
        lock(&self.shared.schedule).left()
    }

    /// Takes the host down until [`TinyHost::bring_up`].
    pub fn take_down(&self) {
        self.shared.go_down(None);
    }

    /// Ends an outage.
    pub fn bring_up(&self) {
        *lock(&self.shared.down) = None;
        self.shared.changed.notify_all();
    }

    /// Body bytes sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(Ordering::SeqCst)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }
}

impl Drop for TinyHost {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.bring_up();
        self.shared.wake_acceptor();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn is_down(&self) -> bool {
        lock(&self.down).is_some()
    }

    fn go_down(&self, time: Option<Duration>) {
        *lock(&self.down) = Some(Down { time });
        self.wake_acceptor();
    }

    /// So that it looks at the flags. If this fails it has ended already.
    fn wake_acceptor(&self) {
        let _ = TcpStream::connect(self.address);
    }

    fn wait_until_up(&self) {
        let mut down = lock(&self.down);
        let begin = Instant::now();
        while let Some(Down { time }) = *down {
            let left = time.map_or(Duration::from_secs(3600), |time| time.saturating_sub(begin.elapsed()));
            if left.is_zero() {
                *down = None;
                return;
            }
            (down, _) = self.changed.wait_timeout(down, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Listens, except while the host is down: then connections to its port are refused.
fn keep_up(listener: TcpListener, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    while !shared.is_stopping() {
        let Some(listening) = listener.take().or_else(|| TcpListener::bind(shared.address).ok()) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        accept(&listening, shared);
        drop(listening);
        shared.wait_until_up();
    }
}

/// Accepts connections until the host goes down or ends.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_stopping() || shared.is_down() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // A browser that goes away in the middle of an answer is no fault of ours.
        std::thread::spawn(move || drop(answer::answer(&stream, &shared)));
    }
}

/// A host that fails otherwise than it was told to would prove nothing.
#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Head and body of the answer to a request for these bytes, and whether the connection was closed in order.
    fn get(host: &TinyHost, first: u64, last: u64) -> (String, Vec<u8>, bool) {
        let mut stream = TcpStream::connect(host.address).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a time");
        write!(stream, "GET /model.gguf HTTP/1.1\r\nHost: h\r\nRange: bytes={first}-{last}\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        let in_order = stream.read_to_end(&mut answer).is_ok();
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
        let body = answer.split_off(head_end);
        (String::from_utf8(answer).expect("a head"), body, in_order)
    }

    #[test]
    fn every_fault_is_what_it_says_and_strikes_where_it_should() {
        let file: Vec<u8> = (0..=255).collect();
        let host = TinyHost::start(file.clone(), Behaviour::GOOD).expect("host");
        let at_byte = When::Byte(104);
        for (fault, status, body_bytes, in_order) in [
            (Fault::Reset, "206", 4, false),
            (Fault::Closed, "206", 4, true),
            (Fault::Short, "206", 4, true),
            (Fault::Stall, "206", 4, false),
            (Fault::Long, "206", 11, true),
            (Fault::WrongContentRange, "206", 10, true),
            (Fault::OtherLength, "206", 10, true),
            (Fault::OtherEtag, "206", 10, true),
            (Fault::Status(503, Some(7)), "503", 0, true),
            (Fault::Drip(3, Duration::from_millis(1)), "206", 10, true),
        ] {
            host.fail(at_byte, fault);
            assert_eq!(get(&host, 0, 9).1, file[..10], "{fault:?}: another range meets no fault");
            let before = host.sent_bytes();
            let (head, body, closed) = get(&host, 100, 109);
            assert_eq!((&head[9..12], body.len(), closed), (status, body_bytes, in_order), "{fault:?}: {head}");
            assert!(fault == Fault::Long || body == file[100..100 + body_bytes], "{fault:?}");
            assert_eq!(host.sent_bytes() - before, body_bytes as u64, "{fault:?}");
            assert_eq!((get(&host, 100, 109).1, host.faults_left()), (file[100..110].to_vec(), 0), "{fault:?}: once");
        }
        host.fail(at_byte, Fault::FlippedBit);
        let (_, body, _) = get(&host, 100, 109);
        let others: Vec<usize> = (0..10).filter(|&at| body[at] != file[100 + at]).collect();
        assert_eq!((others, body[4]), (vec![4], file[104] ^ 1));
    }

    #[test]
    fn a_host_that_is_down_refuses_and_comes_back() {
        let host = TinyHost::start(vec![7; 20], Behaviour::GOOD).expect("host");
        host.fail(When::NEXT, Fault::Down(Some(Duration::from_millis(300))));
        assert_eq!(get(&host, 0, 9).0, "", "no answer");
        let begin = Instant::now();
        let refused = || TcpStream::connect(host.address).is_err();
        for (wanted, otherwise) in [(true, "it still listens"), (false, "it does not come back")] {
            while refused() != wanted {
                assert!(begin.elapsed() < Duration::from_secs(10), "{otherwise}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert_eq!(get(&host, 0, 9).1, [7; 10]);
    }
}
