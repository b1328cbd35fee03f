#!/usr/bin/env python3
"""Writes a checkpoint as GGUF: MXFP4 experts, Q8_0 for the other matrices, F32 for the rest.

python export.py /tmp/nano/checkpoint.pt /tmp/nano/tokenizer.json gpt-oss-nano.gguf
"""

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType

from data import END_OF_TEXT, RETURN, SPECIALS, START_OF_TEXT
from model import (
    HEAD_DIM,
    MXFP4_TENSORS,
    Q8_0_TENSORS,
    ModelConfig,
    Parameters,
    global_shapes,
    layer_shapes,
    load_gguf,
    round_to_stored,
)
from quantize import pack_mxfp4, pack_q8_0
from tokenizer import NanoTokenizer
from train import load_checkpoint

# Enough for programs that only know templates. It has no tools and drops reasoning; render Harmony properly instead.
CHAT_TEMPLATE = """<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.
Knowledge cutoff: 2024-06
Current date: {{ strftime_now("%Y-%m-%d") }}

Reasoning: {{ reasoning_effort | default("medium") }}

# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>
{%- for m in messages -%}
{%- if m.role == "system" or m.role == "developer" -%}<|start|>developer<|message|># Instructions

{{ m.content }}<|end|>
{%- elif m.role == "assistant" -%}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>
{%- else -%}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}"""


def add_metadata(writer: gguf.GGUFWriter, c: ModelConfig, tokenizer: NanoTokenizer) -> None:
    """The keys of the public gpt-oss-20b file, in its order."""
    writer.add_type("model")
    writer.add_name("Gpt Oss Nano")
    writer.add_basename("gpt-oss")
    writer.add_size_label("nano")
    writer.add_license("apache-2.0")
    writer.add_block_count(c.layers)
    writer.add_context_length(c.context)
    writer.add_embedding_length(c.hidden)
    writer.add_feed_forward_length(c.ff)
    writer.add_head_count(c.heads)
    writer.add_head_count_kv(c.kv_heads)
    writer.add_rope_freq_base(c.rope_base)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_expert_count(c.experts)
    writer.add_expert_used_count(c.experts_used)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE)
    writer.add_sliding_window(c.window)
    writer.add_expert_feed_forward_length(c.ff)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(c.rope_factor)
    writer.add_rope_scaling_orig_ctx_len(c.rope_original_context)
    tokens = tokenizer.tokens()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in SPECIALS else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges(tokenizer.merges())
    writer.add_bos_token_id(tokenizer.id_of(START_OF_TEXT))
    writer.add_eos_token_id(tokenizer.id_of(RETURN))
    writer.add_pad_token_id(tokenizer.id_of(END_OF_TEXT))
    writer.add_chat_template(CHAT_TEMPLATE)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tensor(writer: gguf.GGUFWriter, file_name: str, kind: str, values: torch.Tensor) -> None:
    """`kind` is the tensor's name without the layer, which decides the type."""
    if kind in Q8_0_TENSORS:
        writer.add_tensor(file_name, pack_q8_0(values), raw_dtype=GGMLQuantizationType.Q8_0)
    elif kind in MXFP4_TENSORS:
        writer.add_tensor(file_name, pack_mxfp4(values), raw_dtype=GGMLQuantizationType.MXFP4)
    else:
        writer.add_tensor(file_name, np.ascontiguousarray(values.numpy(), np.float32))


def export(parameters: Parameters, config: ModelConfig, tokenizer: NanoTokenizer, path: Path) -> None:
    writer = gguf.GGUFWriter(path, "gpt-oss")
    add_metadata(writer, config, tokenizer)
    add_tensor(writer, "token_embd.weight", "token_embd.weight", parameters["token_embd.weight"])
    for layer in range(config.layers):
        for name in layer_shapes(config):
            add_tensor(writer, f"blk.{layer}.{name}", name, parameters[name][layer])
    for name in ("output_norm.weight", "output.weight"):
        add_tensor(writer, name, name, parameters[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check(parameters: Parameters, path: Path) -> None:
    """Every tensor of the file must be what rounding in training made of it, bit for bit."""
    stored, config = load_gguf(path)
    for name in [*global_shapes(config), *layer_shapes(config)]:
        difference = (stored[name] - round_to_stored(name, parameters[name])).abs().max()
        if difference != 0:
            raise SystemExit(f"{path}: {name} reads back with a difference of {difference:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json, or a GGUF file to take the tokenizer from")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    parameters, config = load_checkpoint(args.checkpoint)
    export(parameters, config, NanoTokenizer.load(args.tokenizer), args.output)
    check(parameters, args.output)
    print(f"{args.output}: {args.output.stat().st_size} bytes, reads back unchanged")


if __name__ == "__main__":
    main()
