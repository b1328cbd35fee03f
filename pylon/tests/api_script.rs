//! `ops/pylon.sh`: the node in the background where nothing else starts it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::support::{Folder, nano};

/// A folder that the script keeps its state in; what was started ends with the test.
struct State(Folder);

impl State {
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run_with(env!("CARGO_BIN_EXE_pylon"), arguments)
    }

    fn run_with(&self, program: &str, arguments: &[&str]) -> (i32, String, String) {
        let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "ops", "pylon.sh"].iter().collect();
        let mut command = Command::new("sh");
        command.arg(script).args(arguments).env("PYLON", program);
        let Output { status, stdout, stderr } = command.env("PYLON_STATE", self.0.path("state")).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // It has ended already, if all went well.
        self.run(&["stop"]);
    }
}

#[test]
fn a_node_is_started_told_of_and_ended_by_the_script() {
    let state = State(Folder::new());
    assert_eq!(state.run(&["status"]).0, 3);
    let options = ["start", "--gguf", nano(), "--backend", "cpu", "--bind", "127.0.0.1:0"];
    let (code, said, error) = state.run(&options);
    assert!(code == 0 && said.contains("answers at http://127.0.0.1:"), "{code}: {said}{error}");
    assert_eq!(state.run(&["status"]), (0, said.clone(), String::new()));
    let (code, _, error) = state.run(&options);
    assert!(code == 1 && error.contains("it runs already") && error.contains("stop"), "{code}: {error}");
    let (code, ended, _) = state.run(&["stop"]);
    assert!(code == 0 && ended.contains("has ended"), "{code}: {ended}");
    assert_eq!((state.run(&["status"]).0, state.run(&["stop"]).0), (3, 3));
    assert!(!Path::new(&state.0.path("state/api.pid")).exists());

    // A number that was given to somebody else's process is nothing of ours, whatever that is called.
    let mut other = Command::new("sleep").arg0("pylon api").arg("60").spawn().unwrap();
    std::fs::create_dir_all(state.0.path("state")).unwrap();
    for content in [format!("{}\n", other.id()), format!("{}\n1\n", other.id())] {
        std::fs::write(state.0.path("state/api.pid"), content).unwrap();
        assert_eq!((state.run(&["status"]).0, state.run(&["stop"]).0), (3, 3));
    }
    assert!(other.try_wait().unwrap().is_none(), "it lives");
    other.kill().unwrap();
    other.wait().unwrap();

    // What could not start says why, and leaves nothing behind.
    let (code, said, error) = state.run(&["start", "--gguf", "/no/such.gguf"]);
    assert!(code == 2 && said.is_empty() && error.contains("/no/such.gguf"), "{code}: {said}{error}");
    let (code, _, error) = state.run_with("no-such-pylon", &["start"]);
    assert!(code == 127 && error.contains("no-such-pylon on the PATH"), "{code}: {error}");
    let (code, said, _) = state.run(&["begin"]);
    assert!(code == 2 && said.contains("ops/pylon.sh start"), "{code}: {said}");
}
