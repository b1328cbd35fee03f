"""Writes harmony_tools.jsonl: tools of every kind of JSON Schema, and the text that OpenAI's renderer shows the model.

    pip install openai-harmony==0.0.8
    TIKTOKEN_ENCODINGS_BASE=FOLDER python make_tool_vectors.py > harmony_tools.jsonl

FOLDER holds `o200k_base.tiktoken` (sha256 446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d), which the
package would otherwise download; the crate `tiktoken-rs` carries it in `assets/`. Equal versions give equal bytes.

A developer message whose namespaces are all empty is not among the cases: this project leaves it out on purpose.

A row has `place` (`developer` or `system`), `tools` (namespaces) and `text`, the section that begins with `# Tools`.
"""

import json
import random

from openai_harmony import (
    Conversation,
    DeveloperContent,
    HarmonyEncodingName,
    Message,
    Role,
    SystemContent,
    ToolDescription,
    ToolNamespaceConfig,
    load_harmony_encoding,
)

SEED = 20261128
RANDOM_ROWS = 260

ENCODING = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)

# Texts for titles, descriptions and examples: empty, of several lines, with quotes and of other scripts.
TEXTS = [
    "",
    "short",
    "A sentence with, commas.",
    "two\nlines",
    "three\n\nlines",
    "ends in a newline\n",
    "\nbegins with one",
    "  spaces  ",
    "a \"quoted\" word",
    "it's // a comment",
    "back\\slash",
    "tab\there",
    "carriage\r\nreturn",
    "größer ≥ 3 名前 🦄",
    "null",
    "default: \"x\"",
    "<|end|>",
]
NAMES = ["a", "name", "with space", "dash-ed", "1st", "größe", "名", "quote\"d", "x.y", "snake_case", "CamelCase", ""]
STRINGS = ["x", "", "two words", "a \"b\"", "line\nbreak", "ü", "null", "3"]
VALUES = [None, True, False, 0, 1, -7, 1.5, 1.0, 1e3, 1e21, 0.1, 12345678901234, "text", "", [], ["a", "b"], [1, [None]], {}, {"k": 1, "a": {"b": []}}]


def text(rng):
    return rng.choice(TEXTS)


def decorate(rng, schema):
    """Adds what may stand beside a type, now and then something of the wrong kind."""
    for key, chance, value in [
        ("title", 0.15, lambda: text(rng)),
        ("description", 0.45, lambda: text(rng)),
        ("default", 0.25, lambda: rng.choice(VALUES + STRINGS)),
        ("examples", 0.15, lambda: rng.sample(STRINGS + [1, None, {"e": 1}, True], rng.randint(0, 4))),
        ("nullable", 0.15, lambda: rng.choice([True, True, False, "true"])),
        ("description", 0.02, lambda: rng.choice([5, None, ["no text"]])),
        ("minimum", 0.05, lambda: 3),
        ("format", 0.05, lambda: "date"),
    ]:
        if rng.random() < chance:
            schema[key] = value()
    items = list(schema.items())
    rng.shuffle(items)
    return dict(items)


def enum(rng):
    kind = rng.random()
    if kind < 0.6:
        return rng.sample(STRINGS, rng.randint(1, 4))
    if kind < 0.75:
        return rng.sample([1, 2, 3], 2)
    if kind < 0.9:
        return [rng.choice(STRINGS), 3, None, True]
    return []


def schema(rng, depth):
    leaf = depth <= 0
    kinds = ["string", "enum", "number", "integer", "boolean", "null", "list", "const", "ref", "bare", "any", "untyped enum"]
    kinds += [] if leaf else ["object", "object", "object", "array", "array", "oneOf", "oneOf", "oneOf", "anyOf", "allOf"]
    kind = rng.choice(kinds)
    inner = lambda: schema(rng, depth - 1)
    made = {}
    if kind == "enum":
        made = {"type": "string", "enum": enum(rng)}
    elif kind == "untyped enum":
        made = {"enum": enum(rng)}
    elif kind == "list":
        made = {"type": rng.choice([["string", "null"], ["integer", "string"], ["object", "null"], [], [None, 3], ["array"], ["null"]])}
        if rng.random() < 0.3:
            made["properties"] = {"lost": {"type": "string"}}
    elif kind == "const":
        made = {"const": rng.choice(VALUES)}
    elif kind == "ref":
        made = {"$ref": "#/$defs/T"}
    elif kind == "bare":
        made = {}
    elif kind == "any":
        made = {"type": rng.choice(["thing", "any", 5, None, "String"])}
    elif kind == "object":
        made = {"type": "object"}
        if rng.random() < 0.9:
            names = rng.sample(NAMES, rng.randint(0, 4))
            made["properties"] = {name: inner() for name in names}
            if rng.random() < 0.6:
                made["required"] = [name for name in names if rng.random() < 0.6] + rng.choice([[], ["absent"], [3]])
        if rng.random() < 0.2:
            made["additionalProperties"] = rng.choice([False, True, {"type": "string"}])
    elif kind == "array":
        made = {"type": "array"}
        if rng.random() < 0.85:
            made["items"] = rng.choice([inner, inner, inner, inner, lambda: [], lambda: True])()
    elif kind in ("oneOf", "anyOf", "allOf"):
        variants = [inner() for _ in range(rng.randint(0, 3))]
        if rng.random() < 0.5:
            variants.insert(rng.randint(0, len(variants)), decorate(rng, {"type": "null"}))
        made = {kind: variants}
        if rng.random() < 0.25:
            made["type"] = rng.choice(["object", "string", ["string", "null"]])
        if rng.random() < 0.2:
            made["enum"] = enum(rng)
        if rng.random() < 0.05:
            made[kind] = {"not": "a list"}
    else:
        made = {"type": kind}
    made = decorate(rng, made)
    # The library compares the description of a union with those of its variants.
    variants = made.get("oneOf")
    if isinstance(variants, list) and variants and "description" in made and rng.random() < 0.4:
        rng.choice(variants)["description"] = made["description"]
    return made


def parameters(rng):
    if rng.random() < 0.1:
        return schema(rng, 3)
    names = rng.sample(NAMES, rng.randint(1, 4))
    made = {"type": "object", "properties": {name: schema(rng, 2) for name in names}}
    if rng.random() < 0.6:
        made["required"] = [name for name in names if rng.random() < 0.5]
    return decorate(rng, made) if rng.random() < 0.3 else made


def function(name, description, parameters=None):
    made = {"name": name, "description": description}
    if parameters is not None:
        made["parameters"] = parameters
    return made


def object_of(**properties):
    return {"type": "object", "properties": properties}


def chosen():
    """Cases written by hand: every place of a text, and whole namespaces."""
    lines = "one\ntwo\n\nfour"
    string = {"type": "string"}
    null = {"type": "null"}
    schemas = [
        object_of(a={**string, "description": lines}),
        object_of(a={**string, "title": lines, "description": lines, "examples": [lines], "default": lines}),
        {**object_of(a=string), "description": lines},
        object_of(a={**object_of(b={**string, "description": lines}), "description": lines}),
        object_of(a={"type": "array", "items": {**object_of(b=string), "description": lines}, "description": lines}),
        object_of(a={"oneOf": [{**string, "description": lines}, null], "description": lines}),
        object_of(a={"oneOf": [null, {**string, "description": "s"}], "description": "whole"}),
        object_of(a={"oneOf": [{**string, "description": "s"}, null], "description": "whole"}),
        object_of(a={"oneOf": [{**string, "description": "same"}, null], "description": "same"}),
        object_of(a={"oneOf": [null, {**string, "description": "same"}], "description": "same"}),
        object_of(a={"oneOf": [{**string, "description": "s", "default": "d"}, {**null, "description": "none"}]}),
        object_of(a={"oneOf": [{**object_of(b=string), "description": "o"}, null]}),
        object_of(a={"oneOf": [null, {**object_of(b=string), "description": lines, "default": {"b": "x"}}]}),
        object_of(a={"oneOf": [{"oneOf": [string, null], "description": "inner"}, {"type": "number"}]}),
        object_of(a={"type": "array", "items": {"oneOf": [{**string, "description": lines, "default": "d"}, null]}}),
        {"oneOf": [{**object_of(a=string), "description": lines}, {**string, "enum": ["p\"q"], "default": "p\"q"}]},
        object_of(a={"oneOf": [], "description": "empty"}),
        object_of(a={"oneOf": {"no": "list"}, "description": "d", "default": 1, **string}),
        object_of(a={**string, "oneOf": [string], "enum": ["x"], "default": "x"}),
        object_of(a={**string, "enum": [1, 2], "default": 1}, b={**string, "enum": [], "default": "x"}),
        object_of(a={**string, "description": "", "title": ""}, b={**string, "examples": [1, {}]}, c={**string, "examples": []}),
        object_of(a={"anyOf": [string, null], "description": lines, "default": None}),
        object_of(a={"allOf": [object_of(b=string)], "description": lines, "nullable": True}),
        object_of(a={**string, "nullable": True}, b={"type": ["string", "null"], "nullable": True}, c={**null, "nullable": True}),
        object_of(a={**string, "enum": ["null"], "nullable": True}, b={**object_of(nullable=string), "nullable": True}),
        object_of(a={"type": "array", "items": {**string, "enum": ["x", "y"]}, "default": ["x"]}),
        object_of(a={"type": "object", "additionalProperties": string}, b={"type": "object", "properties": {}}),
        object_of(a={"type": "number", "default": 1e-7}, b={"type": "integer", "default": 12345678901234567890}),
        object_of(a={"type": "number", "default": [1e15, 1e16, 1e17, -1e21, 1e-4, 1e-5, 1.5e-7, 123456789.125e9, 5e-324, 1.7976931348623157e308]}),
        object_of(a={"oneOf": [{"type": "number", "default": {"k": [1e21, "1e+21"]}}, {"type": "number", "default": 1e100}]}),
        {"type": "object", "properties": {}},
        {"type": "object", "properties": []},
        {"type": "object"},
        {"properties": {"a": string}},
        {},
        True,
        {"type": "string", "description": lines},
        {"type": ["object", "null"], "properties": {"a": string}},
    ]
    one = [function("f", "Does it.", object_of(a=string))]
    rows = [("developer", [namespace("functions", None, [function("f", "Does it.", made)])]) for made in schemas]
    rows += [("developer", [namespace("functions", None, [function("f", made, object_of(a=string))])]) for made in TEXTS]
    rows += [("developer", [namespace("functions", made, one)]) for made in TEXTS]
    rows += [("system", [namespace("python", made, [])]) for made in TEXTS + [None]]
    rows += [
        ("developer", [namespace("functions", None, [function("f", "No parameters."), function("g", "", {}), function("h", lines)])]),
        ("developer", [namespace("zebra", lines, one), namespace("apple", None, one), namespace("functions", None, one)]),
        ("system", [namespace("python", lines, []), namespace("browser", lines, one * 2), namespace("apple", None, [])]),
        ("system", [namespace("Zulu", "", one), namespace("alpha", "", one)]),
    ]
    return rows


def namespace(name, description, tools):
    return {"name": name, "description": description, "tools": tools}


def rendered(place, tools):
    typed = {
        made["name"]: ToolNamespaceConfig(
            name=made["name"],
            description=made["description"],
            tools=[
                ToolDescription.new(tool["name"], tool["description"], parameters=tool.get("parameters"))
                for tool in made["tools"]
            ],
        )
        for made in tools
    }
    if place == "developer":
        role, content = Role.DEVELOPER, DeveloperContent(tools=typed)
    else:
        role, content = Role.SYSTEM, SystemContent(
            model_identity=None, reasoning_effort=None, knowledge_cutoff=None, channel_config=None, tools=typed
        )
    conversation = Conversation.from_messages([Message.from_role_and_content(role, content)])
    whole = ENCODING.decode_utf8(ENCODING.render_conversation(conversation))
    start, end = f"<|start|>{role.value}<|message|>", "<|end|>"
    assert whole.startswith(start) and whole.endswith(end), whole
    return whole[len(start) : -len(end)]


def main():
    rng = random.Random(SEED)
    rows = chosen()
    for _ in range(RANDOM_ROWS):
        made = [function("f", rng.choice(["Does it.", text(rng)]), parameters(rng))]
        rows.append(("developer", [namespace("functions", None, made)]))
    for place, tools in rows:
        try:
            shown = rendered(place, tools)
        except ValueError:
            # Not every schema that may be written is taken: `parameters` must be an object.
            continue
        print(json.dumps({"place": place, "tools": tools, "text": shown}, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
