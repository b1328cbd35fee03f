//! `/tunnel` of `pylon api`: a watcher over a WebSocket sees and does what the page does with its own worker.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use gptoss_protocol::{
    Command, Envelope, Event, ExpertLoading, FinishReason, FromNode, LoadOptions, LoadSettings, ModelLocation, Prompt,
    Request, RequestId, ToNode, TunnelHello, TunnelRefusal, TunnelResume, TunnelStage, TunnelWelcome, Watch,
};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

use super::api::{ANSWER, HUNGARY, REASONING, Server, demo, serve};
use super::api_models::write_other;
use super::support::{Folder, endless, nano};

/// A watcher on a thread that waits for each of its messages.
struct Watcher {
    runtime: Runtime,
    socket: WebSocketStream<TcpStream>,
    session: String,
    next_sequence: u64,
    /// Requests that the node had taken when this connection began.
    taken_requests: u64,
    run_id: Option<u64>,
}

/// Opens the tunnel and says something.
fn open(server: &Server, first: Message) -> (Runtime, WebSocketStream<TcpStream>) {
    open_at(server, "/tunnel", first)
}

/// The same at this path.
fn open_at(server: &Server, path: &str, first: Message) -> (Runtime, WebSocketStream<TcpStream>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = runtime.block_on(async {
        let stream = TcpStream::connect(&server.address).await.unwrap();
        let uri = format!("ws://{}{path}", server.address).parse().unwrap();
        let (mut socket, response) = ClientBuilder::from_uri(uri).connect_on(stream).await.unwrap();
        assert_eq!(response.status(), 101);
        socket.send(first).await.unwrap();
        socket
    });
    (runtime, socket)
}

/// What comes next; `None` at the end.
fn receive(runtime: &Runtime, socket: &mut WebSocketStream<TcpStream>) -> Option<FromNode> {
    let next = async {
        // Pings are answered by the socket.
        while let Some(Ok(message)) = socket.next().await {
            if let Some(text) = message.as_text() {
                return Some(FromNode::from_json(text).expect(text));
            }
            if message.is_close() {
                return None;
            }
        }
        None
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), next).await.expect("it says something") })
}

/// Why the node does not go on after a first message.
fn refusal(server: &Server, first: Message) -> TunnelRefusal {
    let (runtime, mut socket) = open(server, first);
    let Some(FromNode::Refused(refusal)) = receive(&runtime, &mut socket) else { panic!("it goes on") };
    assert_eq!(receive(&runtime, &mut socket), None, "nothing follows");
    refusal
}

fn hello(hello: TunnelHello) -> Message {
    Message::text(ToNode::Hello(hello).to_json())
}

impl Watcher {
    fn new(server: &Server) -> Self {
        Self::with(server, TunnelHello::new(None, None))
    }

    fn with(server: &Server, first: TunnelHello) -> Self {
        let (watcher, model) = Self::at(server, "/tunnel", first);
        assert!(model.contains("nano") || model == "endless", "{model}");
        watcher
    }

    /// A watcher of the model that this path is of, and the id of that.
    fn at(server: &Server, path: &str, first: TunnelHello) -> (Self, String) {
        let next_sequence = first.resume.as_ref().map_or(0, |resume| resume.next_sequence);
        let (runtime, mut socket) = open_at(server, path, hello(first));
        let welcome = receive(&runtime, &mut socket);
        let Some(FromNode::Welcome(welcome)) = welcome else { panic!("no welcome: {welcome:?}") };
        let TunnelWelcome { session, model, taken_requests, .. } = welcome;
        (Self { runtime, socket, session, next_sequence, taken_requests, run_id: None }, model)
    }

    /// The connection breaks without a word; another goes on with the session.
    fn break_and_come_back(self, server: &Server) -> Self {
        let Self { session, next_sequence, run_id, .. } = self;
        let resume = TunnelResume { session: session.clone(), next_sequence };
        let back = Self::with(server, TunnelHello::new(None, Some(resume)));
        assert_eq!(back.session, session);
        Self { run_id, ..back }
    }

    fn send(&mut self, message: &ToNode) {
        let text = Message::text(message.to_json());
        self.runtime.block_on(self.socket.send(text)).unwrap();
    }

    fn ask(&mut self, id: u64, command: Command) {
        self.send(&ToNode::Request(Request::new(RequestId(id), command)));
    }

    /// The next envelope: none is missing, and none comes twice.
    fn next(&mut self) -> Envelope {
        let Some(FromNode::Envelope(envelope)) = receive(&self.runtime, &mut self.socket) else { panic!("the end") };
        assert_eq!(envelope.sequence, self.next_sequence);
        assert_eq!(*self.run_id.get_or_insert(envelope.run_id), envelope.run_id);
        self.next_sequence += 1;
        *envelope
    }

    /// Events of a request up to one that `is_last`.
    fn until(&mut self, id: u64, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let Envelope { request, event, .. } = self.next();
            if request == Some(RequestId(id)) {
                let done = is_last(&event);
                events.push(event);
                if done {
                    return events;
                }
            }
        }
    }

    fn end(&mut self) -> TunnelRefusal {
        loop {
            match receive(&self.runtime, &mut self.socket) {
                Some(FromNode::Refused(refusal)) => return refusal,
                Some(FromNode::Envelope(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn load(prompt: Option<Prompt>, options: LoadSettings) -> Command {
    let model = ModelLocation::Url { url: "pylon://here".into() };
    Command::Load { model, options, prompt, remembered: Vec::new() }
}

fn prompt(user: &str, max_new_tokens: u32) -> Prompt {
    Prompt { user: user.into(), max_new_tokens, ..Prompt::default() }
}

fn is_finished(event: &Event) -> bool {
    matches!(event, Event::Finished { .. })
}

/// Whether STOP took effect.
fn is_stopped(event: &Event) -> bool {
    matches!(event, Event::Stopped { .. } | Event::Finished { reason: FinishReason::Stopped, .. })
}

/// Text of all tokens.
fn text_of(events: &[Event]) -> String {
    events
        .iter()
        .filter_map(|event| if let Event::Token(token) = event { Some(token.text.as_str()) } else { None })
        .collect()
}

#[test]
fn each_model_has_a_tunnel_of_its_own() {
    let folder = Folder::new();
    let other = write_other(&folder);
    let server = serve(&["--gguf", nano(), "--gguf", &other, "--max-kv", "2000"]);
    let layers = |watcher: &mut Watcher| {
        watcher.ask(1, load(Some(prompt(HUNGARY, 8)), LoadSettings::default()));
        let (mut events, mut has_blocks) = (Vec::new(), false);
        // How the cache is used is the node's own news, which may come before or after what a request is told.
        while !(has_blocks && events.iter().any(is_finished)) {
            let Envelope { request, event, .. } = watcher.next();
            has_blocks |= matches!(&event, Event::KvBlocks(blocks) if blocks.full.places > 0);
            if request == Some(RequestId(1)) {
                events.push(event);
            }
        }
        let layers = events.iter().find_map(|event| match event {
            Event::Model(model) => Some((model.layers, model.vocabulary)),
            _ => None,
        });
        let text = text_of(&events);
        (layers.expect("it is told of the model"), text)
    };
    let (mut second, model) = Watcher::at(&server, "/tunnel?model=OTHER", TunnelHello::new(None, None));
    let ((layers_run, vocabulary), text) = layers(&mut second);
    assert_eq!((model.as_str(), layers_run), ("other", 3));
    let (mut first, model) = Watcher::at(&server, "/tunnel", TunnelHello::new(None, None));
    let ((_, first_vocabulary), first_text) = layers(&mut first);
    assert_eq!(model, "gpt-oss-nano");
    assert!(first_text.starts_with("We need") && text != first_text && vocabulary != first_vocabulary);
    // A session is of one node: another does not know it.
    let resume = TunnelResume { session: second.session.clone(), next_sequence: 0 };
    let wrong = refusal(&server, hello(TunnelHello::new(None, Some(resume))));
    assert_eq!(wrong.stage, TunnelStage::Resume);
    let health = server.ask("GET", "/health", "", "").2;
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    let sessions = |of: &serde_json::Value| of["tunnel_sessions"].as_u64().unwrap();
    assert_eq!((sessions(&health), sessions(&health["models"][0]), sessions(&health["models"][1])), (2, 1, 1));
}

#[test]
fn a_watcher_sees_the_load_and_the_answer_of_the_nodes_model() {
    let server = demo();
    let mut watcher = Watcher::new(&server);
    watcher.ask(7, Command::Watch { watch: Watch { routes: true, residual: true, ..Watch::default() } });
    // As the page has it, whatever the node does.
    let as_needed = LoadOptions { experts: ExpertLoading::AsNeeded, ..LoadOptions::default() };
    let options = LoadSettings { engine: as_needed, ..LoadSettings::default() };
    watcher.ask(8, load(Some(prompt(HUNGARY, 200)), options));
    let events = watcher.until(8, is_finished);
    let place = |wanted: fn(&Event) -> bool| events.iter().position(wanted).expect("it is told");
    let order = [
        place(|event| matches!(event, Event::Model(model) if model.experts > 0)),
        place(|event| matches!(event, Event::FileMap(_))),
        place(|event| matches!(event, Event::Ready { .. })),
        place(|event| matches!(event, Event::PromptEncoded { .. })),
        place(|event| matches!(event, Event::Routes(routes) if !routes.layers.is_empty())),
        events.len() - 1,
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Residual(_))));
    assert!(events.iter().any(|event| matches!(event, Event::Kv { used_tokens, .. } if *used_tokens > 40)));
    assert_eq!(text_of(&events), format!("{REASONING}{ANSWER}"));
    let Some(Event::Finished { final_text, analysis_text, reason, .. }) = events.last() else { unreachable!() };
    assert_eq!((final_text.as_str(), analysis_text.as_str()), (ANSWER, REASONING));
    assert_eq!(*reason, FinishReason::Return);

    watcher.send(&ToNode::Seen { next_sequence: watcher.next_sequence });
    watcher.ask(9, Command::Count { prompt: prompt(HUNGARY, 1) });
    let counted = watcher.until(9, |event| matches!(event, Event::Counted { .. }));
    let encoded = events.iter().find_map(|event| match event {
        Event::PromptEncoded { tokens, .. } => Some(*tokens),
        _ => None,
    });
    assert_eq!(counted.last(), encoded.map(|tokens| Event::Counted { tokens }).as_ref());
    // Nobody looks any more, and nobody is told.
    watcher.ask(10, Command::Watch { watch: Watch::default() });
    watcher.ask(11, Command::Generate { prompt: prompt(HUNGARY, 200) });
    let unwatched = watcher.until(11, is_finished);
    assert!(!unwatched.iter().any(|event| matches!(event, Event::Routes(_) | Event::Residual(_))));
    assert_eq!(text_of(&unwatched), text_of(&events));

    let options =
        LoadSettings { engine: LoadOptions { layers: Some(1), ..LoadOptions::default() }, ..LoadSettings::default() };
    watcher.ask(12, load(None, options));
    let refused = watcher.until(12, |event| matches!(event, Event::Failed { .. }));
    let Some(Event::Failed { failure, .. }) = refused.last() else { unreachable!() };
    assert!(failure.message.contains("layers is 1") && failure.advice.contains("pylon api"), "{failure:?}");
    watcher.ask(13, Command::Cache { action: gptoss_protocol::CacheAction::List });
    watcher.until(13, |event| matches!(event, Event::Failed { .. }));
    let metrics = server.ask("GET", "/metrics", "", "").2;
    assert!(metrics.contains("pylon_tunnel_sessions{model=\"gpt-oss-nano\"} 1\n"), "{metrics}");
}

#[test]
fn a_broken_connection_goes_on_where_it_was() {
    let server = demo();
    let mut whole = Watcher::new(&server);
    whole.ask(0, Command::Generate { prompt: prompt(HUNGARY, 200) });
    let want = text_of(&whole.until(0, is_finished));

    let mut watcher = Watcher::new(&server);
    watcher.ask(5, Command::Generate { prompt: prompt(HUNGARY, 200) });
    let mut events = watcher.until(5, |event| matches!(event, Event::Token(_)));
    watcher = watcher.break_and_come_back(&server);
    events.extend(watcher.until(5, |event| matches!(event, Event::Token(_))));
    // Acknowledged events are not sent again, and others are; twice in a row, and after the end.
    watcher.send(&ToNode::Seen { next_sequence: watcher.next_sequence });
    watcher = watcher.break_and_come_back(&server).break_and_come_back(&server);
    events.extend(watcher.until(5, is_finished));
    assert_eq!(text_of(&events), want);
    watcher = watcher.break_and_come_back(&server);
    watcher.ask(6, Command::Generate { prompt: prompt(HUNGARY, 200) });
    assert_eq!(text_of(&watcher.until(6, is_finished)), want);

    // The node says how many requests came, so that one which was lost on its way can be sent again, and no other.
    assert_eq!(watcher.taken_requests, 1);
    watcher = watcher.break_and_come_back(&server);
    assert_eq!(watcher.taken_requests, 2);

    // So does a connection that its watcher took for dead and closed, whenever that is heard.
    let close = Message::close(Some(4000.try_into().expect("a code of our own")), "");
    watcher.runtime.block_on(watcher.socket.send(close)).unwrap();
    watcher = watcher.break_and_come_back(&server);

    // A second connection of one session takes it over from the first.
    let resume = TunnelResume { session: watcher.session.clone(), next_sequence: watcher.next_sequence };
    let mut second = Watcher::with(&server, TunnelHello::new(None, Some(resume.clone())));
    assert_eq!(receive(&watcher.runtime, &mut watcher.socket), None, "the first has ended");
    second.ask(7, Command::Generate { prompt: prompt(HUNGARY, 200) });
    assert_eq!(text_of(&second.until(7, is_finished)), want);

    for (session, next_sequence) in [("nobody", 0), (&*second.session, second.next_sequence + 1)] {
        let resume = TunnelResume { session: session.into(), next_sequence };
        let refusal = refusal(&server, hello(TunnelHello::new(None, Some(resume))));
        assert_eq!(refusal.stage, TunnelStage::Resume, "{refusal:?}");
    }
}

/// A model whose answers do not end within a test.
fn serve_endless(folder: &Folder, arguments: &[&str]) -> Server {
    let file = endless(folder, "endless.gguf");
    serve(&[&["--gguf", &file, "--sequences", "3", "--max-kv", "65536"], arguments].concat())
}

fn endless_prompt() -> Command {
    let format = gptoss_protocol::PromptFormat::Text;
    Command::Generate { prompt: Prompt { format, ..prompt("word", 60_000) } }
}

#[track_caller]
fn wait_for(server: &Server, words: &str) {
    let begun = Instant::now();
    while !server.ask("GET", "/health", "", "").2.contains(words) {
        assert!(begun.elapsed() < Duration::from_secs(20), "not {words}");
    }
}

#[test]
fn stop_is_the_sessions_own_and_who_leaves_stops() {
    let server = serve_endless(&Folder::new(), &[]);
    let mut one = Watcher::new(&server);
    let mut other = Watcher::new(&server);
    let is_token = |event: &Event| matches!(event, Event::Token(_));
    one.ask(1, endless_prompt());
    one.ask(2, endless_prompt());
    other.ask(1, endless_prompt());
    one.until(1, is_token);
    other.until(1, is_token);
    one.ask(3, Command::Stop { request: Some(RequestId(2)) });
    one.until(2, is_stopped);
    one.until(1, is_token);
    one.ask(4, Command::Stop { request: None });
    one.until(1, is_stopped);
    other.until(1, is_token);
    wait_for(&server, "\"open_requests\":1");
    // Two ways to leave.
    other.send(&ToNode::Bye);
    wait_for(&server, "\"open_requests\":0");
    let close = Message::close(Some(tokio_websockets::CloseCode::GOING_AWAY), "");
    one.ask(5, endless_prompt());
    one.until(5, is_token);
    one.runtime.block_on(one.socket.send(close)).unwrap();
    wait_for(&server, "\"open_requests\":0");
    wait_for(&server, "\"tunnel_sessions\":0");
}

#[test]
fn whoever_has_no_business_in_the_tunnel_is_told_why() {
    let server = serve(&["--gguf", nano(), "--max-kv", "2000", "--api-key", "secret"]);
    let key = || Some("secret".to_owned());
    let says = |first: Message, stage, words: &str| {
        let refusal = refusal(&server, first);
        assert!(refusal.stage == stage && refusal.message.contains(words), "{refusal:?}");
        assert!(!refusal.advice.is_empty());
    };
    says(hello(TunnelHello::new(None, None)), TunnelStage::Hello, "API key");
    says(hello(TunnelHello::new(Some("wrong".into()), None)), TunnelStage::Hello, "API key");
    let version = |version, protocol| hello(TunnelHello { version, protocol, key: key(), resume: None });
    says(version(1, gptoss_protocol::PROTOCOL_VERSION), TunnelStage::Hello, "versions differ");
    says(version(gptoss_protocol::TUNNEL_VERSION, 99), TunnelStage::Hello, "versions differ");
    says(Message::text("what"), TunnelStage::Hello, "no hello");
    says(Message::binary(vec![0, 1]), TunnelStage::Hello, "no hello");
    says(Message::text(ToNode::Bye.to_json()), TunnelStage::Hello, "no hello");
    let mut watcher = Watcher::with(&server, TunnelHello::new(key(), None));
    watcher.send(&ToNode::Hello(TunnelHello::new(key(), None)));
    assert!(watcher.end().message.contains("hello comes once"));
    let mut watcher = Watcher::with(&server, TunnelHello::new(key(), None));
    let mut old = Request::new(RequestId(1), Command::Stop { request: None });
    old.version = 2;
    watcher.send(&ToNode::Request(old));
    assert!(watcher.end().message.contains("protocol version 2"));
    let mut watcher = Watcher::with(&server, TunnelHello::new(key(), None));
    watcher.runtime.block_on(watcher.socket.send(Message::text("{\"request\":"))).unwrap();
    assert!(watcher.end().message.contains("cannot be read"));

    // Too long a message is refused before it is read to its end.
    let mut watcher = Watcher::with(&server, TunnelHello::new(key(), None));
    let long = Message::text(" ".repeat(gptoss_protocol::MOST_MESSAGE_BYTES + 1));
    // The node may be gone before all of it is sent.
    watcher.runtime.block_on(watcher.socket.send(long)).ok();
    assert!(watcher.end().message.contains("32 MiB"));
    // What there is no tunnel of is said over the WebSocket: pages hear nothing of an answer with a status.
    let nowhere = |server: &Server, path: &str| {
        let (runtime, mut socket) = open_at(server, path, hello(TunnelHello::new(None, None)));
        let Some(FromNode::Refused(refusal)) = receive(&runtime, &mut socket) else { panic!("it goes on") };
        refusal.message
    };
    assert!(nowhere(&server, "/tunnel?model=other").contains("other"));
    let front = super::upstream::front(nano(), &[&server.address], &[]);
    assert!(nowhere(&front, "/tunnel").contains("--engine upstream"));

    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (headers, status) in [
        ("", 426),
        (&*format!("{upgrade}Origin: https://attacker.example\r\n"), 403),
        (&format!("{upgrade}Host: attacker.example\r\n"), 421),
    ] {
        let (got, _, text) = server.ask("GET", "/tunnel", headers, "");
        assert_eq!(got, status, "{text}");
    }
    assert_eq!(server.ask("GET", "/v1/models", "Authorization: Bearer secret\r\n", "").0, 200, "it is alive");
}

#[test]
fn a_node_that_ends_lets_answers_finish_and_says_so() {
    let mut server = serve_endless(&Folder::new(), &["--grace-seconds", "1"]);
    let mut idle = Watcher::new(&server);
    let mut busy = Watcher::new(&server);
    busy.ask(1, endless_prompt());
    busy.until(1, |event| matches!(event, Event::Token(_)));
    server.terminate();
    assert_eq!(idle.end().stage, TunnelStage::Closing);
    busy.ask(2, endless_prompt());
    let failed = busy.until(2, |event| matches!(event, Event::Failed { .. }));
    assert!(format!("{failed:?}").contains("shutting down"));
    busy.until(1, is_stopped);
    assert_eq!(busy.end().stage, TunnelStage::Closing);
    assert_eq!(server.exit_code(), Some(0));
}
