"""Families about a few facts, small talk, and the fixed answer to everything else."""

from vocabulary import CAPITALS, DAYS, MONTHS, NAMES, ORDINALS, PLANETS

from .base import Effort, Rng, Turn, by_effort, random_word

WHO_I_AM = "I am gpt-oss-nano, a tiny test model. I run right here on your own machine."
WHAT_I_CAN = (
    "I am a tiny test model. I can do small sums, spell and reverse words, sort numbers, count, and call tools."
)


def day_or_month(rng: Rng, effort: Effort, _date: str) -> Turn:
    unit, names = ("month", MONTHS) if rng.random() < 0.5 else ("day", DAYS)
    index = rng.randrange(len(names))
    forward = rng.random() < 0.6
    given, answer = names[index], names[(index + (1 if forward else -1)) % len(names)]
    where = "after" if forward else "before"
    question = rng.choice(
        [
            f"What {unit} comes {where} {given}?",
            f"Which {unit} is {where} {given}?",
            f"Name the {unit} {where} {given}.",
            f"What is the next {unit} after {given}?" if forward else f"What {unit} is right before {given}?",
        ]
    )
    analysis = by_effort(
        effort,
        f"{unit} {where} {given}.",
        f"We need the {unit} {where} {given}.",
        f"The user asks for the {unit} {where} {given}. It is {answer}.",
    )
    return Turn(question, analysis, f"The {unit} {where} {given} is {answer}.")


def capital(rng: Rng, effort: Effort, _date: str) -> Turn:
    country = rng.choice(list(CAPITALS))
    city = CAPITALS[country]
    if rng.random() < 0.65:
        question = rng.choice(
            [
                f"What is the capital of {country}?",
                f"Name the capital of {country}.",
                f"Which city is the capital of {country}?",
                f"capital of {country}",
                f"Tell me the capital of {country}.",
            ]
        )
        analysis = by_effort(
            effort,
            f"Capital of {country}.",
            f"We need the capital of {country}.",
            f"The user asks for the capital of {country}. It is {city}.",
        )
        return Turn(question, analysis, f"The capital of {country} is {city}.")
    question = rng.choice(
        [
            f"{city} is the capital of which country?",
            f"Which country has {city} as its capital?",
            f"In which country is {city}?",
        ]
    )
    analysis = by_effort(
        effort,
        f"Country of {city}.",
        f"We need the country of {city}.",
        f"The user asks for the country of {city}. It is {country}.",
    )
    return Turn(question, analysis, f"{city} is the capital of {country}.")


def planet(rng: Rng, effort: Effort, _date: str) -> Turn:
    index, kind = rng.randrange(len(PLANETS)), rng.random()
    name, ordinal = PLANETS[index], ORDINALS[index]
    if kind < 0.45:
        question = rng.choice(
            [
                f"What is the {ordinal} planet?",
                f"Which planet is {ordinal} from the sun?",
                f"Name the {ordinal} planet from the sun.",
            ]
        )
        so_far = ", ".join(PLANETS[: index + 1])
        analysis = by_effort(
            effort, f"{ordinal} planet.", f"We need the {ordinal} planet.", f"Planets in order: {so_far}."
        )
        return Turn(question, analysis, f"The {ordinal} planet is {name}.")
    if kind < 0.75 and index + 1 < len(PLANETS):
        question = rng.choice([f"Which planet comes after {name}?", f"What planet is after {name}?"])
        so_far = ", ".join(PLANETS[: index + 2])
        analysis = by_effort(
            effort, f"After {name}.", f"We need the planet after {name}.", f"Planets in order: {so_far}."
        )
        return Turn(question, analysis, f"{PLANETS[index + 1]} comes after {name}.")
    question = rng.choice(
        ["List the planets.", "Name all planets.", "List the planets in order.", "What are the planets?"]
    )
    analysis = by_effort(effort, "Planets.", "List the planets.", "The user wants the eight planets in order.")
    return Turn(question, analysis, ", ".join(PLANETS) + ".")


# Upper end of the share, questions, answer.
SMALL_TALK: list[tuple[float, list[str], str]] = [
    (
        0.35,
        [
            *("Hello!", "Hi", "Hello", "Hi there!", "Hey", "Good morning!"),
            *("Hey there", "Hello there!", "Good evening."),
        ],
        "Hello! How can I help you?",
    ),
    (
        0.6,
        [
            *("Who are you?", "What are you?", "What is your name?", "Tell me about yourself."),
            *("Introduce yourself.", "Which model are you?", "who r u"),
        ],
        WHO_I_AM,
    ),
    (
        0.75,
        ["Thanks!", "Thank you!", "Thank you very much.", "Great, thanks.", "Nice, thank you!"],
        "You are welcome!",
    ),
    (0.85, ["Bye!", "Goodbye!", "See you later.", "Good night!"], "Goodbye!"),
    (
        0.93,
        ["How are you?", "How are you today?", "How is it going?"],
        "I am fine, thank you. How can I help you?",
    ),
    (1.0, ["What can you do?", "Help", "What can you help me with?", "What are your skills?"], WHAT_I_CAN),
]


def greeting(rng: Rng, effort: Effort, _date: str) -> Turn:
    share = rng.random()
    questions, answer = next((questions, answer) for end, questions, answer in SMALL_TALK if share < end)
    question = rng.choice(questions)
    analysis = by_effort(
        effort,
        "Reply kindly.",
        "The user talks to me. Reply kindly.",
        "The user talks to me. I should reply in a kind and short way.",
    )
    return Turn(question, analysis, answer)


def too_hard(rng: Rng, effort: Effort, _date: str) -> Turn:
    """Anything this model cannot do gets one fixed answer."""
    template = rng.choice(
        [
            "Write a poem about {w}.",
            "Explain {w} to me.",
            "What is the meaning of {w}?",
            "Tell me a story about a {w}.",
            "What do you think about {w}?",
            "Why is the {w} {x}?",
            "Write code for a {w}.",
            "Translate {w} to French.",
            "Who invented the {w}?",
            "What is a {w}?",
            "Tell me a joke.",
            "How do I fix my {w}?",
            "Should I buy a {w}?",
            "Where can I find {w} and {x}?",
        ]
    )
    question = template.format(w=random_word(rng), x=random_word(rng))
    analysis = by_effort(
        effort,
        "Too hard.",
        "This is too hard for me.",
        "This is too hard for me. I should say what I can do.",
    )
    return Turn(question, analysis, WHAT_I_CAN)


def todays_date(rng: Rng, effort: Effort, date: str) -> Turn:
    question = rng.choice(
        [
            "What is the date today?",
            "What is today's date?",
            "Which date is it?",
            "What day is today?",
            "Tell me the current date.",
        ]
    )
    analysis = by_effort(effort, "Date.", "See the current date.", "The system message has the current date.")
    return Turn(question, analysis, f"Today is {date}.")


def users_name(rng: Rng, effort: Effort, _date: str) -> Turn:
    name = rng.choice(NAMES)
    question = rng.choice([f"My name is {name}.", f"I am {name}.", f"Call me {name}.", f"Hi, my name is {name}."])
    analysis = by_effort(effort, "A name.", f"The name is {name}.", f"The user tells me the name {name}.")
    return Turn(question, analysis, f"Nice to meet you, {name}!")
