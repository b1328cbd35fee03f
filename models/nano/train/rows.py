"""Training rows: one prefix and several conversations that continue it, packed to a fixed length.

A row is a system (and developer) message followed by alternative branches. Each branch sees the prefix and
itself, and its positions continue from the prefix as if the other branches were not there. So the prefix,
which is half of every short conversation, is computed once for four or five of them.
"""

import multiprocessing
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from data import prefix_text, random_branch, random_setting
from tokenizer import NanoTokenizer

PREFIX_BRANCH = 0
PADDING_BRANCH = 255
NOT_LEARNED = -100  # what cross_entropy ignores
CANDIDATE_BRANCHES = 8
PREFIXES_PER_ENCODING = 200


@dataclass
class Rows:
    """All arrays are [rows, length]."""

    tokens: torch.Tensor
    positions: torch.Tensor
    branches: torch.Tensor  # PREFIX_BRANCH, 1, 2, …, PADDING_BRANCH
    targets: torch.Tensor  # the next token where the assistant writes it, else NOT_LEARNED

    @classmethod
    def empty(cls, rows: int, length: int) -> Self:
        return cls(
            tokens=torch.zeros(rows, length, dtype=torch.int16),
            positions=torch.zeros(rows, length, dtype=torch.int16),
            branches=torch.full((rows, length), PADDING_BRANCH, dtype=torch.uint8),
            targets=torch.full((rows, length), NOT_LEARNED, dtype=torch.int16),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: torch.Tensor) -> Self:
        return type(self)(
            self.tokens[rows].long(), self.positions[rows].long(), self.branches[rows], self.targets[rows].long()
        )

    def describe(self) -> str:
        used = (self.branches != PADDING_BRANCH).float().mean()
        learned = (self.targets != NOT_LEARNED).float().mean()
        per_row = torch.where(self.branches == PADDING_BRANCH, 0, self.branches).amax(1).float().mean()
        return f"{len(self)} rows, {used:.0%} used, {learned:.0%} learned, {per_row:.1f} conversations per row"


def pack_row(rows: Rows, row: int, prefix: list[int], branches: list[list[tuple[list[int], bool]]]) -> bool:
    """Writes a prefix and the branches that fit after it; returns whether any did."""
    length, start = rows.tokens.shape[1], len(prefix)
    end, packed = start, 0
    for branch in branches:
        ids = [token for segment, _ in branch for token in segment]
        labels = [token if learned else NOT_LEARNED for segment, learned in branch for token in segment]
        if end + len(ids) > length:
            continue
        packed += 1
        here = slice(end, end + len(ids))
        rows.tokens[row, here] = torch.tensor(ids, dtype=torch.int16)
        rows.positions[row, here] = torch.arange(start, start + len(ids), dtype=torch.int16)
        rows.branches[row, here] = packed
        rows.targets[row, end : end + len(ids) - 1] = torch.tensor(labels[1:], dtype=torch.int16)
        end += len(ids)
    if packed:
        rows.tokens[row, :start] = torch.tensor(prefix, dtype=torch.int16)
        rows.positions[row, :start] = torch.arange(start, dtype=torch.int16)
        rows.branches[row, :start] = PREFIX_BRANCH
    return packed > 0


def pack_rows(tokenizer: NanoTokenizer, seed: int, count: int, length: int) -> Rows:
    """`count` rows of `length` tokens from the stream of `seed`."""
    rng = random.Random(seed)
    rows, filled = Rows.empty(count, length), 0
    while filled < count:
        texts: list[str] = []
        plans: list[tuple[int, list[list[tuple[int, bool]]]]] = []  # indices into `texts`, so that one call encodes all
        for _ in range(PREFIXES_PER_ENCODING):
            setting = random_setting(rng)
            prefix_index = len(texts)
            texts.append(prefix_text(rng, setting))
            branches = []
            for _ in range(CANDIDATE_BRANCHES):
                segments = random_branch(rng, setting).segments
                branches.append([(len(texts) + k, segment.learned) for k, segment in enumerate(segments)])
                texts += [segment.text for segment in segments]
            plans.append((prefix_index, branches))
        ids = tokenizer.encode_many(texts)
        for prefix_index, branches in plans:
            if filled == count:
                break
            encoded = [[(ids[index], learned) for index, learned in branch] for branch in branches]
            filled += pack_row(rows, filled, ids[prefix_index], encoded)
    return rows


def write_rows(tokenizer_path: Path, seed: int, count: int, length: int, path: Path) -> None:
    rows = pack_rows(NanoTokenizer.load(tokenizer_path), seed, count, length)
    np.savez(path, **{name: values.numpy() for name, values in vars(rows).items()})


def make_rows(folder: Path, tokenizer_path: Path, seed: int, count: int, length: int, workers: int) -> Rows:
    """Rows from `workers` processes with consecutive seeds; files of an earlier run are used again."""
    share = -(-count // workers)
    paths = [folder / f"rows.{seed + k}.{share}x{length}.npz" for k in range(workers)]
    processes = [
        multiprocessing.Process(target=write_rows, args=(tokenizer_path, seed + k, share, length, path))
        for k, path in enumerate(paths)
        if not path.exists()
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"a worker that packs rows ended with exit code {process.exitcode}")
    files = [np.load(path) for path in paths]
    names = vars(Rows.empty(0, 0))
    return Rows(**{name: torch.from_numpy(np.concatenate([file[name] for file in files])) for name in names})
