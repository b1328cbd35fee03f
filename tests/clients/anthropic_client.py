"""Anthropic's Python client against `pylon api` with the demo model. Arguments: the server's address."""

import json
import sys

import anthropic

MODEL = "gpt-oss-nano"
HUNGARY = {"role": "user", "content": "Name the capital of Hungary."}
ANSWER = "The capital of Hungary is Budapest."
REASONING = "We need the capital of Hungary."
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "get_weather", "description": "Get the current weather in a city.", "input_schema": WEATHER}

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none", max_retries=0)
# This client has no temperature any more, and the server has.
common = {"model": MODEL, "max_tokens": 500, "extra_body": {"temperature": 0}}


def create():
    message = client.messages.create(messages=[HUNGARY], **common)
    assert [block.type for block in message.content] == ["text"]
    assert (message.content[0].text, message.stop_reason) == (ANSWER, "end_turn")
    usage = message.usage
    counted = client.messages.count_tokens(model=MODEL, messages=[HUNGARY]).input_tokens
    assert usage.input_tokens + usage.cache_read_input_tokens == counted


def stream():
    thinking = {"type": "enabled", "budget_tokens": 1024}
    common_at_1 = {**common, "max_tokens": 2000}
    with client.messages.stream(messages=[HUNGARY], thinking=thinking, **common_at_1) as events:
        assert "".join(events.text_stream) == ANSWER
        final = events.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].thinking == REASONING
    assert final.usage.output_tokens > 10


def tools():
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.messages.create(messages=messages, tools=[TOOL], **common)
    assert first.stop_reason == "tool_use"
    [call] = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})
    with client.messages.stream(messages=messages, tools=[TOOL], **common) as events:
        assert events.get_final_message().content[-1].input == {"city": "Paris"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": '{"temperature": 21, "sky": "sunny"}'}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(messages=messages, tools=[TOOL], **common)
    assert second.content[0].text == "It is 21 degrees and sunny in Paris."
    assert second.usage.cache_read_input_tokens > first.usage.input_tokens, (first.usage, second.usage)


def runner():
    """The client's own loop. It would leave the conversation to the server, if that did not say that it keeps none."""
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Get the current weather in a city.

        Args:
            city: The city.
        """
        asked.append(city)
        return '{"temperature": 21, "sky": "sunny"}'

    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    final = client.beta.messages.tool_runner(messages=messages, tools=[get_weather], **common).until_done()
    assert asked == ["Paris"], asked
    assert final.stop_reason == "end_turn" and final.content[-1].type == "text", final


def shapes():
    city = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
    schema = {**city, "additionalProperties": False}
    config = {"format": {"type": "json_schema", "schema": schema}}
    message = client.messages.create(messages=[HUNGARY], output_config=config, **common)
    value = json.loads(message.content[0].text)
    assert list(value) == ["city"] and isinstance(value["city"], str), value
    forced = client.messages.create(messages=[HUNGARY], tools=[TOOL], tool_choice={"type": "any"}, **common)
    assert forced.stop_reason == "tool_use" and forced.content[-1].name == "get_weather", forced


def errors():
    try:
        client.messages.create(messages=[], **common)
        raise AssertionError("no error")
    except anthropic.BadRequestError as error:
        assert error.body["error"]["type"] == "invalid_request_error"
    try:
        client.messages.create(messages=[HUNGARY], **{**common, "model": "other"})
        raise AssertionError("no error")
    except anthropic.NotFoundError as error:
        assert error.body["error"]["type"] == "not_found_error"


for test in [create, stream, tools, runner, shapes, errors]:
    test()
    print(f"anthropic {anthropic.__version__} (Python): {test.__name__} ok", flush=True)
