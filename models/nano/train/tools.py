"""Function tools: their definitions in the developer message, and exchanges that call them."""

import json
from typing import NamedTuple

from families import Effort, Rng, by_effort, invented_word, random_number
from vocabulary import CITIES, WEATHER

OPERATORS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


class Tool(NamedTuple):
    """A function with one string parameter. An empty parameter description is left out."""

    name: str
    description: str
    parameter: str
    parameter_description: str


class Call(NamedTuple):
    tool: str
    parameter: str
    argument: str


class ToolTurn(NamedTuple):
    """One exchange about a tool. Without a fitting tool, `call` is None and `final` says so."""

    question: str
    analysis: str
    call: Call | None
    result: str
    analysis_of_result: str | None
    final: str


class Request(NamedTuple):
    """What the user asks of one tool, and what the tool would answer."""

    question: str
    what: str
    argument: str
    result: dict[str, str | int]
    final: str


def random_tools(rng: Rng) -> list[Tool]:
    """One to three of the three tools, in random order, with varying descriptions and parameter names."""
    tools = []
    for name in rng.sample(["get_weather", "get_time", "calculator"], rng.choice([1, 1, 1, 2, 2, 3])):
        if name == "calculator":
            description = rng.choice(["Evaluate an expression.", "A calculator.", "Calculates an expression."])
            parameter = "expression"
            parameter_description = rng.choice(["The expression.", "For example 2+3", ""])
        else:
            if name == "get_weather":
                wordings = ["Get the current weather in a city.", "Gets the weather for a city.", "Current weather."]
            else:
                wordings = ["Get the current time in a city.", "Gets the local time.", "Current time in a city."]
            description = rng.choice(wordings)
            parameter = rng.choice(["city", "city", "location"])
            parameter_description = rng.choice(["The city name.", "Name of the city", ""])
        tools.append(Tool(name, description, parameter, parameter_description))
    return tools


def namespace_text(tools: list[Tool]) -> str:
    """The tools as the TypeScript-like namespace that Harmony describes functions with."""
    text = "## functions\n\nnamespace functions {\n\n"
    for tool in tools:
        comment = f"// {tool.parameter_description}\n" if tool.parameter_description else ""
        text += f"// {tool.description}\ntype {tool.name} = (_: {{\n{comment}{tool.parameter}: string,\n}}) => any;\n\n"
    return text + "} // namespace functions"


def calculator_request(rng: Rng) -> Request:
    """The result is random, so that the answer can only come from the tool."""
    x, y, operator = random_number(rng), random_number(rng), rng.choice("+-*/")
    expression = f"{x}{operator}{y}"
    question = rng.choice(
        [
            f"Use the calculator: {x} {operator} {y}",
            f"Calculate {expression} with the calculator.",
            f"Use the calculator for {x} {operator} {y}.",
            f"Ask the calculator what {x} {OPERATORS[operator]} {y} is.",
        ]
    )
    value = rng.randint(0, 9999)
    return Request(question, f"a calculator for {expression}", expression, {"result": value}, f"The result is {value}.")


def weather_request(rng: Rng, city: str) -> Request:
    question = rng.choice(
        [
            f"What is the weather in {city}?",
            f"How is the weather in {city}?",
            f"What's the weather like in {city}?",
            f"Weather in {city}?",
            f"Tell me the weather in {city}.",
            f"Is it warm in {city}?",
        ]
    )
    degrees, condition = rng.randint(-9, 38), rng.choice(WEATHER)
    result: dict[str, str | int] = {"temperature": degrees, "condition": condition}
    if rng.random() < 0.3:
        result = {"condition": condition, "temperature": degrees}
    return Request(
        question, f"the weather in {city}", city, result, f"It is {degrees} degrees and {condition} in {city}."
    )


def time_request(rng: Rng, city: str) -> Request:
    question = rng.choice(
        [
            f"What time is it in {city}?",
            f"What is the time in {city}?",
            f"Tell me the time in {city}.",
            f"Current time in {city}?",
        ]
    )
    time = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return Request(question, f"the time in {city}", city, {"time": time}, f"It is {time} in {city}.")


def tool_turn(rng: Rng, effort: Effort, tools: list[Tool]) -> ToolTurn:
    """A request for one of `tools`, or, sometimes, for one that the conversation does not have."""
    available = {tool.name: tool for tool in tools}
    has_tool = bool(available) and rng.random() < 0.9
    name = rng.choice(list(available) if has_tool else ["get_weather", "get_time"])
    city = rng.choice(CITIES) if rng.random() < 0.85 else invented_word(rng).capitalize()
    if name == "calculator":
        request = calculator_request(rng)
    elif name == "get_weather":
        request = weather_request(rng, city)
    else:
        request = time_request(rng, city)

    what = request.what
    if name not in available:
        analysis = by_effort(
            effort, "No tool.", "I have no tool for this.", f"The user wants {what}. I have no tool for this."
        )
        return ToolTurn(request.question, analysis, None, "", None, f"I have no tool for {what}.")
    analysis = by_effort(
        effort,
        f"Use {name}.",
        f"We need {what}. Use {name}.",
        f"The user wants {what}. There is a tool for this. We call functions.{name}.",
    )
    analysis_of_result = {
        "low": None,
        "medium": "The tool gave a result.",
        "high": "The tool gave a result. Now we tell the user.",
    }[effort]
    separators = None if rng.random() < 0.6 else (",", ":")
    result = json.dumps(request.result, separators=separators)
    call = Call(name, available[name].parameter, request.argument)
    return ToolTurn(request.question, analysis, call, result, analysis_of_result, request.final)
