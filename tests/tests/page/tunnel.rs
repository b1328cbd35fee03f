//! The page with a node in the worker's place: `pylon api` on this machine, by way of its tunnel.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use browser_driver::{Browser, PageState};
use serde_json::json;

use crate::event_log;
use crate::session::{Session, assert_answer, case, first_words, follow, launch_options, load_and_answer};

/// A node with the nano model, until it is dropped.
struct Node {
    process: Child,
    address: SocketAddr,
}

impl Node {
    fn start(port: u16) -> Self {
        Self::start_with(port, Command::new(Self::program()).arg("api"))
    }

    /// A node that is reached over TLS, with a certificate that it makes and keeps in `folder`.
    fn start_with_tls(folder: &Path) -> Self {
        let mut command = Command::new(Self::program());
        Self::start_with(0, command.env("XDG_DATA_HOME", folder).args(["api", "--tls"]))
    }

    fn program() -> PathBuf {
        let test = std::env::current_exe().expect("this program has a path");
        let pylon = test.parent().and_then(Path::parent).expect("target/debug/deps").join("pylon");
        let advice = "cargo test --workspace --test command_line builds it";
        assert!(pylon.is_file(), "{} is not there: {advice}", pylon.display());
        pylon
    }

    fn start_with(port: u16, command: &mut Command) -> Self {
        let model = gptoss_tests::nano_model();
        command.args(["--backend", "cpu", "--max-kv", "4000", "--bind"]).arg(format!("127.0.0.1:{port}"));
        command.arg("--gguf").arg(model).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("pylon starts");
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.split_once("://")?.1.split_once('/')?.0;
            address.parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: address.expect("it says where it listens") }
    }

    /// What `/health` says.
    fn health(&self) -> String {
        let mut stream = TcpStream::connect(self.address).expect("the node is there");
        let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whoever has ended already needs no end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A slow line to a node, which can be cut.
struct Line {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: Mutex<Vec<TcpStream>>,
    accepted: AtomicU32,
    /// What the page sends goes nowhere.
    is_deaf: AtomicBool,
}

impl Line {
    fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::<Shared>::default();
        let passing = Arc::clone(&shared);
        std::thread::spawn(move || {
            for guest in listener.incoming().map_while(Result::ok) {
                // A node that is gone is a connection that breaks.
                let Ok(host) = TcpStream::connect(node) else { continue };
                passing.accepted.fetch_add(1, Ordering::SeqCst);
                let (mut to_host, mut to_guest) = (pair(&host), pair(&guest));
                passing.connections.lock().unwrap_or_else(PoisonError::into_inner).extend([guest, host]);
                let hearing = Arc::clone(&passing);
                std::thread::spawn(move || {
                    let mut piece = [0; 1024];
                    while let Ok(length @ 1..) = to_guest.0.read(&mut piece) {
                        let is_lost = hearing.is_deaf.load(Ordering::SeqCst);
                        if !is_lost && to_host.1.write_all(&piece[..length]).is_err() {
                            return;
                        }
                    }
                });
                std::thread::spawn(move || {
                    let mut piece = [0; 1024];
                    while let Ok(length @ 1..) = to_host.0.read(&mut piece) {
                        std::thread::sleep(Duration::from_millis(4));
                        if to_guest.1.write_all(&piece[..length]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, shared }
    }

    /// Ends all connections, without a word.
    fn cut(&self) {
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in connections.drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }

    fn set_deaf(&self, is_deaf: bool) {
        self.shared.is_deaf.store(is_deaf, Ordering::SeqCst);
    }

    fn accepted(&self) -> u32 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

/// A stream to read from and one to write to.
fn pair(stream: &TcpStream) -> (TcpStream, TcpStream) {
    let copy = || stream.try_clone().expect("a handle of it");
    (copy(), copy())
}

async fn eval(session: &Session, script: &str) -> serde_json::Value {
    session.browser.eval(script, vec![]).await.expect("script")
}

async fn wait_for(session: &Session, what: &str, holds: impl Fn() -> bool) {
    let look = async |_: &Browser| Ok(if holds() { Ok(()) } else { Err("not so far".to_owned()) });
    session.browser.wait_for(what, Duration::from_secs(30), look).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_in_the_workers_place() {
    let session = Session::start().await;
    let node = Node::start(0);
    let line = Line::to(node.address);
    let (add, capital) = (case("add"), case("capitals"));
    let page = session.open(&format!("gguf=pylon://{}&{}", line.address, add.query())).await;
    page.press("#use-node").await.expect("USE PYLON can be pressed");
    assert_answer(&follow(&page, &[PageState::Done]).await, &add);
    let stages = page.snapshot().await.expect("snapshot").stages;
    assert!(stages.iter().all(|stage| stage.status != "running"), "{stages:?}");
    assert!(node.health().contains("\"tunnel_sessions\":1"));
    // The node computes on the CPU: its file is mapped, and nothing of it waits to be fetched.
    let core = eval(&session, "return document.querySelector('#core-canvas').ariaLabel;").await;
    assert!(core.as_str().is_some_and(|core| core.contains("48 of 48 experts are in the mapped file")), "{core}");
    session.browser.click("#attention-on").await.expect("a head can be watched");
    let look = async |browser: &Browser| {
        let line = browser.text("#attention-line").await?;
        Ok(if line == "layer 0 head 0: the CPU engine does not tell this" { Ok(()) } else { Err(line) })
    };
    session.browser.wait_for("the attention", Duration::from_secs(30), look).await.expect("it says what comes of it");
    session.screenshot("tunnel").await;
    let device = eval(&session, "return document.querySelector('#chip-device').textContent;").await;
    assert_eq!(device, json!(format!("pylon://{} · CPU", line.address)));

    // The line breaks in the middle of an answer, of which nothing is lost.
    page.set_prompt(&capital.user).await.expect("a question");
    page.ask().await.expect("ASK can be pressed");
    first_words(&session, &page).await;
    let before = line.accepted();
    line.cut();
    assert_answer(&follow(&page, &[PageState::Done]).await, &capital);
    assert!(line.accepted() > before, "it came back over another connection");
    let missing = eval(&session, "return document.body.innerText.includes('events are missing');").await;
    assert_eq!(missing, json!(false));

    // What was asked into a line that was dead already is asked again over the next one.
    line.set_deaf(true);
    page.set_prompt(&add.user).await.expect("a question");
    page.ask().await.expect("ASK can be pressed");
    follow(&page, &[PageState::Generating]).await;
    line.cut();
    line.set_deaf(false);
    assert_answer(&follow(&page, &[PageState::Done]).await, &add);

    // A file in place of the node: the worker has the model, and the node is left.
    page.set_gguf_url(&session.model_url("gpt-oss-nano.gguf").await).await.expect("an address");
    page.set_prompt(&capital.user).await.expect("a question");
    assert_answer(&load_and_answer(&page).await, &capital);
    wait_for(&session, "the node is left", || node.health().contains("\"tunnel_sessions\":0")).await;

    // And back; a node that was started anew knows nothing of this page, and the page says so.
    page.set_gguf_url(&format!("pylon://{}", node.address)).await.expect("an address");
    page.set_prompt(&add.user).await.expect("a question");
    assert_answer(&load_and_answer(&page).await, &add);
    let port = node.address.port();
    drop(node);
    let node = Node::start(port);
    let failed = follow(&page, &[PageState::Error]).await;
    assert!(failed.error.contains("does not know this session"), "{failed:?}");
    assert!(failed.error_advice.contains("Load again"), "{failed:?}");
    page.set_prompt(&capital.user).await.expect("a question");
    assert_answer(&load_and_answer(&page).await, &capital);
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_tls_on_this_machine_answers_a_page_without() {
    let session = Session::start().await.with_own_browser(&launch_options()).await;
    // Nobody here can tell the browser to trust the certificate that the node makes.
    let any = json!({ "ignore": true });
    session.browser.devtools("Security.setIgnoreCertificateErrors", any).await.expect("certificates are not looked at");
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start_with_tls(folder.path());
    let add = case("add");
    let page = session.open(&format!("gguf=pylons://{}&{}", node.address, add.query())).await;
    assert_answer(&load_and_answer(&page).await, &add);
    let device = eval(&session, "return document.querySelector('#chip-device').textContent;").await;
    assert_eq!(device, json!(format!("pylons://{} · CPU", node.address)));
}

/// Another node than the one that is meant must not get a question, and nobody a key.
#[tokio::test(flavor = "multi_thread")]
async fn use_pylon_refuses_what_is_no_address_of_a_node() {
    let session = Session::start().await;
    let page = session.open("gguf=pylon://gpubox.example").await;
    let lead = eval(&session, "return document.querySelector('#source').innerText;").await;
    assert!(
        lead.as_str().is_some_and(|lead| lead.contains("The node at pylon://gpubox.example:9899 computes")),
        "{lead}"
    );
    session.screenshot("tunnel-idle").await;
    page.set_gguf_url("pylon://s3cretKEY@gpubox.example:9899/v1").await.expect("an address");
    page.press("#use-node").await.expect("USE PYLON can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    let refused = "The address \"pylon://…@gpubox.example:9899/v1\" is none of a node: expected pylon://host:port";
    assert!(failed.error.starts_with(refused), "{failed:?}");
    let kept = eval(&session, "return document.querySelector('#gguf').value;").await;
    assert_eq!(kept, json!("pylon://s3cretKEY@gpubox.example:9899/v1"), "to be corrected");
    let said = eval(&session, "return document.body.innerText.includes('s3cret');").await;
    assert_eq!(said, json!(false));
    let recorded = event_log::recording(&session.browser).await.to_json_lines().expect("it is JSON");
    assert!(recorded.contains("none of a node") && !recorded.contains("s3cret"), "{recorded}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_the_page_says_how_to_start_one() {
    let session = Session::start().await;
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port").local_addr().expect("an address");
    let page = session.open(&format!("gguf=pylon://{closed}&{}", case("add").query())).await;
    page.load().await.expect("LOAD MODEL can be pressed");
    let failed = follow(&page, &[PageState::Error]).await;
    assert!(failed.error.contains("no pylon node answers") && failed.error.contains(&closed.to_string()), "{failed:?}");
    assert!(failed.error_advice.contains("`pylon api`"), "{failed:?}");
    // What a node cannot do is refused at the input.
    page.press("#download").await.expect("Download only can be pressed");
    let look = async |browser: &Browser| {
        let said = browser.eval("return document.body.innerText;", vec![]).await?.to_string();
        Ok(if said.contains("A node has its model where it runs") { Ok(()) } else { Err(said) })
    };
    session.browser.wait_for("the refusal", Duration::from_secs(30), look).await.expect("it is said at the input");
}
