"""The reference implementation: Transformers' GPT-OSS in float32 on the dequantised weights of a GGUF file."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import GptOssConfig, GptOssForCausalLM

# The correction range of YaRN: OpenAI's definition leaves it as it is, llama.cpp rounds it outwards.
YARN_MODES = {"openai_yarn": False, "llama_yarn": True}


def read_config(reader: gguf.GGUFReader, truncate: bool) -> GptOssConfig:
    """The model's configuration from the metadata keys that public gpt-oss files carry."""

    def key(name: str) -> Any:
        return reader.fields[f"gpt-oss.{name}"].contents()

    config = GptOssConfig(
        num_hidden_layers=key("block_count"),
        num_local_experts=key("expert_count"),
        num_experts_per_tok=key("expert_used_count"),
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].contents()),
        hidden_size=key("embedding_length"),
        intermediate_size=key("expert_feed_forward_length"),
        head_dim=key("attention.key_length"),
        num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"),
        sliding_window=key("attention.sliding_window"),
        max_position_embeddings=key("context_length"),
        rms_norm_eps=1e-5,  # stored as the float32 nearest to it
        rope_parameters={
            "rope_type": key("rope.scaling.type"),
            "rope_theta": key("rope.freq_base"),
            "factor": key("rope.scaling.factor"),
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": truncate,
            "original_max_position_embeddings": key("rope.scaling.original_context_length"),
        },
    )
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    return config


def read_weights(reader: gguf.GGUFReader, layers: int) -> dict[str, torch.Tensor]:
    """Every tensor of the file, dequantised by gguf-py, under the names and in the layout of Transformers."""
    tensors = {
        t.name: torch.from_numpy(np.array(gguf.quants.dequantize(t.data, t.tensor_type), np.float32))
        for t in reader.tensors
    }
    weights = {
        "model.embed_tokens.weight": tensors.pop("token_embd.weight"),
        "model.norm.weight": tensors.pop("output_norm.weight"),
        "lm_head.weight": tensors.pop("output.weight"),
    }
    for layer in range(layers):
        block, target = f"blk.{layer}.", f"model.layers.{layer}."
        weights[target + "input_layernorm.weight"] = tensors.pop(block + "attn_norm.weight")
        weights[target + "post_attention_layernorm.weight"] = tensors.pop(block + "post_attention_norm.weight")
        weights[target + "self_attn.sinks"] = tensors.pop(block + "attn_sinks.weight")
        for part in ("weight", "bias"):
            for ours, theirs in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("output", "o_proj")):
                weights[f"{target}self_attn.{theirs}.{part}"] = tensors.pop(f"{block}attn_{ours}.{part}")
            weights[f"{target}mlp.router.{part}"] = tensors.pop(f"{block}ffn_gate_inp.{part}")

        experts = target + "mlp.experts."
        gate, up, down = (tensors.pop(f"{block}ffn_{name}_exps.weight") for name in ("gate", "up", "down"))
        gate_bias, up_bias, down_bias = (tensors.pop(f"{block}ffn_{name}_exps.bias") for name in ("gate", "up", "down"))
        # Transformers holds [expert, in, out], with gate and up in alternate columns.
        weights[experts + "gate_up_proj"] = torch.stack([gate, up], 2).flatten(1, 2).transpose(1, 2).contiguous()
        weights[experts + "gate_up_proj_bias"] = torch.stack([gate_bias, up_bias], 2).flatten(1, 2)
        weights[experts + "down_proj"] = down.transpose(1, 2).contiguous()
        weights[experts + "down_proj_bias"] = down_bias
    if tensors:
        raise ValueError(f"tensors that no gpt-oss model has: {sorted(tensors)}")
    return weights


def load_reference(path: Path, truncate: bool = False) -> GptOssForCausalLM:
    """The model in `path`, ready to run; fails if a tensor is missing, left over or of the wrong shape."""
    reader = gguf.GGUFReader(path)
    config = read_config(reader, truncate)
    model = GptOssForCausalLM(config).float().eval()
    model.load_state_dict(read_weights(reader, config.num_hidden_layers), strict=True)
    return model


@torch.no_grad()
def logits_of(model: GptOssForCausalLM, token_ids: list[int]) -> np.ndarray:
    """Logits [tokens, vocabulary] after each token of one sequence."""
    return model(torch.tensor([token_ids]), use_cache=False).logits[0].numpy()


@torch.no_grad()
def greedy(model: GptOssForCausalLM, prompt_ids: list[int], stop_ids: set[int], limit: int) -> list[int]:
    """Greedy continuation with a KV cache, up to and including the first stop token."""
    generated: list[int] = []
    step, cache = torch.tensor([prompt_ids]), None
    while len(generated) < limit:
        out = model(step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        generated.append(int(out.logits[0, -1].argmax()))
        if generated[-1] in stop_ids:
            break
        step = torch.tensor([[generated[-1]]])
    return generated


def nmse(logits: np.ndarray, right: np.ndarray) -> float:
    """Squared error relative to the squared right values, summed over everything."""
    wide = right.astype(np.float64)
    return float(((logits - wide) ** 2).sum() / (wide**2).sum())
