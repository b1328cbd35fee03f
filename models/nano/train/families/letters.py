"""Families about the letters of a word, and repeating a phrase."""

from .base import Effort, Rng, Turn, by_effort, random_word, spelled


def reversal(rng: Rng, effort: Effort, _date: str) -> Turn:
    word = random_word(rng)
    letters, backwards = " ".join(word), word[::-1]
    question = rng.choice(
        [
            f"Reverse the word {word}.",
            f"Reverse {word}.",
            f"What is {word} backwards?",
            f"Spell {word} backwards.",
            f'Write "{word}" in reverse.',
            f"Reverse this word: {word}",
        ]
    )
    analysis = by_effort(
        effort,
        f" {letters}:",
        f"Letters: {letters}.",
        f"The letters of {word} are: {letters}. Backwards: {' '.join(backwards)}.",
    )
    return Turn(question, analysis, spelled(backwards))


def upper_case(rng: Rng, effort: Effort, _date: str) -> Turn:
    word = random_word(rng)
    letters, capitals = " ".join(word), word.upper()
    question = rng.choice(
        [
            f"Write {word} in upper case.",
            f"Make {word} uppercase.",
            f"Put {word} in capital letters.",
            f'Convert "{word}" to upper case.',
            f"Uppercase this word: {word}",
            f"Shout the word {word}.",
        ]
    )
    analysis = by_effort(
        effort,
        f" {letters}:",
        f"Letters: {letters}.",
        f"The letters of {word} are: {letters}. Capitals: {' '.join(capitals)}.",
    )
    return Turn(question, analysis, spelled(capitals))


def spelling(rng: Rng, effort: Effort, _date: str) -> Turn:
    word = random_word(rng)
    letters = " ".join(word)
    question = rng.choice(
        [
            f"Spell {word}.",
            f"Spell the word {word}.",
            f"How do you spell {word}?",
            f"List the letters of {word}.",
            f'What are the letters in "{word}"?',
        ]
    )
    analysis = by_effort(
        effort, f" {letters}:", f"Letters: {letters}.", f"The user wants the letters of {word}: {letters}."
    )
    return Turn(question, analysis, spelled("-".join(word)))


def letter_count(rng: Rng, effort: Effort, _date: str) -> Turn:
    word = random_word(rng)
    question = rng.choice(
        [
            f"How many letters are in {word}?",
            f"How many letters does {word} have?",
            f"Count the letters in {word}.",
            f'How long is the word "{word}"?',
            f"How many letters are in the word {word}?",
        ]
    )
    counted = ", ".join(f"{i} {letter}" for i, letter in enumerate(word, start=1))
    analysis = by_effort(
        effort,
        f" {counted}:",
        f"Count: {counted}.",
        f"Count the letters of {word}: {counted}. That is {len(word)}.",
    )
    return Turn(question, analysis, f"{word} has {len(word)} letters.")


def occurrences(rng: Rng, effort: Effort, _date: str) -> Turn:
    """How often a letter is in a word; usually one that is in it."""
    word = random_word(rng)
    letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghijklmnoprstuwy")
    question = rng.choice(
        [
            f"How many times is {letter} in {word}?",
            f"How many {letter} are in {word}?",
            f"Count the letter {letter} in {word}.",
            f'How often does the letter {letter} appear in "{word}"?',
            f"How many {letter}'s are in {word}?",
        ]
    )
    count, walked = 0, []
    for other in word:
        count += other == letter
        walked.append(f"{other} {count}" if other == letter else other)
    trace = " ".join(walked)
    analysis = by_effort(
        effort,
        f" {trace}:",
        f"Count {letter}: {trace}.",
        f"We count {letter} in the word {word}: {trace}. That is {count}.",
    )
    return Turn(question, analysis, f"The letter {letter} is in {word} {count} time{'' if count == 1 else 's'}.")


def repetition(rng: Rng, effort: Effort, _date: str) -> Turn:
    phrase = " ".join(random_word(rng) for _ in range(rng.randint(1, 4)))
    question = rng.choice(
        [
            f"Repeat: {phrase}",
            f"Repeat after me: {phrase}",
            f"Say {phrase}.",
            f"Please repeat this: {phrase}",
            f'Say "{phrase}".',
            f"Repeat the phrase {phrase}.",
        ]
    )
    analysis = by_effort(effort, "Repeat.", "Repeat the phrase.", "The user wants me to repeat the phrase exactly.")
    return Turn(question, analysis, phrase)
