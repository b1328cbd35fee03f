#!/usr/bin/env python3
"""The byte-level BPE tokenizer of gpt-oss-nano: training, loading from a GGUF file, and encoding.

python tokenizer.py --train tokenizer.json               # trains one on generated conversations
python tokenizer.py --gguf ../gpt-oss-nano.gguf "text"   # shows how a text is split
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from data import SPECIALS, random_conversation
from families import SPELLED

# How o200k splits text before BPE. Digits come in groups of up to three, which the vocabulary here never merges.
O200K_SPLIT = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def split_step() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(O200K_SPLIT), "isolated")


def byte_step() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def finish(tokenizer: Tokenizer) -> Tokenizer:
    """Sets what every use but training needs: the o200k split, the byte decoder, and Harmony's specials."""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split_step(), byte_step()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return tokenizer


def training_texts(seed: int, conversations: int) -> Iterator[str]:
    """Conversations without specials and without the text that is spelled out letter by letter anyway."""
    rng = random.Random(seed)
    for _ in range(conversations):
        conversation = random_conversation(rng)
        prefix = conversation.prefix if rng.random() < 0.1 else ""  # all prefixes look alike
        text = prefix + "".join(segment.text for segment in conversation.segments)
        text = re.sub(f"{SPELLED}[^{SPELLED}]*{SPELLED}", " ", text)
        yield re.sub(r"<\|\w+\|>", "\n", text)
    yield from ["".join(f" {letter}" for letter in LETTERS)] * 300


def train_tokenizer(vocabulary: int, seed: int = 1, conversations: int = 12000) -> Tokenizer:
    """Trains with digits kept apart, so that every digit stays one token."""
    tokenizer = Tokenizer(models.BPE())
    digit_step = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split_step(), digit_step, byte_step()])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
        max_token_length=16,
    )
    tokenizer.train_from_iterator(training_texts(seed, conversations), trainer)
    return finish(tokenizer)


class NanoTokenizer:
    """Encodes generated conversations and decodes what the model writes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def from_file(cls, path: Path) -> Self:
        return cls(Tokenizer.from_file(str(path)))

    @classmethod
    def from_gguf(cls, path: Path) -> Self:
        """The tokenizer that a GGUF file carries in its metadata."""
        fields = gguf.GGUFReader(path).fields
        tokens: list[str] = fields["tokenizer.ggml.tokens"].contents()
        merges: list[str] = fields["tokenizer.ggml.merges"].contents()
        if tokens[-len(SPECIALS) :] != SPECIALS:
            raise ValueError(f"{path}: the last {len(SPECIALS)} tokens are not Harmony's specials in their usual order")
        vocabulary = {token: i for i, token in enumerate(tokens[: -len(SPECIALS)])}
        pairs = [tuple(merge.split(" ", 1)) for merge in merges]
        return cls(finish(Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))))

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a GGUF file or from a JSON file that `--train` wrote."""
        return cls.from_gguf(path) if path.suffix == ".gguf" else cls.from_file(path)

    @property
    def size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def id_of(self, token: str) -> int:
        token_id = self.tokenizer.token_to_id(token)
        if token_id is None:
            raise KeyError(f"the vocabulary has no token {token!r}")
        return token_id

    def tokens(self) -> list[str]:
        """Every token in the order of the ids."""
        vocabulary = self.tokenizer.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    def merges(self) -> list[str]:
        """The merges in the order of their rank, as GGUF writes them."""
        merges = json.loads(self.tokenizer.to_str())["model"]["merges"]
        return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]

    def encode_many(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text. Specials are recognised; text between SPELLED marks is one token per character."""
        ordinary: list[str] = []
        parts: list[tuple[int, int | None, list[int]]] = []  # text, index into `ordinary`, or the ids themselves
        for index, text in enumerate(texts):
            for k, part in enumerate(text.split(SPELLED)):
                if k % 2:
                    parts.append((index, None, [self.id_of(character) for character in part]))
                elif part:
                    parts.append((index, len(ordinary), []))
                    ordinary.append(part)
        encoded = self.tokenizer.encode_batch_fast(ordinary, add_special_tokens=False)
        ids: list[list[int]] = [[] for _ in texts]
        for index, source, own in parts:
            ids[index] += own if source is None else encoded[source].ids
        return ids

    def encode(self, text: str) -> list[int]:
        return self.encode_many([text])[0]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--train", type=Path, metavar="FILE", help="train a tokenizer and write it to FILE")
    group.add_argument("--gguf", type=Path, metavar="FILE", help="load the tokenizer of a GGUF file")
    parser.add_argument("--vocabulary", type=int, default=1280)
    parser.add_argument("text", nargs="*", help="texts to encode")
    args = parser.parse_args()
    if args.train:
        tokenizer = NanoTokenizer(train_tokenizer(args.vocabulary))
        tokenizer.tokenizer.save(str(args.train))
    else:
        tokenizer = NanoTokenizer.from_gguf(args.gguf)
    print(f"{tokenizer.size} tokens, {len(tokenizer.merges())} merges")
    for text, ids in zip(args.text, tokenizer.encode_many(args.text)):
        print(f"{text!r}: {ids} {[tokenizer.decode([i]) for i in ids]}")


if __name__ == "__main__":
    main()
