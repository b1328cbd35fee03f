use std::borrow::Cow;
use std::fmt;

use crate::GgufError;
use crate::parse::MAX_HEADER_BYTES;

/// Why reading stopped before the end of the header.
pub(crate) enum Stop {
    /// The bytes at hand end too early: the header reaches at least to this byte of the file.
    NeedMore(u64),
    /// The file is at fault. Boxed so that the hot path returns something small.
    Fault(Box<GgufError>),
}

impl From<GgufError> for Stop {
    fn from(error: GgufError) -> Self {
        Self::Fault(Box::new(error))
    }
}

/// A string as the file has it.
pub(crate) enum Text<'b> {
    Utf8(&'b str),
    /// A string that is not UTF-8, with U+FFFD in place of what is wrong.
    NotUtf8(Cow<'b, str>),
}

/// What is being read: a place in the header that error messages can name, formatted only if an error needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    Field(&'static str),
    Key { index: u64 },
    Value { key: &'a str },
    Length { key: &'a str },
    Element { key: &'a str, index: u64 },
    TensorName { index: u64 },
    Tensor { name: &'a str },
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => f.write_str(field),
            Self::Key { index } => write!(f, "metadata key number {index}"),
            Self::Value { key } => write!(f, "the value of key {key:?}"),
            Self::Length { key } => write!(f, "the length of array {key:?}"),
            Self::Element { key, index } => write!(f, "element {index} of key {key:?}"),
            Self::TensorName { index } => write!(f, "the name of tensor number {index}"),
            Self::Tensor { name } => write!(f, "the description of tensor {name:?}"),
        }
    }
}

/// Reads little-endian fields from a prefix of the file and knows how long the whole file is.
pub(crate) struct Cursor<'b> {
    bytes: &'b [u8],
    position: usize,
    file_len: u64,
}

impl<'b> Cursor<'b> {
    pub(crate) fn new(bytes: &'b [u8], file_len: u64) -> Self {
        Self { bytes, position: 0, file_len }
    }

    /// Bytes read so far, which is also the offset of the next one in the file.
    pub(crate) fn position(&self) -> u64 {
        self.position as u64
    }

    /// The next `len` bytes, if the file can have them and they are at hand.
    pub(crate) fn take(&mut self, len: u64, place: Place<'_>) -> Result<&'b [u8], Stop> {
        self.reserve(len, place)?;
        // `reserve` showed that the bytes are in the slice, so `len` fits a usize.
        let end = self.position + len as usize;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    /// Checks that the next `len` bytes are at hand, without reading them.
    pub(crate) fn reserve(&self, len: u64, place: Place<'_>) -> Result<(), Stop> {
        let needed_len = self.position().saturating_add(len);
        if needed_len > self.file_len {
            return Err(
                GgufError::HeaderTruncated { what: place.to_string(), needed_len, file_len: self.file_len }.into()
            );
        }
        if needed_len > MAX_HEADER_BYTES {
            let limit = MAX_HEADER_BYTES;
            return Err(GgufError::HeaderTooLarge { what: place.to_string(), needed_len, limit }.into());
        }
        if needed_len > self.bytes.len() as u64 {
            return Err(Stop::NeedMore(needed_len));
        }
        Ok(())
    }

    /// Reads a count of things that take at least `least_bytes` each, and refuses one that the file has no room for.
    pub(crate) fn count(&mut self, least_bytes: u64, place: Place<'_>) -> Result<u64, Stop> {
        let count = self.u64(place)?;
        self.check_count(count, least_bytes, place)?;
        Ok(count)
    }

    /// Refuses a count of things, at least `least_bytes` each, that the rest of the file has no room for.
    pub(crate) fn check_count(&self, count: u64, least_bytes: u64, place: Place<'_>) -> Result<(), Stop> {
        let most = (self.file_len - self.position()) / least_bytes;
        if count > most {
            return Err(GgufError::CountTooLarge { what: place.to_string(), count, most }.into());
        }
        Ok(())
    }

    pub(crate) fn array<const N: usize>(&mut self, place: Place<'_>) -> Result<[u8; N], Stop> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N as u64, place)?);
        Ok(value)
    }

    pub(crate) fn u32(&mut self, place: Place<'_>) -> Result<u32, Stop> {
        self.array(place).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, place: Place<'_>) -> Result<u64, Stop> {
        self.array(place).map(u64::from_le_bytes)
    }

    /// A string: length as u64, then that many bytes, which should be UTF-8.
    pub(crate) fn text(&mut self, place: Place<'_>) -> Result<Text<'b>, Stop> {
        let len = self.u64(place)?;
        let bytes = self.take(len, place)?;
        Ok(std::str::from_utf8(bytes).map_or_else(|_| Text::NotUtf8(String::from_utf8_lossy(bytes)), Text::Utf8))
    }

    /// A string with a limit on its length.
    pub(crate) fn name(&mut self, limit_bytes: u64, place: Place<'_>) -> Result<&'b str, Stop> {
        let len_bytes = self.u64(place)?;
        if len_bytes > limit_bytes {
            return Err(GgufError::NameTooLong { what: place.to_string(), len_bytes, limit_bytes }.into());
        }
        self.utf8(len_bytes, place)
    }

    fn utf8(&mut self, len: u64, place: Place<'_>) -> Result<&'b str, Stop> {
        let bytes = self.take(len, place)?;
        std::str::from_utf8(bytes).map_err(|_place_in_name| GgufError::InvalidUtf8 { what: place.to_string() }.into())
    }
}
