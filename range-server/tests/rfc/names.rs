//! Which names there are, and that no others are.

use crate::fixtures::{MB, SECRET, TINY};
use crate::support::Subject;
use crate::table::{Level, Must, Project, Row, ask, get, run};

fn found(level: Level, section: &'static str, target: &str, file: &str) -> Row {
    ask(level, section, "GET", target).of(file)
}

/// What leads nowhere: not found, or not even asked for in a proper way.
fn refused(target: &str) -> Row {
    ask(Must, "17.3", "GET", target).gives(&[400, 404])
}

fn missing(target: &str) -> Row {
    ask(Project, "project", "GET", target).gives(&[404])
}

#[test]
fn plain_names() {
    let subject = Subject::peer_or_own();
    let rows = vec![
        get(Must, "9.3.1", TINY),
        get(Must, "9.3.1", "sub/deep.gguf"),
        found(Must, "4.2.3", "/tiny.gguf?", TINY),
        found(Must, "4.2.3", "/tiny.gguf?download=1&x=/../..", TINY),
        found(Must, "4.2.3", "/%74iny.gguf", TINY),
        found(Must, "4.2.3", "/tiny%2egguf", TINY),
        found(Must, "4.2.3", "/tiny%2Egguf", TINY),
        ask(Must, "15.5.5", "GET", "/none.gguf").gives(&[404]),
        ask(Must, "4.2.3", "GET", "/TINY.GGUF").gives(&[404]),
        ask(Must, "4.2.3", "GET", "/tiny%252egguf").gives(&[404]),
        refused("/../root/tiny.gguf"),
        refused("/../../../../../../../etc/passwd"),
        refused("/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
        refused("/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd"),
        refused("/etc/passwd"),
    ];
    run(&subject, rows);
}

#[test]
fn names_of_files() {
    let subject = Subject::new();
    let rows = vec![
        found(Project, "project", "/sub/deeper/still.gguf", "sub/deeper/still.gguf"),
        found(Project, "project", "/folder.gguf/in.gguf", "folder.gguf/in.gguf"),
        // Decoded once.
        found(Project, "project", "/with%20space%20%C3%A9.gguf", "with space \u{e9}.gguf"),
        found(Project, "project", "/with%20space%20%c3%a9.gguf", "with space \u{e9}.gguf"),
        found(Project, "project", "/q%3Fmark%23hash.gguf", "q?mark#hash.gguf"),
        found(Project, "project", "/q%3fmark%23hash.gguf?x", "q?mark#hash.gguf"),
        found(Project, "project", "/per%2520cent.gguf", "per%20cent.gguf"),
        missing("/per%20cent.gguf"),
        missing("/per%252520cent.gguf"),
        found(Project, "project", "/plus+plus.gguf", "plus+plus.gguf"),
        found(Project, "project", "/plus%2Bplus.gguf", "plus+plus.gguf"),
        missing("/plus%20plus.gguf"),
        missing("/with+space+%C3%A9.gguf"),
        found(Project, "project", "/angle%3Ci%3E%26quot.gguf", "angle<i>&quot.gguf"),
        // Another way to write the letter is another name; one byte of it is none.
        missing("/with%20space%20e%CC%81.gguf"),
        refused("/with%20space%20%E9.gguf"),
        refused("/with%20space%20%C3.gguf"),
        // A name in the target as it is, not encoded: no valid target, but harmless.
        found(Project, "project", "/with%20space%20\u{e9}.gguf", "with space \u{e9}.gguf").gives(&[200, 400, 404]),
        // A slash that is encoded: one decoding makes it a slash; refusing it is as good.
        found(Project, "project", "/sub%2Fdeep.gguf", "sub/deep.gguf").gives(&[200, 400, 404]),
        // Reserved names, and what looks like them.
        found(Project, "project", "/gptoss.gguf", "gptoss.gguf"),
        found(Project, "project", "/gptoss/shadow.gguf", "gptoss/shadow.gguf"),
        found(Project, "project", "/api/models.gguf", "api/models.gguf"),
        ask(Project, "project", "GET", "/gptoss").is("content-type", "text/html; charset=utf-8").contains("the page"),
        ask(Project, "project", "GET", "/gptoss?gguf=/tiny.gguf").contains("the page"),
        // Names with dots, slashes, backslashes and NUL.
        refused("/./tiny.gguf"),
        refused("/sub/../tiny.gguf"),
        refused("/sub/%2e%2e/tiny.gguf"),
        refused("/sub/.%2E/tiny.gguf"),
        refused("/sub/./deep.gguf"),
        refused("/../tiny.gguf"),
        refused("/%2e%2e/root/tiny.gguf"),
        refused("/..%2froot%2ftiny.gguf"),
        refused("/sub%2f..%2ftiny.gguf"),
        refused("/%252e%252e/outside/secret.gguf"),
        refused("/../outside/secret.gguf"),
        refused("/%2e%2e/outside/secret.gguf"),
        refused("/sub/..%2f..%2foutside%2fsecret.gguf"),
        refused("/..%5coutside%5csecret.gguf"),
        refused("/sub%5Cdeep.gguf"),
        refused("/sub\\deep.gguf"),
        refused("/.../tiny.gguf"),
        refused("//tiny.gguf"),
        refused("///tiny.gguf"),
        refused("/sub//deep.gguf"),
        refused("/%2Ftiny.gguf"),
        refused("/tiny.gguf/"),
        refused("/tiny.gguf/."),
        refused("/tiny.gguf/x"),
        refused("/tiny.gguf%00"),
        refused("/tiny.gguf%00.gguf"),
        refused("/notes.txt%00.gguf"),
        refused("/tiny.gguf%0a"),
        refused("/tiny.gguf%0d%0aX-Injected:%20yes").lacks("x-injected"),
        refused("/tiny.gguf%20"),
        refused("/%20tiny.gguf"),
        refused("/tiny.gguf."),
        refused("/tiny.gguf;x=1"),
        refused("/tiny.gguf::$DATA"),
        refused("/C:/Windows/win.ini"),
        refused("/%zz.gguf"),
        refused("/tiny.gguf%"),
        refused("/tiny.gguf%2"),
        refused("/%c0%ae%c0%ae/outside/secret.gguf"),
        refused("/%c0%af..%c0%afoutside%c0%afsecret.gguf"),
        refused("/%ff.gguf"),
        // What is not in the catalogue.
        missing("/sub"),
        missing("/sub/"),
        missing("/folder.gguf"),
        missing("/folder.gguf/"),
        missing("/notes.txt"),
        missing("/Tiny.gguf"),
        missing("/fifo.gguf"),
        missing("/dangling.gguf"),
        missing("/circle.gguf"),
        missing(&format!("{}/tiny.gguf", subject.root.display())),
        missing("/root/tiny.gguf"),
        missing("/api"),
        missing("/api/none"),
        missing("/api/models/none/file"),
        missing("/gptoss/none.js"),
        // Links: in the folder, to the folder itself (followed or not), and out of it.
        found(Project, "project", "/inside-link.gguf", TINY),
        found(Project, "project", "/loop/tiny.gguf", TINY).gives(&[200, 404]),
        found(Project, "project", "/loop/loop/loop/tiny.gguf", TINY).gives(&[200, 404]),
        missing("/outside-link.gguf"),
        missing("/outside-absolute.gguf"),
        missing("/outside-chain.gguf"),
        missing("/outside-folder/secret.gguf"),
        // After all of these the server still works.
        get(Must, "9.3.1", MB),
    ];
    run(&subject, rows);
}

#[test]
fn nothing_outside_is_ever_sent() {
    let subject = Subject::new();
    for target in ["/outside-link.gguf", "/outside-chain.gguf", "/outside-folder/secret.gguf", "/api/models", "/models"]
    {
        let body = subject.get(target, &[]).body;
        let leaks = |secret: &[u8]| body.windows(secret.len()).any(|window| window == secret);
        assert!(!leaks(SECRET) && !leaks(b"outside"), "{target}");
        // Nor where the folder is.
        assert!(!leaks(subject.root.to_str().unwrap().as_bytes()), "{target}");
    }
}
