//! The JSON-Schema-Test-Suite through the grammar: an answer may come if and only if it is valid. What cannot be enforced, and is
//! refused, is listed in `json_schema/refused.txt`; where the grammar is stricter than the schema, in `json_schema/stricter.txt`;
//! where a format is less exact than its specification, in `json_schema/looser_formats.txt`. The lists are exact: the test fails on
//! what is not listed, and on what is listed and not so. Beside formats nothing may be looser than its schema.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use gptoss_grammar::{Grammars, check};
use gptoss_protocol::{AnswerShape, TextShape};
use serde::Deserialize;
use serde_json::{Map, Value};

use support::{allowed, nano};

/// A line of `json_schema/suite.jsonl`.
#[derive(Deserialize)]
struct Group {
    file: String,
    group: String,
    schema: Value,
    tests: Vec<(String, Value, bool)>,
}

/// A grammar has the properties of an object in one order, which is no matter of validity: so many orders of an instance are tried.
const MOST_ORDERS: usize = 24;

/// `value` with its objects in every order, as far as there are not too many.
fn orders(value: &Value) -> Vec<Value> {
    let all = match value {
        Value::Object(fields) => object_orders(fields),
        Value::Array(items) => {
            let mut lists = vec![Vec::new()];
            for item in items {
                let variants = orders(item);
                lists = lists
                    .iter()
                    .flat_map(|list: &Vec<Value>| {
                        variants.iter().map(move |it| [&list[..], std::slice::from_ref(it)].concat())
                    })
                    .take(MOST_ORDERS)
                    .collect();
            }
            lists.into_iter().map(Value::from).collect()
        }
        other => vec![other.clone()],
    };
    all.into_iter().take(MOST_ORDERS).collect()
}

fn object_orders(fields: &Map<String, Value>) -> Vec<Value> {
    if fields.is_empty() {
        return vec![Value::Object(Map::new())];
    }
    let mut found = Vec::new();
    for (name, value) in fields {
        let mut others = fields.clone();
        others.shift_remove(name);
        for rest in object_orders(&others) {
            for value in orders(value) {
                let mut object = Map::from_iter([(name.clone(), value)]);
                object.extend(rest.as_object().expect("an object").clone());
                found.push(Value::Object(object));
                if found.len() == MOST_ORDERS {
                    return found;
                }
            }
        }
    }
    found
}

/// Compares a list with the file that has it, or writes the file anew.
fn assert_listed(name: &str, found: &BTreeSet<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json_schema").join(name);
    if std::env::var_os("UPDATE_LISTS").is_some() {
        let text: String = found.iter().map(|line| format!("{line}\n")).collect();
        return std::fs::write(path, text).expect("the list can be written");
    }
    let text = std::fs::read_to_string(&path).expect("the list is there");
    let listed: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let (new, gone): (Vec<_>, Vec<_>) = (found.difference(&listed).collect(), listed.difference(found).collect());
    assert!(new.is_empty() && gone.is_empty(), "{name}: not listed: {new:#?}\nlisted and not so: {gone:#?}");
}

#[test]
fn an_answer_may_come_if_and_only_if_it_is_valid() {
    let tokenizer = nano();
    let grammars = Grammars::new(&tokenizer);
    let (mut refused, mut stricter, mut looser) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut tried = 0;
    for line in include_str!("json_schema/suite.jsonl").lines() {
        let Group { file, group, schema, tests } = serde_json::from_str(line).expect("a group");
        let shape = AnswerShape { answer: Some(TextShape::JsonSchema(schema)), calls: Vec::new() };
        if let Err(error) = check(&shape) {
            let reason = error.reason.strip_prefix("the JSON Schema cannot be enforced: ").expect("a schema's reason");
            refused.insert(format!("{file}: {group}: {reason}"));
            continue;
        }
        for (test, instance, is_valid) in tests {
            let may_come = |value: &Value| {
                let turn = format!("<|channel|>final<|message|>{value}<|return|>");
                allowed(&tokenizer, &grammars, &shape, &turn).is_ok()
            };
            tried += 1;
            let most = if is_valid { MOST_ORDERS } else { 4 };
            match (orders(&instance).iter().take(most).any(may_come), is_valid) {
                (true, false) => drop(looser.insert(format!("{file}: {group}: {test}"))),
                (false, true) => drop(stricter.insert(format!("{file}: {group}: {test}"))),
                _ => {}
            }
        }
    }
    // A format is an annotation by itself; what is enforced of it is a regular expression, which knows no calendar.
    let beside_formats: Vec<_> = looser.iter().filter(|line| !line.starts_with("optional/format/")).collect();
    assert!(beside_formats.is_empty(), "what is not valid may come: {beside_formats:#?}");
    assert_listed("looser_formats.txt", &looser);
    assert_listed("refused.txt", &refused);
    assert_listed("stricter.txt", &stricter);
    assert!(tried > 800, "only {tried} instances were tried");
}
