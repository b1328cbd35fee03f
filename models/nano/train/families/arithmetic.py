"""Families about numbers: sums with their carries, comparing, counting, sorting, number words."""

from typing import NamedTuple

from vocabulary import number_in_words

from .base import Effort, Rng, Turn, by_effort, random_number

PLACES = ("ones", "tens", "hundreds")


class Step(NamedTuple):
    """One column of written arithmetic: the sum as text, the digit written down, what is carried or borrowed."""

    text: str
    digit: int
    carry: int


def digits_from_right(n: int) -> list[int]:
    return [int(d) for d in reversed(str(n))]


def arithmetic_analysis(effort: Effort, verb: str, opening: str, steps: list[Step], carry_text: str) -> str:
    """The columns one after another; with high effort also what is written and carried."""
    if effort == "high":
        columns = []
        for place, step in zip(PLACES, steps):
            carried = carry_text.format(step.carry) if step.carry else ""
            columns.append(f"{place}: {step.text}, write {step.digit}{carried}.")
        return opening + " ".join(columns)
    return (f"{verb}. " if effort == "medium" else "") + ", ".join(s.text for s in steps) + "."


def addition(rng: Rng, effort: Effort, _date: str) -> Turn:
    a, b = random_number(rng), random_number(rng)
    question = rng.choice(
        [
            f"What is {a} + {b}?",
            f"Add {a} and {b}.",
            f"{a} + {b}",
            f"What is {a} plus {b}?",
            f"Calculate {a} + {b}.",
            f"{a}+{b}=?",
            f"What is the sum of {a} and {b}?",
            f"How much is {a} + {b}?",
            f"Compute {a}+{b}.",
        ]
    )
    left, right = digits_from_right(a), digits_from_right(b)
    carry, steps = 0, []
    for column in range(max(len(left), len(right))):
        x = left[column] if column < len(left) else 0
        y = right[column] if column < len(right) else 0
        total = x + y + carry
        text = f"{x}+{y}" + (f"+{carry}" if carry else "") + f"={total}"
        carry = total // 10
        steps.append(Step(text, total % 10, carry))
    analysis = arithmetic_analysis(effort, "Add", f"We add {a} and {b}. ", steps, " carry {}")
    return Turn(question, analysis, f"{a} + {b} = {a + b}.")


def subtraction(rng: Rng, effort: Effort, _date: str) -> Turn:
    a, b = random_number(rng), random_number(rng)
    a, b = max(a, b), min(a, b)
    question = rng.choice(
        [
            f"What is {a} - {b}?",
            f"Subtract {b} from {a}.",
            f"{a} - {b}",
            f"What is {a} minus {b}?",
            f"Calculate {a} - {b}.",
            f"{a}-{b}=?",
            f"How much is {a} - {b}?",
            f"Take {b} away from {a}.",
        ]
    )
    left, right = digits_from_right(a), digits_from_right(b)
    borrowed, steps = 0, []
    for column, x in enumerate(left):
        y = right[column] if column < len(right) else 0
        difference = x - y - borrowed
        borrow = 1 if difference < 0 else 0
        text = f"{x + 10 * borrow}-{y}" + (f"-{borrowed}" if borrowed else "") + f"={difference + 10 * borrow}"
        steps.append(Step(text, difference + 10 * borrow, borrow))
        borrowed = borrow
    analysis = arithmetic_analysis(effort, "Subtract", f"We take {b} from {a}. ", steps, " borrow {}")
    return Turn(question, analysis, f"{a} - {b} = {a - b}.")


def multiplication(rng: Rng, effort: Effort, _date: str) -> Turn:
    """One or two digits times one digit, in either order."""
    many = rng.choice([rng.randint(0, 12), rng.randint(10, 99)])
    one = rng.randint(2, 9)
    a, b = (one, many) if rng.random() < 0.3 else (many, one)
    question = rng.choice(
        [
            f"What is {a} * {b}?",
            f"Multiply {a} by {b}.",
            f"{a} * {b}",
            f"What is {a} times {b}?",
            f"Calculate {a} x {b}.",
            f"How much is {a} times {b}?",
            f"{a}*{b}=?",
        ]
    )
    carry, steps = 0, []
    for digit in digits_from_right(many):
        product = digit * one + carry
        text = f"{digit}*{one}" + (f"+{carry}" if carry else "") + f"={product}"
        carry = product // 10
        steps.append(Step(text, product % 10, carry))
    analysis = arithmetic_analysis(effort, "Multiply", f"We multiply {many} by {one}. ", steps, " carry {}")
    return Turn(question, analysis, f"{a} * {b} = {a * b}.")


def comparison(rng: Rng, effort: Effort, _date: str) -> Turn:
    a, b = random_number(rng), random_number(rng)
    if a == b:
        b += 1
    if rng.random() < 0.3:  # numbers that are close to each other
        near = max(0, min(999, a + rng.choice([-11, -10, -2, -1, 1, 2, 9, 10, 100])))
        b = near if near != a else a + 1
    largest = rng.random() < 0.55
    word = rng.choice(["larger", "bigger", "greater"] if largest else ["smaller", "less"])
    question = rng.choice(
        [
            f"Which is {word}, {a} or {b}?",
            f"Which number is {word}: {a} or {b}?",
            f"What is {word}, {a} or {b}?",
            f"Is {a} or {b} {word}?",
        ]
    )
    analysis = by_effort(
        effort,
        f"{a}, {b}.",
        f"Compare {a} and {b}.",
        f"Compare {a} and {b}. {len(str(a))} digits and {len(str(b))} digits.",
    )
    answer = f"{max(a, b)} is larger." if largest else f"{min(a, b)} is smaller."
    return Turn(question, analysis, answer)


def next_number(rng: Rng, effort: Effort, _date: str) -> Turn:
    number = rng.randint(0, 200)
    rng.choice(range(5))  # unused, but part of the stream that the shipped model's prompts come from
    if rng.random() < 0.6:
        question = rng.choice([f"What number comes after {number}?", f"What is one more than {number}?"])
        analysis = by_effort(effort, "After.", "One more.", f"The user wants one more than {number}.")
        return Turn(question, analysis, str(number + 1))
    question = rng.choice([f"What number comes before {number + 1}?", f"What is one less than {number + 1}?"])
    analysis = by_effort(effort, "Before.", "One less.", f"The user wants one less than {number + 1}.")
    return Turn(question, analysis, str(number))


def counting(rng: Rng, effort: Effort, _date: str) -> Turn:
    length = rng.randint(2, 11)
    first = rng.randint(0, 30 if rng.random() < 0.8 else 95 - length)
    last = first + length
    if rng.random() < 0.3:
        first, last = last, first
    descending = first > last
    numbers = range(first, last - 1, -1) if descending else range(first, last + 1)
    down = "down " if descending else ""
    question = rng.choice(
        [
            f"Count {down}from {first} to {last}.",
            f"Count from {first} to {last}.",
            f"List the numbers from {first} to {last}.",
            f"Can you count from {first} {down}to {last}?",
        ]
    )
    direction = "down" if descending else "up"
    analysis = by_effort(
        effort,
        f"{first} to {last}.",
        f"Count from {first} to {last}.",
        f"The user wants me to count from {first} to {last}, {direction} by one.",
    )
    return Turn(question, analysis, ", ".join(map(str, numbers)) + ".")


def sorting(rng: Rng, effort: Effort, _date: str) -> Turn:
    numbers = rng.sample(range(100), rng.randint(3, 5))
    descending = rng.random() < 0.35
    ordered = sorted(numbers, reverse=descending)
    listed = ", ".join(map(str, numbers))
    if descending:
        wordings = [
            f"Sort {listed} in descending order.",
            f"Sort {listed} from large to small.",
            f"Put {listed} in order, largest first.",
        ]
    else:
        wordings = [
            f"Sort {listed}.",
            f"Sort these numbers: {listed}",
            f"Put {listed} in order.",
            f"Sort {listed} from small to large.",
            f"Sort {listed} in ascending order.",
            f"Order these numbers: {listed}",
        ]
    question = rng.choice(wordings)
    remaining, steps = numbers[:], []
    for number in ordered[:-1]:
        steps.append(f"{', '.join(map(str, remaining))}: {number}")
        remaining.remove(number)
    which = "Largest" if descending else "Smallest"
    analysis = by_effort(
        effort, f"{which} first.", f"{which} first: {ordered[0]}.", f"{which} of " + "; ".join(steps) + "."
    )
    return Turn(question, analysis, ", ".join(map(str, ordered)))


def number_words(rng: Rng, effort: Effort, _date: str) -> Turn:
    number = random_number(rng)
    words = number_in_words(number)
    if rng.random() < 0.55:
        question = rng.choice(
            [
                f"Write {number} in words.",
                f"Write the number {number} as words.",
                f"How do you say {number} in words?",
                f"Spell out the number {number}.",
            ]
        )
        analysis = by_effort(effort, "Words.", f"Words for {number}.", f"The user wants {number} in words.")
        return Turn(question, analysis, words)
    question = rng.choice(
        [
            f"Write {words} as a number.",
            f"Write {words} in digits.",
            f"What number is {words}?",
            f"Turn {words} into digits.",
        ]
    )
    analysis = by_effort(effort, "Digits.", f"Digits for {words}.", f"The user wants {words} in digits.")
    return Turn(question, analysis, str(number))
