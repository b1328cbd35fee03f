use thiserror::Error;

use crate::{ForeignFile, TensorType};

/// What is wrong with a file, or with a question about its metadata.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The caller passed more header bytes than it said the file has.
    #[error("{header_len} bytes were given as the start of a file of {file_len} bytes; one of the two is wrong")]
    HeaderLongerThanFile {
        /// Bytes passed to `parse`.
        header_len: u64,
        /// File length passed to `parse`, in bytes.
        file_len: u64,
    },
    /// The file begins with something other than `GGUF`.
    #[error("not a GGUF file: expected it to begin with the bytes \"GGUF\", got \"{}\"", .found.escape_ascii())]
    NotGguf {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The file is of another kind, which was recognised.
    #[error("not a GGUF file: {what}")]
    Foreign {
        /// What it is.
        what: ForeignFile,
    },
    /// The name says that this is the first piece of a file that was cut, or an unfinished download. It is sound as far
    /// as it goes.
    #[error("{}: {cut}", if *.is_piece { "by its name the file is the first piece of one that was cut into pieces" } else { "by its name the file is a download that did not end" })]
    Incomplete {
        /// True for a piece, false for a download.
        is_piece: bool,
        /// The error of the place where the file ends.
        cut: Box<GgufError>,
    },
    /// A file written for big-endian machines.
    #[error("big-endian GGUF files are not supported; convert the model to a little-endian file")]
    BigEndian,
    /// A version of the format other than 2 and 3.
    #[error("GGUF version {version} is not supported, expected 2 or 3; convert the model with a current tool")]
    UnsupportedVersion {
        /// Version found in the file.
        version: u32,
    },
    /// The file ends inside its header.
    #[error(
        "the file ends inside its header: {what} needs the file up to byte {needed_len}, but it has {file_len} bytes; it is truncated or damaged"
    )]
    HeaderTruncated {
        /// What was being read.
        what: String,
        /// Length in bytes that the file would need for that.
        needed_len: u64,
        /// Length of the file in bytes.
        file_len: u64,
    },
    /// The header claims to be longer than [`MAX_HEADER_BYTES`](crate::MAX_HEADER_BYTES).
    #[error(
        "{what} would end at byte {needed_len} of the header, past the limit of {limit} bytes; the file is damaged or hostile"
    )]
    HeaderTooLarge {
        /// What was being read.
        what: String,
        /// Where it would end, in bytes from the start of the file.
        needed_len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A count of things that cannot fit into the rest of the file.
    #[error(
        "{what} is {count}, but the rest of the file has room for at most {most}; the file is truncated or damaged"
    )]
    CountTooLarge {
        /// Which count.
        what: String,
        /// The count found.
        count: u64,
        /// The largest count that could be true.
        most: u64,
    },
    /// A key or tensor name longer than the format allows.
    #[error("{what} is {len_bytes} bytes long, the format allows {limit_bytes}; the file is damaged")]
    NameTooLong {
        /// Which name.
        what: String,
        /// Its length in bytes.
        len_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A name of a key or tensor that is not UTF-8. (A value that is not is read as [`Value::NotUtf8`](crate::Value).)
    #[error("{what} is not valid UTF-8; the file is damaged")]
    InvalidUtf8 {
        /// Which text.
        what: String,
    },
    /// A boolean stored as something other than 0 or 1.
    #[error("{what} is a boolean with the value {found}, expected 0 or 1")]
    InvalidBool {
        /// Which value.
        what: String,
        /// The byte found.
        found: u8,
    },
    /// A metadata value of a type the format does not have.
    #[error("{what} has the value type {found}, expected 0 to 12")]
    UnknownValueType {
        /// Which value.
        what: String,
        /// The type id found.
        found: u32,
    },
    /// Arrays of arrays of arrays ... beyond the limit.
    #[error("key {key:?} nests arrays deeper than {limit} levels")]
    NestingTooDeep {
        /// The key.
        key: String,
        /// The deepest nesting accepted.
        limit: u32,
    },
    /// The same metadata key twice.
    #[error("key {key:?} occurs more than once")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key that was asked for is not there.
    #[error("key {key:?} is missing, expected {expected}")]
    MissingKey {
        /// The key.
        key: String,
        /// Type that was asked for.
        expected: &'static str,
    },
    /// A key has a value of another type.
    #[error("key {key:?}: expected {expected}, got {got}")]
    WrongType {
        /// The key.
        key: String,
        /// Type that was asked for.
        expected: &'static str,
        /// Type and, for short values, value found.
        got: String,
    },
    /// `general.alignment` is not a power of two.
    #[error("key \"general.alignment\": expected a power of two, got {found}")]
    InvalidAlignment {
        /// The value found.
        found: u64,
    },
    /// The `split.*` keys are incomplete or contradict each other.
    #[error("the keys split.no, split.count and split.tensors.count do not describe a part of a split model: {why}")]
    InvalidSplit {
        /// What is wrong with them.
        why: String,
    },
    /// The same tensor name twice.
    #[error("tensor {tensor:?} occurs more than once")]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },
    /// A tensor without dimensions.
    #[error("tensor {tensor:?} has no dimensions, expected 1 to 4")]
    NoDimensions {
        /// Tensor name.
        tensor: String,
    },
    /// A tensor with more dimensions than ggml has.
    #[error("tensor {tensor:?} has {found} dimensions, expected 1 to 4")]
    TooManyDimensions {
        /// Tensor name.
        tensor: String,
        /// Number of dimensions found.
        found: u32,
    },
    /// A shape whose size in weights or bytes does not fit into 64 bits.
    #[error("tensor {tensor:?}: the shape {shape:?} has more weights than can be counted")]
    ShapeOverflow {
        /// Tensor name.
        tensor: String,
        /// Dimensions, contiguous first.
        shape: Vec<u64>,
    },
    /// A row that ends inside a block.
    #[error("tensor {tensor:?}: rows of {row_len} weights are not whole {kind} blocks of {block_len}")]
    PartialBlock {
        /// Tensor name.
        tensor: String,
        /// Weights in a row (ne0).
        row_len: u64,
        /// Type of the tensor.
        kind: TensorType,
        /// Weights in a block of that type.
        block_len: u64,
    },
    /// An offset that is not a multiple of the alignment.
    #[error("tensor {tensor:?}: its offset {offset} into the data is not a multiple of the alignment, {alignment}")]
    MisalignedOffset {
        /// Tensor name.
        tensor: String,
        /// Offset relative to the start of the data, in bytes.
        offset: u64,
        /// The file's alignment in bytes.
        alignment: u64,
    },
    /// An offset so large that the tensor's end does not fit into 64 bits.
    #[error("tensor {tensor:?}: its offset {offset} into the data is impossibly large")]
    OffsetOverflow {
        /// Tensor name.
        tensor: String,
        /// Offset relative to the start of the data, in bytes.
        offset: u64,
    },
    /// Two tensors claim the same bytes.
    #[error("tensors {first:?} and {second:?} overlap at byte {offset} of the file")]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The tensor that begins inside it.
        second: String,
        /// Where the second begins, in bytes from the start of the file.
        offset: u64,
    },
    /// The file ends before its tensors do.
    #[error(
        "the file is truncated: it has {file_len} bytes and {missing_bytes} more are missing, from tensor {tensor:?} on"
    )]
    FileTruncated {
        /// The first tensor in file order of data that is not whole.
        tensor: String,
        /// Bytes missing at the end.
        missing_bytes: u64,
        /// Length of the file in bytes.
        file_len: u64,
    },
}
