use std::borrow::Cow;
use std::fmt;
use std::ops::Index;

/// One metadata value, with the type it has in the file.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's value types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// A string that is not UTF-8, as the format requires, with U+FFFD in place of what is wrong. No getter returns it;
    /// it exists to be shown.
    NotUtf8(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array value; all elements have one type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's value types")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(StringArray),
    /// Strings of which at least one is not UTF-8, like [`Value::NotUtf8`].
    NotUtf8 {
        lossy: StringArray,
        /// Index of the first string that is not UTF-8.
        first: usize,
    },
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Strings stored end to end: two allocations however many there are. A gpt-oss file has 201088 tokens and 446189
/// merges, which as separate `String`s would cost 15 MB of headers alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StringArray {
    text: String,
    /// Where each string ends in `text`. u32 is enough: a header is limited to 256 MiB.
    ends: Vec<u32>,
}

impl StringArray {
    pub(crate) fn with_capacity(strings: usize) -> Self {
        Self { text: String::new(), ends: Vec::with_capacity(strings) }
    }

    pub(crate) fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len() as u32);
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.text[start..end])
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = &self.text[start..end as usize];
            start = end as usize;
            string
        })
    }
}

impl Index<usize> for StringArray {
    type Output = str;

    /// # Panics
    /// If there is no string at `index`, as indexing a slice does.
    fn index(&self, index: usize) -> &str {
        match self.get(index) {
            Some(string) => string,
            None => panic!("index {index} is out of range for an array of {} strings", self.len()),
        }
    }
}

impl Value {
    /// Type and, if short, value, for messages: `u32 7`, `string "abc"`, `array of 3 strings`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::U8(v) => format!("u8 {v}"),
            Self::I8(v) => format!("i8 {v}"),
            Self::U16(v) => format!("u16 {v}"),
            Self::I16(v) => format!("i16 {v}"),
            Self::U32(v) => format!("u32 {v}"),
            Self::I32(v) => format!("i32 {v}"),
            Self::U64(v) => format!("u64 {v}"),
            Self::I64(v) => format!("i64 {v}"),
            Self::F32(v) => format!("f32 {v}"),
            Self::F64(v) => format!("f64 {v}"),
            Self::Bool(v) => format!("bool {v}"),
            Self::String(v) if v.len() <= 64 => format!("string {v:?}"),
            Self::String(v) => format!("string of {} bytes", v.len()),
            Self::NotUtf8(v) if v.len() <= 64 => format!("a string that is not UTF-8, about {v:?}"),
            Self::NotUtf8(_) => "a string that is not UTF-8".to_owned(),
            Self::Array(array) => array.to_string(),
        }
    }

    /// The value as a wide integer, whatever width and sign it has in the file; `None` if it is no integer.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.facts().0
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn facts(&self) -> (usize, &'static str) {
        match self {
            Self::U8(v) => (v.len(), "u8"),
            Self::I8(v) => (v.len(), "i8"),
            Self::U16(v) => (v.len(), "u16"),
            Self::I16(v) => (v.len(), "i16"),
            Self::U32(v) => (v.len(), "u32"),
            Self::I32(v) => (v.len(), "i32"),
            Self::U64(v) => (v.len(), "u64"),
            Self::I64(v) => (v.len(), "i64"),
            Self::F32(v) => (v.len(), "f32"),
            Self::F64(v) => (v.len(), "f64"),
            Self::Bool(v) => (v.len(), "bool"),
            Self::String(v) | Self::NotUtf8 { lossy: v, .. } => (v.len(), "string"),
            Self::Array(v) => (v.len(), "array"),
        }
    }

    /// The elements as `T`, if they are integers that all fit.
    fn integers<T: TryFrom<i128>>(&self) -> Option<Vec<T>> {
        fn all<S: Copy + Into<i128>, T: TryFrom<i128>>(from: &[S]) -> Option<Vec<T>> {
            from.iter().map(|&v| T::try_from(v.into()).ok()).collect()
        }
        match self {
            Self::U8(v) => all(v),
            Self::I8(v) => all(v),
            Self::U16(v) => all(v),
            Self::I16(v) => all(v),
            Self::U32(v) => all(v),
            Self::I32(v) => all(v),
            Self::U64(v) => all(v),
            Self::I64(v) => all(v),
            _ => None,
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, element) = self.facts();
        write!(f, "array of {len} x {element}")?;
        match self {
            Self::NotUtf8 { first, .. } => write!(f, ", of which element {first} is not UTF-8"),
            _ => Ok(()),
        }
    }
}

/// A Rust type that a metadata value can be read as.
pub trait FromValue<'a>: Sized {
    /// How messages call the type.
    const EXPECTED: &'static str;

    /// The value as this type; `None` if it has another type or does not fit.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! from_integer {
    ($($type:ty, $array:ident, $expected:literal, $expected_array:literal;)*) => {$(
        impl FromValue<'_> for $type {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &Value) -> Option<Self> {
                value.integer()?.try_into().ok()
            }
        }

        impl<'a> FromValue<'a> for Cow<'a, [$type]> {
            const EXPECTED: &'static str = $expected_array;
            fn from_value(value: &'a Value) -> Option<Self> {
                match value {
                    Value::Array(Array::$array(same)) => Some(Cow::Borrowed(same)),
                    Value::Array(other) => other.integers().map(Cow::Owned),
                    _ => None,
                }
            }
        }
    )*};
}

from_integer! {
    u32, U32, "an integer that fits u32", "an array of integers that fit u32";
    i32, I32, "an integer that fits i32", "an array of integers that fit i32";
    u64, U64, "an integer that fits u64", "an array of integers that fit u64";
    i64, I64, "an integer that fits i64", "an array of integers that fit i64";
}

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a floating-point number";
    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(v) => Some(v),
            // Rounded: no key is known whose meaning needs more than F32.
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a boolean";
    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a StringArray {
    const EXPECTED: &'static str = "an array of strings";
    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::String(v)) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [f32] {
    const EXPECTED: &'static str = "an array of f32";
    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::F32(v)) => Some(v),
            _ => None,
        }
    }
}
