//! What a turn may be: reasoning and preambles as the model likes, then an answer or a call of the wanted shape.

mod support;

use gptoss_grammar::{Grammars, ShapePart, check};
use gptoss_model::{EngineError, Restrictions};
use gptoss_protocol::{AnswerShape, CallShape, TextShape};
use gptoss_text::Tokenizer;
use serde_json::{Value, json};

use support::{allowed, nano};

fn call(name: &str, input: TextShape) -> CallShape {
    CallShape { name: name.into(), input }
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
        "required": ["a", "b"], "additionalProperties": false})
}

struct Desk {
    tokenizer: Tokenizer,
    grammars: Grammars,
    shape: AnswerShape,
}

impl Desk {
    fn of(answer: Option<TextShape>, calls: Vec<CallShape>) -> Self {
        let tokenizer = nano();
        let grammars = Grammars::new(&tokenizer);
        Self { tokenizer, grammars, shape: AnswerShape { answer, calls } }
    }

    #[track_caller]
    fn good(&self, turn: &str) {
        assert_eq!(allowed(&self.tokenizer, &self.grammars, &self.shape, turn), Ok(()), "{turn}");
    }

    /// `beginning` is all that is allowed of the turn, up to the last token in it that has more than that.
    #[track_caller]
    fn ends_after(&self, beginning: &str, turn: &str) {
        let end = allowed(&self.tokenizer, &self.grammars, &self.shape, turn).expect_err(turn);
        assert!(beginning.starts_with(&end) && end.len() + 3 >= beginning.len(), "{end:?} of {turn}");
    }
}

const FINAL: &str = "<|channel|>final<|message|>";

#[test]
fn reasoning_and_preambles_are_free_and_the_answer_is_held_to_its_schema() {
    let desk = Desk::of(Some(TextShape::JsonSchema(schema())), Vec::new());
    let free = "<|channel|>analysis<|message|>Hm.\n\nA {\"brace\", é, 🙂<|end|><|start|>assistant<|channel|>commentary<|message|>Now \
                I answer.<|end|><|start|>assistant<|channel|>analysis<|message|><|end|><|start|>assistant";
    let good = "{\"a\": -12, \"b\": \"x\"}<|return|>";
    desk.good(&format!("{free}{FINAL}{good}"));
    desk.good(&format!("{FINAL}{{\n  \"a\": 1,\n  \"b\": \"\\n\"\n}}<|return|>"));
    for kind in ["", " <|constrain|>json", "<|constrain|>json", " json"] {
        desk.good(&format!("<|channel|>final{kind}<|message|>{good}"));
    }
    desk.ends_after(&format!("{free}{FINAL}{{\"a\":"), &format!("{free}{FINAL}{{\"a\":true}}"));
    desk.ends_after(&format!("{FINAL}{{\"a\":1"), &format!("{FINAL}{{\"a\":1}}"));
    desk.ends_after(&format!("{FINAL}{{\"a\":1,\"b\":\"x\""), &format!("{FINAL}{{\"a\":1,\"b\":\"x\",\"c\":0}}"));
    // The turn does not end elsewhere, and calls nobody.
    desk.ends_after("<|channel|>analysis<|message|>Hm", "<|channel|>analysis<|message|>Hm<|return|>");
    desk.ends_after("<|channel|>commentary", "<|channel|>commentary to=functions.a<|message|>");
    desk.ends_after("", "Hello");
    // Reasoning does, too: the model may not go on for ever before what has to come.
    let thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
    desk.good(&format!("{}{FINAL}{{\"a\":1,\"b\":\"\"}}<|return|>", thought.repeat(4)));
    desk.ends_after(&format!("{}<|channel|>", thought.repeat(4)), &thought.repeat(5));
    // Blanks come to an end.
    let blanks = |count: usize| format!("{FINAL}{{{}\"a\": 1, \"b\": \"\"}}<|return|>", "\n".repeat(count));
    desk.good(&blanks(60));
    assert!(allowed(&desk.tokenizer, &desk.grammars, &desk.shape, &blanks(200)).is_err());
}

#[test]
fn a_call_has_either_order_of_its_header_and_its_function_s_input() {
    let calls = vec![
        call("get", TextShape::JsonObject),
        call("get_weather", TextShape::JsonSchema(schema())),
        call("patch", TextShape::Lark("start: \"begin\\n\" LINE+ \"end\"\nLINE: \"+\" /[^\\n]*/ \"\\n\"".into())),
        call("date", TextShape::Regex("[0-9]{4}-[0-9]{2}".into())),
        call("note", TextShape::Any),
    ];
    let desk = Desk::of(None, calls);
    let arguments = "{\"a\": 1, \"b\": \"\"}<|call|>";
    for header in [
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>",
        "<|channel|>commentary to=functions.get_weather<|constrain|>json<|message|>",
        "<|channel|>commentary to=functions.get_weather<|message|>",
        "<|channel|>analysis to=functions.get_weather code<|message|>",
        " to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>",
        " to=functions.get_weather<|channel|>commentary json<|message|>",
    ] {
        desk.good(&format!("{header}{arguments}"));
        desk.good(&format!("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant{header}{arguments}"));
        desk.ends_after(&format!("{header}{{\"a\":"), &format!("{header}{{\"a\":\"b\"}}"));
    }
    let to = |name: &str| format!("<|channel|>commentary to=functions.{name}<|message|>");
    desk.good(&format!("{}{{\"anything\": [null, {{}}]}}<|call|>", to("get")));
    desk.good(&format!("{}begin\n+one \"line\"\n+\nend<|call|>", to("patch")));
    desk.ends_after(&format!("{}begin\n+one\n", to("patch")), &format!("{}begin\n+one\n-two\n", to("patch")));
    desk.good(&format!("{}2026-11<|call|>", to("date")));
    desk.ends_after(&format!("{}2026-11", to("date")), &format!("{}2026-111", to("date")));
    desk.good(&format!("{}Any text: {{<|call|>", to("note")));
    desk.good("<|channel|>commentary to=functions.note <|constrain|>text<|message|>A<|call|>");
    let word = "<|channel|>commentary to=functions.note <|constrain|>textual<|message|>";
    assert!(allowed(&desk.tokenizer, &desk.grammars, &desk.shape, word).is_err(), "a header ends");
    // Only what is offered is called, and the turn does end with a call.
    let unknown = "<|channel|>commentary to=functions.get_w";
    assert!(allowed(&desk.tokenizer, &desk.grammars, &desk.shape, &format!("{unknown}<|message|>{{}}")).is_err());
    desk.ends_after("<|channel|>", &format!("{FINAL}Hello."));
}

#[test]
fn a_turn_may_end_with_an_answer_or_a_call_where_both_are_offered() {
    let desk = Desk::of(Some(TextShape::Any), vec![call("get", TextShape::JsonObject)]);
    desk.good(&format!("{FINAL}Hello, <b> é {{<|return|>"));
    desk.good("<|channel|>commentary to=functions.get <|constrain|>json<|message|>{}<|call|>");
    desk.ends_after(&format!("{FINAL}Hello"), &format!("{FINAL}Hello<|call|>"));
    // What may end as the model likes is as free as any other turn.
    let thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
    desk.good(&format!("{}{FINAL}Hello<|return|>", thought.repeat(9)));
}

#[test]
fn what_cannot_be_enforced_is_named_with_its_place() {
    let fault = |text: TextShape| {
        let shape = AnswerShape { answer: Some(TextShape::Any), calls: vec![call("f", text)] };
        let error = check(&shape).expect_err("it cannot be enforced");
        assert_eq!(error.part, ShapePart::Input("f".into()));
        let refused = Grammars::new(&nano()).begin(&shape).err();
        assert!(matches!(refused, Some(EngineError::Shape { .. })), "{refused:?}");
        error.reason
    };
    let deep = |schema: Value| {
        fault(TextShape::JsonSchema(json!({"type": "object",
        "properties": {"a/b": {"type": "array", "items": {"anyOf": [{"type": "null"}, schema]}}}})))
    };
    let place = "at /properties/a~1b/items/anyOf/1";
    for (schema, word) in [
        (json!({"not": {"type": "null"}}), "[\"not\"]"),
        (json!({"type": "array", "uniqueItems": true}), "[\"uniqueItems\"]"),
        (json!({"type": "string", "pattern": "a(?=b)"}), "look-around"),
        (json!({"type": "object", "propertyNames": {"maxLength": 3}}), "[\"propertyNames\"]"),
        (json!({"$ref": "http://example.org/schema"}), "http://example.org/schema"),
        (json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "overlap"),
    ] {
        let reason = deep(schema);
        assert!(reason.contains(word) && reason.contains(place), "{reason}");
    }
    assert!(fault(TextShape::Lark("start: other".into())).contains("Lark"));
    assert!(fault(TextShape::Regex("(".into())).contains("regular expression"));
    // Options of the library that loosen a schema are not taken from one.
    let lenient = json!({"type": "array", "uniqueItems": true, "x-guidance": {"lenient": true}});
    assert!(fault(TextShape::JsonSchema(lenient)).contains("uniqueItems"));
}

/// The constructs that coding agents' grammars of patches have: imports, aliases, optional and repeated rules.
#[test]
fn grammars_of_patches_are_understood() {
    let lark = "start: begin hunk+ end\nbegin: \"*** Begin Patch\" LF\nend: \"*** End Patch\" LF?\n\
                hunk: add | remove | change\nadd: \"*** Add File: \" name LF added+\nremove: \"*** Delete File: \" name LF\n\
                change: \"*** Update File: \" name LF move? lines?\nmove: \"*** Move to: \" name LF\nname: /(.+)/\n\
                added: \"+\" /(.*)/ LF -> line\nlines: (context | line)+ eof?\ncontext: (\"@@\" | \"@@ \" /(.+)/) LF\n\
                line: (\"+\" | \"-\" | \" \") /(.*)/ LF\neof: \"*** End of File\" LF\n%import common.LF\n";
    let desk = Desk::of(None, vec![call("apply_patch", TextShape::Lark(lark.into()))]);
    let header = "<|channel|>commentary to=functions.apply_patch<|message|>";
    let patch = "*** Begin Patch\n*** Add File: a.txt\n+one\n+\n*** Update File: b/c.rs\n@@ fn main\n-old\n+new\n same\n*** End Patch\n";
    desk.good(&format!("{header}{patch}<|call|>"));
    let broken = "*** Begin Patch\n*** Add File: a.txt\nx";
    assert!(allowed(&desk.tokenizer, &desk.grammars, &desk.shape, &format!("{header}{broken}")).is_err());
}
