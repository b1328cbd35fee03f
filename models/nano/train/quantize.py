"""The two block formats: rounding weights to them while training, and packing them for a GGUF file.

Both use the same rule for scales, so that a weight that was trained on the grid is exported without any change.
A block is 32 consecutive weights of a row.
"""

import numpy as np
import torch

BLOCK = 32
SMALLEST_Q8_0_SCALE = 2.0**-24  # the smallest subnormal f16
# Twice the magnitude of an E2M1 value → its code.
E2M1_CODES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 8: 6, 12: 7}
E8M0_BIAS = 127
# Above this multiple of a power of two the next exponent rounds the largest weight better than saturation does.
NEXT_EXPONENT_ABOVE = 1.7


def mxfp4_scale(blocks: torch.Tensor) -> torch.Tensor:
    """The power of two by which each block [n, 32] is divided: [n, 1]. The largest E2M1 value is 6 = 1.5 · 2²."""
    largest = blocks.abs().amax(-1, keepdim=True).clamp(min=2.0**-100)
    exponent = torch.floor(torch.log2(largest))
    round_up = (largest > NEXT_EXPONENT_ABOVE * torch.exp2(exponent)).to(blocks.dtype)
    return torch.exp2(exponent - 2 + round_up)


def round_to_e2m1(values: torch.Tensor) -> torch.Tensor:
    """The nearest of 0, ±0.5, ±1, ±1.5, ±2, ±3, ±4, ±6."""
    magnitude = values.abs()
    below_two = torch.round(magnitude * 2) / 2
    below_four = torch.round(magnitude)
    above = torch.round(magnitude / 2) * 2
    rounded = torch.where(magnitude < 2, below_two, torch.where(magnitude < 4, below_four, above))
    return torch.copysign(rounded.clamp(max=6.0), values)


def round_to_mxfp4(weights: torch.Tensor) -> torch.Tensor:
    """`weights` as they read back from MXFP4."""
    blocks = weights.reshape(-1, BLOCK)
    scale = mxfp4_scale(blocks)
    return (round_to_e2m1(blocks / scale) * scale).reshape(weights.shape)


def q8_0_scale(blocks: torch.Tensor) -> torch.Tensor:
    """The f16 scale of each block [n, 32], as f16: [n, 1]."""
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).half()
    return scale.clamp(min=SMALLEST_Q8_0_SCALE)


def round_to_q8_0(weights: torch.Tensor) -> torch.Tensor:
    """`weights` as they read back from Q8_0."""
    blocks = weights.reshape(-1, BLOCK)
    scale = q8_0_scale(blocks).float()
    return (torch.round(blocks / scale).clamp(-127, 127) * scale).reshape(weights.shape)


def pack_q8_0(weights: torch.Tensor) -> np.ndarray:
    """GGUF bytes [..., row bytes]: per block the f16 scale and 32 signed bytes."""
    blocks = weights.reshape(-1, BLOCK)
    scale = q8_0_scale(blocks)
    codes = torch.round(blocks / scale.float()).clamp(-127, 127).to(torch.int8)
    packed = np.concatenate([scale.numpy().view(np.uint8), codes.numpy().view(np.uint8)], axis=1)
    return packed.reshape(*weights.shape[:-1], -1)


def pack_mxfp4(weights: torch.Tensor) -> np.ndarray:
    """GGUF bytes [..., row bytes]: per block the exponent and 16 bytes, weight j low and weight j + 16 high."""
    blocks = weights.reshape(-1, BLOCK)
    scale = mxfp4_scale(blocks)
    values = round_to_e2m1(blocks / scale)
    table = torch.zeros(max(E2M1_CODES) + 1, dtype=torch.int64)
    for doubled, code in E2M1_CODES.items():
        table[doubled] = code
    doubled = (values.abs() * 2).to(torch.int64)
    is_negative = torch.signbit(values) & (doubled > 0)
    codes = (table[doubled] + 8 * is_negative).numpy().astype(np.uint8)
    exponents = (torch.log2(scale) + E8M0_BIAS).round().clamp(0, 254).numpy().astype(np.uint8)
    packed = np.concatenate([exponents, codes[:, :16] | codes[:, 16:] << 4], axis=1)
    return packed.reshape(*weights.shape[:-1], -1)
