"""What all families share: the form of an exchange, and random numbers and words."""

import random
from collections.abc import Callable
from typing import Literal, NamedTuple

from vocabulary import WORDS

Effort = Literal["low", "medium", "high"]
Rng = random.Random

# Text between two of these marks is encoded as one token per character.
SPELLED = "\x01"


class Turn(NamedTuple):
    """One exchange, without Harmony's tokens."""

    question: str
    analysis: str
    final: str


Family = Callable[[Rng, Effort, str], Turn]


def spelled(text: str) -> str:
    return SPELLED + text + SPELLED


def by_effort(effort: Effort, low: str, medium: str, high: str) -> str:
    return {"low": low, "medium": medium, "high": high}[effort]


def random_number(rng: Rng) -> int:
    """0 to 999, with one, two or three digits in the ratio 1 : 2 : 3."""
    digits = rng.choice([1, 2, 2, 3, 3, 3])
    return rng.randint(0 if digits == 1 else 10 ** (digits - 1), 10**digits - 1)


def invented_word(rng: Rng) -> str:
    """One to three made-up syllables, at most nine letters."""
    word = ""
    for _ in range(rng.randint(1, 3)):
        consonant, vowel = rng.choice("bcdfghjklmnpqrstvwxyz"), rng.choice("aeiou")
        closing = rng.choice("lmnrstdkpy")
        word += consonant + vowel + rng.choice(["", "", "", closing])
    return (word + rng.choice("nrstl") if len(word) < 3 else word)[:9]


def random_word(rng: Rng) -> str:
    return rng.choice(WORDS) if rng.random() < 0.82 else invented_word(rng)
