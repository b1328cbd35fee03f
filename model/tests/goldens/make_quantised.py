#!/usr/bin/env python3
"""Writes quantised.json: weights, and the bytes that gguf-py rounds them to.

    pip install gguf==0.19.0 numpy==2.4.6
    python make_quantised.py          # rewrites quantised.json next to this script; the same bytes every time

README.md describes the format of the file.
"""

import platform
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

SEED = 21
BLOCK = 32
KINDS = {"f16": Kind.F16, "bf16": Kind.BF16, "q8_0": Kind.Q8_0, "mxfp4": Kind.MXFP4}


def below(value: float, steps: int) -> np.float32:
    """The float32 that lies `steps` places below `value`."""
    return (np.float32(value).view(np.uint32) - np.uint32(steps)).view(np.float32)


def beside(values: np.ndarray) -> np.ndarray:
    """Each value with its two neighbours."""
    values = values.astype(np.float32)
    down, up = np.nextafter(values, np.float32(-np.inf)), np.nextafter(values, np.float32(np.inf))
    return np.stack([down, values, up], -1).ravel()


def blocks_under(largest: float, values: np.ndarray) -> np.ndarray:
    """`values` in blocks that all have `largest` as their first weight, and end with zeros."""
    rows = -(-len(values) // (BLOCK - 1))
    padded = np.zeros(rows * (BLOCK - 1), np.float32)
    padded[: len(values)] = values
    return np.concatenate([np.full((rows, 1), largest, np.float32), padded.reshape(rows, -1)], 1).ravel()


def normal(rng: np.random.Generator) -> np.ndarray:
    scales = np.exp2(rng.uniform(-14, 6, (96, 1)))
    return (rng.normal(0, 1, (96, BLOCK)) * scales).astype(np.float32)


def halves_of_q8_0() -> np.ndarray:
    """Weights half-way between codes, at scales that are powers of two, and their neighbours."""
    halves = np.arange(-126.5, 127, 7)
    return np.concatenate([blocks_under(127 * s, beside(halves * s)) for s in (1.0, 2.0**-9, -(2.0**5))])


def halves_of_mxfp4() -> np.ndarray:
    """Weights half-way between codes, and their neighbours, under the largest and the smallest weight of an exponent."""
    middles = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    middles = np.concatenate([middles, -middles])
    cases = ((4.0, 1.0), (below(8.0, 40), 1.0), (-6.0 * 2.0**-7, 2.0**-7), (5.0 * 2.0**100, 2.0**100))
    return np.concatenate([blocks_under(largest, beside(middles * unit)) for largest, unit in cases])


def powers_of_two(rng: np.random.Generator) -> np.ndarray:
    """Largest weights at and just below powers of two: the logarithm of some of the latter rounds to the power's."""
    steps = (0, 1, 2, 3, 5, 6, 11, 12, 22, 23, 44, 45, 100)
    exponents = (-124, -100, -64, -33, -17, -8, -2, -1, 0, 1, 2, 3, 7, 16, 33, 64, 100, 127)
    largest = np.array([below(2.0**e, s) if s else np.float32(2.0**e) for e in exponents for s in steps])
    rest = rng.uniform(-1, 1, (len(largest), BLOCK - 1)).astype(np.float32)
    return np.concatenate([largest[:, None], rest * largest[:, None]], 1)


def zeros() -> np.ndarray:
    blocks = np.zeros((4, BLOCK), np.float32)
    blocks[1] = -0.0
    blocks[2, 17] = -0.375
    blocks[3, ::2] = -0.0
    blocks[3, 5] = 1e-3
    return blocks


def huge(rng: np.random.Generator) -> np.ndarray:
    """Up to the largest float32. Halves and scales of Q8_0 become infinite."""
    largest = np.float32([65504, 65519, 65520, 8.3e6, 8.4e6, 1e20, 2.0**126, 3.4e38, np.finfo(np.float32).max])
    rest = rng.uniform(-1, 1, (len(largest), BLOCK - 1)).astype(np.float32)
    return np.concatenate([largest[:, None], rest * largest[:, None]], 1)


def tiny(rng: np.random.Generator) -> np.ndarray:
    """Scales of Q8_0 that are subnormal halves or zero, smallest exponents of MXFP4, weights that are subnormal."""
    largest = np.float32([1e-3, 8e-6, 3.8e-6, 3.7e-6, 1e-7, 1e-20, 1e-30, 1e-36, 2.0**-123, 2.0**-124, 2.0**-125])
    rest = rng.uniform(-1, 1, (len(largest), BLOCK - 1)) * np.exp2(rng.uniform(-20, 0, (len(largest), BLOCK - 1)))
    return np.concatenate([largest[:, None], (rest * largest[:, None]).astype(np.float32)], 1)


def below_the_exponents(rng: np.random.Generator) -> np.ndarray:
    """Largest weights whose exponent in MXFP4 would be negative. gguf-py converts it to a byte all the same."""
    largest = np.float32([below(2.0**-125, 100), 1.5 * 2.0**-126, 2.0**-127, 2.0**-130, 2.0**-140, 2.0**-149])
    rest = rng.uniform(-1, 1, (len(largest), BLOCK - 1)).astype(np.float32)
    return np.concatenate([largest[:, None], rest * largest[:, None]], 1)


def rounded(weights: np.ndarray, kind: Kind) -> bytes:
    with np.errstate(all="ignore"):
        return gguf.quants.quantize(weights.reshape(1, -1), kind).tobytes()


def main() -> None:
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(SEED).spawn(5)]
    cases = {
        "normal": normal(streams[0]),
        "halves of q8_0": halves_of_q8_0(),
        "halves of mxfp4": halves_of_mxfp4(),
        "powers of two": powers_of_two(streams[1]),
        "zeros": zeros(),
        "huge": huge(streams[2]),
        "tiny": tiny(streams[3]),
        "below the exponents": below_the_exponents(streams[4]),
    }
    texts = []
    for name, weights in cases.items():
        weights = weights.astype(np.float32).reshape(-1, BLOCK)
        fields = {"weights_hex": weights.tobytes()}
        fields |= {f"{kind}_hex": rounded(weights, ggml) for kind, ggml in KINDS.items()}
        lines = [f'  "name":"{name}"', *(f'  "{field}":"{data.hex()}"' for field, data in fields.items())]
        texts.append(" {\n" + ",\n".join(lines) + "\n }")
        print(f"{name:20s} {len(weights):4d} blocks")
    made_with = f"Python {platform.python_version()}, gguf {version('gguf')}, numpy {version('numpy')}"
    head = f'{{"op":"quantised",\n"provenance":"make_quantised.py, seed {SEED}; {made_with}",\n"cases":[\n'
    Path(__file__).with_name("quantised.json").write_text(head + ",\n".join(texts) + "\n]}\n")


if __name__ == "__main__":
    main()
