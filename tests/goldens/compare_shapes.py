"""Freshly made models of shapes that no golden has: both of pylon's backends against Transformers, both YaRN modes.

    cargo build --release -p pylon -p gptoss-synth
    python compare_shapes.py ../../target/release
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from reference import YARN_MODES, load_reference, logits_of, nmse

# Query heads, key-value heads, experts, window, tokens of the prompt: longer than the window.
SHAPES = [(6, 2, 12, 32, 50), (8, 1, 32, 128, 140), (8, 2, 12, 128, 133), (4, 2, 32, 32, 70)]


def main(programs: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model, prompt, logits = (Path(folder) / name for name in ("model.gguf", "prompt.txt", "logits.npy"))
        for query_heads, kv_heads, experts, window, tokens in SHAPES:
            shape = {
                "layers": 2,
                "hidden": 96,
                "ff": 64,
                "query-heads": query_heads,
                "kv-heads": kv_heads,
                "experts": experts,
                "window": window,
            }
            flags = [text for name, number in shape.items() for text in (f"--{name}", str(number))]
            subprocess.run(
                [programs / "gptoss-synth", "--shape", "tiny", *flags, "--out", model], check=True, capture_output=True
            )
            for mode, truncate in YARN_MODES.items():
                reference = load_reference(model, truncate)
                ids = [(i * 7919 + 13) % reference.config.vocab_size for i in range(tokens)]
                prompt.write_text(" ".join(map(str, ids)))
                wanted = np.asarray(logits_of(reference, ids))
                for backend in ("cpu", "gpu"):
                    command = [programs / "pylon", "logits", "--gguf", model, "--tokens", prompt, "--out", logits]
                    command += ["--backend", backend] + (["--yarn-truncate"] if truncate else [])
                    subprocess.run(command, check=True, capture_output=True)
                    got = np.load(logits)
                    apart = np.abs(got - wanted).max()
                    print(
                        f"{query_heads}/{kv_heads} heads, {experts} experts, window {window}, {mode}, {backend}: "
                        f"max abs {apart:.1e}, NMSE {nmse(got, wanted):.1e}"
                    )
                    assert apart <= 2e-3 and nmse(got, wanted) <= 1e-8


if __name__ == "__main__":
    main(Path(sys.argv[1]))
