use gptoss_protocol::TextShape;

use super::*;

fn asked(body: Value) -> Result<Asked, ApiError> {
    let request: MessagesRequest = serde_json::from_value(body).expect("of the shape");
    request.into_asked(&Served::default())
}

fn refused(change: (&str, Value)) -> String {
    let mut body = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    body[change.0] = change.1;
    let error = asked(body).expect_err("refused");
    assert!(error.param.as_deref().is_some_and(|param| error.message.contains(param)), "{error:?}");
    error.message
}

#[test]
fn blocks_become_a_conversation() {
    let asked = asked(json!({
        "model": "m", "max_tokens": 7, "temperature": 0.5, "stop_sequences": ["\n", ""], "metadata": {"user_id": "u"},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "thinking": {"type": "between_tools"}, "output_config": {"effort": "high"},
        "tools": [
            {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
            {"type": "mcp_toolset", "mcp_server_name": "files"}, {"type": "later"},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "2?"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Add them.", "signature": ""}, {"type": "text", "text": "One moment."},
                {"type": "redacted_thinking", "data": "x"}, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"type": "error", "error_code": 3}},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [{"type": "text", "text": "no b"}]},
                {"type": "text", "text": "Again?"}]},
            {"role": "system", "content": "Be kind."},
        ],
    }))
    .expect("good");
    let prompt = &asked.prompt;
    assert_eq!((prompt.effort, prompt.max_new_tokens, prompt.instructions.as_str()), (Effort::High, 7, "Be brief."));
    assert_eq!((prompt.sampling.temperature, &prompt.stop[..]), (0.5, &["\n".to_owned()][..]));
    assert_eq!(prompt.functions.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["add"]);
    assert!(asked.shows_thinking);
    assert_eq!(asked.left_out, ["web_search", "mcp_toolset files", "later"]);
    assert_eq!(asked.blocks_left_out, ["redacted_thinking", "server_tool_use", "code_execution_tool_result"]);
    let want = [
        ChatMessage::User { text: "1 + 2?".into() },
        on_channel("analysis", "Add them.".into()),
        on_channel("commentary", "One moment.".into()),
        call("add", "{\"a\":1}".into()),
        ChatMessage::FunctionResult { name: "add".into(), result: "Error: no b".into() },
        ChatMessage::User { text: "Again?".into() },
        ChatMessage::Developer { text: "Be kind.".into() },
    ];
    assert_eq!(prompt.history, want);
}

#[test]
fn what_cannot_be_served_is_named() {
    refused(("max_tokens", json!(0)));
    refused(("temperature", json!(3)));
    refused(("tool_choice", json!({"type": "any"})));
    refused(("tool_choice", json!({"type": "tool", "name": "nobody"})));
    refused(("thinking", json!({"type": "sometimes"})));
    refused(("output_config", json!({"effort": "utmost"})));
    refused(("output_config", json!({"format": {"type": "json_schema"}})));
    let schema = json!({"not": {"type": "null"}});
    refused(("output_config", json!({"format": {"type": "json_schema", "schema": schema}})));
    let strict = refused(("tools", json!([{"name": "a", "strict": true, "input_schema": schema}])));
    assert!(strict.contains("tools[0].input_schema"), "{strict}");
    refused(("tools", json!([{"name": "two words"}])));
    refused(("tools", json!([{"type": "custom"}])));
    assert!(refused(("tools", json!([{"type": ""}]))).starts_with("tools[0].type is"));
    let said = |message: Value| refused(("messages", json!([{"role": "user", "content": "Hi"}, message])));
    said(json!({"role": "critic", "content": "?"}));
    said(json!({"role": "system", "content": [{"type": "image"}]}));
    said(json!({"role": "assistant", "content": "The answer"}));
    let image = said(json!({"role": "user", "content": [{"type": "image", "source": {}}]}));
    assert!(image.contains("messages[1].content[0]") && image.contains("text only"), "{image}");
    let result = said(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "none"}]}));
    assert!(result.contains("\"none\""), "{result}");
    assert!(said(json!({"role": "user", "content": [{"type": "text"}]})).contains("content[0].text is missing"));
    let answer = json!({"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "bogus"}]});
    let bogus = said(answer);
    assert!(bogus.contains("messages[1].content[1] is of type \"bogus\""), "{bogus}");
    assert!(refused(("tools", json!([{"name": "a", "input_schema": "x"}]))).starts_with("tools[0].input_schema is"));
    refused(("stop", json!("x")));
    refused(("reasoning_effort", json!("high")));
    refused(("allowed_token_ids", json!([1])));
}

#[test]
fn blocks_and_forms_are_read_where_older_clients_put_them() {
    let schema = json!({"type": "object", "properties": {}});
    let body = |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
        body.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        asked(body)
    };
    let format = json!({"type": "json_schema", "schema": schema});
    let once = body(json!({"output_format": format})).expect("good");
    assert_eq!(once.format_field, "output_format");
    assert_eq!(once.prompt.shape.expect("a shape").answer, Some(TextShape::JsonSchema(schema)));
    let today = body(json!({"output_config": {"format": format}, "output_format": null})).expect("good");
    assert_eq!(today.format_field, "output_config.format");
    let error = body(json!({"output_config": {"format": format}, "output_format": format})).expect_err("both");
    assert_eq!(error.param.as_deref(), Some("output_format"));
    let error = body(json!({"output_format": {"type": "xml"}})).expect_err("refused");
    assert_eq!(error.param.as_deref(), Some("output_format.type"));
    let stops = json!({"stop_sequences": ["x"], "include_stop_str_in_output": true});
    assert_eq!(body(stops).expect_err("refused").param.as_deref(), Some("include_stop_str_in_output"));
}

#[test]
fn choices_and_formats_are_those_of_every_dialect() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "null"}}});
    let shape = |choice: Value, format: Value| {
        let body = json!({
            "messages": [{"role": "user", "content": "Hi"}], "tool_choice": choice, "output_config": {"format": format},
            "tools": [{"name": "a", "input_schema": schema}, {"name": "b", "input_schema": schema}],
        });
        let prompt = asked(body).expect("good").prompt;
        let shape = prompt.shape.map(|shape| (shape.answer, shape.calls.into_iter().map(|call| call.name).collect()));
        (shape, prompt.functions.len())
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(shape(json!({"type": "any"}), Value::Null), (Some((None, names(&["a", "b"]))), 2));
    assert_eq!(shape(json!({"type": "tool", "name": "b"}), Value::Null), (Some((None, names(&["b"]))), 2));
    assert_eq!(shape(json!({"type": "auto"}), Value::Null), (None, 2));
    assert_eq!(shape(json!({"type": "none"}), Value::Null), (None, 0));
    let format = json!({"type": "json_schema", "schema": schema});
    let answer = Some(TextShape::JsonSchema(schema.clone()));
    assert_eq!(shape(Value::Null, format), (Some((answer, names(&["a", "b"]))), 2));
}

#[test]
fn arguments_are_values_and_what_is_none_stays_text() {
    assert_eq!(input_of("{\"b\": 1}"), json!({"b": 1}));
    assert_eq!(input_of("{\"b\": "), json!("{\"b\": "));
    for text in ["{\"b\":1}", "{\"b\": ", ""] {
        assert_eq!(arguments_of(&input_of(text)), text);
    }
}
