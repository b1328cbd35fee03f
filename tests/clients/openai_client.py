"""OpenAI's Python client against `pylon api` with the demo model. Arguments: the server's address."""

import json
import re
import sys
import time
import typing

import openai
import pydantic

MODEL = "gpt-oss-nano"
HUNGARY = "Name the capital of Hungary."
ANSWER = "The capital of Hungary is Budapest."
REASONING = "We need the capital of Hungary."
PARIS = "What is the weather in Paris?"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DESCRIPTION = "Get the current weather in a city."
RESULT = json.dumps({"temperature": 21, "sky": "sunny"})
SUNNY = "It is 21 degrees and sunny in Paris."

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)


def models():
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def chat():
    messages = [{"role": "user", "content": HUNGARY}]
    whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    choice = whole.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("stop", ANSWER)
    assert choice.message.model_extra["reasoning"] == REASONING
    assert choice.message.model_extra["reasoning_content"] == REASONING
    options = {"include_usage": True}
    stream = client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, stream=True, stream_options=options
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    cut = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_completion_tokens=5)
    assert (cut.choices[0].finish_reason, cut.choices[0].message.content) == ("length", None)


def chat_tools():
    function = {"name": "get_weather", "description": DESCRIPTION, "parameters": WEATHER}
    tools = [{"type": "function", "function": function}]
    messages = [{"role": "user", "content": PARIS}]
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=tools, temperature=0)
    assert first.choices[0].finish_reason == "tool_calls"
    [call] = first.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    messages.append(first.choices[0].message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=tools, temperature=0)
    assert second.choices[0].message.content == SUNNY
    read = first.usage.prompt_tokens + first.usage.completion_tokens
    assert second.usage.prompt_tokens_details.cached_tokens + 1 >= read, (first.usage, second.usage)
    with client.chat.completions.stream(model=MODEL, messages=messages[:1], tools=tools, temperature=0) as stream:
        stream.until_done()
        [streamed] = stream.get_final_completion().choices[0].message.tool_calls
    assert json.loads(streamed.function.arguments) == {"city": "Paris"}


def responses():
    # The second tool is a server's own; it is left out and said.
    function = {"type": "function", "name": "get_weather", "description": DESCRIPTION, "parameters": WEATHER}
    tools = [{**function, "strict": False}, {"type": "web_search"}]
    first = client.responses.create(model=MODEL, input=PARIS, tools=tools, temperature=0)
    assert first.status == "completed" and first.metadata["pylon.tools_left_out"] == "web_search"
    [call] = [item for item in first.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "Paris"}
    output = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
    second = client.responses.create(
        model=MODEL, previous_response_id=first.id, input=[output], tools=tools, temperature=0
    )
    assert second.output_text == SUNNY
    assert client.responses.retrieve(second.id).output_text == SUNNY
    kinds = [item.type for item in client.responses.input_items.list(second.id, order="asc")]
    assert kinds == ["function_call_output"], kinds
    client.responses.delete(second.id)
    with client.responses.stream(model=MODEL, input=HUNGARY, temperature=0) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_response()
    assert (events[0], events[-1]) == ("response.created", "response.completed"), events
    assert final.output_text == ANSWER
    assert final.output[0].type == "reasoning" and final.output[0].content[0].text == REASONING


def background():
    # Its text has to be long, so that there is time to leave, to come back and to cancel it.
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2000}}, "required": ["a"]}
    format = {"type": "json_schema", "name": "long", "schema": schema}
    begun = client.responses.create(
        model=MODEL, input=HUNGARY, temperature=0, background=True, stream=True, text={"format": format}
    )
    events = []
    for event in begun:
        events.append(event)
        if event.type == "response.output_text.delta":
            break
    begun.close()
    id = events[0].response.id
    assert client.responses.retrieve(id).status == "in_progress"
    rest = client.responses.retrieve(id, stream=True, starting_after=events[-1].sequence_number)
    assert next(rest).sequence_number == events[-1].sequence_number + 1
    assert client.responses.cancel(id).status == "cancelled"
    last = list(rest)[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "cancelled"), last
    begun = client.responses.create(model=MODEL, input=HUNGARY, temperature=0, background=True)
    while begun.status in ("queued", "in_progress"):
        time.sleep(0.02)
        begun = client.responses.retrieve(begun.id)
    assert (begun.status, begun.output_text) == ("completed", ANSWER)


# Bounded: a model that knows nothing of cities may write a text without an end.
class City(pydantic.BaseModel):
    name: typing.Literal["Budapest", "Vienna"]
    is_capital: bool


def shapes():
    messages = [{"role": "user", "content": HUNGARY}]
    parsed = client.chat.completions.parse(
        model=MODEL, messages=messages, temperature=0, response_format=City, max_completion_tokens=400
    )
    assert isinstance(parsed.choices[0].message.parsed, City)
    parsed = client.responses.parse(
        model=MODEL, input=HUNGARY, temperature=0, text_format=City, max_output_tokens=400
    )
    assert isinstance(parsed.output_parsed, City)
    bounded = {**WEATHER, "properties": {"city": {"type": "string", "maxLength": 40}}}
    function = {"name": "get_weather", "description": DESCRIPTION, "parameters": bounded}
    tools = [{"type": "function", "function": {**function, "strict": True}}]
    forced = client.chat.completions.create(
        model=MODEL, messages=messages, tools=tools, temperature=0, tool_choice="required"
    )
    [call] = forced.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    grammar = {"type": "grammar", "syntax": "regex", "definition": "[0-9]{4}-[0-9]{2}-[0-9]{2}"}
    date = {"type": "custom", "name": "note_date", "description": "Notes a date.", "format": grammar}
    noted = client.responses.create(
        model=MODEL, input="Which day is today?", tools=[date], tool_choice="required", temperature=0
    )
    [call] = [item for item in noted.output if item.type == "custom_tool_call"]
    assert re.fullmatch(grammar["definition"], call.input), call


def completions():
    cut = client.completions.create(model=MODEL, prompt="Add 12 and", max_tokens=5, temperature=0)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 5


def errors():
    messages = [{"role": "user", "content": "Hi"}]
    missing = [
        lambda: client.responses.retrieve("resp_none"),
        lambda: client.chat.completions.create(model="other", messages=messages),
    ]
    for ask in missing:
        expect(openai.NotFoundError, ask)
    error = expect(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=[]))
    assert error.param == "messages"
    unknown = lambda: client.responses.create(model=MODEL, input="Hi", previous_response_id="resp_none")
    error = expect(openai.BadRequestError, unknown)
    assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
    long = [{"role": "user", "content": "word " * 20000}]
    error = expect(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=long))
    assert error.code == "context_length_exceeded"


def expect(kind, ask):
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


for test in [models, chat, chat_tools, responses, background, shapes, completions, errors]:
    test()
    print(f"openai {openai.__version__} (Python): {test.__name__} ok", flush=True)
