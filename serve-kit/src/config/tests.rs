use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use tempfile::TempDir;

use super::*;

/// A program with a server among its commands.
#[derive(Debug, Parser)]
#[command(name = "prog")]
struct Program {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    #[command(visible_alias = "start")]
    Api(Box<Api>),
    Other {
        #[arg(long)]
        bind: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Api {
    #[arg(long, default_value = "127.0.0.1:1")]
    bind: std::net::SocketAddr,
    #[arg(long)]
    max_kv: Option<u32>,
    #[arg(long)]
    rate: Option<f32>,
    #[arg(long, value_enum, default_value_t)]
    log: Log,
    #[arg(long)]
    allow_host: Vec<String>,
    #[arg(long)]
    gguf: Vec<PathBuf>,
    #[arg(long, conflicts_with = "gguf")]
    model: Option<String>,
    #[arg(long)]
    tls: bool,
    #[arg(long, requires = "tls")]
    tls_cert: Option<PathBuf>,
    #[arg(long, env = "SERVE_KIT_TEST_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// `PATH` stands for a variable that is set wherever tests run.
    #[arg(long, env = "PATH")]
    search: Option<String>,
    #[arg(long)]
    elsewhere: Option<String>,
    #[arg(short = 'f', long)]
    foreground: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Log {
    #[default]
    Text,
    Json,
}

/// A program that takes paths, and a subcommand instead.
#[derive(Debug, Parser)]
#[command(name = "serve", args_conflicts_with_subcommands = true)]
struct Serve {
    #[command(subcommand)]
    command: Option<Hash>,
    paths: Vec<PathBuf>,
    #[arg(long, default_value_t = 8090)]
    port: u16,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Debug, Subcommand)]
enum Hash {
    Hash { paths: Vec<PathBuf> },
}

const RULES: Rules<'static> =
    Rules { subcommand: Some("api"), not_in_file: &["foreground"], is_set_elsewhere: |name| name == "elsewhere" };

fn file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn read_at<P: Parser>(
    path: &Path,
    before: &[&str],
    after: &[&str],
    rules: &Rules<'_>,
) -> Result<(P, FromFile), String> {
    let config = format!("--config={}", path.display());
    let words = before.iter().copied().chain([config.as_str()]).chain(after.iter().copied());
    read(words.map(OsString::from).collect(), rules).map_err(|error| error.to_string())
}

fn told(text: impl AsRef<[u8]>, flags: &[&str]) -> Result<Api, String> {
    let (_folder, path) = file(text);
    let (program, _) = read_at::<Program>(&path, &["prog", "api"], flags, &RULES)?;
    let Commands::Api(api) = program.command else { panic!("another command") };
    Ok(*api)
}

#[test]
fn every_kind_of_option_can_stand_in_a_file() {
    let text = "\u{feff}# A server.\nbind = '0.0.0.0:80'\nmax-kv = 65_536\nrate = 0.5\nlog = \"json\"\n\
                allow-host = [\"a.lan\", \"b.lan\"]\ntls = true\napi-key = \"--x = y\"\n";
    let api = told(text, &[]).unwrap();
    assert_eq!((api.bind, api.max_kv, api.rate), ("0.0.0.0:80".parse().unwrap(), Some(65536), Some(0.5)));
    assert_eq!((api.log, api.tls, api.foreground), (Log::Json, true, false));
    assert_eq!(api.allow_host, ["a.lan", "b.lan"]);
    assert_eq!(api.api_key.as_deref(), Some("--x = y"), "what looks like a flag is a value");
    // Nothing in it is nothing said, and one of a list needs no list.
    for empty in ["", "\u{feff}", "# none\n", "tls = false\nallow-host = []\r\n"] {
        let api = told(empty, &[]).unwrap();
        assert_eq!((api.bind, api.tls, api.allow_host.len()), ("127.0.0.1:1".parse().unwrap(), false, 0), "{empty:?}");
    }
    assert_eq!(told("allow-host = 'a'\nmax-kv = '7'\nrate = 0x10", &[]).unwrap().allow_host, ["a"]);
    assert_eq!(told("max-kv = 0x10", &[]).unwrap().max_kv, Some(16));
}

#[test]
fn a_flag_wins_then_a_variable_then_the_file_then_the_default() {
    let text = "bind = '0.0.0.0:80'\nallow-host = ['a', 'b']\nsearch = 'file'\nelsewhere = 'file'\nlog = 'json'\n";
    let api = told(text, &["--bind", "127.0.0.1:9", "--allow-host", "c"]).unwrap();
    assert_eq!((api.bind, api.log), ("127.0.0.1:9".parse().unwrap(), Log::Json));
    assert_eq!(api.allow_host, ["c"], "a list is replaced, not lengthened");
    assert_eq!(api.search, std::env::var("PATH").ok(), "a variable that clap knows");
    assert_eq!(api.elsewhere, None, "a variable that clap does not know");
    assert_eq!(told(text, &["--search", "flag", "--elsewhere", "flag"]).unwrap().search.as_deref(), Some("flag"));
    // The file is before the command's own words, wherever these stand.
    let (_folder, path) = file("bind = '0.0.0.0:80'\n");
    for before in [&["prog", "api"][..], &["prog", "start"]] {
        let (program, _) = read_at::<Program>(&path, before, &["--max-kv", "5"], &RULES).unwrap();
        let Commands::Api(api) = program.command else { panic!("{program:?}") };
        assert_eq!((api.bind.port(), api.max_kv), (80, Some(5)));
    }
}

#[test]
fn a_flag_puts_aside_what_contradicts_it_in_the_file() {
    let api = told("gguf = '/a.gguf'\nmax-kv = 5", &["--model", "b"]).unwrap();
    assert_eq!((api.gguf.len(), api.model.as_deref(), api.max_kv), (0, Some("b"), Some(5)));
    let api = told("model = 'b'", &["--gguf", "a.gguf"]).unwrap();
    assert_eq!((api.gguf, api.model), (vec![PathBuf::from("a.gguf")], None), "a flag's path is left alone");
    let error = told("gguf = '/a.gguf'\n\nmodel = 'b'", &[]).unwrap_err();
    assert!(error.contains("gguf (") && error.contains("api.toml, line 1)") && error.contains("line 3)"), "{error}");
    assert!(!error.contains("--") && !error.contains("Usage"), "{error}");
    // What a flag needs may be in the file, and the other way round.
    assert!(told("tls = true", &["--tls-cert", "c.pem"]).unwrap().tls);
    assert!(told("tls-cert = 'c.pem'", &["--tls"]).unwrap().tls);
    assert!(told("", &["--tls-cert", "c.pem"]).unwrap_err().contains("--tls"));
}

#[test]
fn paths_are_meant_from_where_the_file_lies() {
    let (folder, path) = file("gguf = ['a.gguf', 'sub/b.gguf', '/c.gguf', '../d.gguf', '~/e.gguf']");
    let (program, _) = read_at::<Program>(&path, &["prog", "api"], &[], &RULES).unwrap();
    let Commands::Api(api) = program.command else { panic!("{program:?}") };
    let at = |name: &str| folder.path().join(name);
    let home = etcetera::home_dir().unwrap().join("e.gguf");
    assert_eq!(api.gguf, [at("a.gguf"), at("sub/b.gguf"), "/c.gguf".into(), at("../d.gguf"), home]);
    let error = told("\ngguf = '~other/a.gguf'", &[]).unwrap_err();
    assert!(error.contains("line 2") && error.contains("~other") && error.contains("whole path"), "{error}");
    assert!(told("gguf = ''", &[]).unwrap_err().contains("gguf ("), "an empty path is none");
}

#[test]
fn paths_without_a_flag_are_a_key_too_and_subcommands_have_no_file() {
    let (folder, path) = file("port = 9\npaths = ['hash', 'b']\n");
    let (serve, _) = read_at::<Serve>(&path, &["serve"], &[], &Rules::default()).unwrap();
    assert_eq!((serve.port, serve.paths), (9, vec![folder.path().join("hash"), folder.path().join("b")]));
    let (serve, _) = read_at::<Serve>(&path, &["serve"], &["c", "--port", "7"], &Rules::default()).unwrap();
    assert_eq!((serve.port, serve.paths), (7, vec![PathBuf::from("c")]));
    let hash = read::<Serve>(["serve", "hash", "c"].map(OsString::from).into(), &Rules::default()).unwrap().0;
    assert!(matches!(&hash.command, Some(Hash::Hash { paths }) if paths == &[PathBuf::from("c")]), "{hash:?}");
    let other = read(["prog", "other", "--bind", "x"].map(OsString::from).into(), &RULES);
    let (Program { command: Commands::Other { bind } }, from_file) = other.unwrap() else { panic!("another command") };
    assert_eq!((bind.as_deref(), from_file.options.len()), (Some("x"), 0));
}

#[test]
fn what_cannot_be_used_is_named_by_file_line_and_key() {
    for (text, line, words) in [
        // Keys.
        ("\n\nmax_kv = 5", 3, &["`max_kv`", "did you mean `max-kv`?"][..]),
        ("allow-hosts = []", 1, &["`allow-hosts`", "`allow-host`"]),
        ("zzz = 1", 1, &["no option `zzz`", "--help"]),
        ("foregrond = true", 1, &["no option `foregrond` (--help"]),
        ("config = 'b.toml'", 1, &["`config`", "command line only"]),
        ("help = true", 1, &["`help`", "command line only"]),
        ("version = true", 1, &["`version`", "command line only"]),
        ("\nforeground = true", 2, &["`foreground`", "command line only"]),
        ("tls = true\n[server]\nbind = 1", 2, &["`server` is a table", "without headings"]),
        ("tls.cert = 1", 1, &["`tls` is a table", "dots"]),
        ("tls = true\n\ntls = false", 3, &["not TOML", "duplicate key"]),
        // Kinds.
        ("tls = 'yes'", 1, &["`tls` is text", "expected true or false"]),
        ("tls = 1", 1, &["`tls`", "expected true or false"]),
        ("# x\nbind = true", 2, &["`bind` is true or false", "expected text in quotes or a number"]),
        ("max-kv = [1]", 1, &["`max-kv` is a list"]),
        ("allow-host = [true]", 1, &["`allow-host` is a list of something else"]),
        ("allow-host = false", 1, &["`allow-host` is true or false", "list of these"]),
        ("api-key = 2026-11-30", 1, &["`api-key` is a date"]),
        ("max-kv = 99999999999999999999999999999999999999999", 1, &["`max-kv`", "64 bits"]),
        // TOML.
        ("bind = \n", 1, &["not TOML"]),
        ("tls = true\nbind = 127.0.0.1:80", 2, &["not TOML"]),
        ("tls = true\nbind", 2, &["not TOML"]),
        // Values, which clap judges.
        ("\nmax-kv = -1", 2, &["max-kv (", "-1"]),
        ("bind = 'localhost'", 1, &["bind (", "'localhost'", "invalid socket address"]),
        ("tls = true\nlog = 'xml'", 2, &["log (", "'xml'", "text, json"]),
    ] {
        // A flag that is given does not make a wrong key right.
        let error = told(text, &["--rate", "1"]).expect_err(text);
        assert!(error.contains(&format!("api.toml, line {line}")), "{text:?}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{text:?}: {error}");
    }
    let error = told("tls-cert = 'c.pem'", &["--rate", "1"]).unwrap_err();
    assert!(error.ends_with("api.toml: what it says needs `tls`, too"), "{error}");
    let error = told(b"bind = \"\xff\"", &[]).unwrap_err();
    assert!(error.contains("api.toml") && error.contains("UTF-8"), "{error}");
    assert!(told(vec![b'#'; 2 << 20], &[]).unwrap_err().contains("1 MiB"));
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_help_does_not_read_it() {
    let folder = tempfile::tempdir().unwrap();
    for (path, word) in [(folder.path().join("none.toml"), "No such file"), (folder.path().to_owned(), "directory")] {
        let error = read_at::<Program>(&path, &["prog", "api"], &[], &RULES).map(|_| ()).unwrap_err();
        assert!(error.contains(path.to_str().unwrap()) && (cfg!(windows) || error.contains(word)), "{error}");
        for flag in ["--help", "--bind=wrong"] {
            let error = read_at::<Program>(&path, &["prog", "api", flag], &[], &RULES).map(|_| ()).unwrap_err();
            assert!(error.contains("Usage:") || error.contains("'--bind <BIND>'"), "{error}");
        }
    }
}

#[test]
fn errors_after_parsing_can_be_told_in_words_of_the_file() {
    let (_folder, path) = file("bind = '0.0.0.0:80'\nallow-host = []\n");
    let (_, from_file) = read_at::<Program>(&path, &["prog", "api"], &["--tls"], &RULES).unwrap();
    let named = format!("bind ({}, line 1) is 0.0.0.0; --tls --binding -- stay", path.display());
    assert_eq!(from_file.explain("--bind is 0.0.0.0; --tls --binding -- stay"), named);
    assert_eq!(FromFile::default().explain("--bind <A>..., --"), "--bind <A>..., --");
    let (_, overridden) = read_at::<Program>(&path, &["prog", "api"], &["--bind", "127.0.0.1:5"], &RULES).unwrap();
    assert_eq!(overridden.explain("--bind"), "--bind", "a flag was given");
}

#[cfg(unix)]
#[test]
fn a_secret_that_others_can_read_is_noted() {
    use std::os::unix::fs::PermissionsExt;

    let (_folder, path) = file("api-key = 's3cret'\nbind = '127.0.0.1:5'\n");
    let notes = |mode: u32| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read_at::<Program>(&path, &["prog", "api"], &[], &RULES).unwrap().1.notes
    };
    let noted = notes(0o644);
    assert!(noted.len() == 1 && noted[0].contains("`api-key`") && noted[0].contains("chmod 600"), "{noted:?}");
    assert!(!noted[0].contains("s3cret"), "{noted:?}");
    assert!(notes(0o600).is_empty() && notes(0o400).is_empty());
    std::fs::write(&path, "bind = '127.0.0.1:5'").unwrap();
    assert!(notes(0o644).is_empty(), "nothing in it is secret");
}
