//! What can be chosen on the gate page: in its form and in its address, by the same names.

use gptoss_protocol::{GateSlice, GateWhole, OptionId};

use crate::query::{decode, is_others};

/// Something that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Where the file is.
    Gguf,
    /// Name of the tensor.
    Tensor,
    /// Expert whose rows are taken.
    Expert,
    /// Columns.
    Columns,
    /// Rows.
    Rows,
    /// Largest relative error that passes.
    Tolerance,
    /// SHA-256 that the range has to have.
    Sha256,
    /// Layers of the whole model.
    Layers,
}

impl Field {
    /// All of them, in the order of the form.
    pub const ALL: [Self; 8] = [
        Self::Gguf,
        Self::Tensor,
        Self::Expert,
        Self::Columns,
        Self::Rows,
        Self::Tolerance,
        Self::Sha256,
        Self::Layers,
    ];

    /// Name in the address.
    pub fn key(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Tensor => "tensor",
            Self::Expert => "expert",
            Self::Columns => "k",
            Self::Rows => "n",
            Self::Tolerance => "tolerance",
            Self::Sha256 => "sha256",
            Self::Layers => "layers",
        }
    }

    /// Id of the input.
    pub fn id(self) -> String {
        format!("gate-{}", self.key())
    }
}

/// What stands in the inputs, as it was typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateInputs([String; Field::ALL.len()]);

/// An input that cannot be used; `None`: the address as a whole.
pub type Refused = (Option<Field>, String);

impl GateInputs {
    /// What stands in an input, without blanks around it.
    pub fn get(&self, field: Field) -> &str {
        self.0[field as usize].trim()
    }

    /// Changes what stands in an input.
    pub fn set(&mut self, field: Field, value: &str) {
        value.clone_into(&mut self.0[field as usize]);
    }

    /// The slice that is chosen, of the output matrix if no tensor is named, and how much of the whole model is.
    ///
    /// # Errors
    /// Every number that is none.
    pub fn chosen(&self) -> Result<(GateSlice, GateWhole), Vec<Refused>> {
        let mut refused = Vec::new();
        let text = |field| Some(self.get(field)).filter(|text| !text.is_empty()).map(str::to_owned);
        let whole = "a whole number";
        let tolerance: Option<f64> = self.number(Field::Tolerance, "a number such as 1e-5", &mut refused);
        let expert: Option<u64> = self.number(Field::Expert, whole, &mut refused);
        let slice = GateSlice {
            tensor: text(Field::Tensor).or_else(|| Some("output.weight".to_owned())),
            expert: expert.map(|expert| expert.try_into().unwrap_or(u32::MAX)),
            columns: self.number(Field::Columns, whole, &mut refused),
            rows: self.number(Field::Rows, whole, &mut refused),
            tolerance,
            sha256: text(Field::Sha256),
        };
        let whole = GateWhole { layers: self.number(Field::Layers, whole, &mut refused), tolerance };
        // JSON has no infinities, and no NaN.
        if tolerance.is_some_and(|tolerance| !(tolerance.is_finite() && tolerance >= 0.0)) {
            refused.push((Some(Field::Tolerance), "tolerance has to be zero or above.".to_owned()));
        }
        if refused.is_empty() { Ok((slice, whole)) } else { Err(refused) }
    }

    fn number<T: std::str::FromStr>(&self, field: Field, expected: &str, refused: &mut Vec<Refused>) -> Option<T> {
        let text = self.get(field);
        let number = text.parse().ok();
        if number.is_none() && !text.is_empty() {
            refused.push((Some(field), format!("{} is \"{text}\", expected {expected}.", field.key())));
        }
        number
    }
}

/// Reads the part of the address after `?`. As on the main page nothing is ignored that might be meant for this one.
pub fn parse(query: &str) -> (GateInputs, Vec<Refused>) {
    let (mut inputs, mut refused) = (GateInputs::default(), Vec::new());
    let mut seen = Vec::new();
    for part in query.strip_prefix('?').unwrap_or(query).split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if is_others(key) {
            continue;
        }
        let (Some(key), Some(value)) = (decode(key), decode(value)) else {
            refused.push((None, format!("\"{key}\" in the address is not valid percent-encoded UTF-8.")));
            continue;
        };
        let Some(field) = Field::ALL.into_iter().find(|field| field.key() == key) else {
            refused.push((None, format!("The address has a parameter \"{key}\" that the gate page does not know.")));
            continue;
        };
        if seen.contains(&field) {
            refused.push((None, format!("{key} stands in the address more than once.")));
            continue;
        }
        seen.push(field);
        inputs.set(field, &value);
    }
    if !inputs.get(Field::Gguf).is_empty()
        && let Err(error) = crate::inputs::check(OptionId::Gguf, inputs.get(Field::Gguf))
    {
        refused.push((Some(Field::Gguf), error.message));
    }
    refused.extend(inputs.chosen().err().into_iter().flatten());
    (inputs, refused)
}
