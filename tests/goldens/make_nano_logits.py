#!/usr/bin/env python3
"""Checks models/nano/cases.json against Transformers and writes teacher-forced logits for some of its cases.

For every case: greedy decoding in float32 must give `greedy_ids`, and the top-5 logits must be the recorded
ones. For the chosen cases `nano.caseNN.hf_f32.npy` gets the logits [generated tokens, vocabulary] that predict
each generated token when prompt and earlier generated tokens are given. NN counts the cases from 0.

    python make_nano_logits.py
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GptOssForCausalLM

from reference import greedy, load_reference, logits_of

HERE = Path(__file__).parent
NANO = HERE.parent.parent / "models" / "nano"
# The shortest prompt, the longest prompt, the longest answer, both small margins, and a second long answer.
CHOSEN = (3, 24, 25, 26, 27, 29)
TOP5_TOLERANCE = 2e-4  # cases.json has four decimals


def check_top5(recorded: list[list[float]], logits: np.ndarray, what: str) -> None:
    ids = np.argsort(-logits, kind="stable")[:5]
    expected_ids = [int(i) for i, _ in recorded]
    values = np.array([v for _, v in recorded])
    if ids.tolist() != expected_ids or np.abs(values - logits[ids]).max() > TOP5_TOLERANCE:
        raise SystemExit(f"{what}: cases.json has {recorded}, Transformers {list(zip(ids, logits[ids]))}")


def check_case(model: GptOssForCausalLM, index: int, case: dict[str, Any], stop_ids: set[int]) -> np.ndarray:
    """Compares one case with the reference; returns the logits that predict its generated tokens."""
    prompt, generated = case["prompt_ids"], case["greedy_ids"]
    decoded = greedy(model, prompt, stop_ids, limit=len(generated) + 8)
    if decoded != generated:
        raise SystemExit(f"case {index}: cases.json has {generated}, Transformers generates {decoded}")
    logits = logits_of(model, prompt + generated)[len(prompt) - 1 : -1]
    check_top5(case["top5_first"], logits[0], f"case {index}, first generated position")
    check_top5(case["top5_last"], logits[-1], f"case {index}, last generated position")
    ordered = np.sort(logits, axis=-1)
    margin = float((ordered[:, -1] - ordered[:, -2]).min())
    sizes = f"{len(prompt):3d} + {len(generated):2d} tokens"
    print(f"case {index:2d} {case['family']:13s} {sizes}, smallest margin {margin:.3f}, equal")
    return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nano", type=Path, default=NANO, help="folder with gpt-oss-nano.gguf and cases.json")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    torch.set_num_threads(1)

    recorded = json.loads((args.nano / "cases.json").read_text())
    path = args.nano / recorded["model"]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != recorded["sha256"]:
        raise SystemExit(f"{path}: cases.json was made from sha256 {recorded['sha256']}, this file has {sha256}")
    model = load_reference(path)
    for index, case in enumerate(recorded["cases"]):
        logits = check_case(model, index, case, set(recorded["stop_ids"]))
        if index in CHOSEN:
            np.save(args.out / f"nano.case{index:02d}.hf_f32.npy", logits)


if __name__ == "__main__":
    main()
