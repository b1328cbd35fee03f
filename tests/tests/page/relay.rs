//! Stands between the page and a gguf-serve and does to its answers what lines do: holds them back, and flips bits. It
//! keeps a record of what passed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Passes everything on, from threads of its own, until it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: SocketAddr,
    line: Mutex<Line>,
    changed: Condvar,
    stopping: AtomicBool,
}

/// What the line does, and did.
#[derive(Default)]
struct Line {
    /// Parts of files that still pass; those after them wait.
    let_through: Option<usize>,
    /// A byte of the file whose lowest bit arrives flipped, and how often.
    flip: Option<(u64, u32)>,
    passed: Vec<(u64, u64)>,
}

impl Relay {
    pub fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (line, changed, stopping) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        let shared = Arc::new(Shared { upstream, line, changed, stopping });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// `url`, a gguf-serve's, as it is behind this relay.
    pub fn url(&self, url: &str) -> String {
        url.replace(&self.shared.upstream.to_string(), &self.address.to_string())
    }

    /// Lets only so many more parts of files pass; `None` lets all pass, including those that wait.
    pub fn let_through(&self, parts: Option<usize>) {
        self.shared.lock().let_through = parts;
        self.shared.changed.notify_all();
    }

    /// Flips the lowest bit of byte `at` of the file the next `times` times that it passes.
    pub fn flip(&self, at: u64, times: u32) {
        self.shared.lock().flip = Some((at, times));
    }

    /// First and last byte of every part of a file that passed whole since the last call.
    pub fn take_passed(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.shared.lock().passed)
    }

    /// How many parts that would be.
    pub fn passed(&self) -> usize {
        self.shared.lock().passed.len()
    }
}

/// Bytes of parts of a file.
pub fn sum_bytes(parts: &[(u64, u64)]) -> u64 {
    parts.iter().map(|(first, last)| last - first + 1).sum()
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
        // Wakes the acceptor, which sees the flag. If that fails it has ended already.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more part may pass; `false` when everything ends instead.
    fn may_pass(&self) -> bool {
        let mut line = self.lock();
        loop {
            if self.stopping.load(Ordering::SeqCst) {
                return false;
            }
            match &mut line.let_through {
                None => return true,
                Some(0) => line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    *left -= 1;
                    return true;
                }
            }
        }
    }

    /// Which byte of a part that passes now is to be damaged.
    fn damage(&self, first: u64, last: u64) -> Option<u64> {
        let mut line = self.lock();
        let (at, times) = line.flip.as_mut().filter(|(at, times)| (first..=last).contains(at) && *times > 0)?;
        *times -= 1;
        Some(*at - first)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // A browser that goes away in the middle of an answer is what this is for.
        std::thread::spawn(move || drop(pass(&stream, &shared)));
    }
}

fn pass(guest: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    guest.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = read_head(&mut BufReader::new(guest))?;
    // Connections are opened for nothing, too.
    if request.is_empty() {
        return Ok(());
    }
    let mut upstream = TcpStream::connect(shared.upstream)?;
    upstream.write_all(one_answer_only(&request).as_bytes())?;
    let mut answer = BufReader::new(&upstream);
    let head = read_head(&mut answer)?;
    let part = head.iter().find_map(|line| content_range(line));
    if part.is_some() && !shared.may_pass() {
        return Ok(());
    }
    let mut guest = guest;
    guest.write_all(one_answer_only(&head).as_bytes())?;
    let mut damage = part.and_then(|(first, last)| shared.damage(first, last));
    let mut piece = vec![0; 64 << 10];
    loop {
        let len = answer.read(&mut piece)?;
        if len == 0 {
            break;
        }
        if let Some(at) = damage.as_mut() {
            if let Some(byte) = piece[..len].get_mut(*at as usize) {
                *byte ^= 1;
                damage = None;
            } else {
                *at -= len as u64;
            }
        }
        guest.write_all(&piece[..len])?;
    }
    guest.flush()?;
    shared.lock().passed.extend(part);
    Ok(())
}

/// The lines of a request's or an answer's head; none when the connection was closed.
fn read_head(stream: &mut impl BufRead) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

/// A head as it is, but that the connection ends with this answer.
fn one_answer_only(head: &[String]) -> String {
    let lines = head.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    format!("{lines}Connection: close\r\n\r\n")
}

/// `Content-Range: bytes 0-99/1234` → 0 and 99.
fn content_range(line: &str) -> Option<(u64, u64)> {
    let (name, value) = line.split_once(':')?;
    if !name.eq_ignore_ascii_case("content-range") {
        return None;
    }
    let (first, last) = value.trim().strip_prefix("bytes ")?.split_once('/')?.0.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
