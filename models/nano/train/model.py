"""gpt-oss in plain PyTorch, small enough to read in one go, and greedy decoding with a KV cache.

Parameters are a dictionary with ggml's tensor names. Those of a layer are stacked: `attn_q.weight` is
[layers, rows, columns], and becomes `blk.0.attn_q.weight`, `blk.1.attn_q.weight`, … in a GGUF file.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F

from quantize import round_to_mxfp4, round_to_q8_0

HEAD_DIM = 64
SWIGLU_ALPHA, SWIGLU_LIMIT = 1.702, 7.0
BETA_FAST, BETA_SLOW = 32.0, 1.0
MASKED = -1e30
Parameters = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ModelConfig:
    layers: int = 6
    hidden: int = 192
    heads: int = 4
    kv_heads: int = 2
    experts: int = 8
    experts_used: int = 4
    ff: int = 96
    window: int = 64
    vocabulary: int = 1280
    context: int = 131072
    norm_eps: float = 1e-5
    rope_base: float = 150000.0
    rope_factor: float = 32.0
    rope_original_context: int = 4096


Q8_0_TENSORS = {
    "token_embd.weight",
    "output.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
}
MXFP4_TENSORS = {"ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"}


def global_shapes(c: ModelConfig) -> dict[str, tuple[int, ...]]:
    return {
        "token_embd.weight": (c.vocabulary, c.hidden),
        "output_norm.weight": (c.hidden,),
        "output.weight": (c.vocabulary, c.hidden),
    }


def layer_shapes(c: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of one layer, in the order of the file."""
    q_rows, kv_rows = c.heads * HEAD_DIM, c.kv_heads * HEAD_DIM
    return {
        "attn_norm.weight": (c.hidden,),
        "attn_q.weight": (q_rows, c.hidden),
        "attn_q.bias": (q_rows,),
        "attn_k.weight": (kv_rows, c.hidden),
        "attn_k.bias": (kv_rows,),
        "attn_v.weight": (kv_rows, c.hidden),
        "attn_v.bias": (kv_rows,),
        "attn_output.weight": (c.hidden, q_rows),
        "attn_output.bias": (c.hidden,),
        "attn_sinks.weight": (c.heads,),
        "post_attention_norm.weight": (c.hidden,),
        "ffn_gate_inp.weight": (c.experts, c.hidden),
        "ffn_gate_inp.bias": (c.experts,),
        "ffn_gate_exps.weight": (c.experts, c.ff, c.hidden),
        "ffn_gate_exps.bias": (c.experts, c.ff),
        "ffn_up_exps.weight": (c.experts, c.ff, c.hidden),
        "ffn_up_exps.bias": (c.experts, c.ff),
        "ffn_down_exps.weight": (c.experts, c.hidden, c.ff),
        "ffn_down_exps.bias": (c.experts, c.hidden),
    }


def initial_parameters(c: ModelConfig, seed: int = 0) -> Parameters:
    """Norms one, biases and sinks zero, matrices normal with variance 1 / columns."""
    generator = torch.Generator().manual_seed(seed)
    shapes = global_shapes(c) | {name: (c.layers, *shape) for name, shape in layer_shapes(c).items()}
    parameters = {}
    for name, shape in shapes.items():
        if "norm" in name:
            values = torch.ones(shape)
        elif name.endswith(".bias") or name == "attn_sinks.weight":
            values = torch.zeros(shape)
        else:
            values = torch.randn(shape, generator=generator)
            if name == "token_embd.weight":
                values *= 0.5
            else:
                values /= math.sqrt(shape[-1])
            if name in ("attn_output.weight", "ffn_down_exps.weight"):  # what is added to the residual stream
                values /= math.sqrt(2 * c.layers)
            elif name == "output.weight":
                values *= 0.5
        parameters[name] = values
    return parameters


def round_to_stored(name: str, weights: torch.Tensor) -> torch.Tensor:
    """`weights` as they read back from the file."""
    if name in Q8_0_TENSORS:
        return round_to_q8_0(weights)
    return round_to_mxfp4(weights) if name in MXFP4_TENSORS else weights


def load_gguf(path: Path) -> tuple[Parameters, ModelConfig]:
    """The dequantised parameters and the sizes of a gpt-oss GGUF file."""
    reader = gguf.GGUFReader(path)
    tensors = {
        t.name: torch.from_numpy(np.array(gguf.quants.dequantize(t.data, t.tensor_type), np.float32))
        for t in reader.tensors
    }

    def key(name: str) -> int:
        return reader.fields[f"gpt-oss.{name}"].contents()

    config = ModelConfig(
        layers=key("block_count"),
        hidden=key("embedding_length"),
        heads=key("attention.head_count"),
        kv_heads=key("attention.head_count_kv"),
        experts=key("expert_count"),
        experts_used=key("expert_used_count"),
        ff=key("expert_feed_forward_length"),
        window=key("attention.sliding_window"),
        vocabulary=len(reader.fields["tokenizer.ggml.tokens"].contents()),
        context=key("context_length"),
    )
    parameters = {name: tensors[name] for name in global_shapes(config)}
    for name in layer_shapes(config):
        parameters[name] = torch.stack([tensors[f"blk.{layer}.{name}"] for layer in range(config.layers)])
    return parameters, config


# ---------------------------------------------------------------------------------------------------------
# The operations
# ---------------------------------------------------------------------------------------------------------


def rope_tables(c: ModelConfig, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """YaRN's cosines and sines [positions, 32], with the concentration factor in both."""
    frequency = c.rope_base ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)

    def pair_that_turns(times: float) -> float:
        turns = c.rope_original_context / (times * 2 * math.pi)
        return HEAD_DIM * math.log(turns) / (2 * math.log(c.rope_base))

    low, high = max(pair_that_turns(BETA_FAST), 0), min(pair_that_turns(BETA_SLOW), HEAD_DIM - 1)
    interpolated = ((torch.arange(HEAD_DIM // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    frequency = frequency * (1 - interpolated) + frequency / c.rope_factor * interpolated
    concentration = 0.1 * math.log(c.rope_factor) + 1
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
    return (angles.cos() * concentration).float(), (angles.sin() * concentration).float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """RoPE on the halves of the last dimension."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def route(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, used: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Router logits, and the weights of all experts: softmax over the `used` best, zero for the others."""
    logits = F.linear(x, weight, bias)
    best, ids = logits.topk(used, -1)
    return logits, torch.zeros_like(logits).scatter(-1, ids, best.softmax(-1))


def run_experts(x: torch.Tensor, routing: torch.Tensor, layer: Parameters) -> torch.Tensor:
    """The weighted sum of the experts. All are computed, the others weigh nothing: two large products are faster
    here than gathering."""
    gate_weight, up_weight, down_weight = (layer[f"ffn_{n}_exps.weight"] for n in ("gate", "up", "down"))
    experts, ff, hidden = gate_weight.shape
    dtype = gate_weight.dtype
    gate_bias, up_bias, down_bias = (layer[f"ffn_{n}_exps.bias"].to(dtype) for n in ("gate", "up", "down"))
    routing = routing.to(dtype)
    gate = F.linear(x, gate_weight.reshape(experts * ff, hidden)) + gate_bias.reshape(-1)
    up = F.linear(x, up_weight.reshape(experts * ff, hidden)) + up_bias.reshape(-1)
    gate, up = gate.clamp(max=SWIGLU_LIMIT), up.clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT)
    inner = (gate * torch.sigmoid(SWIGLU_ALPHA * gate) * (up + 1)).unflatten(-1, (experts, ff))
    inner = (inner * routing.unsqueeze(-1)).flatten(-2)
    return inner @ down_weight.transpose(1, 2).reshape(experts * ff, hidden) + routing @ down_bias


# ---------------------------------------------------------------------------------------------------------
# Inference
# ---------------------------------------------------------------------------------------------------------


@dataclass
class Generation:
    """What greedy decoding wrote, and how far each token was ahead of the second best logit."""

    ids: list[int]
    margins: list[float]


class Inference:
    """Float32 inference of a batch, with a KV cache."""

    def __init__(self, parameters: Parameters, config: ModelConfig, max_positions: int = 640) -> None:
        self.parameters = {name: values.detach().float() for name, values in parameters.items()}
        self.config = config
        self.max_positions = max_positions
        self.cos, self.sin = rope_tables(config, max_positions)
        self.start(0)

    def start(self, batch: int) -> None:
        """Forgets everything and makes room for `batch` sequences."""
        c = self.config
        self.keys = torch.zeros(c.layers, batch, c.kv_heads, self.max_positions, HEAD_DIM)
        self.values = torch.zeros_like(self.keys)

    @torch.no_grad()
    def step(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits [batch, tokens, vocabulary] of `tokens` [batch, tokens] at `positions` of the same shape."""
        p, c = self.parameters, self.config
        distance = positions[..., None] - torch.arange(int(positions.max()) + 1)
        causal = distance >= 0
        visible = {True: causal & (distance < c.window), False: causal}
        x = p["token_embd.weight"][tokens]
        for index in range(c.layers):
            layer = {name: p[name][index] for name in layer_shapes(c)}
            h = rms_norm(x, layer["attn_norm.weight"], c.norm_eps)
            is_sliding = index % 2 == 0
            x = x + self.attention(index, layer, h, positions, visible[is_sliding])
            h = rms_norm(x, layer["post_attention_norm.weight"], c.norm_eps)
            _, routing = route(h, layer["ffn_gate_inp.weight"], layer["ffn_gate_inp.bias"], c.experts_used)
            x = x + run_experts(h, routing, layer)
        return F.linear(rms_norm(x, p["output_norm.weight"], c.norm_eps), p["output.weight"])

    def attention(
        self, index: int, layer: Parameters, h: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """Attention of layer `index` with sinks; `visible` is [batch, tokens, keys]."""
        c = self.config
        batch, count = positions.shape

        def project(name: str) -> torch.Tensor:
            rows = F.linear(h, layer[f"attn_{name}.weight"], layer[f"attn_{name}.bias"])
            return rows.view(batch, count, -1, HEAD_DIM)

        cos, sin = self.cos[positions][:, :, None], self.sin[positions][:, :, None]
        q = rotate(project("q"), cos, sin).transpose(1, 2)
        which = torch.arange(batch)[:, None]
        self.keys[index].transpose(1, 2)[which, positions] = rotate(project("k"), cos, sin)
        self.values[index].transpose(1, 2)[which, positions] = project("v")
        keys, values = (
            cache[index][:, :, : visible.shape[-1]].repeat_interleave(c.heads // c.kv_heads, 1)
            for cache in (self.keys, self.values)
        )
        scores = (q @ keys.transpose(-1, -2) / math.sqrt(HEAD_DIM)).masked_fill(~visible[:, None], MASKED)
        sinks = layer["attn_sinks.weight"].view(1, -1, 1, 1).expand(batch, -1, count, 1)
        weights = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
        out = (weights @ values).transpose(1, 2).reshape(batch, count, -1)
        return F.linear(out, layer["attn_output.weight"], layer["attn_output.bias"])

    def greedy(self, prompts: list[list[int]], stop_ids: set[int], limit: int = 200) -> list[Generation]:
        """Continues every prompt up to and including its first stop token.

        Short prompts are padded on the right: a padded position is overwritten before anything may look at it.
        """
        self.start(len(prompts))
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        longest = int(lengths.max())
        tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        logits = self.step(tokens, torch.arange(longest).expand(len(prompts), -1))
        logits = logits[torch.arange(len(prompts)), lengths - 1]

        results = [Generation([], []) for _ in prompts]
        live = torch.ones(len(prompts), dtype=torch.bool)
        positions = lengths.clone()
        last_position = self.max_positions - 1
        for _ in range(limit):
            best = logits.topk(2, -1)
            chosen, margins = best.indices[:, 0], best.values[:, 0] - best.values[:, 1]
            for row in live.nonzero()[:, 0].tolist():
                results[row].ids.append(int(chosen[row]))
                results[row].margins.append(float(margins[row]))
                if int(chosen[row]) in stop_ids or int(positions[row]) >= last_position:
                    live[row] = False
            if not live.any():
                break
            logits = self.step(chosen[:, None], positions[:, None].clamp(max=last_position))[:, 0]
            positions += 1
        return results
