use crate::cursor::{Cursor, Place, Stop, Text};
use crate::identify::identify;
use crate::layout::{Blocks, TensorClaim, place_tensors};
use crate::split::split_info;
use crate::{Array, Gguf, GgufError, Metadata, StringArray, TensorInfo, TensorType, Value};

/// Alignment of tensor data in bytes where the file has no `general.alignment`.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// Headers longer than this are refused. The largest public vocabularies make headers of about 16 MiB; without a
/// limit, one damaged length would make a browser fetch a whole model as "header".
pub const MAX_HEADER_BYTES: u64 = 256 << 20;

/// Longest metadata key and tensor name in bytes. The format's own limit for keys; it says 64 for tensor names, but
/// real writers exceed that.
const MAX_NAME_BYTES: u64 = 65535;

/// Deepest nesting of arrays. No known file nests at all; the limit keeps recursion off the stack's end.
const MAX_ARRAY_DEPTH: u32 = 4;

/// Smallest useful first read: one round trip for it costs the same as for 24 bytes.
const FIRST_READ_BYTES: u64 = 64 << 10;

const MAX_DIMENSIONS: u32 = 4;

/// Bytes of the smallest possible key-value pair: empty key, type, one byte of value.
const LEAST_PAIR_BYTES: u64 = 8 + 4 + 1;

/// Bytes of the smallest possible tensor description: empty name, one dimension, type, offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// How far a header could be read.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The header goes on past the bytes given.
    NeedMore {
        /// Call again with at least this many bytes from the start of the file. Covers everything that is known to be
        /// missing, and at least doubles what was given, so that reading a header of n bytes parses fewer than 4·n in
        /// total; never more than the file has.
        at_least: u64,
    },
    /// The header is whole and sound.
    Ready(Box<Gguf>),
}

/// Reads the header of a GGUF file from a prefix of the file.
///
/// `header` holds the first bytes of the file, as many as there are so far (none is fine); `file_len` is the length
/// of the whole file in bytes.
///
/// # Errors
/// A [`GgufError`] if the file is no GGUF file, or one that is damaged, truncated or contradicts itself. What a prefix
/// shows to be wrong is reported at once, without asking for the rest; a prefix of a sound file is never refused.
pub fn parse(header: &[u8], file_len: u64) -> Result<Progress, GgufError> {
    let header_len = header.len() as u64;
    if header_len > file_len {
        return Err(GgufError::HeaderLongerThanFile { header_len, file_len });
    }
    if file_len > 0
        && let Some(what) = identify(header, file_len, "")
    {
        return Err(GgufError::Foreign { what });
    }
    match read_header(&mut Cursor::new(header, file_len), file_len) {
        Ok(gguf) => Ok(Progress::Ready(Box::new(gguf))),
        Err(Stop::Fault(error)) => Err(*error),
        Err(Stop::NeedMore(known)) => {
            let at_least = known.max(header_len.saturating_mul(2)).max(FIRST_READ_BYTES).min(file_len);
            Ok(Progress::NeedMore { at_least })
        }
    }
}

fn read_header(cursor: &mut Cursor<'_>, file_len: u64) -> Result<Gguf, Stop> {
    let version = read_version(cursor)?;
    let tensor_count = cursor.count(LEAST_TENSOR_BYTES, Place::Field("the tensor count"))?;
    let pair_count = cursor.count(LEAST_PAIR_BYTES, Place::Field("the metadata count"))?;

    let mut entries = Vec::new();
    for index in 0..pair_count {
        entries.push(read_pair(cursor, index)?);
    }
    let metadata = Metadata::new(entries)?;
    let alignment = alignment(&metadata)?;
    let split = split_info(&metadata)?;

    cursor.check_count(tensor_count, LEAST_TENSOR_BYTES, Place::Field("the tensor count"))?;
    let blocks = Blocks::of(&metadata);
    let mut claims = Vec::new();
    for index in 0..tensor_count {
        claims.push(read_tensor(cursor, index, blocks)?);
    }
    // Cannot overflow: the position is at most MAX_HEADER_BYTES and the alignment a power of two below 2^32.
    let data_offset = cursor.position().next_multiple_of(alignment);
    let tensors = place_tensors(claims, data_offset, alignment, file_len)?;
    let by_name = index_by_name(&tensors)?;
    Ok(Gguf { version, alignment, data_offset, file_len, metadata, tensors, by_name, split })
}

/// The key of each key-value pair of a header, and the bytes of the whole pair: key, type and value.
///
/// They are for writers that carry metadata over as they are, also strings that are not UTF-8.
///
/// # Errors
/// As [`parse`]; [`GgufError::HeaderTruncated`] if `header` ends before the last pair does.
pub fn raw_pairs(header: &[u8], file_len: u64) -> Result<Vec<(&str, &[u8])>, GgufError> {
    locate_pairs(&mut Cursor::new(header, file_len), header).map_err(|stop| match stop {
        Stop::Fault(error) => *error,
        Stop::NeedMore(needed_len) => {
            GgufError::HeaderTruncated { what: "the metadata".to_owned(), needed_len, file_len: header.len() as u64 }
        }
    })
}

fn locate_pairs<'b>(cursor: &mut Cursor<'b>, header: &'b [u8]) -> Result<Vec<(&'b str, &'b [u8])>, Stop> {
    read_version(cursor)?;
    cursor.u64(Place::Field("the tensor count"))?;
    let count = cursor.count(LEAST_PAIR_BYTES, Place::Field("the metadata count"))?;
    let mut pairs = Vec::new();
    for index in 0..count {
        let begin = cursor.position() as usize;
        let key = cursor.name(MAX_NAME_BYTES, Place::Key { index })?;
        let value_type = cursor.u32(Place::Value { key })?;
        read_value(cursor, key, value_type)?;
        pairs.push((key, &header[begin..cursor.position() as usize]));
    }
    Ok(pairs)
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, Stop> {
    match &cursor.array::<4>(Place::Field("the magic number"))? {
        b"GGUF" => {}
        b"FUGG" => return Err(GgufError::BigEndian.into()),
        other => return Err(GgufError::NotGguf { found: *other }.into()),
    }
    match cursor.u32(Place::Field("the version"))? {
        version @ (2 | 3) => Ok(version),
        // Versions are small numbers, so a value with only high bytes set is one with its bytes swapped.
        swapped if swapped != 0 && swapped & 0xffff == 0 => Err(GgufError::BigEndian.into()),
        version => Err(GgufError::UnsupportedVersion { version }.into()),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    match metadata.optional::<u32>("general.alignment")? {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(bytes) if bytes.is_power_of_two() => Ok(bytes.into()),
        Some(bytes) => Err(GgufError::InvalidAlignment { found: bytes.into() }),
    }
}

fn index_by_name(tensors: &[TensorInfo]) -> Result<Vec<u32>, GgufError> {
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
    let name = |i: u32| tensors[i as usize].name.as_str();
    by_name.sort_by_key(|&i| name(i));
    match by_name.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        Some(pair) => Err(GgufError::DuplicateTensor { tensor: name(pair[0]).to_owned() }),
        None => Ok(by_name),
    }
}

fn read_tensor(cursor: &mut Cursor<'_>, index: u64, blocks: Blocks) -> Result<TensorClaim, Stop> {
    let name = cursor.name(MAX_NAME_BYTES, Place::TensorName { index })?;
    let place = Place::Tensor { name };
    let dimensions = match cursor.u32(place)? {
        0 => return Err(GgufError::NoDimensions { tensor: name.to_owned() }.into()),
        found if found > MAX_DIMENSIONS => {
            return Err(GgufError::TooManyDimensions { tensor: name.to_owned(), found }.into());
        }
        count => count,
    };
    let shape = (0..dimensions).map(|_| cursor.u64(place)).collect::<Result<Vec<_>, _>>()?;
    let kind = TensorType::from_id(cursor.u32(place)?);
    let relative_offset = cursor.u64(place)?;
    let size_bytes = blocks.size_bytes(name, kind, &shape)?;
    Ok(TensorClaim { name: name.to_owned(), shape, kind, relative_offset, size_bytes })
}

fn read_pair(cursor: &mut Cursor<'_>, index: u64) -> Result<(String, Value), Stop> {
    let key = cursor.name(MAX_NAME_BYTES, Place::Key { index })?;
    let value_type = cursor.u32(Place::Value { key })?;
    Ok((key.to_owned(), read_value(cursor, key, value_type)?))
}

// Value type ids: the format's `gguf_metadata_value_type`.
fn read_value(cursor: &mut Cursor<'_>, key: &str, value_type: u32) -> Result<Value, Stop> {
    let place = Place::Value { key };
    Ok(match value_type {
        0 => Value::U8(u8::from_le_bytes(cursor.array(place)?)),
        1 => Value::I8(i8::from_le_bytes(cursor.array(place)?)),
        2 => Value::U16(u16::from_le_bytes(cursor.array(place)?)),
        3 => Value::I16(i16::from_le_bytes(cursor.array(place)?)),
        4 => Value::U32(cursor.u32(place)?),
        5 => Value::I32(i32::from_le_bytes(cursor.array(place)?)),
        6 => Value::F32(f32::from_le_bytes(cursor.array(place)?)),
        7 => Value::Bool(boolean(cursor.array::<1>(place)?[0], place)?),
        8 => match cursor.text(place)? {
            Text::Utf8(text) => Value::String(text.to_owned()),
            Text::NotUtf8(lossy) => Value::NotUtf8(lossy.into_owned()),
        },
        9 => Value::Array(read_array(cursor, key, 1)?),
        10 => Value::U64(cursor.u64(place)?),
        11 => Value::I64(i64::from_le_bytes(cursor.array(place)?)),
        12 => Value::F64(f64::from_le_bytes(cursor.array(place)?)),
        found => return Err(GgufError::UnknownValueType { what: place.to_string(), found }.into()),
    })
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, depth: u32) -> Result<Array, Stop> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(GgufError::NestingTooDeep { key: key.to_owned(), limit: MAX_ARRAY_DEPTH }.into());
    }
    let place = Place::Value { key };
    let element_type = cursor.u32(place)?;
    let count = cursor.u64(place)?;
    // All elements are taken at once: either all are there, or reading stops before anything is allocated.
    macro_rules! numbers {
        ($type:ty) => {{
            const WIDTH: usize = size_of::<$type>();
            cursor.check_count(count, WIDTH as u64, Place::Length { key })?;
            let (elements, _) = cursor.take(count * WIDTH as u64, place)?.as_chunks::<WIDTH>();
            elements.iter().map(|&bytes| <$type>::from_le_bytes(bytes)).collect()
        }};
    }
    Ok(match element_type {
        0 => Array::U8(numbers!(u8)),
        1 => Array::I8(numbers!(i8)),
        2 => Array::U16(numbers!(u16)),
        3 => Array::I16(numbers!(i16)),
        4 => Array::U32(numbers!(u32)),
        5 => Array::I32(numbers!(i32)),
        6 => Array::F32(numbers!(f32)),
        7 => Array::Bool(read_bools(cursor, key, count)?),
        8 => read_strings(cursor, key, count)?,
        9 => Array::Array(read_arrays(cursor, key, count, depth + 1)?),
        10 => Array::U64(numbers!(u64)),
        11 => Array::I64(numbers!(i64)),
        12 => Array::F64(numbers!(f64)),
        found => {
            return Err(
                GgufError::UnknownValueType { what: Place::Element { key, index: 0 }.to_string(), found }.into()
            );
        }
    })
}

fn read_bools(cursor: &mut Cursor<'_>, key: &str, count: u64) -> Result<Vec<bool>, Stop> {
    cursor.check_count(count, 1, Place::Length { key })?;
    let bytes = cursor.take(count, Place::Value { key })?;
    let place = |index| Place::Element { key, index };
    (0..).zip(bytes).map(|(index, &byte)| Ok(boolean(byte, place(index))?)).collect()
}

fn read_strings(cursor: &mut Cursor<'_>, key: &str, count: u64) -> Result<Array, Stop> {
    const LENGTH_BYTES: u64 = 8;
    cursor.check_count(count, LENGTH_BYTES, Place::Length { key })?;
    // The lengths themselves must be at hand before memory for `count` ends is allocated.
    cursor.reserve(count * LENGTH_BYTES, Place::Value { key })?;
    let mut strings = StringArray::with_capacity(count as usize);
    let mut first_wrong = None;
    for index in 0..count {
        match cursor.text(Place::Element { key, index })? {
            Text::Utf8(text) => strings.push(text),
            Text::NotUtf8(lossy) => {
                first_wrong = first_wrong.or(Some(index as usize));
                strings.push(&lossy);
            }
        }
    }
    Ok(match first_wrong {
        None => Array::String(strings),
        Some(first) => Array::NotUtf8 { lossy: strings, first },
    })
}

fn read_arrays(cursor: &mut Cursor<'_>, key: &str, count: u64, depth: u32) -> Result<Vec<Array>, Stop> {
    const LEAST_ARRAY_BYTES: u64 = 4 + 8;
    cursor.check_count(count, LEAST_ARRAY_BYTES, Place::Length { key })?;
    (0..count).map(|_| read_array(cursor, key, depth)).collect()
}

fn boolean(byte: u8, place: Place<'_>) -> Result<bool, GgufError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(GgufError::InvalidBool { what: place.to_string(), found }),
    }
}
