//! Conditional requests while the file changes: fetch, change it, ask again.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::fixtures::{MODIFIED, distinct, long_ago, split_part, write};
use crate::support::{Program, request};
use crate::wire::{Response, Wire};

const OLD: &[u8] = b"GGUF old content";
const NEW: &[u8] = b"GGUF new CONTENT";
const LONGER: &[u8] = b"GGUF old content and more";

/// A server of one folder with one file, and a connection that is kept.
struct Story {
    program: Program,
    wire: Wire,
    folder: TempDir,
    path: PathBuf,
}

impl Story {
    fn of(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root/a.gguf");
        write(&path, bytes);
        let root = path.parent().unwrap().to_owned();
        let program = Program::start(&[root.as_os_str()], &[]);
        let wire = program.connect();
        Self { program, wire, folder, path }
    }

    fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let response = self.wire.exchange(method, request(method, target, headers)).unwrap();
        assert!(!response.closes(), "{method} {target}");
        response
    }

    fn get(&mut self, headers: &[(&str, &str)]) -> Response {
        self.ask("GET", "/a.gguf", headers)
    }

    /// The entity tag, after checking the content.
    #[track_caller]
    fn etag_of(&mut self, bytes: &[u8]) -> String {
        let response = self.get(&[]);
        assert_answer(&response, 200, bytes);
        response.header("etag").unwrap().to_owned()
    }

    /// Another file with these bytes takes its place, as download tools do it.
    fn replace(&self, bytes: &[u8]) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, bytes).unwrap();
        fs::rename(fresh, &self.path).unwrap();
    }

    fn rewrite(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).unwrap();
    }

    fn touch(&self, time: SystemTime) {
        File::options().write(true).open(&self.path).unwrap().set_modified(time).unwrap();
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Waits until the server has looked at the folder again, which it does now and then.
    #[track_caller]
    fn until(&mut self, target: &str, good: impl Fn(&Response) -> bool) -> Response {
        let started = Instant::now();
        loop {
            let response = self.ask("GET", target, &[]);
            if good(&response) {
                return response;
            }
            assert!(started.elapsed() < Duration::from_secs(5), "{target}: {} {:?}", response.status, response.body);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[track_caller]
fn assert_answer(response: &Response, status: u16, bytes: &[u8]) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    assert_eq!((response.status, text(&response.body)), (status, text(bytes)), "{:?}", response.headers);
    assert!(response.body == bytes);
}

const PART: (&str, &str) = ("Range", "bytes=5-7");

#[test]
fn a_download_is_resumed() {
    let bytes = distinct(100_000);
    let mut story = Story::of(&bytes);
    let first = story.get(&[("Range", "bytes=0-40000")]);
    assert_answer(&first, 206, &bytes[..40_001]);
    let etag = first.header("etag").unwrap().to_owned();
    let rest = story.get(&[("Range", "bytes=40001-"), ("If-Range", &etag)]);
    assert_answer(&rest, 206, &bytes[40_001..]);
    assert_eq!(rest.header("etag"), Some(etag.as_str()));
    assert_eq!(rest.header("content-range"), Some("bytes 40001-99999/100000"));
    // 13.1.5: "if the representation is unchanged, send me the part(s)", by date as well.
    assert_answer(&story.get(&[("Range", "bytes=99990-"), ("If-Range", MODIFIED)]), 206, &bytes[99_990..]);
}

#[test]
fn rewritten_in_place_with_the_same_size() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    story.rewrite(NEW);
    assert_answer(&story.get(&[PART, ("If-Range", &old)]), 200, NEW);
    assert_answer(&story.get(&[("If-None-Match", &old)]), 200, NEW);
    assert_eq!(story.get(&[("If-Match", &old)]).status, 412);
    let new = story.etag_of(NEW);
    assert_ne!(old, new);
    assert_answer(&story.get(&[PART, ("If-Range", &new)]), 206, b"new");
    assert_eq!(story.get(&[("If-None-Match", &new)]).status, 304);
}

#[test]
fn rewritten_twice_within_a_second() {
    let mut story = Story::of(OLD);
    story.rewrite(NEW);
    let first = story.etag_of(NEW);
    // Longer than the tick of the kernel's clock, much shorter than that of Last-Modified.
    std::thread::sleep(Duration::from_millis(50));
    story.rewrite(OLD);
    assert_answer(&story.get(&[PART, ("If-Range", &first)]), 200, OLD);
    assert_answer(&story.get(&[("If-None-Match", &first)]), 200, OLD);
}

#[test]
fn replaced_by_another_file() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    story.replace(NEW);
    assert_answer(&story.get(&[PART, ("If-Range", &old)]), 200, NEW);
    assert_answer(&story.get(&[PART, ("If-None-Match", &old)]), 206, b"new");
    assert_eq!(story.get(&[PART, ("If-Match", &old)]).status, 412);
    let new = story.etag_of(NEW);
    assert_answer(&story.get(&[PART, ("If-Range", &new)]), 206, b"new");
    assert_answer(&story.get(&[PART, ("If-Match", &new)]), 206, b"new");
}

#[test]
fn replaced_by_another_file_with_the_same_size_and_date() {
    // Programs like `cp -p`, `rsync -t` and archivers keep the date, so that only the entity tag tells.
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    let fresh = story.folder.path().join("fresh");
    write(&fresh, NEW);
    fs::rename(fresh, &story.path).unwrap();
    assert_answer(&story.get(&[PART, ("If-Range", &old)]), 200, NEW);
    assert_answer(&story.get(&[("If-None-Match", &old)]), 200, NEW);
    assert_eq!(story.get(&[("If-Match", &old)]).status, 412);
    // 13.1.3: with If-None-Match there, the date is ignored.
    assert_answer(&story.get(&[("If-None-Match", &old), ("If-Modified-Since", MODIFIED)]), 200, NEW);
}

#[test]
fn touched() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    story.touch(long_ago() + Duration::from_secs(1));
    let later = "Thu, 29 Feb 2024 12:34:57 GMT";
    let response = story.get(&[("If-Modified-Since", MODIFIED)]);
    assert_answer(&response, 200, OLD);
    assert_eq!(response.header("last-modified"), Some(later));
    assert_eq!(story.get(&[("If-Unmodified-Since", MODIFIED)]).status, 412);
    assert_answer(&story.get(&[PART, ("If-Range", MODIFIED)]), 200, OLD);
    assert_answer(&story.get(&[PART, ("If-Range", later)]), 206, b"old");
    // Nothing else changed: the tag may have changed or not, but all answers agree.
    let same = story.etag_of(OLD) == old;
    assert_eq!(story.get(&[("If-None-Match", &old)]).status, if same { 304 } else { 200 });
    assert_eq!(story.get(&[("If-Match", &old)]).status, if same { 200 } else { 412 });
    assert_eq!(story.get(&[PART, ("If-Range", &old)]).status, if same { 206 } else { 200 });
}

#[test]
fn touched_back_in_time() {
    let mut story = Story::of(OLD);
    story.rewrite(NEW);
    story.touch(long_ago() - Duration::from_secs(86_400));
    let response = story.get(&[("If-Modified-Since", "Wed, 28 Feb 2024 12:34:55 GMT")]);
    assert_answer(&response, 200, NEW);
    assert_eq!(response.header("last-modified"), Some("Wed, 28 Feb 2024 12:34:56 GMT"));
    assert_eq!(story.get(&[("If-Modified-Since", MODIFIED)]).status, 304);
    // Exactly that date, or none (13.1.5).
    assert_answer(&story.get(&[PART, ("If-Range", MODIFIED)]), 200, NEW);
    assert_answer(&story.get(&[("If-Unmodified-Since", MODIFIED)]), 200, NEW);
}

#[test]
fn touched_into_the_future() {
    // 8.8.2.1: "MUST NOT generate a Last-Modified date that is later than the server's time of message origination".
    let mut story = Story::of(OLD);
    story.touch(SystemTime::now() + Duration::from_secs(86_400));
    let response = story.get(&[]);
    // "MUST replace that value with the message origination date."
    assert!(response.header("last-modified").is_some(), "no Last-Modified: {:?}", response.headers);
    let date = |name| httpdate::parse_http_date(response.header(name).unwrap()).unwrap();
    assert!(date("last-modified") <= date("date"), "{:?}", response.headers);
    // Such a date is no strong validator either (13.1.5), whatever it is.
    let modified = response.header("last-modified").unwrap().to_owned();
    assert_answer(&story.get(&[PART, ("If-Range", &modified)]), 200, OLD);
    let etag = story.etag_of(OLD);
    assert_answer(&story.get(&[PART, ("If-Range", &etag)]), 206, b"old");
}

#[test]
fn touched_just_now() {
    // 8.8.2.2: the file can change again within this second, so the date says too little.
    let mut story = Story::of(OLD);
    let started = Instant::now();
    loop {
        let now = SystemTime::now();
        story.touch(now);
        let response = story.get(&[PART, ("If-Range", &httpdate::fmt_http_date(now))]);
        let date = httpdate::parse_http_date(response.header("date").unwrap()).unwrap();
        // Only if all that was within one second, which it is at once or the next time.
        if httpdate::fmt_http_date(date) == httpdate::fmt_http_date(now) {
            return assert_answer(&response, 200, OLD);
        }
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn truncated() {
    let mut story = Story::of(LONGER);
    let old = story.etag_of(LONGER);
    File::options().write(true).open(&story.path).unwrap().set_len(10).unwrap();
    let shorter = &LONGER[..10];
    assert_answer(&story.get(&[("Range", "bytes=12-"), ("If-Range", &old)]), 200, shorter);
    let response = story.get(&[("Range", "bytes=12-")]);
    assert_eq!((response.status, response.header("content-range")), (416, Some("bytes */10")));
    let response = story.get(&[("Range", "bytes=5-20")]);
    assert_answer(&response, 206, &shorter[5..]);
    assert_eq!(response.header("content-range"), Some("bytes 5-9/10"));
    assert_eq!(story.ask("HEAD", "/a.gguf", &[]).header("content-length"), Some("10"));
    assert_eq!(story.get(&[("If-Match", &old)]).status, 412);
}

#[test]
fn grown() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    File::options().append(true).open(&story.path).unwrap().write_all(&LONGER[OLD.len()..]).unwrap();
    // A download that goes on while the file does, as in a program that reads a log: only without If-Range.
    let response = story.get(&[("Range", "bytes=16-")]);
    assert_answer(&response, 206, &LONGER[16..]);
    assert_eq!(response.header("content-range"), Some("bytes 16-24/25"));
    assert_answer(&story.get(&[("Range", "bytes=16-"), ("If-Range", &old)]), 200, LONGER);
    assert_answer(&story.get(&[("If-None-Match", &old)]), 200, LONGER);
    assert_answer(&story.get(&[("Range", "bytes=-4")]), 206, b"more");
}

#[test]
fn truncated_and_grown_again() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    let file = File::options().write(true).open(&story.path).unwrap();
    file.set_len(8).unwrap();
    file.set_len(OLD.len() as u64).unwrap();
    drop(file);
    let zeroed = b"GGUF old\0\0\0\0\0\0\0\0";
    assert_answer(&story.get(&[("Range", "bytes=12-"), ("If-Range", &old)]), 200, zeroed);
    assert_answer(&story.get(&[("Range", "bytes=7-8")]), 206, b"d\0");
}

#[test]
fn emptied() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    story.rewrite(b"");
    // If-Range is false, so there is no range that could not be satisfied.
    assert_answer(&story.get(&[PART, ("If-Range", &old)]), 200, b"");
    let response = story.get(&[PART]);
    assert_eq!((response.status, response.header("content-range")), (416, Some("bytes */0")));
    let empty = story.etag_of(b"");
    assert_eq!(story.get(&[("If-None-Match", &empty)]).status, 304);
    story.rewrite(NEW);
    assert_answer(&story.get(&[PART, ("If-Range", &empty)]), 200, NEW);
    assert_answer(&story.get(&[PART, ("If-Match", "*")]), 206, b"new");
}

#[test]
fn deleted() {
    let mut story = Story::of(OLD);
    let old = &*story.etag_of(OLD);
    fs::remove_file(&story.path).unwrap();
    // 13.2.1: conditions are ignored where the answer is a failure anyway.
    for headers in [&[][..], &[("If-None-Match", "*")], &[("If-None-Match", old)], &[("If-Match", old)], &[PART]] {
        let response = story.get(headers);
        assert_eq!(response.status, 404, "{headers:?}");
        assert_eq!((response.header("etag"), response.header("last-modified")), (None, None), "{headers:?}");
    }
    assert_eq!(story.ask("HEAD", "/a.gguf", &[("If-Match", "*")]).status, 404);
    story.until("/api/models", |response| response.json()["models"].as_array().unwrap().is_empty());
    assert_eq!(story.get(&[]).status, 404);
}

#[test]
fn deleted_and_restored() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    fs::remove_file(&story.path).unwrap();
    assert_eq!(story.get(&[]).status, 404);
    write(&story.path, OLD);
    let response = story.until("/a.gguf", |response| response.status == 200);
    assert_answer(&response, 200, OLD);
    // The same bytes: the tag may be the same or not, but all answers agree.
    let same = response.header("etag") == Some(&old);
    assert_eq!(story.get(&[("If-None-Match", &old)]).status, if same { 304 } else { 200 });
    assert_eq!(story.get(&[PART, ("If-Range", &old)]).status, if same { 206 } else { 200 });
    assert_answer(&story.get(&[PART, ("If-Range", MODIFIED)]), 206, b"old");
}

#[test]
fn deleted_and_restored_with_other_content() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    fs::remove_file(&story.path).unwrap();
    // The file is replaced before anybody asks: perhaps with the same inode, so that only the date differs.
    story.rewrite(NEW);
    let response = story.until("/a.gguf", |response| response.status == 200);
    assert_answer(&response, 200, NEW);
    assert_answer(&story.get(&[PART, ("If-Range", &old)]), 200, NEW);
    assert_answer(&story.get(&[("If-None-Match", &old)]), 200, NEW);
}

#[test]
fn moved_to_another_name() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    fs::rename(&story.path, story.beside("b.gguf")).unwrap();
    assert_eq!(story.get(&[("If-None-Match", &old)]).status, 404);
    let response = story.until("/b.gguf", |response| response.status == 200);
    assert_answer(&response, 200, OLD);
    let etag = response.header("etag").unwrap().to_owned();
    assert_answer(&story.ask("GET", "/b.gguf", &[PART, ("If-Range", &etag)]), 206, b"old");
}

#[test]
fn two_files_change_places() {
    let mut story = Story::of(OLD);
    write(&story.beside("b.gguf"), NEW);
    story.until("/b.gguf", |response| response.status == 200);
    let old = story.etag_of(OLD);
    let aside = story.folder.path().join("aside");
    fs::rename(&story.path, &aside).unwrap();
    fs::rename(story.beside("b.gguf"), &story.path).unwrap();
    fs::rename(&aside, story.beside("b.gguf")).unwrap();
    assert_answer(&story.get(&[PART, ("If-Range", &old)]), 200, NEW);
    assert_answer(&story.get(&[("If-None-Match", &old), ("If-Modified-Since", MODIFIED)]), 200, NEW);
    assert_answer(&story.ask("GET", "/b.gguf", &[PART]), 206, b"old");
}

#[test]
fn replaced_by_what_is_no_file() {
    let mut story = Story::of(OLD);
    let old = story.etag_of(OLD);
    fs::remove_file(&story.path).unwrap();
    write(&story.folder.path().join("secret.gguf"), b"GGUF secret");
    let mut statuses = Vec::new();
    fs::create_dir(&story.path).unwrap();
    statuses.push(("a folder", story.get(&[("If-None-Match", &old)]).status));
    fs::remove_dir(&story.path).unwrap();
    // Opening one waits for a writer; the server must not.
    assert!(std::process::Command::new("mkfifo").arg(&story.path).status().unwrap().success());
    statuses.push(("a pipe", story.get(&[]).status));
    fs::remove_file(&story.path).unwrap();
    let socket = UnixListener::bind(&story.path).unwrap();
    statuses.push(("a socket", story.get(&[]).status));
    drop(socket);
    fs::remove_file(&story.path).unwrap();
    for target in ["../secret.gguf", "/etc/passwd", "/dev/zero", "a.gguf", "gone.gguf"] {
        symlink(target, &story.path).unwrap();
        statuses.push((target, story.get(&[]).status));
        fs::remove_file(&story.path).unwrap();
    }
    statuses.retain(|(_, status)| *status != 404);
    assert!(statuses.is_empty(), "expected 404, got {statuses:?}");
    write(&story.path, NEW);
    story.until("/a.gguf", |response| response.body == NEW);
}

#[test]
fn a_folder_on_the_way_becomes_a_link_out() {
    let mut story = Story::of(OLD);
    write(&story.beside("sub/b.gguf"), NEW);
    story.until("/sub/b.gguf", |response| response.status == 200);
    write(&story.folder.path().join("secret/b.gguf"), b"GGUF secret");
    fs::rename(story.beside("sub"), story.folder.path().join("moved")).unwrap();
    symlink("../secret", story.beside("sub")).unwrap();
    assert_eq!(story.ask("GET", "/sub/b.gguf", &[]).status, 404);
}

#[test]
fn a_link_inside_is_turned() {
    let mut story = Story::of(OLD);
    write(&story.beside("b.gguf"), NEW);
    let link = story.beside("link.gguf");
    symlink("a.gguf", &link).unwrap();
    let response = story.until("/link.gguf", |response| response.status == 200);
    assert_answer(&response, 200, OLD);
    let etag = response.header("etag").unwrap().to_owned();
    fs::remove_file(&link).unwrap();
    symlink("b.gguf", &link).unwrap();
    let response = story.until("/link.gguf", |response| response.body == NEW);
    assert_ne!(response.header("etag"), Some(etag.as_str()));
    assert_answer(&story.ask("GET", "/link.gguf", &[PART, ("If-Range", &etag)]), 200, NEW);
    assert_answer(&story.ask("GET", "/link.gguf", &[("If-None-Match", &etag)]), 200, NEW);
}

#[test]
fn a_new_file_appears() {
    let mut story = Story::of(OLD);
    assert_eq!(story.ask("GET", "/later/b.gguf", &[]).status, 404);
    write(&story.beside("later/b.gguf"), NEW);
    story.until("/later/b.gguf", |response| response.body == NEW);
    story.until("/api/models", |response| String::from_utf8_lossy(&response.body).contains("/later/b.gguf"));
}

#[test]
fn what_was_a_model_is_none_any_more() {
    let mut story = Story::of(&split_part(0, 1));
    story.replace(b"<html>login</html>");
    assert_answer(&story.get(&[]), 200, b"<html>login</html>");
    let list = story.until("/api/models", |response| response.json()["models"][0]["size_bytes"] == 18).json();
    assert_eq!(list["models"][0]["supported"], false);
    assert!(list["models"][0]["reason"].as_str().unwrap().contains("GGUF"), "{list:#}");
}

#[test]
fn a_part_of_a_model_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let part = |number: u16| folder.path().join(format!("m-0000{}-of-00002.gguf", number + 1));
    (0..2).for_each(|number| write(&part(number), &split_part(number, 2)));
    let program = Program::start(&[folder.path().as_os_str()], &[]);
    let reason = || program.get("/api/models", &[]).json()["models"][0]["reason"].to_string();
    assert!(!reason().contains("m-00002-of-00002.gguf"), "{}", reason());
    fs::remove_file(part(1)).unwrap();
    let started = Instant::now();
    while !reason().contains("m-00002-of-00002.gguf") {
        assert!(started.elapsed() < Duration::from_secs(5), "{}", reason());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(program.get("/m-00002-of-00002.gguf", &[]).status, 404);
    assert_eq!(program.get("/m-00001-of-00002.gguf", &[]).body, split_part(0, 2));
}

/// More than what sockets and the server hold, without taking that much of the disk.
fn sparse(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn replaced_while_it_is_sent() {
    let mut story = Story::of(OLD);
    sparse(&story.path, 64 << 20);
    story.wire.send(request("GET", "/a.gguf", &[]));
    let head = story.wire.read_head().unwrap();
    story.replace(NEW);
    // The other connection has the new file, this one the old one to the end: one response, one representation.
    assert_answer(&story.program.get("/a.gguf", &[]), 200, NEW);
    let body = story.wire.read_bytes(head.content_length().unwrap().unwrap()).unwrap();
    assert!(body.len() == 64 << 20 && body.starts_with(OLD) && body[OLD.len()..].iter().all(|byte| *byte == 0));
    assert_answer(&story.get(&[]), 200, NEW);
}

#[test]
fn truncated_while_it_is_sent() {
    let mut story = Story::of(OLD);
    sparse(&story.path, 64 << 20);
    story.wire.send(request("GET", "/a.gguf", &[]));
    let head = story.wire.read_head().unwrap();
    assert_eq!(head.content_length().unwrap(), Some(64 << 20));
    sparse(&story.path, 1 << 20);
    // Broken off rather than filled up: what comes is shorter than it says, and the connection ends.
    let (body, closed) = story.wire.read_to_close();
    assert!(closed && body.len() < 64 << 20, "{} bytes", body.len());
    let len = story.program.get("/a.gguf", &[]).body.len();
    assert_eq!(len, 1 << 20);
}
