//! Reading `goldens/*.json`; `goldens/README.md` says what the fields are.

use serde_json::Value;

/// One case of a golden file.
pub struct Case(Value);

/// The cases of a file, which must have some.
pub fn cases(json: &str) -> Vec<Case> {
    let file: Value = serde_json::from_str(json).expect("goldens are JSON");
    let cases = file["cases"].as_array().expect("goldens have cases");
    assert!(!cases.is_empty(), "{} has no cases", file["op"]);
    cases.iter().cloned().map(Case).collect()
}

impl Case {
    fn field(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("the case has no field {name}"))
    }

    /// What to call the case in messages: its name, or its sizes.
    pub fn name(&self) -> String {
        let fields = self.0.as_object().expect("a case is an object").iter();
        let small: Vec<String> = fields
            .filter(|(name, value)| !value.is_array() && !name.ends_with("_hex"))
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        small.join(", ")
    }

    pub fn size(&self, name: &str) -> usize {
        self.field(name).as_u64().unwrap_or_else(|| panic!("{name} is a size")) as usize
    }

    /// `None` for null.
    pub fn optional_size(&self, name: &str) -> Option<usize> {
        (!self.field(name).is_null()).then(|| self.size(name))
    }

    pub fn number(&self, name: &str) -> f64 {
        self.field(name).as_f64().unwrap_or_else(|| panic!("{name} is a number"))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.field(name).as_bool().unwrap_or_else(|| panic!("{name} is a flag"))
    }

    pub fn text(&self, name: &str) -> &str {
        self.field(name).as_str().unwrap_or_else(|| panic!("{name} is text"))
    }

    fn array<T>(&self, name: &str, convert: impl Fn(&Value) -> Option<T>) -> Vec<T> {
        let values = self.field(name).as_array().unwrap_or_else(|| panic!("{name} is an array"));
        values.iter().map(|value| convert(value).unwrap_or_else(|| panic!("{name} holds {value}"))).collect()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.array(name, |value| value.as_f64().map(|value| value as f32))
    }

    pub fn integers(&self, name: &str) -> Vec<usize> {
        self.array(name, |value| value.as_u64().map(|value| value as usize))
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let hex = self.text(name).as_bytes();
        let digit = |at: usize| (hex[at] as char).to_digit(16).unwrap_or_else(|| panic!("{name} is hexadecimal")) as u8;
        (0..hex.len() / 2).map(|i| digit(2 * i) << 4 | digit(2 * i + 1)).collect()
    }
}
