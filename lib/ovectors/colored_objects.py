"""Coloured household objects: our own seeded questions in the paper's form, or BIG-bench's file.

The paper's task "Reasoning about Colored Objects" (section 3.1) takes the first 200 items of the
BIG-bench task of that name. Those may not be copied here, so questions of the same form are made.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from ovectors.errors import UserError
from ovectors.tables import DATA, read_table, read_text, read_words

COUNT = 200
"""Questions in the paper's set: the first 200 of the BIG-bench file."""

OBJECT_COUNTS = (2, 3, 4, 5, 6)


@dataclass(frozen=True, kw_only=True)
class ColoredQuestion:
    """One passage with its question.

    Attributes:
        passage: what lies where in which colour, and one question, on one line.
        colour: the answer in lower case.
    """

    passage: str
    colour: str


def colours() -> tuple[str, ...]:
    """The single-word colours, which are the `colour` rows of the upper-casing relation."""
    rows = read_table(DATA / "uppercase.csv", required=("argument", "group"))
    return tuple(row.fields["argument"] for row in rows if row.fields["group"] == "colour")


def generate_questions(*, seed: int, count: int = COUNT) -> tuple[ColoredQuestion, ...]:
    """`count` different questions; the same seed always gives the same ones.

    Colours are asked for equally often and every number of objects from 2 to 6 is equally common,
    so that neither a favourite colour nor a favourite length can pass for reasoning.
    """
    rng = random.Random(f"colored_objects|{seed}")
    palette = colours()
    objects = read_words("household.csv", kind="object")
    surfaces = read_words("household.csv", kind="surface")
    asked = list(islice(cycle(rng.sample(palette, len(palette))), count))
    sizes = list(islice(cycle(OBJECT_COUNTS), count))
    rng.shuffle(asked)
    rng.shuffle(sizes)
    questions: dict[str, ColoredQuestion] = {}
    for colour, size in zip(asked, sizes, strict=True):
        question = None
        while question is None or question.passage in questions:
            others = rng.sample([other for other in palette if other != colour], size - 1)
            things = rng.sample(objects, size)
            question = ask_about(rng, rng.choice(surfaces), things, colour, others)
        questions[question.passage] = question
    return tuple(questions.values())


def read_big_bench(path: Path | str, *, count: int = COUNT) -> tuple[ColoredQuestion, ...]:
    """The first `count` examples of a BIG-bench task file (`examples` with `input` and a target).

    The target is the best-scored key of `target_scores`, or else the text in `target`.
    Errors: UserError with the file and the line (broken JSON) or the number of the example.
    """
    path = Path(path)
    try:
        task = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise UserError(f"{where}: not valid JSON ({error.msg}); mend the file") from None
    except RecursionError:
        raise UserError(f"{path}: JSON nested too deeply; give a BIG-bench task file") from None
    examples = task.get("examples") if isinstance(task, dict) else None
    if not isinstance(examples, list) or not examples:
        raise UserError(f"{path}: no list `examples` in it; give a BIG-bench task.json")
    return tuple(
        _big_bench_question(f"{path}: example {number}", example)
        for number, example in enumerate(examples[:count], start=1)
    )


def ask_about(
    rng: random.Random, surface: str, things: list[str], colour: str, others: list[str]
) -> ColoredQuestion:
    """The question for `colour`: the first thing wears it, then the order is shuffled."""
    painted = list(zip([colour, *others], things, strict=True))
    rng.shuffle(painted)
    listed = [f"{_article(shade)} {shade} {thing}" for shade, thing in painted]
    if len(listed) == 2:
        joined = " and ".join(listed)
    else:
        joined = ", ".join(listed[:-1]) + ", and " + listed[-1]
    passage = f"On the {surface}, there is {joined}. What color is the {things[0]}?"
    return ColoredQuestion(passage=passage, colour=colour)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _big_bench_question(where: str, example: Any) -> ColoredQuestion:
    passage = example.get("input") if isinstance(example, dict) else None
    if not isinstance(passage, str) or not passage.strip():
        raise UserError(f"{where}: no text in `input`; give a BIG-bench task.json")
    target = _target(where, example)
    passage = passage.strip().removeprefix("Q:").removesuffix("A:").strip()
    return ColoredQuestion(passage=passage, colour=target[0].lower() + target[1:])


def _target(where: str, example: dict[str, Any]) -> str:
    scores, target = example.get("target_scores"), example.get("target")
    if isinstance(scores, dict) and scores:
        if not all(isinstance(score, int | float) for score in scores.values()):
            raise UserError(f"{where}: `target_scores` must hold numbers")
        best = [text for text, score in scores.items() if score == max(scores.values())]
        if len(best) > 1:
            raise UserError(f"{where}: `target_scores` has {len(best)} best answers; one is needed")
        target = best[0]
    if isinstance(target, list) and len(target) == 1:
        target = target[0]
    if not isinstance(target, str) or not target.strip():
        raise UserError(f"{where}: no answer in `target_scores` or `target`")
    return target.strip()
