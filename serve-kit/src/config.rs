//! Options of a command from a file, beside its command line and the environment.
//!
//! The file is TOML, and a key is the long name of an option. What clap knows of the command is all that there is to know:
//! an option that is new can stand in the file by itself. Of what is said twice the first of these counts: a flag, a
//! variable of the environment, the file, the default. What the file says and nobody says before it becomes arguments of
//! the command line, so that clap reads it with its own parsers, conflicts and requirements; what is wrong about it is told
//! in words of the file, since nobody typed these flags.
//!
//! A flag that is given also puts aside what it contradicts in the file: `--model ID` a `gguf`, for example.

mod file;
#[cfg(test)]
mod tests;

use std::any::TypeId;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};
use thiserror::Error;

use file::{Entry, File, Value};

/// Keys that make no sense in any file.
const NEVER_IN_FILE: [&str; 3] = ["config", "help", "version"];

/// The argument that names the file, for a command to have among its own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgument {
    /// TOML file with options of this command by their long names; flags and variables win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Which command can have a file, and what clap does not know of it.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The subcommand that has [`ConfigArgument`]; `None`: the program itself has it. Options before a subcommand take no
    /// value.
    pub subcommand: Option<&'a str>,
    /// Long names of options that make sense on a command line only.
    pub not_in_file: &'a [&'a str],
    /// Whether a variable that clap does not know of gives a value to the option of this long name.
    pub is_set_elsewhere: fn(&str) -> bool,
}

impl Default for Rules<'_> {
    fn default() -> Self {
        Self { subcommand: None, not_in_file: &[], is_set_elsewhere: |_| false }
    }
}

/// Which options a file gave.
#[derive(Debug, Clone, Default)]
pub struct FromFile {
    path: PathBuf,
    /// Long names, each with its line in the file.
    options: Vec<(String, usize)>,
    /// What whoever starts the program is to know.
    notes: Vec<String>,
}

/// Why there are no arguments.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The command line is wrong, or asks for help.
    #[error(transparent)]
    Arguments(Box<clap::Error>),
    /// The file cannot be read.
    #[error("cannot read {}: {why}; --config takes a TOML file with options by their long names", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says, or what it is instead.
        why: String,
    },
    /// A line of the file cannot be used.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong, and what was expected.
        what: String,
    },
    /// What clap says of options that the file gave, in words of the file.
    #[error("{0}")]
    Options(String),
}

/// Parses the arguments of this process, and the file that they name. Like clap it ends the process where that cannot be done,
/// with status 2 if something is wrong.
pub fn parse<P: Parser>(rules: &Rules<'_>) -> (P, FromFile) {
    let program = P::command().get_name().to_owned();
    // Nobody may be there any more to read it.
    let say = |text: &dyn std::fmt::Display| drop(writeln!(std::io::stderr(), "{program}: {text}"));
    match read(std::env::args_os().collect(), rules) {
        Ok((arguments, from_file)) => {
            from_file.notes.iter().for_each(|note| say(note));
            (arguments, from_file)
        }
        Err(ConfigError::Arguments(error)) => error.exit(),
        Err(error) => {
            say(&error);
            std::process::exit(2)
        }
    }
}

/// Parses `arguments`, the name of the program first, and the file that they name.
///
/// # Errors
/// The arguments cannot be used, or ask for help; the file cannot be read, or has what cannot be used.
pub fn read<P: Parser>(mut arguments: Vec<OsString>, rules: &Rules<'_>) -> Result<(P, FromFile), ConfigError> {
    let typed = arguments.clone();
    let from_file = match look(&P::command(), &arguments, rules)? {
        Some((words, from_file)) => {
            let place = place_of(&arguments, rules);
            arguments.splice(place..place, words);
            from_file
        }
        None => FromFile::default(),
    };
    let parsed = P::try_parse_from(arguments).map_err(|error| {
        let is_typed = || P::try_parse_from(typed).is_err_and(|alone| alone.kind() == error.kind());
        // clap does not say what needs the option that is missing.
        if error.kind() == ErrorKind::MissingRequiredArgument && !is_typed() {
            from_file.needs_more(&error)
        } else {
            from_file.blame(error)
        }
    });
    Ok((parsed?, from_file))
}

/// Where arguments of the command begin.
fn place_of(arguments: &[OsString], rules: &Rules<'_>) -> usize {
    let is_flag = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"-");
    let behind_program = arguments.len().min(1);
    match rules.subcommand {
        None => behind_program,
        Some(_) => {
            let flags = arguments[behind_program..].iter().take_while(|argument| is_flag(argument)).count();
            arguments.len().min(behind_program + flags + 1)
        }
    }
}

/// What the file adds to the command line; `None` if none is named.
fn look(
    command: &Command,
    arguments: &[OsString],
    rules: &Rules<'_>,
) -> Result<Option<(Vec<OsString>, FromFile)>, ConfigError> {
    // What is missing may be in the file. An error that the file cannot mend comes again when all is parsed.
    let Ok(matches) = command.clone().ignore_errors(true).try_get_matches_from(arguments) else { return Ok(None) };
    let (command, matches) = match (rules.subcommand, matches.subcommand()) {
        (None, None) => (command, &matches),
        (Some(name), Some((called, matches))) if name == called => {
            let Some(command) = command.find_subcommand(name) else { return Ok(None) };
            (command, matches)
        }
        _ => return Ok(None),
    };
    let Ok(Some(path)) = matches.try_get_one::<PathBuf>("config") else { return Ok(None) };
    let file = File::read(path)?;
    let options = Options { command, matches, rules, file: &file };
    options.merge().map(Some)
}

/// Options of a command, and a file that gives some of them.
struct Options<'a> {
    command: &'a Command,
    /// The command line, as far as it can be read by itself.
    matches: &'a ArgMatches,
    rules: &'a Rules<'a>,
    file: &'a File,
}

impl Options<'_> {
    fn merge(&self) -> Result<(Vec<OsString>, FromFile), ConfigError> {
        let mut from_file = FromFile { path: self.file.path.clone(), ..FromFile::default() };
        let given: Vec<&Arg> = self.command.get_arguments().filter(|arg| self.is_given(arg)).collect();
        let (mut words, mut secrets) = (Vec::new(), Vec::new());
        for entry in &self.file.entries {
            let arg = self.option(entry)?;
            let more = self.words(arg, entry)?;
            if arg.is_hide_env_values_set() {
                secrets.push(format!("`{}`", entry.name));
            }
            if !given.iter().any(|given| given.get_id() == arg.get_id() || self.are_contrary(given, arg)) {
                words.extend(more);
                from_file.options.push((entry.name.clone(), entry.line));
            }
        }
        if self.file.others_can_read && !secrets.is_empty() {
            from_file.notes.push(format!(
                "{} has {}, and other users of this machine can read it: `chmod 600` keeps them out",
                self.file.path.display(),
                secrets.join(" and ")
            ));
        }
        Ok((words, from_file))
    }

    /// Whether the command line or a variable has it.
    fn is_given(&self, arg: &Arg) -> bool {
        let source = self.matches.value_source(arg.get_id().as_str());
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
            || arg.get_long().is_some_and(self.rules.is_set_elsewhere)
    }

    /// Whether one of them says that it cannot stand beside the other.
    fn are_contrary(&self, one: &Arg, other: &Arg) -> bool {
        let names = |of: &Arg, it: &Arg| {
            self.command.get_arg_conflicts_with(of).iter().any(|conflict| conflict.get_id() == it.get_id())
        };
        names(one, other) || names(other, one)
    }

    /// The option of a key.
    fn option(&self, entry: &Entry) -> Result<&Arg, ConfigError> {
        let name = entry.name.as_str();
        if matches!(entry.value, Value::Table) {
            let what = format!("`{name}` is a table; options stand at the top of the file, without headings or dots");
            return Err(self.file.fault(entry.line, what));
        }
        if NEVER_IN_FILE.contains(&name) || self.rules.not_in_file.contains(&name) {
            let what = format!("`{name}` is of the command line only; leave it out");
            return Err(self.file.fault(entry.line, what));
        }
        let found = self.command.get_arguments().find(|arg| name_of(arg).as_deref() == Some(name));
        found.ok_or_else(|| {
            let near = self.nearest(name).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            self.file.fault(entry.line, format!("there is no option `{name}`{near} (--help lists them)"))
        })
    }

    /// The name that clap takes a wrong one for.
    fn nearest(&self, name: &str) -> Option<String> {
        let command = Command::new("options").args(self.command.get_arguments().cloned());
        let error = command.try_get_matches_from(["options", &format!("--{name}")]).err()?;
        let ContextValue::String(flag) = error.get(ContextKind::SuggestedArg)? else { return None };
        let near = flag.trim_start_matches('-');
        let is_none = NEVER_IN_FILE.contains(&near) || self.rules.not_in_file.contains(&near);
        (!is_none).then(|| near.to_owned())
    }

    /// Arguments that say what the entry does.
    fn words(&self, arg: &Arg, entry: &Entry) -> Result<Vec<OsString>, ConfigError> {
        let Entry { name, line, value } = entry;
        let refused = |expected: &str| {
            let what = format!("`{name}` is {}, expected {expected}", value.kind());
            self.file.fault(*line, what)
        };
        let texts = match (arg.get_action(), value) {
            (ArgAction::SetTrue | ArgAction::SetFalse, Value::Bool(true)) => {
                return Ok(vec![format!("--{name}").into()]);
            }
            (ArgAction::SetTrue | ArgAction::SetFalse, Value::Bool(false)) => return Ok(Vec::new()),
            (ArgAction::SetTrue | ArgAction::SetFalse, _) => return Err(refused("true or false")),
            (ArgAction::Set | ArgAction::Append, Value::Text(text)) => std::slice::from_ref(text),
            (ArgAction::Append, Value::List(texts)) => texts,
            (ArgAction::Append, _) => return Err(refused("text in quotes, a number, or a list of these in [ ]")),
            (_, _) => return Err(refused("text in quotes or a number")),
        };
        let is_path = is_path(arg);
        let told = texts.iter().map(|text| {
            let value = if is_path { self.file.path_of(text, *line)?.into_os_string() } else { text.into() };
            // What has no long name stands there by itself, and is a whole path.
            let flag = arg.get_long().map(|long| format!("--{long}=")).unwrap_or_default();
            let mut word = OsString::from(flag);
            word.push(value);
            Ok(word)
        });
        told.collect()
    }
}

/// Key of an option: its long name, or, of paths that stand on the command line without one, how clap calls them.
fn name_of(arg: &Arg) -> Option<String> {
    let long = arg.get_long().map(str::to_owned);
    long.or_else(|| (arg.is_positional() && is_path(arg)).then(|| arg.get_id().as_str().replace('_', "-")))
}

fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
}

impl FromFile {
    /// Says of options that the file gave where they stand, for an error that names them as flags.
    pub fn explain(&self, text: &str) -> String {
        let (mut told, mut rest) = (String::new(), text);
        while let Some((before, flag)) = rest.split_once("--") {
            told.push_str(before);
            let end = flag.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').unwrap_or(flag.len());
            let (name, after) = flag.split_at(end);
            match self.options.iter().find(|(option, _)| option == name) {
                Some((_, line)) => {
                    told.push_str(&format!("{name} ({}, line {line})", self.path.display()));
                    rest = without_placeholder(after);
                }
                None => {
                    told.push_str("--");
                    told.push_str(name);
                    rest = after;
                }
            }
        }
        told.push_str(rest);
        told
    }

    /// The error where what the file gave needs what nobody gave.
    fn needs_more(&self, error: &clap::Error) -> ConfigError {
        let missing = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(flags)) => flags.as_slice(),
            _ => &[],
        };
        let name = |flag: &String| {
            let flag = flag.split(' ').next().unwrap_or(flag);
            format!("`{}`", flag.trim_start_matches('-'))
        };
        let names: Vec<String> = missing.iter().map(name).collect();
        ConfigError::Options(format!("{}: what it says needs {}, too", self.path.display(), names.join(" and ")))
    }

    /// clap's error, which is the file's if it is about what the file gave.
    fn blame(&self, error: clap::Error) -> ConfigError {
        let rendered = error.render().to_string();
        // How the command is used, and where help is, is of no use for a file.
        let what = rendered.split("\n\nUsage:").next().and_then(|what| what.split("\n\nFor more information").next());
        let what = what.unwrap_or(&rendered).trim_end();
        let explained = self.explain(what);
        if !error.use_stderr() || explained == what {
            return ConfigError::Arguments(Box::new(error));
        }
        ConfigError::Options(explained.strip_prefix("error: ").unwrap_or(&explained).to_owned())
    }
}

/// What follows a flag's name, without the name of its value.
fn without_placeholder(after: &str) -> &str {
    let value = after.strip_prefix(" <").and_then(|value| Some(value.split_once('>')?.1));
    value.map_or(after, |rest| rest.strip_prefix("...").unwrap_or(rest))
}
