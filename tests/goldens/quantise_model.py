#!/usr/bin/env python3
"""Prints what gguf-py makes of a gpt-oss file with F32 weights: experts in MXFP4, the other matrices in Q8_0.

    pip install gguf==0.19.0 numpy==2.4.6
    cargo xtask synth --shape tiny --layers 2 --types f32 --seed 5 --out tiny-f32.gguf
    python quantise_model.py tiny-f32.gguf > quantised.tiny.sha256

Each line has the SHA-256 of a tensor's bytes, its type and its name; the first one is the file's own. Which tensors are
quantised follows from the list of tensors and types of the public gpt-oss-20b file: everything with at least two
dimensions that is neither a bias nor the router.
"""

import hashlib
import sys
from pathlib import Path

import gguf
from gguf import GGMLQuantizationType as Kind


def kind_of(tensor: gguf.ReaderTensor) -> Kind:
    if len(tensor.shape) < 2 or tensor.name.endswith(".bias") or ".ffn_gate_inp." in tensor.name:
        return Kind.F32
    return Kind.MXFP4 if "_exps." in tensor.name else Kind.Q8_0


def main() -> None:
    path = Path(sys.argv[1])
    print(hashlib.sha256(path.read_bytes()).hexdigest(), "file", path.name)
    for tensor in gguf.GGUFReader(path).tensors:
        assert tensor.tensor_type == Kind.F32, f"{tensor.name} is {tensor.tensor_type.name}"
        kind = kind_of(tensor)
        data = gguf.quants.quantize(tensor.data, kind)
        print(hashlib.sha256(data.tobytes()).hexdigest(), kind.name, tensor.name)


if __name__ == "__main__":
    main()
