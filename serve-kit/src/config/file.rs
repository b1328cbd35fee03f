//! The file itself: its keys in order, with their lines.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::ConfigError;

/// No list of options is longer; a device or a model that was named by mistake is not read to its end.
const MOST_BYTES: u64 = 1 << 20;

/// A file with options.
pub(super) struct File {
    pub path: PathBuf,
    /// Keys as they follow each other.
    pub entries: Vec<Entry>,
    /// Others than its owner may read it, as far as the system says so.
    pub others_can_read: bool,
}

/// A key and its value.
pub(super) struct Entry {
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    pub value: Value,
}

/// A value as an argument has it.
pub(super) enum Value {
    Bool(bool),
    /// Text, or a number.
    Text(String),
    List(Vec<String>),
    Table,
    /// What no option is: a date, a list of something else than texts and numbers.
    Other(&'static str),
}

impl Value {
    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Text(_) => "text or a number",
            Self::List(_) => "a list",
            Self::Table => "a table",
            Self::Other(kind) => kind,
        }
    }
}

impl File {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// It cannot be read, is no text, or is not TOML.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |why: String| ConfigError::File { path: path.to_owned(), why };
        let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(failed("it is larger than 1 MiB".into()));
        }
        let text = String::from_utf8(bytes).map_err(|_| failed("it is not text in UTF-8".into()))?;
        Self::parse(path, &text, crate::platform::others_can_read(&metadata))
    }

    fn parse(path: &Path, text: &str, others_can_read: bool) -> Result<Self, ConfigError> {
        // Some editors put a mark before UTF-8.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let line_at = |offset: usize| 1 + text.get(..offset).unwrap_or(text).matches('\n').count();
        let mut file = Self { path: path.to_owned(), entries: Vec::new(), others_can_read };
        let table = DeTable::parse(text).map_err(|error| {
            let line = line_at(error.span().map_or(0, |span| span.start));
            file.fault(line, format!("this is not TOML: {}", error.message()))
        })?;
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            Entry { name: name.to_string(), line: line_at(key.span().start), value: value_of(value.get_ref()) }
        };
        file.entries = entries.into_iter().map(entry).collect();
        Ok(file)
    }

    /// The error about a line.
    pub fn fault(&self, line: usize, what: String) -> ConfigError {
        ConfigError::Line { path: self.path.clone(), line, what }
    }

    /// A path of the file. It is meant from where the file lies: a service starts anywhere.
    ///
    /// # Errors
    /// It begins with `~`, and there is no such home.
    pub fn path_of(&self, text: &str, line: usize) -> Result<PathBuf, ConfigError> {
        let refused = |what: &str| self.fault(line, format!("{text:?}: {what}; write the whole path"));
        if text == "~" || text.starts_with("~/") {
            let home = etcetera::home_dir().map_err(|_| refused("there is no home folder here"))?;
            return Ok(home.join(text[1..].trim_start_matches('/')));
        }
        if text.starts_with('~') {
            return Err(refused("the home of another user is not looked up"));
        }
        if text.is_empty() {
            return Ok(PathBuf::new());
        }
        let own = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        Ok(own.parent().unwrap_or(&own).join(text))
    }
}

fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Boolean(is) => Value::Bool(*is),
        DeValue::Table(_) => Value::Table,
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(values) => {
            let texts: Option<Vec<String>> = values.iter().map(|value| text_of(value.get_ref())).collect();
            texts.map_or(Value::Other("a list of something else than texts and numbers"), Value::List)
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) => {
            text_of(value).map_or(Value::Other("a number of more than 64 bits"), Value::Text)
        }
    }
}

/// Text and numbers as they would be typed.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => integer_of(number),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn integer_of(number: &DeInteger<'_>) -> Option<String> {
    Some(i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string())
}
