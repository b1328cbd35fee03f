#!/usr/bin/env python3
"""Writes cases.json: prompts that a GGUF file answers rightly and by a wide margin, with what it generates.

    python make_cases.py ../gpt-oss-nano.gguf ../cases.json

A golden file for engines, not evidence of accuracy: cases are chosen among the right answers. Every family has
one at least but "recall", which needs a history, and some prompts are long.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from data import CALL, RETURN
from evaluate import EVERY_FAMILY, HELD_OUT_SEED, Answer, Item, answer_all, held_out_items, is_right
from model import Inference, load_gguf
from tokenizer import NanoTokenizer

CASES = 30
MIN_MARGIN = 0.7
# Chosen by the length of the prompt instead of the margin; all but the first for the second time.
LONG_FAMILIES = ["tool_missing", "tool_result", "add", "tool_call", "sub", "reverse", "sort", "mul"]


def case_of(item: Item, answer: Answer) -> dict[str, Any]:
    return {
        "family": item.expected["family"],
        "level": item.expected["level"],
        "prompt": item.prompt,
        "prompt_ids": answer.prompt_ids,
        "greedy_ids": answer.ids,
        "text": answer.text,
        "final": item.expected.get("final"),
        "call": item.expected.get("call"),
        "min_margin": round(min(answer.margins), 3),
    }


def choose(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The widest margin of each family that has a candidate, then the longest prompts of some."""
    chosen: list[dict[str, Any]] = []
    for families, key in (
        (EVERY_FAMILY, lambda case: case["min_margin"]),
        (LONG_FAMILIES, lambda case: len(case["prompt_ids"])),
    ):
        for family in families:
            left = [case for case in candidates if case["family"] == family and case not in chosen]
            if left:
                chosen.append(max(left, key=key))
    return chosen[:CASES]


def add_top5(inference: Inference, case: dict[str, Any]) -> None:
    """The five largest logits that predict the first and the last generated token."""
    ids = case["prompt_ids"] + case["greedy_ids"]
    inference.start(1)
    logits = inference.step(torch.tensor([ids]), torch.arange(len(ids))[None])[0]
    for name, position in (("top5_first", len(case["prompt_ids"]) - 1), ("top5_last", len(ids) - 2)):
        values, token_ids = logits[position].topk(5)
        case[name] = [[int(i), round(float(v), 4)] for i, v in zip(token_ids, values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--candidates", type=int, default=900)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED + 1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    inference = Inference(*load_gguf(args.model))
    tokenizer = NanoTokenizer.from_gguf(args.model)
    items = held_out_items(args.candidates, args.seed, EVERY_FAMILY)
    candidates = [
        case_of(item, answer)
        for item, answer in zip(items, answer_all(inference, tokenizer, items, batch=100))
        if is_right(item.expected, answer.text) and min(answer.margins) > MIN_MARGIN
    ]
    cases = choose(candidates)
    for case in cases:
        add_top5(inference, case)
    file = {
        "model": args.model.name,
        "sha256": hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "stop_ids": [tokenizer.id_of(RETURN), tokenizer.id_of(CALL)],
        "note": "greedy, F32 compute on dequantised weights, YaRN truncate=false",
        "cases": cases,
    }
    args.output.write_text(json.dumps(file, indent=1, ensure_ascii=False))
    lengths = [len(case["prompt_ids"]) for case in cases]
    margin = min(case["min_margin"] for case in cases)
    print(f"{len(cases)} cases of {min(lengths)} to {max(lengths)} prompt tokens, smallest margin {margin}")


if __name__ == "__main__":
    main()
