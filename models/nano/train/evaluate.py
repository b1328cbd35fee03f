#!/usr/bin/env python3
"""Greedy accuracy of a GGUF file on held-out conversations: exactly the right final text, or exactly the right call.

python evaluate.py ../gpt-oss-nano.gguf              # the mixture of the training data
python evaluate.py ../gpt-oss-nano.gguf --balanced   # every family equally often
"""

import argparse
import json
import random
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from data import CALL, END_OF_TEXT, RETURN, START, random_conversation
from families import FAMILIES, SPELLED
from model import Inference, load_gguf
from tokenizer import NanoTokenizer

HELD_OUT_SEED = 987654  # training uses the seeds from 1000 on
EVERY_FAMILY = [*FAMILIES, "tool_call", "tool_result"]
MESSAGE_PATTERN = re.compile(
    r"(?:^|<\|start\|>assistant)"
    r"<\|channel\|>(?P<header>[^<]*(?:<\|constrain\|>\w+)?)"
    r"<\|message\|>(?P<body>.*?)(?P<end><\|end\|>|<\|return\|>|<\|call\|>)",
    re.DOTALL,
)


class Item(NamedTuple):
    """A prompt that ends with "<|start|>assistant", and what should come."""

    prompt: str
    expected: dict[str, Any]


class Answer(NamedTuple):
    """What the model wrote after a prompt."""

    prompt_ids: list[int]
    ids: list[int]
    margins: list[float]
    text: str


def held_out_items(count: int, seed: int, families: list[str] | None = None) -> list[Item]:
    """Prompts up to the last thing that the assistant has to write, over `families` in turn or mixed as in training."""
    rng = random.Random(seed)
    items = []
    for index in range(count):
        family, stage = (families[index % len(families)] if families else None), None
        if family in ("tool_call", "tool_result"):
            family, stage = "tool", family.removeprefix("tool_")
        conversation = random_conversation(rng, family, stage)
        last = max(i for i, segment in enumerate(conversation.segments) if segment.learned)
        before = "".join(segment.text for segment in conversation.segments[:last])
        items.append(Item(conversation.prefix + before.replace(SPELLED, ""), conversation.expected))
    return items


def parse_answer(text: str) -> dict[str, Any]:
    """`analysis` and `final` texts and the `call` in generated Harmony text."""
    found: dict[str, Any] = {}
    for match in MESSAGE_PATTERN.finditer(text):
        header, body = match["header"], match["body"]
        recipient = re.search(r"to=(\S+)", header)
        if recipient and match["end"] == CALL:
            try:
                found["call"] = [recipient[1], json.loads(body)]
            except ValueError:
                found["call"] = [recipient[1], body]
        elif header in ("analysis", "final"):
            found[header] = body
    return found


def is_right(expected: dict[str, Any], text: str) -> bool:
    kind = "call" if "call" in expected else "final"
    return parse_answer(text).get(kind) == expected[kind]


def answer_all(inference: Inference, tokenizer: NanoTokenizer, items: list[Item], batch: int) -> list[Answer]:
    """Answers in the order of `items`; prompts of similar length share a batch."""
    stop_ids = {tokenizer.id_of(token) for token in (RETURN, CALL, END_OF_TEXT)}
    prompts = tokenizer.encode_many([item.prompt for item in items])
    order = sorted(range(len(items)), key=lambda i: len(prompts[i]))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), batch):
        indices = order[start : start + batch]
        for index, generation in zip(indices, inference.greedy([prompts[i] for i in indices], stop_ids)):
            text = tokenizer.decode(generation.ids)
            answers[index] = Answer(prompts[index], generation.ids, generation.margins, text)
    return [answers[i] for i in range(len(items))]


def report(items: list[Item], answers: list[Answer], shown_misses: int) -> None:
    by_family: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    by_level: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    misses = 0
    for item, answer in zip(items, answers):
        right = is_right(item.expected, answer.text)
        family, level = by_family[item.expected["family"]], by_level[item.expected["level"]]
        family[0] += right
        family[1] += 1
        level[0] += right
        level[1] += 1
        level[2] += len(answer.ids)
        if not right and misses < shown_misses:
            misses += 1
            request = item.prompt[item.prompt.rfind(f"{START}user") :]
            print(f"wrong: {request!r}\n  expected {item.expected}\n  got {answer.text!r}")
    print(", ".join(f"{name} {right}/{of}" for name, (right, of) in sorted(by_family.items())))
    for name, (right, of, tokens) in by_level.items():
        print(f"reasoning {name}: {right}/{of} right, {tokens / of:.1f} tokens on average")
    right = sum(count for count, _ in by_family.values())
    print(f"total {right}/{len(items)} = {right / len(items):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument("--balanced", action="store_true", help="every family equally often")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", type=int, default=12, help="how many wrong answers to print")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    inference = Inference(*load_gguf(args.model))
    tokenizer = NanoTokenizer.from_gguf(args.model)
    items = held_out_items(args.count, args.seed, EVERY_FAMILY if args.balanced else None)
    started = time.monotonic()
    answers = answer_all(inference, tokenizer, items, args.batch)
    print(f"{len(items)} answers in {time.monotonic() - started:.0f} s")
    report(items, answers, args.show)


if __name__ == "__main__":
    main()
