"""The families of questions the model learns to answer.

A family is a function of a random stream, the reasoning effort and the conversation's date. It returns a
question, the reasoning that belongs to the effort, and the answer. The order of the random draws is part of
the data: the evaluation prompts of the shipped model come from the same streams.
"""

from . import arithmetic, facts, letters
from .base import SPELLED, Effort, Family, Rng, Turn, by_effort, invented_word, random_number

__all__ = ["FAMILIES", "SPELLED", "Effort", "Rng", "Turn", "by_effort", "invented_word", "random_number"]

# Each family with its weight among the conversations that do not use tools.
FAMILIES: dict[str, tuple[Family, float]] = {
    "add": (arithmetic.addition, 3.0),
    "sub": (arithmetic.subtraction, 3.0),
    "mul": (arithmetic.multiplication, 3.2),
    "reverse": (letters.reversal, 2.2),
    "upper": (letters.upper_case, 1.2),
    "spell": (letters.spelling, 1.2),
    "letters": (letters.letter_count, 2.2),
    "occurrences": (letters.occurrences, 2.4),
    "sort": (arithmetic.sorting, 3.2),
    "day_month": (facts.day_or_month, 1),
    "compare": (arithmetic.comparison, 2.2),
    "number_words": (arithmetic.number_words, 1.5),
    "repeat": (letters.repetition, 2.4),
    "capitals": (facts.capital, 0.7),
    "planets": (facts.planet, 0.7),
    "count": (arithmetic.counting, 1.4),
    "next_number": (arithmetic.next_number, 1.3),
    "greeting": (facts.greeting, 0.7),
    "other": (facts.too_hard, 0.35),
    "date": (facts.todays_date, 0.25),
    "name": (facts.users_name, 0.5),
}
