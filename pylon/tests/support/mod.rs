//! Runs the real binary, and makes the files it is run on.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use gptoss_synth::edit::{Edit, RawTensor};
use gptoss_synth::{Part, Spec, TensorType, Vocabulary, part_name};
use serde_json::Value;
use tempfile::TempDir;

/// How a run ended.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The run, if it ended with `code` and, when that is 0, said nothing on standard error.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(code != 0 || self.stderr.is_empty(), "stderr: {}", self.stderr);
        assert!(code == 0 || !self.stderr.is_empty() || !self.stdout.is_empty(), "it fails without a word");
        self
    }

    /// All of it as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// One JSON value to a line.
    pub fn rows(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON row")).collect()
    }
}

/// The binary, with no variable of the caller's that it would read.
pub fn pylon() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pylon"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GPT_OSS_") {
            command.env_remove(name);
        }
    }
    command
}

/// A process that does not outlive its test, also when that fails.
pub struct Mortal(pub Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        // It has ended already, if all went well.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub fn run(arguments: &[&str]) -> Run {
    finish(pylon().args(arguments), b"")
}

pub fn run_with_input(arguments: &[&str], input: &[u8]) -> Run {
    finish(pylon().args(arguments), input)
}

/// Feeds `input`, as far as it is read, and waits.
pub fn finish(command: &mut Command, input: &[u8]) -> Run {
    // A service or a container has no such folder, and libraries then like to complain on standard error.
    command.env_remove("XDG_RUNTIME_DIR");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that ends early does not read it all.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    Run {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8 on standard output"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8 on standard error"),
    }
}

/// The demo model.
pub fn nano() -> &'static str {
    static FILE: LazyLock<String> = LazyLock::new(|| repository_file("models/nano/gpt-oss-nano.gguf"));
    &FILE
}

pub fn repository_file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).display().to_string()
}

/// A JSON Lines file of the recorded vectors; `count` guards against a file that was cut.
pub fn vectors(name: &str, count: usize) -> Vec<Value> {
    let path = repository_file(&format!("text/tests/vectors/{name}"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), count, "rows of {name}");
    rows
}

pub fn lines(rows: &[Value]) -> Vec<u8> {
    rows.iter().flat_map(|row| format!("{row}\n").into_bytes()).collect()
}

/// A folder that is removed at the end, and files in it.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// The bytes of the demo model.
pub fn nano_bytes() -> Vec<u8> {
    std::fs::read(nano()).unwrap()
}

/// A model whose answers never end, on any processor: after whatever token comes `<|message|>`, after that `x`, and
/// after `x` another. Its twelve layers are computed as any others are, and add nothing.
///
/// Random weights only seem to do for this: rounding, which processors differ in, decides what they say next, and on
/// some an answer leaves its message.
pub fn endless(folder: &Folder, name: &str) -> String {
    const VOCABULARY: Vocabulary = Vocabulary::Tiny { tokens: 1280 };
    let mut file = Edit::read(&Spec::nano().layers(12).vocabulary(VOCABULARY).to_bytes().unwrap());
    for tensor in &mut file.tensors {
        if tensor.name.contains(".attn_output.") || tensor.name.contains(".ffn_down_exps.") {
            tensor.data.fill(0);
        }
    }
    let tokens = VOCABULARY.arrays().unwrap().tokens;
    let id = |token: &str| tokens.iter().position(|known| known == token).unwrap();
    let (message, x) = (id("<|message|>"), id("x"));
    // The residual of these two lies along one axis, and that of all others along another.
    set_rows(file.tensor("token_embd.weight"), |token| Some(usize::from(token == message || token == x)));
    set_rows(file.tensor("output.weight"), |token| [message, x].iter().position(|&one| one == token));
    folder.write(name, &file.write())
}

/// Makes each row zero, but for a one at the column that is given.
fn set_rows(tensor: &mut RawTensor, column: impl Fn(usize) -> Option<usize>) {
    let [columns, rows] = tensor.shape[..] else { panic!("{} is no matrix", tensor.name) };
    let mut values = vec![0.0; (columns * rows) as usize];
    for (row, values) in values.chunks_exact_mut(columns as usize).enumerate() {
        if let Some(column) = column(row) {
            values[column] = 1.0;
        }
    }
    let kind = TensorType::from_id(tensor.kind);
    *tensor = RawTensor::of_f32(&tensor.name, &tensor.shape, &values);
    tensor.retype(kind);
}

/// A file with metadata and the o200k_harmony vocabulary only, among the build's temporary files.
pub fn o200k() -> &'static str {
    static FILE: LazyLock<String> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (path, unfinished) = (folder.join("o200k.gguf"), folder.join(format!("o200k.{}", std::process::id())));
        std::fs::write(&unfinished, Spec::gpt_oss_20b().vocabulary_only(true).to_bytes().unwrap()).unwrap();
        // Another test process may read the one that is there.
        std::fs::rename(&unfinished, &path).unwrap();
        path.display().to_string()
    });
    &FILE
}

/// Writes `spec`'s model in `parts` files, and gives their paths in order.
pub fn write_split(folder: &Folder, stem: &str, spec: &Spec, parts: usize) -> Vec<String> {
    let model = spec.build().unwrap();
    let parts = model.split(parts).unwrap();
    let write = |(index, part): (usize, &Part<'_>)| {
        let mut bytes = Vec::new();
        part.write(&mut bytes).unwrap();
        folder.write(&part_name(stem, index, parts.len()), &bytes)
    };
    parts.iter().enumerate().map(write).collect()
}
