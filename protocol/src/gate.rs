//! Gates: checks of a file, of a GPU and of the arithmetic on a slice of a tensor, as somebody asks for them and as they end.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::event::Event;
use crate::tier::Tier;

/// A slice that gates look at: the first rows of a tensor, and of each the first columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GateSlice {
    /// Name of the tensor in the file; `None`: a slice of one tensor of each type in the file, in turn. Of what follows only the
    /// tolerance counts then.
    pub tensor: Option<String>,
    /// The expert whose rows are taken, in a tensor of experts, from 0 on; `None`: the first.
    pub expert: Option<u32>,
    /// Weights of each row (k): whole blocks of the tensor's type; `None`: all of them.
    pub columns: Option<u64>,
    /// Rows (n); `None`: as many as make about 8 MB of the file.
    pub rows: Option<u64>,
    /// Largest relative error that passes; `None`: the usual one.
    pub tolerance: Option<f64>,
    /// What the SHA-256 of the fetched range has to be, in hex digits; `None`: nobody knows.
    pub sha256: Option<String>,
}

/// What gates on a whole model are to run: b, d and g.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GateWhole {
    /// The first layers of the model; `None`: all of a small one, two of a large one.
    pub layers: Option<u32>,
    /// Largest relative error of logits that passes; `None`: the usual one.
    pub tolerance: Option<f64>,
}

/// A tensor of a file that gates look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateTensor {
    /// Name of the tensor in the file.
    pub name: String,
    /// ggml's name of its type.
    pub format: String,
    /// Its dimensions, the contiguous one first.
    pub shape: Vec<u64>,
    /// Length of the tensor in the file.
    pub bytes: u64,
    /// Rows of a slice unless somebody says otherwise; `None` where the engine cannot multiply the tensor.
    pub usual_rows: Option<u64>,
    /// Weights of a block of its type: columns come in multiples of it.
    pub block_weights: u64,
}

/// What a gate is doing with a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateStep {
    /// Bytes of the slice are being read.
    Fetch,
    /// They are written to the GPU and repacked there.
    Upload,
    /// Scalar arithmetic works out what must come.
    Reference,
    /// The GPU multiplies.
    Multiply,
    /// Its result is read back.
    ReadBack,
}

impl GateStep {
    /// All steps, in their order.
    pub const ALL: [Self; 5] = [Self::Fetch, Self::Upload, Self::Reference, Self::Multiply, Self::ReadBack];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Upload => "upload",
            Self::Reference => "reference",
            Self::Multiply => "multiply",
            Self::ReadBack => "read_back",
        }
    }
}

/// How far a slice is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateProgress {
    /// Name of the tensor.
    pub tensor: String,
    /// What is being done now.
    pub step: GateStep,
    /// Bytes of the slice that are here.
    pub fetched_bytes: u64,
    /// Bytes of the slice.
    pub needed_bytes: u64,
    /// Time since the slice began.
    pub elapsed_ms: f64,
}

/// How a gate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// It looked at something, and all of it held.
    Pass,
    /// Something did not hold.
    Fail,
    /// Something that it needs is missing: a GPU, a file, a tensor.
    CouldNotRun,
}

impl GateVerdict {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Fail, Self::CouldNotRun];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::CouldNotRun => "could_not_run",
        }
    }
}

/// What a gate found. As JSON it is what `pylon gate … --json` prints; what only some hosts measure is left out there.
///
/// [`crate::Event::GateReport`] carries it as JSON: a page passes most of it on as it is, and code that reads every field of it
/// would be 16 kB for everybody who opens one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Letter of the gate.
    pub gate: char,
    /// What it is about.
    pub title: String,
    /// Where the file is.
    pub path: String,
    /// What was found, by name.
    pub facts: GateFacts,
    /// Statements that hold or do not.
    pub checks: Vec<GateCheck>,
    /// Numbers that were compared.
    pub comparisons: Vec<GateComparison>,
    /// What follows from checks and comparisons.
    pub verdict: GateVerdict,
    /// Why it could not run; `None` where it could.
    pub not_run: Option<String>,
    /// What can be done about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Figures of the slice that was looked at, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<SliceFigures>,
}

/// Names and values, in the order in which they were found; an object in JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateFacts(pub Vec<(String, Value)>);

impl Serialize for GateFacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl GateReport {
    /// The report as an event carries it.
    pub fn to_event(&self) -> Event {
        let report = serde_json::to_value(self).expect("a report is JSON: no maps with other keys than text");
        Event::GateReport { report }
    }
}

impl<'de> Deserialize<'de> for GateFacts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = GateFacts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("facts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GateFacts, A::Error> {
                let mut facts = Vec::new();
                while let Some(fact) = map.next_entry()? {
                    facts.push(fact);
                }
                Ok(GateFacts(facts))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A statement that holds or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateCheck {
    /// The statement.
    pub check: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub found: String,
}

/// The right outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The relative error is at most the tolerance.
    Equal,
    /// The relative error is above the tolerance: a control, which shows that the comparison beside it can fail.
    Different,
}

/// Values compared with the ones expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateComparison {
    /// What was computed.
    pub what: String,
    /// What it is compared with.
    pub against: String,
    /// Dimensions of both.
    pub shape: Vec<u64>,
    /// Which outcome is right.
    pub expect: Expect,
    /// Largest `relative_error` that counts as equal.
    pub tolerance: f64,
    /// Values that were compared.
    pub values: u64,
    /// Values, computed or expected, that are NaN or infinite; they count in nothing else.
    pub not_finite: u64,
    /// Largest difference.
    pub max_abs: f64,
    /// Largest expected value, without its sign.
    pub largest_expected: f64,
    /// ‖got − expected‖ / ‖expected‖, Euclidean; `None` if everything expected is zero.
    pub relative_error: Option<f64>,
    /// Whether the outcome is the right one.
    pub ok: bool,
    /// Mean of all differences, without their signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_abs: Option<f64>,
    /// Where the largest difference is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<WorstValue>,
    /// Kernels that computed it, where a device has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
}

/// The value with the largest difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstValue {
    /// Its index among all that were compared, from 0 on.
    pub index: u64,
    /// What was computed.
    pub got: f64,
    /// What was expected.
    pub expected: f64,
}

/// Figures of a slice that went from the file to the GPU and back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SliceFigures {
    /// Name of the tensor.
    pub tensor: String,
    /// ggml's name of its type.
    pub format: String,
    /// Dimensions of the tensor, the contiguous one first.
    pub shape: Vec<u64>,
    /// Expert that the slice is of; `None` where the tensor has none.
    pub expert: Option<u32>,
    /// Rows of the slice.
    pub rows: u64,
    /// Columns of the slice.
    pub columns: u64,
    /// File that the range is in: one of several of a split model.
    pub file: String,
    /// First byte of the range in that file.
    pub offset_bytes: u64,
    /// Bytes that were fetched, one range without gaps: whole rows.
    pub fetched_bytes: u64,
    /// Those of them that were multiplied: fewer where not all columns were.
    pub multiplied_bytes: u64,
    /// Requests that fetching them took, repeated ones included.
    pub requests: u32,
    /// SHA-256 of the fetched range, in hex digits.
    pub sha256: String,
    /// Time until the bytes were there.
    pub fetch_ms: f64,
    /// Time for writing them to the GPU and repacking them there.
    pub upload_ms: f64,
    /// Time for the scalar arithmetic.
    pub reference_ms: f64,
    /// GPU memory that the weights take.
    pub gpu_bytes: u64,
    /// Whether nobody said what the tolerance should be.
    pub usual_tolerance: bool,
    /// Relative error that rounding to F32 gives a sum of so many terms, about: 2⁻²⁴ · √columns.
    pub rounding: f64,
    /// Kernels of this device that multiplied it.
    pub tiers: Vec<TierFigures>,
}

/// How long the kernels of one tier took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierFigures {
    /// The tier.
    pub tier: Tier,
    /// A lower tier whose kernel for this product is the same, so that it was not run again; the times are `None` then.
    pub same_as: Option<Tier>,
    /// Time from handing the product to the GPU until it is done, in a run after a first one.
    pub multiply_ms: Option<f64>,
    /// Time for reading the result back.
    pub readback_ms: Option<f64>,
}

/// A part of a message, read from JSON that is there already.
///
/// Everybody who opens a page fetches what reads its messages, and few look at gates: reading fields by name takes a fifth of the
/// code that serde derives.
trait Part: Sized {
    fn of(value: Value) -> Option<Self>;
}

impl Part for String {
    fn of(value: Value) -> Option<Self> {
        if let Value::String(text) = value { Some(text) } else { None }
    }
}

impl Part for u64 {
    fn of(value: Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Part for u32 {
    fn of(value: Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Part for f64 {
    fn of(value: Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Part for GateStep {
    fn of(value: Value) -> Option<Self> {
        Self::ALL.into_iter().find(|step| value == step.name())
    }
}

impl<T: Part> Part for Option<T> {
    fn of(value: Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::of(value).map(Some) }
    }
}

impl<T: Part> Part for Vec<T> {
    fn of(value: Value) -> Option<Self> {
        if let Value::Array(all) = value { all.into_iter().map(T::of).collect() } else { None }
    }
}

/// What is missing counts as null.
#[inline(never)]
fn part<T: Part, E: Error>(whole: &mut Value, name: &'static str) -> Result<T, E> {
    let value = whole.get_mut(name).map(Value::take).unwrap_or_default();
    T::of(value).ok_or_else(|| E::missing_field(name))
}

macro_rules! read_by_name {
    ($($type:ident { $($field:ident),+ })+) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut whole = Value::deserialize(deserializer)?;
                Ok(Self { $($field: part(&mut whole, stringify!($field))?),+ })
            }
        }
    )+};
}

read_by_name! {
    GateSlice { tensor, expert, columns, rows, tolerance, sha256 }
    GateWhole { layers, tolerance }
    GateTensor { name, format, shape, bytes, usual_rows, block_weights }
    GateProgress { tensor, step, fetched_bytes, needed_bytes, elapsed_ms }
}

impl<'de> Deserialize<'de> for GateVerdict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Self::ALL.into_iter().find(|verdict| verdict.name() == name);
        found.ok_or_else(|| D::Error::custom("no verdict"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Command;

    #[test]
    fn facts_keep_their_order_and_are_an_object() {
        let facts = GateFacts(vec![("b".into(), json!([1])), ("a".into(), json!({"x": null}))]);
        let text = serde_json::to_string(&facts).expect("JSON");
        assert_eq!(text, r#"{"b":[1],"a":{"x":null}}"#);
        assert_eq!(serde_json::from_str::<GateFacts>(&text).expect("facts"), facts);
        assert!(serde_json::from_str::<GateFacts>("[]").is_err());
    }

    /// A command as somebody might write it by hand, with what may be left out left out.
    #[test]
    fn a_short_command_can_be_read() {
        let read = |slice: &str| {
            let text = format!(r#"{{"gate":{{"model":{{"url":{{"url":"http://h/m.gguf"}}}}{slice}}}}}"#);
            match serde_json::from_str(&text).expect("a command") {
                Command::Gate { slice, .. } => slice,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(read(""), None);
        let slice = GateSlice { tensor: Some("output.weight".into()), rows: Some(8), ..GateSlice::default() };
        assert_eq!(read(r#","slice":{"tensor":"output.weight","rows":8}"#), Some(slice));
        assert!(serde_json::from_str::<GateSlice>(r#"{"rows":"8"}"#).is_err());
        let whole = serde_json::from_str::<GateWhole>(r#"{"layers":2}"#).expect("two layers");
        assert_eq!(whole, GateWhole { layers: Some(2), tolerance: None });
    }

    /// What is read by name is what is written, all of it.
    #[test]
    fn messages_survive_the_wire() {
        fn check<T: Serialize + serde::de::DeserializeOwned + PartialEq + fmt::Debug>(sent: &T) {
            let text = serde_json::to_string(sent).expect("JSON");
            assert_eq!(&serde_json::from_str::<T>(&text).expect("read back"), sent, "{text}");
        }
        let tolerance = Some(1e-6);
        check(&GateSlice {
            tensor: Some("t".into()),
            expert: Some(3),
            columns: Some(64),
            rows: Some(u64::MAX),
            tolerance,
            sha256: Some("ab".into()),
        });
        check(&GateSlice::default());
        check(&GateWhole { layers: Some(2), tolerance });
        check(&GateWhole::default());
        let (name, format, shape) = ("t".to_owned(), "F32".to_owned(), vec![3, 4]);
        check(&GateTensor { name, format, shape, bytes: 48, usual_rows: None, block_weights: 1 });
        for step in GateStep::ALL {
            check(&GateProgress { tensor: "t".into(), step, fetched_bytes: 1, needed_bytes: 2, elapsed_ms: 0.1 });
        }
        GateVerdict::ALL.iter().for_each(check);
        assert!(serde_json::from_str::<GateTensor>("{}").is_err());
    }

    /// What only some hosts measure does not stand in the reports of others.
    #[test]
    fn what_was_not_measured_is_left_out() {
        let comparison = GateComparison {
            what: "a".into(),
            against: "b".into(),
            shape: vec![3],
            expect: Expect::Equal,
            tolerance: 1e-5,
            values: 3,
            not_finite: 0,
            max_abs: 0.5,
            largest_expected: 0.0,
            relative_error: None,
            ok: false,
            mean_abs: None,
            worst: None,
            tier: None,
        };
        let text = serde_json::to_string(&comparison).expect("JSON");
        assert!(text.ends_with(r#""relative_error":null,"ok":false}"#), "{text}");
        assert_eq!(serde_json::from_str::<GateComparison>(&text).expect("read back"), comparison);
    }
}
