"""Every body and event of `pylon api` against OpenAI's own JSON Schemas. Arguments: the server's address."""

import json
import pathlib
import sys
import urllib.error
import urllib.request

import jsonschema

ADDRESS = sys.argv[1]
HUNGARY = "Name the capital of Hungary."
PARIS = "What is the weather in Paris?"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DESCRIPTION = "Get the current weather in a city."
CHECKED = {}


def with_nulls(schema):
    """Some of OpenAI's schemas say `nullable`, as OpenAPI did before it took JSON Schema over."""
    if isinstance(schema, list):
        return [with_nulls(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: with_nulls(inner) for name, inner in schema.items() if name != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


SCHEMAS = with_nulls(json.loads((pathlib.Path(__file__).parent / "openai_schemas.json").read_text()))


def validator(name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": SCHEMAS["components"]}
    return jsonschema.Draft202012Validator(schema)


VALIDATORS = {}


def valid(name, body):
    """The body, if it is valid."""
    check = VALIDATORS.setdefault(name, validator(name))
    error = jsonschema.exceptions.best_match(check.iter_errors(body))
    if error is not None:
        place = "/".join(map(str, error.absolute_path))
        raise AssertionError(f"no {name}: {error.message[:300]} at {place or 'the top'} of {json.dumps(body)[:600]}")
    CHECKED[name] = CHECKED.get(name, 0) + 1
    return body


def ask(path, body=None, status=200):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ADDRESS + path, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            text, got = answer.read().decode(), answer.status
    except urllib.error.HTTPError as error:
        text, got = error.read().decode(), error.code
    assert got == status, f"{path}: {got} {text[:300]}"
    return text


def events(path, body):
    text = ask(path, {**body, "stream": True})
    data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    assert data[-1] == "[DONE]", data[-1]
    return [json.loads(event) for event in data[:-1]]


def without_usage(event):
    """OpenAI sends `usage: null` in a response that has just begun, which its schema has no null for. So does pylon."""
    response = event.get("response")
    if response is not None and response["status"] == "in_progress":
        assert response["usage"] is None
        return {**event, "response": {name: value for name, value in response.items() if name != "usage"}}
    return event


def chats():
    function = {"name": "get_weather", "description": DESCRIPTION, "parameters": WEATHER}
    tools = [{"type": "function", "function": function}]
    note = {"name": "note", "description": "Notes a year.", "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[0-9]{4}"}}}
    city = {"type": "object", "properties": {"name": {"enum": ["Budapest", "Vienna"]}}, "required": ["name"]}
    shape = {"type": "json_schema", "json_schema": {"name": "city", "schema": city}}
    for question, fields in [
        (HUNGARY, {}),
        (HUNGARY, {"logprobs": True, "top_logprobs": 3}),
        (HUNGARY, {"max_completion_tokens": 5}),
        (HUNGARY, {"response_format": shape, "max_completion_tokens": 300}),
        (PARIS, {"tools": tools}),
        (HUNGARY, {"tools": [{"type": "custom", "custom": note}], "tool_choice": "required", "max_completion_tokens": 300}),
    ]:
        body = {"model": "gpt-oss-nano", "messages": [{"role": "user", "content": question}], "temperature": 0, **fields}
        valid("CreateChatCompletionResponse", json.loads(ask("/v1/chat/completions", body)))
        # OpenAI's schema of chunks knows no custom tools.
        is_custom = fields.get("tools", [{}])[0].get("type") == "custom"
        chunks = events("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
        for chunk in [] if is_custom else chunks:
            valid("CreateChatCompletionStreamResponse", chunk)


def completions():
    for fields in [{}, {"logprobs": 2}, {"return_token_ids": True}]:
        body = {"model": "gpt-oss-nano", "prompt": "Add 12 and", "max_tokens": 8, "temperature": 0, **fields}
        valid("CreateCompletionResponse", json.loads(ask("/v1/completions", body)))
        for chunk in events("/v1/completions", body):
            # The schema is that of whole answers: OpenAI's chunks have null there, too, until the last one.
            choices = [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]]
            valid("CreateCompletionResponse", {**chunk, "choices": choices})


def responses():
    weather = {"type": "function", "name": "get_weather", "description": DESCRIPTION, "parameters": WEATHER, "strict": False}
    date = {"type": "grammar", "syntax": "regex", "definition": "[0-9]{4}"}
    note = {"type": "custom", "name": "note", "description": "Notes a year.", "format": date}
    ids = []
    for question, fields in [
        (HUNGARY, {}),
        (HUNGARY, {"top_logprobs": 3, "instructions": "Be brief.", "metadata": {"a": "b"}}),
        (HUNGARY, {"max_output_tokens": 16}),
        (PARIS, {"tools": [weather, {"type": "web_search"}]}),
        (HUNGARY, {"tools": [note], "tool_choice": "required", "max_output_tokens": 300}),
        ([{"role": "developer", "content": "Be brief."}, {"role": "user", "content": HUNGARY}], {}),
    ]:
        body = {"input": question, "temperature": 0, **fields}
        ids.append(valid("Response", json.loads(ask("/v1/responses", body)))["id"])
        for event in events("/v1/responses", body):
            valid("ResponseStreamEvent", without_usage(event))
    output = {"type": "function_call_output", "call_id": "c", "output": "{}"}
    call = {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"}
    said = {"role": "assistant", "content": "Well."}
    items = [{"role": "user", "content": PARIS}, said, call, output]
    ids.append(valid("Response", json.loads(ask("/v1/responses", {"input": items, "tools": [weather], "temperature": 0})))["id"])
    for id in ids:
        valid("Response", json.loads(ask(f"/v1/responses/{id}")))
        valid("ResponseItemList", json.loads(ask(f"/v1/responses/{id}/input_items")))


def models_and_errors():
    models = valid("ListModelsResponse", json.loads(ask("/v1/models")))
    valid("Model", json.loads(ask(f"/v1/models/{models['data'][0]['id']}")))
    for path, body, status in [
        ("/v1/nowhere", None, 404),
        ("/v1/models/none", None, 404),
        ("/v1/responses/none", None, 404),
        ("/v1/chat/completions", None, 405),
        ("/v1/chat/completions", {"messages": []}, 400),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, 400),
        ("/v1/completions", {"prompt": ""}, 400),
        ("/v1/responses", {"input": "a", "previous_response_id": "none"}, 400),
        ("/v1/responses", {"input": [5]}, 400),
    ]:
        valid("ErrorResponse", json.loads(ask(path, body, status)))


for test in [chats, completions, responses, models_and_errors]:
    test()
    print(f"OpenAI's schemas: {test.__name__} ok", flush=True)
print("valid:", ", ".join(f"{count} {name}" for name, count in sorted(CHECKED.items())))
