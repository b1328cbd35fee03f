#!/usr/bin/env python3
"""Writes a small gpt-oss GGUF with random weights, a random prompt, and the logits Transformers gives for it.

The file has the metadata keys, tensor names and tensor types of the public gpt-oss-20b GGUF: MXFP4 experts,
Q8_0 for the other matrices, F32 for the rest. The weights are drawn so that every part of the forward pass
shows in the logits; the script measures that by breaking the parts one at a time and prints the table that
README.md has.

    python make_models.py             # writes odd.gguf, odd.150.tokens.txt, odd.150.hf_f32.*.npy
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from faults import broken_models
from gguf import GGMLQuantizationType
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GptOssForCausalLM

from reference import YARN_MODES, load_reference, logits_of, nmse

HEAD_DIM = 64
# Closer than this, another order of summation may choose another expert, and the logits jump.
MIN_ROUTER_MARGIN = 2e-4
SPECIALS = (
    *("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>"),
    *("<|start|>", "<|end|>", "<|message|>", "<|call|>", "<|endofprompt|>"),
)


@dataclass(frozen=True)
class Shape:
    """Sizes of one model. Every row length is a multiple of 32, as the block formats need; row counts are free."""

    name: str
    seed: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    experts: int
    ff: int
    window: int
    vocabulary: int
    prompt_tokens: int


# Nothing here is a power of two that need not be: GQA ratio 3, rows of 5 and 3 blocks, 300 output rows.
ODD = Shape(
    name="odd",
    seed=4,
    layers=3,
    hidden=160,
    heads=6,
    kv_heads=2,
    experts=12,
    ff=96,
    window=32,
    vocabulary=300,
    prompt_tokens=150,
)


def random_tensors(shape: Shape) -> Iterator[tuple[str, np.ndarray, GGMLQuantizationType]]:
    """Every tensor of the model in file order: name, float32 values with the row last, type to store it as."""
    rng = np.random.default_rng(shape.seed)
    q8, mx, f32 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.MXFP4, GGMLQuantizationType.F32

    def normal(*dims: int, std: float, mean: float = 0.0) -> np.ndarray:
        return rng.normal(mean, std, dims).astype(np.float32)

    def matrix(*dims: int, gain: float = 1.0) -> np.ndarray:
        """Rows that turn an input of unit variance into an output of standard deviation `gain`."""
        return normal(*dims, std=gain / dims[-1] ** 0.5)

    hidden, ff, experts = shape.hidden, shape.ff, shape.experts
    q_rows, kv_rows = shape.heads * HEAD_DIM, shape.kv_heads * HEAD_DIM
    yield "token_embd.weight", normal(shape.vocabulary, hidden, std=1.0), q8
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", normal(hidden, mean=1.0, std=0.2), f32
        for name, rows, columns in (("q", q_rows, hidden), ("k", kv_rows, hidden), ("v", kv_rows, hidden)):
            yield f"{block}attn_{name}.weight", matrix(rows, columns), q8
            yield f"{block}attn_{name}.bias", normal(rows, std=0.4), f32
        yield block + "attn_output.weight", matrix(hidden, q_rows, gain=1.5), q8
        yield block + "attn_output.bias", normal(hidden, std=0.2), f32
        yield block + "attn_sinks.weight", normal(shape.heads, mean=2.0, std=1.5), f32
        yield block + "post_attention_norm.weight", normal(hidden, mean=1.0, std=0.2), f32
        yield block + "ffn_gate_inp.weight", matrix(experts, hidden, gain=1.5), f32
        yield block + "ffn_gate_inp.bias", normal(experts, std=0.5), f32
        for name, gain in (("gate", 4.0), ("up", 3.0)):
            yield f"{block}ffn_{name}_exps.weight", matrix(experts, ff, hidden, gain=gain), mx
            yield f"{block}ffn_{name}_exps.bias", normal(experts, ff, std=1.0), f32
        yield block + "ffn_down_exps.weight", matrix(experts, hidden, ff, gain=0.15), mx
        yield block + "ffn_down_exps.bias", normal(experts, hidden, std=0.2), f32
    yield "output_norm.weight", normal(hidden, mean=1.0, std=0.2), f32
    yield "output.weight", matrix(shape.vocabulary, hidden, gain=2.0), q8


def add_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_type("model")
    writer.add_name(f"Gpt Oss {shape.name.capitalize()} Random")
    writer.add_basename("gpt-oss")
    writer.add_size_label(shape.name)
    writer.add_license("apache-2.0")
    writer.add_block_count(shape.layers)
    writer.add_context_length(131072)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(150000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(4)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE)
    writer.add_sliding_window(shape.window)
    writer.add_expert_feed_forward_length(shape.ff)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(32.0)
    writer.add_rope_scaling_orig_ctx_len(4096)
    # Newer converters write these two, older ones leave them out.
    writer.add_rope_scaling_yarn_beta_fast(32.0)
    writer.add_rope_scaling_yarn_beta_slow(1.0)
    add_tokenizer(writer, shape.vocabulary)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tokenizer(writer: gguf.GGUFWriter, vocabulary: int) -> None:
    """256 bytes, as many merges of letter pairs as the vocabulary has room for, and Harmony's specials."""
    letters = "etaoinshr"
    pairs = [(a, b) for a in letters for b in letters][: vocabulary - 256 - len(SPECIALS)]
    tokens = sorted(ByteLevel.alphabet()) + [a + b for a, b in pairs] + list(SPECIALS)
    if len(tokens) != vocabulary or len(set(tokens)) != vocabulary:
        raise ValueError(f"{len(tokens)} tokens for a vocabulary of {vocabulary}")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(tokens)
    ordinary = vocabulary - len(SPECIALS)
    writer.add_token_types([gguf.TokenType.NORMAL] * ordinary + [gguf.TokenType.CONTROL] * len(SPECIALS))
    writer.add_token_merges([f"{a} {b}" for a, b in pairs])
    writer.add_bos_token_id(tokens.index("<|startoftext|>"))
    writer.add_eos_token_id(tokens.index("<|return|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))


def write_model(path: Path, shape: Shape) -> None:
    writer = gguf.GGUFWriter(path, "gpt-oss")
    add_metadata(writer, shape)
    for name, values, kind in random_tensors(shape):
        if kind == GGMLQuantizationType.F32:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_prompt(shape: Shape) -> list[int]:
    rng = np.random.default_rng([shape.seed, shape.prompt_tokens])
    return rng.integers(0, shape.vocabulary, shape.prompt_tokens).tolist()


@torch.no_grad()
def router_margin(model: GptOssForCausalLM, prompt: list[int]) -> float:
    """The smallest distance, over tokens and layers, between the last expert chosen and the first one not."""
    logits = model(torch.tensor([prompt]), output_router_logits=True).router_logits
    ordered = torch.cat(logits).sort(-1, descending=True).values
    chosen = model.config.num_experts_per_tok
    return float((ordered[:, chosen - 1] - ordered[:, chosen]).min())


def report_sensitivity(path: Path, prompt: list[int]) -> None:
    """Prints how far the logits move when one part of the forward pass is wrong, as a Markdown table."""
    right = logits_of(load_reference(path), prompt)
    print("| fault | max abs | NMSE | top-1 kept |\n|---|---|---|---|")
    for fault, model in broken_models(path):
        logits = logits_of(model, prompt)
        largest = np.abs(logits - right).max()
        top1 = float((logits.argmax(-1) == right.argmax(-1)).mean())
        print(f"| {fault} | {largest:.2g} | {nmse(logits, right):.1e} | {top1:.1%} |")
    print(f"standard deviation of the logits {right.std():.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().out
    torch.set_num_threads(1)

    shape = ODD
    path = folder / f"{shape.name}.gguf"
    prompt = random_prompt(shape)
    stem = f"{shape.name}.{shape.prompt_tokens}"
    write_model(path, shape)
    (folder / f"{stem}.tokens.txt").write_text(" ".join(map(str, prompt)) + "\n")
    for mode, truncate in YARN_MODES.items():
        model = load_reference(path, truncate)
        margin = router_margin(model, prompt)
        print(f"{mode}: smallest router margin {margin:.1e}")
        if margin < MIN_ROUTER_MARGIN:
            raise SystemExit(f"seed {shape.seed}: a router margin of {margin:.1e} is within float32 rounding")
        np.save(folder / f"{stem}.hf_f32.{mode}.npy", logits_of(model, prompt))
    report_sensitivity(path, prompt)


if __name__ == "__main__":
    main()
