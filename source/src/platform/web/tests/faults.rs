//! Every fault that a host or the way to it can have, met by the real source with a made-up network.

use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::{Function, Object, Reflect};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::wasm_bindgen_test;

use super::fake_host::{FakeHost, quick};
use super::{pattern, read};
use crate::platform::web::http_source::{HttpSource, PROBE_BYTES};
use crate::platform::web::surroundings::{now, sleep};
use crate::{Source, SourceError};

const PROBE: usize = PROBE_BYTES as usize;
/// Reads in these tests are of the bytes after the probe.
const LEN: usize = 10_000;

fn file() -> Vec<u8> {
    pattern(PROBE + LEN)
}

/// The log of the probe and of a read that is cut after 3500 bytes and goes on there.
const CUT: [&str; 3] = ["0-65535", "65536-75535", "69036-75535"];

#[wasm_bindgen_test]
async fn what_came_before_a_fault_is_kept() {
    for (name, fault, kind) in [
        ("breaks", r#"{"after": 3500, "end": "break"}"#, "BrokenOff"),
        ("short", r#"{"after": 3500}"#, "ShortBody"),
        ("stalls", r#"{"after": 3500, "end": "linger"}"#, "Stalled"),
    ] {
        let host = FakeHost::new(name, &file(), &format!("[{{}}, {fault}]"));
        let (options, recorder) = quick();
        let source = HttpSource::open(&host.url, &options).await.expect("opens");
        assert_eq!(read(&source, PROBE, LEN).await.expect(name), file()[PROBE..], "{name}");
        let asked: Vec<_> = host.log().into_iter().filter(|entry| entry != "abort").collect();
        assert_eq!(asked, CUT, "{name}");
        assert_eq!(source.wire_bytes(), Some(file().len() as u64), "{name}: no byte came twice");
        assert_eq!(source.requests(), 3, "{name}");
        let told = [format!("65536 6500 {kind} 2/4"), "65536 5500 GoingOn 2".to_owned()];
        assert_eq!(recorder.lines(), told, "{name}");
    }
}

#[wasm_bindgen_test]
async fn faults_before_the_first_byte_are_met_with_another_attempt() {
    for (name, fault, kind) in [
        ("refuses", r#"{"refuse": true}"#, "NoAnswer"),
        ("silent", r#"{"silent": true}"#, "Stalled"),
        ("fails", r#"{"status": 500}"#, "HostFailed"),
        ("unavailable", r#"{"status": 503, "headers": {"retry-after": "0"}}"#, "HostFailed"),
        ("busy", r#"{"status": 429}"#, "HostBusy"),
        ("times-out", r#"{"status": 408}"#, "HostBusy"),
    ] {
        let host = FakeHost::new(name, &file(), &format!("[{{}}, {fault}, {fault}]"));
        let (options, recorder) = quick();
        let source = HttpSource::open(&host.url, &options).await.expect("opens");
        assert_eq!(read(&source, PROBE, LEN).await.expect(name), file()[PROBE..], "{name}");
        assert_eq!(host.requests(), 4, "{name}: {:?}", host.log());
        let told =
            [format!("65536 10000 {kind} 2/4"), format!("65536 10000 {kind} 3/4"), "65536 9000 GoingOn 3".to_owned()];
        assert_eq!(recorder.lines(), told, "{name}");
    }
}

/// The first contact: the same faults, met with the caution that a wrong address deserves.
#[wasm_bindgen_test]
async fn the_first_contact_survives_faults_too() {
    for (name, fault) in [
        ("first-breaks", r#"{"after": 3500, "end": "break"}"#),
        ("first-short", r#"{"after": 3500}"#),
        ("first-stalls", r#"{"after": 3500, "end": "linger"}"#),
        ("first-refuses", r#"{"refuse": true}"#),
        ("first-silent", r#"{"silent": true}"#),
        ("first-fails", r#"{"status": 503}"#),
    ] {
        let host = FakeHost::new(name, &file(), &format!("[{fault}]"));
        let (options, _) = quick();
        let source = HttpSource::open(&host.url, &options).await.expect(name);
        assert_eq!(read(&source, 0, PROBE).await.expect(name), file()[..PROBE], "{name}");
        assert_eq!((source.requests(), source.wire_bytes()), (2, Some(PROBE_BYTES)), "{name}");
    }
    for (name, fault, attempts, words) in [
        ("never-there", r#"{"refuse": true}"#, 3, "tried 3 times"),
        ("always-fails", r#"{"status": 500}"#, 4, "tried 4 times"),
        ("forbidden", r#"{"status": 403}"#, 1, "refused access"),
        ("login", r#"{"status": 401}"#, 1, "refused access"),
        ("missing", r#"{"status": 404}"#, 1, "does not exist"),
        ("whole-file", r#"{"status": 200}"#, 1, "ignores byte ranges"),
    ] {
        let host = FakeHost::new(name, &file(), &format!("[{}]", [fault; 9].join(",")));
        let error = HttpSource::open(&host.url, &quick().0).await.map(drop).expect_err(name);
        assert_eq!(host.requests(), attempts, "{name}");
        assert!(error.to_string().contains(words) && !error.advice().is_empty(), "{name}: {error}");
    }
}

#[wasm_bindgen_test]
async fn a_file_that_is_not_what_it_was_is_never_asked_again() {
    for (name, fault, words) in [
        ("ignores", r#"{"status": 200}"#, "ignores byte ranges"),
        ("shifted", r#"{"range": "bytes 65537-75535/75536"}"#, "sent bytes 65537-75535, expected 65536-75535"),
        ("unreadable", r#"{"range": "bytes */75536"}"#, "Content-Range"),
        ("grown", r#"{"range": "bytes 65536-75535/99999"}"#, "length in bytes was 75536, is now 99999"),
        ("replaced", r#"{"etag": "\"two\""}"#, "its ETag was \"one\", is now \"two\""),
        ("too-long", r#"{"end": "more"}"#, "has 10001 bytes, expected 10000"),
        ("outside", r#"{"status": 416}"#, "lie outside"),
    ] {
        let host = FakeHost::new(name, &file(), &format!("[{{}}, {fault}]"));
        let (options, recorder) = quick();
        let source = HttpSource::open(&host.url, &options).await.expect("opens");
        let error = read(&source, PROBE, LEN).await.expect_err(name);
        assert!(error.to_string().contains(words) && !error.advice().is_empty(), "{name}: {error}");
        assert_eq!((host.requests(), recorder.lines()), (2, Vec::new()), "{name}");
    }
    // The change may also show only after a fault, in the answer that was to bring the rest.
    let host =
        FakeHost::new("replaced-later", &file(), r#"[{}, {"after": 3500, "end": "break"}, {"etag": "\"two\""}]"#);
    let source = HttpSource::open(&host.url, &quick().0).await.expect("opens");
    let error = read(&source, PROBE, LEN).await.expect_err("two files");
    assert!(matches!(error, SourceError::Changed { what: "its ETag", .. }), "{error}");
}

#[wasm_bindgen_test]
async fn a_signed_address_that_expired_is_asked_for_anew_a_few_times() {
    let refused = r#"{"status": 403}"#;
    let host = FakeHost::new("expired-once", &file(), &format!("[{{}}, {refused}]"));
    let source = HttpSource::open(&host.url, &quick().0).await.expect("opens");
    assert_eq!(read(&source, PROBE, LEN).await.expect("the second attempt"), file()[PROBE..]);

    let host = FakeHost::new("expired", &file(), &format!("[{{}}, {refused}, {refused}, {refused}, {refused}]"));
    let source = HttpSource::open(&host.url, &quick().0).await.expect("opens");
    let error = read(&source, PROBE, LEN).await.expect_err("refused");
    assert_eq!(host.requests(), 1 + 3);
    assert!(error.to_string().contains("HTTP 403") && error.advice().contains("expired"), "{error}");
    assert_eq!(read(&source, PROBE + 5, 5).await.expect("when it is good again").len(), 5);
}

#[wasm_bindgen_test]
async fn a_host_that_is_gone_for_good_ends_the_read() {
    let refused = [r#"{"refuse": true}"#; 9].join(",");
    let host = FakeHost::new("gone", &file(), &format!("[{{}}, {{\"after\": 3500, \"end\": \"break\"}}, {refused}]"));
    let (options, recorder) = quick();
    let source = HttpSource::open(&host.url, &options).await.expect("opens");
    let error = read(&source, PROBE, LEN).await.expect_err("gone");
    // The first attempt brought bytes; the count began after them, with its own end.
    assert_eq!(host.requests(), 1 + 4);
    assert!(matches!(error, SourceError::GaveUp { attempts: 4, was_read: true, .. }), "{error}");
    assert_eq!(recorder.lines(), ["65536 6500 BrokenOff 2/4", "65536 6500 NoAnswer 3/4", "65536 6500 NoAnswer 4/4"]);
}

#[wasm_bindgen_test]
async fn a_wait_that_the_host_asks_for_is_kept() {
    let host =
        FakeHost::new("asks", &file(), r#"[{}, {"status": 503, "headers": {"retry-after": "1"}}, {"status": 429}]"#);
    let source = HttpSource::open(&host.url, &quick().0).await.expect("opens");
    let before = now();
    read(&source, PROBE, LEN).await.expect("after the wait");
    let took = now().saturating_sub(before);
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");

    let host = FakeHost::new("asks-much", &file(), r#"[{}, {"status": 503, "headers": {"retry-after": "3600"}}]"#);
    let source = HttpSource::open(&host.url, &quick().0).await.expect("opens");
    let error = read(&source, PROBE, LEN).await.expect_err("an hour");
    assert!(matches!(error, SourceError::WaitTooLong { asked_seconds: 3600, .. }), "{error}");
}

#[wasm_bindgen_test]
async fn slow_is_not_silent() {
    // Ten pieces, one every 40 ms: longer in all than the 150 ms after which silence is a fault.
    let host = FakeHost::new("drips", &file(), r#"[{}, {"drip": 40}]"#);
    let (options, recorder) = quick();
    let source = HttpSource::open(&host.url, &options).await.expect("opens");
    assert_eq!(read(&source, PROBE, LEN).await.expect("in the end"), file()[PROBE..]);
    assert_eq!((host.requests(), recorder.lines()), (2, Vec::new()));
}

#[wasm_bindgen_test]
async fn a_read_that_waits_its_turn_is_not_a_stall() {
    // The first read drips for 400 ms; the second gets nothing until it is over, and 150 ms more.
    let host = FakeHost::new("in-turn", &file(), r#"[{}, {"drip": 80, "piece": 1000}, {"silent": true}]"#);
    let (options, recorder) = quick();
    let source = HttpSource::open(&host.url, &options).await.expect("opens");
    let (first, second) = (read(&source, PROBE, 5000), read(&source, PROBE + 5000, 5000));
    let (first, second) = futures_util::future::join(first, second).await;
    assert_eq!([first.expect("drips"), second.expect("asked again")].concat(), file()[PROBE..]);
    assert_eq!(recorder.lines(), ["70536 5000 Stalled 2/4", "70536 4000 GoingOn 2"]);
    assert!(host.log().contains(&"abort".to_owned()), "{:?}", host.log());
}

#[wasm_bindgen_test]
async fn a_complete_body_is_good_however_the_connection_ends() {
    let host = FakeHost::new("lingers", &file(), r#"[{}, {"end": "linger"}, {"end": "break"}]"#);
    let (options, recorder) = quick();
    let source = HttpSource::open(&host.url, &options).await.expect("opens");
    for _ in 0..2 {
        assert_eq!(read(&source, PROBE, LEN).await.expect("complete"), file()[PROBE..]);
    }
    assert_eq!((host.requests(), recorder.lines()), (3, Vec::new()));
}

/// The read is dropped in the middle of a body, before an answer, and while waiting for the next attempt.
#[wasm_bindgen_test]
async fn a_dropped_read_leaves_nothing_running() {
    for (name, fault, requests, aborts) in [
        ("drop-body", r#"{"after": 3500, "end": "linger"}"#, 2, 1),
        ("drop-head", r#"{"silent": true}"#, 2, 1),
        ("drop-wait", r#"{"status": 503, "headers": {"retry-after": "1"}}"#, 2, 1),
    ] {
        let host = FakeHost::new(name, &file(), &format!("[{{}}, {fault}]"));
        let source = HttpSource::open(&host.url, &quick().0).await.expect("opens");
        let before = host.log().iter().filter(|entry| *entry == "abort").count();
        let reading = source.read(PROBE_BYTES, LEN as u64);
        let both = select(reading, sleep(Duration::from_millis(60))).await;
        assert!(matches!(both, Either::Right(_)), "{name}: the read should still be under way");
        drop(both);
        sleep(Duration::from_millis(1200)).await;
        assert_eq!(host.requests(), requests, "{name}");
        assert_eq!(host.log().iter().filter(|entry| *entry == "abort").count() - before, aborts, "{name}");
    }
}

/// Makes the browser believe that there is a network, or none.
fn pretend_online(online: bool) {
    let global = js_sys::global();
    let navigator: Object = Reflect::get(&global, &"navigator".into()).expect("a navigator").into();
    let getter = Function::new_no_args(if online { "return true;" } else { "return false;" });
    let property = Object::new();
    for (key, value) in [("get", getter.into()), ("configurable", JsValue::TRUE)] {
        Reflect::set(&property, &key.into(), &value).expect("a plain object");
    }
    Object::define_property(&navigator, &"onLine".into(), &property);
    let event = if online { "online" } else { "offline" };
    Function::new_with_args("name", "globalThis.dispatchEvent(new Event(name));")
        .call1(&JsValue::NULL, &event.into())
        .expect("an event can be sent");
}

#[wasm_bindgen_test]
async fn without_a_network_it_waits_and_counts_nothing() {
    // More faults than attempts, had they been made.
    let host = FakeHost::new("offline", &file(), r#"[{}, {"refuse": true}, {"refuse": true}, {"refuse": true}]"#);
    let (options, recorder) = quick();
    let source = HttpSource::open(&host.url, &options).await.expect("opens");
    pretend_online(false);
    let waiting = select(source.read(PROBE_BYTES, LEN as u64), sleep(Duration::from_millis(500)));
    let Either::Right(((), reading)) = waiting.await else { panic!("there is no network") };
    assert_eq!((host.requests(), recorder.lines()), (2, vec!["65536 10000 Offline".to_owned()]));
    pretend_online(true);
    let before = now();
    let bytes = reading.await.expect("the network is back");
    assert!(now().saturating_sub(before) < Duration::from_secs(1), "it waits for the event, not for the clock");
    assert_eq!(bytes.to_vec(0..LEN), file()[PROBE..]);
    assert_eq!(recorder.lines()[1..], ["65536 10000 NoAnswer 2/4", "65536 10000 NoAnswer 3/4", "65536 9000 GoingOn 3"]);
}
