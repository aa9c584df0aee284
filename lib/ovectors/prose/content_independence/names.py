"""What tasks and kinds of vectors are called, and how numbers are written."""

from __future__ import annotations

from ovectors.experiments.content_independence.tasks import other_condition
from ovectors.prose.common import title

TITLES = {
    "past_tense": "Past tense (regular verbs)",
    "us_state_capitals": "US state capitals, vectors of countries",
    "irregular_verbs": "Irregular verbs, vectors of regular ones",
    "words": "Other words, vectors of colours",
    "colored_objects": "Coloured objects (colours only)",
}


def task_title(task: str) -> str:
    """A task's name as a reader should see it."""
    return TITLES.get(task, title(task))


def named(task: str) -> str:
    """The same inside a sentence."""
    return _inside(task_title(task))


def condition_title(condition: str) -> str:
    """A kind of vector as a reader should see it."""
    relation = condition.removeprefix(other_condition(""))
    return condition if relation == condition else other_condition(_inside(title(relation)))


def _inside(shown: str) -> str:
    """A title as it stands inside a sentence."""
    return shown if shown.startswith("US ") else shown[0].lower() + shown[1:]


def count(number: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def number(value: float) -> str:
    """Two decimals, or two digits of what would be 0.00."""
    return f"{value:.2f}" if abs(value) >= 0.01 or not value else f"{value:.2g}"


def moved(low: float, high: float) -> str:
    """What a change does, by its interval."""
    if low > 0:
        return "rises"
    return "falls" if high < 0 else "does not clearly change"
