//! What is worth knowing about a file that runs all the same.

use gptoss_gguf::{Array, Gguf, Value, unknown_keys};

/// How many names a line lists, and how long each may be.
const LISTED: usize = 6;
const NAME_CHARACTERS: usize = 64;

/// Remarks about the file: one line of bounded length for each kind.
pub fn file_notes(gguf: &Gguf) -> Vec<String> {
    let not_utf8 = gguf.metadata.iter().filter(|(_, value)| is_not_utf8(value)).map(|(key, _)| key).collect();
    let empty = gguf.tensors.iter().filter(|tensor| tensor.is_empty()).map(|tensor| tensor.name.as_str()).collect();
    [
        (unknown_keys(gguf), "this engine does not know, and does not use: "),
        (not_utf8, "keys whose text is not UTF-8, and is not used: "),
        (empty, "tensors without weights, which nothing uses: "),
    ]
    .into_iter()
    .filter(|(names, _): &(Vec<&str>, _)| !names.is_empty())
    .map(|(names, what)| format!("{what}{}", listed(&names)))
    .collect()
}

fn is_not_utf8(value: &Value) -> bool {
    fn of_array(array: &Array) -> bool {
        match array {
            Array::NotUtf8 { .. } => true,
            Array::Array(inner) => inner.iter().any(of_array),
            _ => false,
        }
    }
    match value {
        Value::NotUtf8(_) => true,
        Value::Array(array) => of_array(array),
        _ => false,
    }
}

fn listed(names: &[&str]) -> String {
    let short = |name: &&str| match name.char_indices().nth(NAME_CHARACTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => (*name).to_owned(),
    };
    let mut list = names.iter().take(LISTED).map(short).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        list += &format!(" and {} more", names.len() - LISTED);
    }
    list
}
