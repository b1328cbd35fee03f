use std::borrow::Cow;

use crate::{FromValue, GgufError, StringArray, Value};

/// The key-value pairs of a file, in file order, each key once.
///
/// The typed getters accept every integer width that holds the value without loss, because converters differ in the
/// width they write. Their errors name the key, the type expected and what was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    /// Indices into `entries`, sorted by key.
    by_key: Vec<u32>,
}

impl Metadata {
    /// Takes the pairs in file order.
    pub(crate) fn new(entries: Vec<(String, Value)>) -> Result<Self, GgufError> {
        let mut by_key: Vec<u32> = (0..entries.len() as u32).collect();
        by_key.sort_by_key(|&i| entries[i as usize].0.as_str());
        let key_at = |i: u32| &entries[i as usize].0;
        if let Some(pair) = by_key.windows(2).find(|pair| key_at(pair[0]) == key_at(pair[1])) {
            return Err(GgufError::DuplicateKey { key: key_at(pair[0]).clone() });
        }
        Ok(Self { entries, by_key })
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All pairs, in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, as it is in the file.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.by_key.binary_search_by(|&i| self.entries[i as usize].0.as_str().cmp(key)).ok()?;
        Some(&self.entries[self.by_key[found] as usize].1)
    }

    /// The value of `key` as a `T`, or `None` where the file does not have the key.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] if the key is there with a value that is no `T`.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(GgufError::WrongType { key: key.to_owned(), expected: T::EXPECTED, got: value.describe() }),
        }
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongType`]; so for all getters below.
    pub fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.optional(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected: T::EXPECTED })
    }

    /// An integer of any width that fits u32.
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.required(key)
    }

    /// An integer of any width that fits u64.
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        self.required(key)
    }

    /// An F32, or an F64 rounded to F32.
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.required(key)
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.required(key)
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        self.required(key)
    }

    /// An array of strings.
    pub fn string_array(&self, key: &str) -> Result<&StringArray, GgufError> {
        self.required(key)
    }

    /// An array of integers of any width that all fit u32; borrowed where the file has just that type.
    pub fn u32_array(&self, key: &str) -> Result<Cow<'_, [u32]>, GgufError> {
        self.required(key)
    }

    /// An array of integers of any width that all fit i32; borrowed where the file has just that type.
    pub fn i32_array(&self, key: &str) -> Result<Cow<'_, [i32]>, GgufError> {
        self.required(key)
    }
}
