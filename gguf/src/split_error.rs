use thiserror::Error;

/// Why files do not form one split model. Parts are numbered from 1, as in their names.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SplitError {
    /// Some files of the model are not there.
    #[error("{name} is one of the {count} files of a split model, and these are missing: {}", .missing.join(", "))]
    Missing {
        /// A file that is there.
        name: String,
        /// Number of parts.
        count: u32,
        /// Names of the files that are not there.
        missing: Vec<String>,
    },
    /// A part was given alone, and its name does not tell what the others are called.
    #[error(
        "{name} says that it is part {number} of {count} of a split model, but it is not named like one, so the others cannot be found; expected a name such as NAME-{number:05}-of-{count:05}.gguf"
    )]
    Renamed {
        /// The file.
        name: String,
        /// Which part it is.
        number: u32,
        /// Number of parts.
        count: u32,
    },
    /// A file with bytes behind its last tensor: other parts were appended to it.
    #[error(
        "{name} begins as part {number} of {count} of a split model, and {surplus_bytes} bytes follow behind its last tensor: parts were joined with cat, which does not make one model of them"
    )]
    JoinedWithCat {
        /// The file.
        name: String,
        /// Which part it begins with.
        number: u32,
        /// Number of parts.
        count: u32,
        /// Bytes behind the data of that part.
        surplus_bytes: u64,
    },
    /// One of several files is not named as a part of a split model.
    #[error("{name} is not named like a part of a split model, as in NAME-00001-of-00003.gguf")]
    NotAPartName {
        /// The file.
        name: String,
    },
    /// The names say that the files belong to different models.
    #[error("{name} and {first} are, by their names, not parts of one model")]
    OtherModel {
        /// The file.
        name: String,
        /// The first of the files.
        first: String,
    },
    /// The same part twice.
    #[error("{name} was given twice")]
    Twice {
        /// The file.
        name: String,
    },
    /// No file at all.
    #[error("a split model has no part at all")]
    NoParts,
    /// A file without `split.*` keys.
    #[error("{name} is not a part of a split model: it has no keys split.no and split.count")]
    NotAPart {
        /// The file.
        name: String,
    },
    /// A file that is another part than its place in the order calls for.
    #[error("{name} says that it is part {got_number} of {got_count}, expected part {number} of {count}")]
    WrongPart {
        /// The file.
        name: String,
        /// Part that it says it is.
        got_number: u32,
        /// Parts that it says there are.
        got_count: u32,
        /// Part that its place calls for.
        number: u32,
        /// Parts that there are.
        count: u32,
    },
    /// Parts disagree about the model's number of tensors.
    #[error(
        "{name} is a part of another model than {first}: it says that there are {got} tensors in all, expected {expected}"
    )]
    TensorTotal {
        /// The file.
        name: String,
        /// Tensors of the model, as it says.
        got: u64,
        /// The file of part 1.
        first: String,
        /// Tensors of the model, as part 1 says.
        expected: u64,
    },
    /// Parts disagree about the model's metadata.
    #[error("{name} is a part of another model than {first}: they have different values of key {key:?}")]
    Metadata {
        /// The file.
        name: String,
        /// The file of part 1.
        first: String,
        /// The key.
        key: String,
    },
    /// The same tensor in two parts.
    #[error("tensor {tensor:?} is in {first} and in {second}; they are not parts of one model")]
    DuplicateTensor {
        /// The name.
        tensor: String,
        /// File of the earlier part that has it.
        first: String,
        /// File of the later part that has it.
        second: String,
    },
    /// The parts have more or fewer tensors than they say.
    #[error(
        "the parts hold {found} tensors together, expected {told} as they say; one of them belongs to another model"
    )]
    TensorCount {
        /// Tensors of the model, as the parts say.
        told: u64,
        /// Tensors found.
        found: u64,
    },
    /// The lengths of the files cannot be added.
    #[error("with {name} the parts are longer together than can be counted")]
    TooLong {
        /// The file.
        name: String,
    },
}
