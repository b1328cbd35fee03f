#!/usr/bin/env python3
"""What would the nano model notice? Breaks one part of the reference at a time and compares over all its cases.

Prints a Markdown table: in how many cases greedy decoding still gives the same tokens, and the NMSE of the logits
at the generated positions. The tokens are the same exactly if every teacher-forced position still has the same best
token, so one forward pass per case is enough.

    python measure_nano_faults.py
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults import broken_models
from transformers import GptOssForCausalLM

from reference import load_reference, logits_of, nmse

NANO = Path(__file__).parent.parent.parent / "models" / "nano"


def generated_logits(model: GptOssForCausalLM, cases: list[dict[str, Any]]) -> list[np.ndarray]:
    """For each case the logits [generated tokens, vocabulary] that predict the tokens generated."""
    return [
        logits_of(model, case["prompt_ids"] + case["greedy_ids"])[len(case["prompt_ids"]) - 1 : -1] for case in cases
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nano", type=Path, default=NANO, help="folder with gpt-oss-nano.gguf and cases.json")
    folder = parser.parse_args().nano
    torch.set_num_threads(1)
    recorded = json.loads((folder / "cases.json").read_text())
    path, cases = folder / recorded["model"], recorded["cases"]
    right = generated_logits(load_reference(path), cases)
    print(f"| fault | same tokens, of {len(cases)} | logits NMSE |\n|---|---|---|")
    for fault, model in broken_models(path):
        logits = generated_logits(model, cases)
        same = sum(bool((a.argmax(-1) == case["greedy_ids"]).all()) for a, case in zip(logits, cases))
        print(f"| {fault} | {same} | {nmse(np.concatenate(logits), np.concatenate(right)):.0e} |", flush=True)


if __name__ == "__main__":
    main()
