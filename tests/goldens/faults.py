"""Ways to break one part of the reference model, to learn which mistakes a golden would notice."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType

import torch
from transformers import GptOssForCausalLM

from reference import load_reference

Fault = Callable[[GptOssForCausalLM], None]


def set_window(change: int) -> Fault:
    def apply(model: GptOssForCausalLM) -> None:
        model.config.sliding_window += change

    return apply


def zero(suffix: str) -> Fault:
    """Sets every parameter whose name ends in `suffix` to zero."""

    def apply(model: GptOssForCausalLM) -> None:
        hits = [p for name, p in model.named_parameters() if name.endswith(suffix)]
        assert hits, f"no parameter ends in {suffix}"
        for parameter in hits:
            parameter.data.zero_()

    return apply


def drop_sinks(model: GptOssForCausalLM) -> None:
    for layer in model.model.layers:
        layer.self_attn.sinks.data.fill_(-1e4)


def set_experts(field: str, value: float) -> Fault:
    def apply(model: GptOssForCausalLM) -> None:
        for layer in model.model.layers:
            setattr(layer.mlp.experts, field, value)

    return apply


def three_experts(model: GptOssForCausalLM) -> None:
    for layer in model.model.layers:
        layer.mlp.router.top_k = 3


def swap_gate_and_up(model: GptOssForCausalLM) -> None:
    for layer in model.model.layers:
        experts = layer.mlp.experts
        for parameter in (experts.gate_up_proj, experts.gate_up_proj_bias):
            pairs = parameter.data.unflatten(-1, (-1, 2))
            parameter.data = pairs.flip(-1).flatten(-2)


def interleave_nibbles(model: GptOssForCausalLM) -> None:
    """Weights 0, 1, 2, … of each block taken from low and high nibbles in turn."""
    order = torch.arange(16).repeat_interleave(2)
    order[1::2] += 16
    for layer in model.model.layers:
        experts = layer.mlp.experts
        for parameter in (experts.gate_up_proj, experts.down_proj):  # [expert, in, out]
            parameter.data = parameter.data.unflatten(1, (-1, 32))[:, :, order].flatten(1, 2)


def softmax_over_all(model: GptOssForCausalLM) -> None:
    """Routing weights from a softmax over all experts, not over the chosen ones."""

    def forward(router: torch.nn.Module, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = torch.nn.functional.linear(hidden, router.weight, router.bias)
        weights, ids = logits.softmax(-1).topk(router.top_k, -1)
        return logits, weights, ids

    for layer in model.model.layers:
        layer.mlp.router.forward = MethodType(forward, layer.mlp.router)


def drop_concentration(model: GptOssForCausalLM) -> None:
    model.model.rotary_emb.attention_scaling = 1.0


FAULTS: dict[str, Fault] = {
    "window one shorter": set_window(-1),
    "window one longer": set_window(+1),
    "no window": set_window(+1_000_000),
    "YaRN concentration dropped": drop_concentration,
    "MXFP4 nibbles interleaved": interleave_nibbles,
    "softmax over all experts": softmax_over_all,
    "sinks dropped": drop_sinks,
    "q bias dropped": zero("q_proj.bias"),
    "k bias dropped": zero("k_proj.bias"),
    "v bias dropped": zero("v_proj.bias"),
    "attention output bias dropped": zero("o_proj.bias"),
    "router bias dropped": zero("router.bias"),
    "gate and up biases dropped": zero("gate_up_proj_bias"),
    "down bias dropped": zero("down_proj_bias"),
    "gate and up exchanged": swap_gate_and_up,
    "SwiGLU alpha 1": set_experts("alpha", 1.0),
    "SwiGLU without clamp": set_experts("limit", 1e9),
    "three experts instead of four": three_experts,
}


def broken_models(path: Path) -> Iterator[tuple[str, GptOssForCausalLM]]:
    """The model in `path` once for every fault, each with only that fault."""
    yield "YaRN range rounded", load_reference(path, truncate=True)
    model = load_reference(path)
    for name, break_it in FAULTS.items():
        broken = copy.deepcopy(model)
        break_it(broken)
        yield name, broken
