#!/usr/bin/env python3
"""Procedural Harmony conversations for gpt-oss-nano: seeded, without any outside data.

python data.py --count 3 --seed 7     # prints conversations; [[…]] marks what the model learns to write
"""

import argparse
import json
import random
from typing import Any, NamedTuple

from families import FAMILIES, SPELLED, Effort, Rng, by_effort
from tools import Call, Tool, namespace_text, random_tools, tool_turn

START, END, MESSAGE, CHANNEL = "<|start|>", "<|end|>", "<|message|>", "<|channel|>"
CONSTRAIN, RETURN, CALL = "<|constrain|>", "<|return|>", "<|call|>"
START_OF_TEXT, END_OF_TEXT, END_OF_PROMPT = "<|startoftext|>", "<|endoftext|>", "<|endofprompt|>"
# In the order of their token ids, which is the order they have in the real vocabulary.
SPECIALS = [
    START_OF_TEXT,
    END_OF_TEXT,
    RETURN,
    CONSTRAIN,
    CHANNEL,
    START,
    END,
    MESSAGE,
    CALL,
    END_OF_PROMPT,
]

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
OTHER_IDENTITIES = ["You are a helpful assistant.", "You are gpt-oss-nano, a tiny language model."]
INSTRUCTIONS = [
    "You are a helpful assistant.",
    "Use a friendly tone.",
    "Answer briefly.",
    "Be concise.",
    "Help the user.",
    "Answer the question.",
]
# The one instruction that changes the answers.
SURE = "Begin every answer with Sure:"

# Families that may come up earlier in a conversation.
HISTORY_FAMILIES = [
    "greeting",
    "day_month",
    "capitals",
    "compare",
    "name",
    "repeat",
    "next_number",
    "add",
    "name",
    "reverse",
]


class Setting(NamedTuple):
    """What the system and developer messages say; every turn of a conversation shares it."""

    effort: Effort
    tools: list[Tool]
    instruction: str | None
    date: str

    @property
    def answer_start(self) -> str:
        return "Sure: " if self.instruction == SURE else ""


class Segment(NamedTuple):
    """A piece of conversation text; `learned` marks what the assistant writes."""

    text: str
    learned: bool


class Branch(NamedTuple):
    """The turns after the prefix, and what is expected: `family` and either `final` or `call`."""

    segments: list[Segment]
    expected: dict[str, Any]


class Conversation(NamedTuple):
    prefix: str
    segments: list[Segment]
    expected: dict[str, Any]


# ---------------------------------------------------------------------------------------------------------
# System and developer messages
# ---------------------------------------------------------------------------------------------------------


def random_setting(rng: Rng, force_tools: bool = False) -> Setting:
    effort: Effort = rng.choice(["low", "medium", "medium", "high"])
    date = f"{rng.randint(2024, 2028)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    tools = random_tools(rng) if force_tools or rng.random() < 0.15 else []
    share = rng.random()
    instruction = SURE if share < 0.06 else rng.choice(INSTRUCTIONS) if share < 0.35 else None
    return Setting(effort, tools, instruction, date)


def prefix_text(rng: Rng, setting: Setting) -> str:
    """The system message in the wording of the real models, and a developer message if there is one to write."""
    identity = IDENTITY if rng.random() < 0.92 else rng.choice(OTHER_IDENTITIES)
    system = (
        f"{identity}\nKnowledge cutoff: 2024-06\nCurrent date: {setting.date}\n\nReasoning: {setting.effort}\n\n"
        "# Valid channels: analysis, commentary, final. Channel must be included for every message."
    )
    if setting.tools:
        system += "\nCalls to these tools must go to the commentary channel: 'functions'."
    sections = []
    if setting.instruction:
        sections += ["# Instructions", setting.instruction]
    if setting.tools:
        sections += ["# Tools", namespace_text(setting.tools)]
    text = f"{START}system{MESSAGE}{system}{END}"
    if sections:
        text += f"{START}developer{MESSAGE}" + "\n\n".join(sections) + END
    return text


# ---------------------------------------------------------------------------------------------------------
# Messages
# ---------------------------------------------------------------------------------------------------------


def user_message(question: str) -> str:
    return f"{START}user{MESSAGE}{question}{END}"


def tool_message(call: Call, result: str) -> str:
    return f"{START}functions.{call.tool} to=assistant{CHANNEL}commentary{MESSAGE}{result}{END}"


# The texts below follow "<|start|>assistant".


def analysis_text(analysis: str) -> str:
    return f"{CHANNEL}analysis{MESSAGE}{analysis}{END}{START}assistant"


def final_text(answer: str, end: str = RETURN) -> str:
    return f"{CHANNEL}final{MESSAGE}{answer}{end}"


def call_text(call: Call) -> str:
    arguments = json.dumps({call.parameter: call.argument}, separators=(",", ":"))
    return f"{CHANNEL}commentary to=functions.{call.tool} {CONSTRAIN}json{MESSAGE}{arguments}{CALL}"


def past_call_text(rng: Rng, call: Call) -> str:
    """A call as history: now and then in the other forms that Harmony renderers write."""
    share = rng.random()
    if share < 0.1:
        arguments = json.dumps({call.parameter: call.argument})
        return f" to=functions.{call.tool}{CHANNEL}commentary json{MESSAGE}{arguments}{CALL}"
    if share < 0.2:
        arguments = json.dumps({call.parameter: call.argument}, separators=(",", ":"))
        return f" to=functions.{call.tool}{CHANNEL}commentary {CONSTRAIN}json{MESSAGE}{arguments}{CALL}"
    return call_text(call)


# ---------------------------------------------------------------------------------------------------------
# Conversations
# ---------------------------------------------------------------------------------------------------------


def vary_wording(rng: Rng, question: str) -> str:
    """A polite opening, a small first letter or a missing full stop, each in one question of eight."""
    lowered = question[0].lower() + question[1:]
    if rng.random() < 0.12:
        opening = rng.choice(["Please ", "Hi, ", "Can you help? ", "OK, "])
        question = opening + (lowered if rng.random() < 0.6 else question)
    elif rng.random() < 0.12:
        question = lowered
    if rng.random() < 0.12 and question[-1] in ".?":
        question = question[:-1]
    return question


def history(rng: Rng, setting: Setting) -> tuple[list[Segment], str | None]:
    """One or two earlier turns, of which only the finals are kept; and the user's name, if it was told."""
    segments, name = [], None
    for _ in range(rng.choice([1, 1, 2])):
        if setting.tools and rng.random() < 0.4:
            turn = tool_turn(rng, setting.effort, setting.tools)
            text = user_message(turn.question)
            if turn.call:
                text += f"{START}assistant" + past_call_text(rng, turn.call) + tool_message(turn.call, turn.result)
            answer = turn.final
        else:
            family = rng.choice(HISTORY_FAMILIES)
            question, _, answer = FAMILIES[family][0](rng, setting.effort, setting.date)
            text, answer = user_message(question), answer.replace(SPELLED, "")
            if family == "name":
                name = answer.removeprefix("Nice to meet you, ").removesuffix("!")
        text += f"{START}assistant" + final_text(setting.answer_start + answer, END)
        segments.append(Segment(text, False))
    return segments, name


def choose_family(rng: Rng, has_tools: bool, name_is_known: bool) -> str:
    if (has_tools and rng.random() < 0.6) or rng.random() < 0.03:
        return "tool"
    if name_is_known and rng.random() < 0.5:
        return "recall"
    return rng.choices(list(FAMILIES), [weight for _, weight in FAMILIES.values()])[0]


def tool_branch(rng: Rng, setting: Setting, stage: str | None) -> Branch:
    """A request for a tool that ends with the call, with the answer to its result, or with a refusal."""
    turn = tool_turn(rng, setting.effort, setting.tools)
    answer = setting.answer_start + turn.final
    segments = [Segment(user_message(turn.question) + f"{START}assistant", False)]
    if turn.call is None:
        segments.append(Segment(analysis_text(turn.analysis) + final_text(answer), True))
        return Branch(segments, {"family": "tool_missing", "final": answer})

    segments.append(Segment(analysis_text(turn.analysis) + call_text(turn.call), True))
    if (stage or ("call" if rng.random() < 0.3 else "result")) == "call":
        call = [f"functions.{turn.call.tool}", {turn.call.parameter: turn.call.argument}]
        return Branch(segments, {"family": "tool_call", "call": call})

    if rng.random() < 0.3:  # the call as another renderer writes it, or with the reasoning dropped
        reasoning = analysis_text(turn.analysis) if rng.random() < 0.5 else ""
        segments[-1] = Segment(reasoning + past_call_text(rng, turn.call), False)
    segments.append(Segment(tool_message(turn.call, turn.result) + f"{START}assistant", False))
    reasoning = analysis_text(turn.analysis_of_result) if turn.analysis_of_result else ""
    segments.append(Segment(reasoning + final_text(answer), True))
    return Branch(segments, {"family": "tool_result", "final": answer})


def recall_turn(rng: Rng, effort: Effort, name: str) -> tuple[str, str, str]:
    question = rng.choice(["What is my name?", "Do you know my name?", "Who am I?"])
    analysis = by_effort(effort, "Their name.", f"The name is {name}.", f"The user said the name is {name}.")
    return question, analysis, f"Your name is {name}."


def random_branch(rng: Rng, setting: Setting, family: str | None = None, stage: str | None = None) -> Branch:
    """One request under a given prefix, in one of four cases with a history before it.

    `family` is a key of FAMILIES, "tool" or "recall", random if None. `stage` says where a "tool" request ends:
    "call" or "result".
    """
    segments: list[Segment] = []
    name = None
    if rng.random() < 0.25:
        segments, name = history(rng, setting)
    family = family or choose_family(rng, bool(setting.tools), name is not None)
    if family == "tool":
        branch = tool_branch(rng, setting, stage)
        return Branch(segments + branch.segments, branch.expected)
    if family == "recall":
        if name is None:
            raise ValueError("a name can only be recalled after a history that tells it")
        question, analysis, answer = recall_turn(rng, setting.effort, name)
    else:
        question, analysis, answer = FAMILIES[family][0](rng, setting.effort, setting.date)
    question = vary_wording(rng, question)
    answer = setting.answer_start + answer
    segments.append(Segment(user_message(question) + f"{START}assistant", False))
    segments.append(Segment(analysis_text(analysis) + final_text(answer), True))
    return Branch(segments, {"family": family, "final": answer.replace(SPELLED, "")})


def random_conversation(rng: Rng, family: str | None = None, stage: str | None = None) -> Conversation:
    setting = random_setting(rng, force_tools=family == "tool")
    prefix = prefix_text(rng, setting)
    branch = random_branch(rng, setting, family, stage)
    return Conversation(prefix, branch.segments, branch.expected | {"level": setting.effort})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    for _ in range(args.count):
        conversation = random_conversation(rng)
        shown = "".join(f"[[{s.text}]]" if s.learned else s.text for s in conversation.segments)
        print((conversation.prefix + shown).replace(SPELLED, "|"), conversation.expected, "\n")


if __name__ == "__main__":
    main()
