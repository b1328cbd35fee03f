#!/usr/bin/env python3
"""Writes the per-operation goldens that the scalar references and the GPU kernels are tested against.

Nothing here comes from this project's Rust or WGSL: block formats are decoded by gguf-py, everything else is
computed by the GPT-OSS modules of Hugging Face Transformers, in float64 where the module allows it. The
results are rounded to float32 once, when they are stored.

    pip install -r requirements.txt
    python make_goldens.py            # rewrites *.json next to this script; the same bytes every time

README.md describes the format of the files.
"""

import argparse
import math
import platform
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from transformers import GptOssConfig
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss

SEED = 20
HEAD_DIM = 64
Q8_0_BLOCK_BYTES = 34
MXFP4_BLOCK_BYTES = 17
Case = dict[str, Any]


# ---------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------


def float_text(value: np.float32) -> str:
    """The shortest decimal that reads back as `value`, also through an f64 that is one ulp off."""
    text = str(value)
    as_f64 = float(text)
    neighbours = (as_f64, math.nextafter(as_f64, math.inf), math.nextafter(as_f64, -math.inf))
    if value == 0 or all(np.float32(n) == value for n in neighbours):
        return text
    return f"{value:.9g}"


def json_value(value: Any) -> str:
    """JSON text of one field: arrays are flattened in row-major order, bytes become hex."""
    match value:
        case torch.Tensor():
            return json_value(value.detach().numpy())
        case np.ndarray() if value.dtype == np.uint8:
            return f'"{value.tobytes().hex()}"'
        case np.ndarray() if np.issubdtype(value.dtype, np.integer):
            return "[" + ",".join(map(str, value.ravel().tolist())) + "]"
        case np.ndarray():
            flat = value.ravel().astype(np.float32)
            assert np.isfinite(flat).all(), "JSON holds finite numbers only"
            return "[" + ",".join(float_text(v) for v in flat) + "]"
        case bool():
            return str(value).lower()
        case None:
            return "null"
        case str():
            return f'"{value}"'
        case int() | float():
            return repr(value)
    raise TypeError(f"no JSON form for {type(value)}")


def provenance() -> str:
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "gguf", "numpy"))
    return f"make_goldens.py, seed {SEED}; Python {platform.python_version()}, {packages}"


def write(folder: Path, op: str, cases: list[Case]) -> None:
    """One file per operation, one line per field, so that a change shows up as a readable diff."""
    blocks = [",\n".join(f'  "{k}":{json_value(v)}' for k, v in case.items()) for case in cases]
    body = ",\n".join(f" {{\n{b}\n }}" for b in blocks)
    path = folder / f"{op}.json"
    path.write_text(f'{{"op":"{op}",\n"provenance":"{provenance()}",\n"cases":[\n{body}\n]}}\n')
    print(f"{path.name:20s} {len(cases):2d} cases {path.stat().st_size:8d} bytes")


# ---------------------------------------------------------------------------------------------------------
# Inputs
# ---------------------------------------------------------------------------------------------------------


def normal(rng: np.random.Generator, *shape: int, std: float = 1.0, decimals: int = 3) -> torch.Tensor:
    """Normal float32 values with few decimals, which keeps the files small."""
    return torch.from_numpy(rng.normal(0.0, std, shape).round(decimals).astype(np.float32))


def dequantize(data: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    return np.asarray(gguf.quants.dequantize(data, kind), np.float32)


def random_q8_0(rng: np.random.Generator, rows: int, k: int) -> np.ndarray:
    """Bytes [rows, k / 32 * 34] with every int8, also -128, and scales that differ between blocks."""
    scales = rng.uniform(0.001, 0.012, (rows, k // 32, 1)).astype(np.float16)
    codes = rng.integers(-128, 128, (rows, k // 32, 32), dtype=np.int8)
    return np.concatenate([scales.view(np.uint8), codes.view(np.uint8)], -1).reshape(rows, -1)


def random_mxfp4(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Bytes [..., k / 32 * 17] with every code, also the two zeros, and exponents that differ between blocks."""
    *outer, k = shape
    exponents = rng.integers(119, 125, (*outer, k // 32, 1), dtype=np.uint8)
    codes = rng.integers(0, 256, (*outer, k // 32, 16), dtype=np.uint8)
    return np.concatenate([exponents, codes], -1).reshape(*outer, -1)


def small_config(**changes: Any) -> GptOssConfig:
    """A GPT-OSS configuration with small sizes, eager attention and the plain expert loop."""
    config = GptOssConfig(**(dict(num_hidden_layers=2, vocab_size=64, hidden_size=96, intermediate_size=160) | changes))
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    return config


# ---------------------------------------------------------------------------------------------------------
# Block formats
# ---------------------------------------------------------------------------------------------------------


def decode_case(name: str, data: np.ndarray, kind: GGMLQuantizationType) -> Case:
    # gguf-py takes F16 tensors as numpy float16 and every other kind as bytes.
    values = dequantize(data.view(np.float16) if kind == GGMLQuantizationType.F16 else data, kind)
    return {"name": name, "rows": values.shape[0], "k": values.shape[1], "bytes_hex": data, "values": values}


def q8_0_cases(rng: np.random.Generator) -> list[Case]:
    kind = GGMLQuantizationType.Q8_0
    cases = [decode_case("random", random_q8_0(rng, 5, 96), kind)]
    every_code = np.arange(-128, 128, dtype=np.int8).reshape(8, 32).view(np.uint8)
    scales = {
        "scale_one": 1.0,
        "scale_zero": 0.0,
        "scale_negative": -0.0625,
        "scale_smallest_subnormal": 2.0**-24,
        "scale_largest_subnormal": 2.0**-14 - 2.0**-24,
        "scale_smallest_normal": 2.0**-14,
        "scale_largest": 65504.0,
    }
    for name, scale in scales.items():
        scale_bytes = np.full((8, 1), scale, np.float16).view(np.uint8)
        cases.append(decode_case(name, np.concatenate([scale_bytes, every_code], 1).reshape(1, -1), kind))
    return cases


def mxfp4_cases(rng: np.random.Generator) -> list[Case]:
    """Every code in both nibbles of a block, at the exponents where an implementation can go wrong."""
    kind = GGMLQuantizationType.MXFP4
    cases = [decode_case("random", random_mxfp4(rng, 5, 96), kind)]
    low = np.arange(16, dtype=np.uint8)
    # Three different blocks per row: codes counting up, the same with high and low exchanged, and shuffled.
    shuffled = rng.permutation(low) | rng.permutation(low) << 4
    every_code = np.stack([low | (15 - low) << 4, (15 - low) | low << 4, shuffled])
    # 4 · 2^(254-128) no longer fits in float32, so at the top only the codes of 0, ±1, ±2, ±3 are finite.
    tiny_codes = every_code & 0b1011_1011
    for exponent in (0, 1, 2, 127, 128, 200, 252, 254):
        codes = tiny_codes if exponent == 254 else every_code
        row = np.concatenate([np.full((3, 1), exponent, np.uint8), codes], 1).reshape(1, -1)
        cases.append(decode_case(f"exponent_{exponent}", row, kind))
    exponents = np.array([[0], [127], [254]], np.uint8)
    row = np.concatenate([exponents, np.full((3, 16), 0x88, np.uint8)], 1).reshape(1, -1)
    cases.append(decode_case("negative_zero_code", row, kind))
    return cases


class Scale(NamedTuple):
    """One f16 of a block: a scale, or a minimum."""

    values: np.ndarray  # [blocks], float16

    @classmethod
    def random(cls, rng: np.random.Generator, blocks: int) -> "Scale":
        """Of either sign, all different."""
        return cls((rng.uniform(0.001, 0.02, blocks) * rng.choice((-1, 1), blocks)).astype(np.float16))

    @classmethod
    def extremes(cls) -> "Scale":
        """Zeros, the largest, and subnormals, of either sign where it matters: EXTREMES of them."""
        return cls(np.array([0.0, -0.0, 65504.0, -65504.0, 2.0**-24, -(2.0**-14) + 2.0**-24, 2.0**-14], np.float16))

    def bytes(self) -> np.ndarray:
        return self.values[:, None].view(np.uint8)


EXTREMES = len(Scale.extremes().values)


def nibble_codes(rng: np.random.Generator, blocks: int) -> np.ndarray:
    """Bytes [blocks, 16]: every code in the low and in the high nibbles of each block, in an order of its own."""
    return np.stack([rng.permutation(16) | rng.permutation(16) << 4 for _ in range(blocks)]).astype(np.uint8)


def high_bits(rng: np.random.Generator, blocks: int) -> np.ndarray:
    """Bytes [blocks, 4]: all, none, then random ones, each block's followed by its complement."""
    random = rng.integers(0, 256, (blocks, 4), dtype=np.uint8)
    random[0] = 0xFF
    random[1::2] = ~random[: blocks // 2 * 2 : 2]
    return random


def small_block_cases(rng: np.random.Generator, kind: GGMLQuantizationType) -> list[Case]:
    """Q4_0, Q4_1, Q5_0, Q5_1 and IQ4_NL: f16 scale, f16 minimum, high bits (as far as the type has them), nibbles."""
    has_minimum = kind in (GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q5_1)
    has_high_bits = kind in (GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q5_1)

    def case(name: str, rows: int, scale: Scale, minimum: Scale) -> Case:
        blocks = len(scale.values)
        parts = [scale.bytes()] + [minimum.bytes()] * has_minimum + [high_bits(rng, blocks)] * has_high_bits
        return decode_case(name, np.concatenate(parts + [nibble_codes(rng, blocks)], 1).reshape(rows, -1), kind)

    extremes = Scale.extremes()
    return [
        case("random", 2, Scale.random(rng, 10), Scale.random(rng, 10)),
        case("extreme_scales", 1, extremes, Scale.random(rng, EXTREMES)),
        case("extreme_minima", 1, Scale.random(rng, EXTREMES), extremes),
    ][: 3 if has_minimum else 2]


def six_bit_pairs(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """Eight scales and eight minima of 0 to 63 per block, [blocks, 8] each, packed into 12 bytes as ggml does."""
    low = [scales[:, :4] | (scales[:, 4:] >> 4) << 6, minima[:, :4] | (minima[:, 4:] >> 4) << 6]
    return np.concatenate(low + [(scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4], 1).astype(np.uint8)


def k_cases(rng: np.random.Generator, kind: GGMLQuantizationType) -> list[Case]:
    """Q4_K and Q5_K: f16 d, f16 dmin, 6-bit scales and minima, high bits (Q5_K), nibbles."""

    def case(name: str, d: Scale, dmin: Scale) -> Case:
        blocks = len(d.values)
        # Eight blocks have every scale and every minimum once.
        scales, minima = (rng.permutation(64).reshape(8, 8)[:blocks] for _ in range(2))
        codes = rng.integers(0, 256, (blocks, 160 if kind == GGMLQuantizationType.Q5_K else 128), dtype=np.uint8)
        parts = [d.bytes(), dmin.bytes(), six_bit_pairs(scales, minima), codes]
        return decode_case(name, np.concatenate(parts, 1).reshape(1, -1), kind)

    return [
        case("every_scale_and_minimum", Scale.random(rng, 8), Scale.random(rng, 8)),
        case("extreme_scales", Scale.extremes(), Scale.random(rng, EXTREMES)),
        case("extreme_minima", Scale.random(rng, EXTREMES), Scale.extremes()),
    ]


def q6_k_cases(rng: np.random.Generator) -> list[Case]:
    """Low nibbles, high bit pairs, 16 signed scales, f16 d."""

    def case(name: str, d: Scale) -> Case:
        blocks = len(d.values)
        codes = rng.integers(0, 256, (blocks, 192), dtype=np.uint8)
        scales = rng.permutation(np.arange(-128, 128, dtype=np.int8))[: blocks * 16].reshape(blocks, 16)
        scales[0, :4] = (-128, 127, 0, -1)
        parts = [codes, scales.view(np.uint8), d.bytes()]
        return decode_case(name, np.concatenate(parts, 1).reshape(1, -1), GGMLQuantizationType.Q6_K)

    return [case("random", Scale.random(rng, 5)), case("extreme_scales", Scale.extremes())]


def evenly(rng: np.random.Generator, count: int, blocks: int, per_block: int) -> np.ndarray:
    """Integers [blocks, per_block] of 0 to `count` - 1 in random order, each as often as any other, or once more."""
    return (rng.permutation(blocks * per_block) % count).reshape(blocks, per_block)


def two_to_a_byte(nibbles: np.ndarray) -> np.ndarray:
    """Neighbours share a byte, the first in its low half."""
    return (nibbles[:, ::2] | nibbles[:, 1::2] << 4).astype(np.uint8)


def q3_k_parts(rng: np.random.Generator, d: Scale) -> list[np.ndarray]:
    """High bits, low bit pairs, 16 six-bit scales in 12 bytes, f16 d. Four blocks have every scale."""
    blocks = len(d.values)
    codes = rng.integers(0, 256, (blocks, 96), dtype=np.uint8)
    scales = evenly(rng, 64, blocks, 16)
    low = scales[:, :8] & 15 | (scales[:, 8:] & 15) << 4
    # Byte j holds the upper two bits of scales j, j + 4, j + 8 and j + 12.
    high = ((scales >> 4).reshape(blocks, 4, 4) << np.array([[0], [2], [4], [6]])).sum(1)
    return [codes, low.astype(np.uint8), high.astype(np.uint8), d.bytes()]


def iq4_xs_parts(rng: np.random.Generator, d: Scale) -> list[np.ndarray]:
    """f16 d, eight six-bit scales, upper bits first, nibbles. Eight blocks have every scale."""
    blocks = len(d.values)
    scales = evenly(rng, 64, blocks, 8)
    high = ((scales >> 4) << np.arange(0, 16, 2)).sum(1, keepdims=True).astype("<u2").view(np.uint8)
    codes = [nibble_codes(rng, blocks) for _ in range(8)]
    return [d.bytes(), high, two_to_a_byte(scales & 15), *codes]


def iq3_xxs_parts(rng: np.random.Generator, d: Scale) -> list[np.ndarray]:
    """f16 d, indices into the grid, then words of four seven-bit indices of signs and a four-bit scale.

    Four blocks have every entry of the grid, and every pattern of signs and every scale besides.
    """
    blocks = len(d.values)
    indices = evenly(rng, 256, blocks, 64).astype(np.uint8)
    signs = evenly(rng, 128, blocks, 32).reshape(blocks, 8, 4)
    words = (signs << np.array([0, 7, 14, 21])).sum(-1) | evenly(rng, 16, blocks, 8) << 28
    return [d.bytes(), indices, words.astype("<u4").view(np.uint8)]


def iq3_s_parts(rng: np.random.Generator, d: Scale) -> list[np.ndarray]:
    """f16 d, low bytes of indices into the grid, their ninth bits, signs, four-bit scales.

    Eight blocks have every entry of the grid, and every scale besides.
    """
    blocks = len(d.values)
    indices = evenly(rng, 512, blocks, 64)
    ninth_bits = np.packbits(indices >> 8, axis=1, bitorder="little")
    signs = rng.integers(0, 256, (blocks, 32), dtype=np.uint8)
    scales = two_to_a_byte(evenly(rng, 16, blocks, 8))
    return [d.bytes(), indices.astype(np.uint8), ninth_bits, signs, scales]


# Parts, and a number of blocks that have every scale and every entry of the grid: five as for Q6_K, or eight.
THREE_OR_FOUR_BITS = {
    "Q3_K": (q3_k_parts, 5),
    "IQ4_XS": (iq4_xs_parts, 8),
    "IQ3_S": (iq3_s_parts, 8),
    "IQ3_XXS": (iq3_xxs_parts, 5),
}


def three_or_four_bit_cases(rng: np.random.Generator, name: str) -> list[Case]:
    """Blocks of 256 weights with scales and no minima."""
    parts, blocks = THREE_OR_FOUR_BITS[name]

    def case(case_name: str, d: Scale) -> Case:
        data = np.concatenate(parts(rng, d), 1).reshape(1, -1)
        return decode_case(case_name, data, GGMLQuantizationType[name])

    return [case("random", Scale.random(rng, blocks)), case("extreme_scales", Scale.extremes())]


def half_cases(rng: np.random.Generator, dtype: torch.dtype, edges: list[int]) -> list[Case]:
    """Random values and the bit patterns at the edges of a 16-bit float format (finite ones: this is JSON)."""
    random = torch.from_numpy(rng.normal(0.0, 2.0, (3, 33)).astype(np.float32)).to(dtype).view(torch.uint8).numpy()
    signed_edges = np.array([edges + [bits | 0x8000 for bits in edges]], np.uint16).view(np.uint8)
    kind = GGMLQuantizationType.F16 if dtype == torch.float16 else GGMLQuantizationType.BF16
    return [decode_case("random", random, kind), decode_case("edges", signed_edges, kind)]


# ---------------------------------------------------------------------------------------------------------
# Dense operations
# ---------------------------------------------------------------------------------------------------------


def rms_norm_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for rows, n, std in ((3, 192, 1.0), (2, 257, 30.0), (1, 2880, 0.5), (2, 192, 1e-3)):
        norm = gpt_oss.GptOssRMSNorm(n, eps=1e-5)
        norm.weight.data = 1.0 + normal(rng, n, std=0.3)
        x = normal(rng, rows, n, std=std, decimals=5 if std < 0.1 else 3)
        cases.append({"rows": rows, "n": n, "eps": 1e-5, "x": x, "weight": norm.weight, "y": norm(x)})
    return cases


def matmul_cases(rng: np.random.Generator, kind: GGMLQuantizationType) -> list[Case]:
    """y[token, row] = bias[row] + Σ_k weight[row, k] · x[token, k], accumulated in float64."""
    pack = random_q8_0 if kind == GGMLQuantizationType.Q8_0 else random_mxfp4
    cases = []
    for rows, k, tokens in ((5, 96, 1), (37, 64, 3), (130, 192, 2), (3, 2880, 1)):
        data = pack(rng, rows, k)
        x, bias = normal(rng, tokens, k), normal(rng, rows)
        y = x.double().numpy() @ dequantize(data, kind).astype(np.float64).T + bias.double().numpy()
        cases.append({"rows": rows, "k": k, "tokens": tokens, "weight_hex": data, "bias": bias, "x": x, "y": y})
    return cases


# ---------------------------------------------------------------------------------------------------------
# RoPE
# ---------------------------------------------------------------------------------------------------------


def exact_inv_freq(rope: dict[str, Any]) -> torch.Tensor:
    """YaRN's inverse frequencies in float64 (Transformers computes them in float32 only)."""
    base, original = rope["rope_theta"], rope["original_max_position_embeddings"]
    bounds = [
        HEAD_DIM * math.log(original / (rope[beta] * 2 * math.pi)) / (2 * math.log(base))
        for beta in ("beta_fast", "beta_slow")
    ]
    low, high = (math.floor(bounds[0]), math.ceil(bounds[1])) if rope["truncate"] else bounds
    pair = torch.arange(HEAD_DIM // 2, dtype=torch.float64)
    interpolated = ((pair - low) / (high - low)).clamp(0, 1)
    frequency = base ** (-2 * pair / HEAD_DIM)
    return frequency * (1 - interpolated) + frequency / rope["factor"] * interpolated


def rope_cases(rng: np.random.Generator) -> list[Case]:
    """`rotated` is Transformers in float32; `rotated_f64` the same rotation with float64 angles.

    The two part at long positions, where a float32 angle of 10⁵ rad is good to 4e-3 rad only. The script
    checks that they agree where float32 is good enough, so that the float64 formula is known to be the same.
    """
    positions = torch.tensor([[0, 1, 5, 127, 128, 4095, 131071]])
    heads, cases = 3, []
    for truncate in (False, True):
        config = small_config(
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 150000.0,
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": truncate,
                "original_max_position_embeddings": 4096,
            }
        )
        rotary = gpt_oss.GptOssRotaryEmbedding(config)
        q = normal(rng, 1, heads, positions.shape[1], HEAD_DIM)
        rotated, _ = gpt_oss.apply_rotary_pos_emb(q, q, *rotary(q, positions))

        inv_freq = exact_inv_freq(config.rope_parameters)
        assert torch.allclose(inv_freq, rotary.inv_freq.double(), rtol=1e-6, atol=0)
        angles = positions[..., None].double() * inv_freq
        cos, sin = angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling
        exact, _ = gpt_oss.apply_rotary_pos_emb(q.double(), q.double(), cos, sin)
        difference = (rotated - exact).abs().amax((0, 1, 3)).tolist()
        assert max(difference[:5]) < 1e-4, difference

        case = {"truncate": truncate, "head_dim": HEAD_DIM, "heads": heads, "base": 150000.0, "factor": 32.0}
        case |= {"original_context": 4096, "beta_fast": 32.0, "beta_slow": 1.0}
        case |= {"attention_scaling": float(rotary.attention_scaling), "inv_freq": rotary.inv_freq}
        case |= {"positions": positions, "q": q.transpose(1, 2), "rotated": rotated.transpose(1, 2)}
        case |= {"rotated_f64": exact.transpose(1, 2)}
        cases.append(case)
        print(f"rope, truncate {truncate}: float32 against float64 at {positions.tolist()[0]}: {difference}")
    return cases


# ---------------------------------------------------------------------------------------------------------
# Attention
# ---------------------------------------------------------------------------------------------------------


def attention_case(
    rng: np.random.Generator, heads: int, kv_heads: int, tokens: int, keys: int, window: int | None
) -> Case:
    """The last `tokens` of `keys` positions as queries, with Transformers' own mask and eager attention."""
    config = small_config(num_attention_heads=heads, num_key_value_heads=kv_heads, sliding_window=window or keys)
    query_offset = keys - tokens
    build_mask = create_sliding_window_causal_mask if window else create_causal_mask
    embeds = torch.zeros(1, keys, config.hidden_size, dtype=torch.float64)
    mask = build_mask(config=config, inputs_embeds=embeds, attention_mask=None, past_key_values=None)
    visible = (mask[0, 0] == 0).sum(-1)
    assert torch.equal(visible, torch.arange(1, keys + 1).clamp(max=window or keys)), "a window counts its own query"
    q = normal(rng, tokens, heads, HEAD_DIM, std=1.5, decimals=2)
    k, v = (normal(rng, keys, kv_heads, HEAD_DIM, std=1.5, decimals=2) for _ in range(2))
    sinks = normal(rng, heads, std=3.0) + 3.0
    module = SimpleNamespace(num_key_value_groups=heads // kv_heads, sinks=sinks.double(), training=False)
    q4, k4, v4 = (t.double()[None].transpose(1, 2) for t in (q, k, v))
    out, _ = gpt_oss.eager_attention_forward(module, q4, k4, v4, mask[:, :, query_offset:], scaling=HEAD_DIM**-0.5)
    sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": HEAD_DIM, "tokens": tokens, "keys": keys}
    sizes |= {"window": window, "query_offset": query_offset, "scale": HEAD_DIM**-0.5}
    return sizes | {"sinks": sinks, "q": q, "k": k, "v": v, "out": out[0]}


def attention_cases(rng: np.random.Generator) -> list[Case]:
    return [
        attention_case(rng, heads=4, kv_heads=2, tokens=3, keys=163, window=128),
        attention_case(rng, heads=8, kv_heads=2, tokens=5, keys=150, window=16),
        attention_case(rng, heads=8, kv_heads=1, tokens=1, keys=151, window=None),
        attention_case(rng, heads=6, kv_heads=3, tokens=19, keys=19, window=16),
        attention_case(rng, heads=6, kv_heads=2, tokens=7, keys=23, window=None),
        attention_case(rng, heads=2, kv_heads=1, tokens=1, keys=1, window=128),
    ]


# ---------------------------------------------------------------------------------------------------------
# Mixture of experts
# ---------------------------------------------------------------------------------------------------------


def router_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for experts, hidden, tokens in ((8, 48, 5), (12, 96, 3), (32, 96, 4)):
        config = small_config(num_local_experts=experts, hidden_size=hidden)
        router = gpt_oss.GptOssTopKRouter(config).double()
        weight, bias = normal(rng, experts, hidden, std=0.2), normal(rng, experts, std=0.5)
        router.weight.data, router.bias.data = weight.double(), bias.double()
        x = normal(rng, tokens, hidden)
        logits, weights, ids = router(x.double())
        ordered = logits.sort(-1, descending=True).values[:, : config.num_experts_per_tok + 1]
        assert (ordered[:, :-1] - ordered[:, 1:]).min() > 1e-3, "a near tie would make the order depend on rounding"
        case = {"experts": experts, "hidden": hidden, "tokens": tokens, "top_k": config.num_experts_per_tok}
        cases.append(case | {"weight": weight, "bias": bias, "x": x, "logits": logits, "ids": ids, "weights": weights})
    return cases


def swiglu_cases(rng: np.random.Generator) -> list[Case]:
    experts = gpt_oss.GptOssExperts(small_config())
    edges = torch.tensor([-20.0, -7.001, -7.0, -1.0, 0.0, 0.5, 6.999, 7.0, 7.001, 20.0])
    inputs = {
        "random": (normal(rng, 97, std=4.0), normal(rng, 97, std=4.0)),
        "edges": tuple(t.reshape(-1) for t in torch.meshgrid(edges, edges, indexing="ij")),
    }
    cases = []
    for name, (gate, up) in inputs.items():
        out = experts._apply_gate(torch.stack([gate, up], -1).reshape(-1).double())
        cases.append({"name": name, "alpha": experts.alpha, "limit": experts.limit, "gate": gate, "up": up, "out": out})
    return cases


def experts_case(rng: np.random.Generator, experts: int, hidden: int, ff: int, tokens: int) -> Case:
    """A whole MoE block: router, top-4, gate, up, SwiGLU, down, weighted sum. Weights as GGUF bytes."""
    config = small_config(num_local_experts=experts, hidden_size=hidden, intermediate_size=ff)
    mlp = gpt_oss.GptOssMLP(config).double()
    kind = GGMLQuantizationType.MXFP4
    raw = {"gate": random_mxfp4(rng, experts, ff, hidden), "up": random_mxfp4(rng, experts, ff, hidden)}
    raw["down"] = random_mxfp4(rng, experts, hidden, ff)
    bias = {"gate": normal(rng, experts, ff), "up": normal(rng, experts, ff), "down": normal(rng, experts, hidden)}
    router = {"weight": normal(rng, experts, hidden, std=0.2), "bias": normal(rng, experts, std=0.5)}
    x = normal(rng, tokens, hidden)

    gate, up, down = (torch.from_numpy(dequantize(raw[n], kind)).double() for n in ("gate", "up", "down"))
    # Transformers holds [expert, in, out], with gate and up in alternate columns.
    mlp.experts.gate_up_proj.data = torch.stack([gate, up], 2).flatten(1, 2).transpose(1, 2).contiguous()
    mlp.experts.gate_up_proj_bias.data = torch.stack([bias["gate"], bias["up"]], 2).flatten(1, 2).double()
    mlp.experts.down_proj.data = down.transpose(1, 2).contiguous()
    mlp.experts.down_proj_bias.data = bias["down"].double()
    mlp.router.weight.data, mlp.router.bias.data = router["weight"].double(), router["bias"].double()
    y, weights = mlp(x.double()[None])
    _, _, ids = mlp.router(x.double())

    case = {"experts": experts, "hidden": hidden, "ff": ff, "tokens": tokens, "top_k": config.num_experts_per_tok}
    case |= {"router_weight": router["weight"], "router_bias": router["bias"]}
    for name in ("gate", "up", "down"):
        case |= {f"{name}_hex": raw[name], f"{name}_bias": bias[name]}
    return case | {"x": x, "ids": ids, "weights": weights, "y": y[0]}


def experts_cases(rng: np.random.Generator) -> list[Case]:
    return [
        experts_case(rng, experts=6, hidden=96, ff=160, tokens=5),
        experts_case(rng, experts=5, hidden=64, ff=32, tokens=1),
    ]


# ---------------------------------------------------------------------------------------------------------
# Sampling statistics
# ---------------------------------------------------------------------------------------------------------


def topk_cases(rng: np.random.Generator) -> list[Case]:
    """The 16 largest logits (equal ones by ascending id), log-sum-exp and entropy, in float64."""
    peaked = normal(rng, 1280, std=3.0)
    peaked[[7, 1279]] = torch.tensor([31.0, 30.5])
    inputs = {
        "plain": normal(rng, 1280, std=3.0, decimals=4),
        "odd_size": normal(rng, 5003, std=2.0, decimals=4),
        "ties": normal(rng, 1280, std=2.0, decimals=0),
        "odd_size_ties": normal(rng, 5003, std=2.0, decimals=1),
        "all_equal": torch.full((1280,), -1.5),
        "peaked": peaked,
        "large_offset": normal(rng, 1280, std=2.0, decimals=2) + 300.0,
        "few": normal(rng, 17),
    }
    cases = []
    for name, logits in inputs.items():
        ids = np.argsort(-logits.numpy(), kind="stable")[:16]
        wide = logits.double()
        entropy = torch.distributions.Categorical(logits=wide).entropy()
        case = {"name": name, "n": len(logits), "k": 16, "logits": logits, "ids": ids, "values": logits[ids]}
        cases.append(case | {"logsumexp": float(wide.logsumexp(0)), "entropy_nats": float(entropy)})
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write the files to")
    folder = parser.parse_args().out
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)

    def rng(op: str) -> np.random.Generator:
        """Every operation has its own stream: changing one file leaves the others as they are."""
        return np.random.default_rng([SEED, *op.encode()])

    write(folder, "q8_0", q8_0_cases(rng("q8_0")))
    write(folder, "mxfp4", mxfp4_cases(rng("mxfp4")))
    for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL"):
        write(folder, kind.lower(), small_block_cases(rng(kind.lower()), GGMLQuantizationType[kind]))
    for kind in ("Q4_K", "Q5_K"):
        write(folder, kind.lower(), k_cases(rng(kind.lower()), GGMLQuantizationType[kind]))
    write(folder, "q6_k", q6_k_cases(rng("q6_k")))
    for name in THREE_OR_FOUR_BITS:
        write(folder, name.lower(), three_or_four_bit_cases(rng(name.lower()), name))
    f16_edges = [0, 1, 2, 0x3FF, 0x400, 0x3C00, 0x3C01, 0x7BFF]
    write(folder, "f16", half_cases(rng("f16"), torch.float16, f16_edges))
    bf16_edges = [0, 1, 2, 0x7F, 0x80, 0x3F80, 0x3F81, 0x7F7F]
    write(folder, "bf16", half_cases(rng("bf16"), torch.bfloat16, bf16_edges))
    write(folder, "rms_norm", rms_norm_cases(rng("rms_norm")))
    write(folder, "matmul_q8_0", matmul_cases(rng("matmul_q8_0"), GGMLQuantizationType.Q8_0))
    write(folder, "matmul_mxfp4", matmul_cases(rng("matmul_mxfp4"), GGMLQuantizationType.MXFP4))
    write(folder, "rope", rope_cases(rng("rope")))
    write(folder, "attention", attention_cases(rng("attention")))
    write(folder, "router", router_cases(rng("router")))
    write(folder, "swiglu", swiglu_cases(rng("swiglu")))
    write(folder, "experts", experts_cases(rng("experts")))
    write(folder, "topk", topk_cases(rng("topk")))


if __name__ == "__main__":
    main()
