"""One-to-one relations as data: an argument, its answer, loaded from CSV and validated."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ovectors.colored_objects import ColoredQuestion, generate_questions, read_big_bench
from ovectors.errors import UserError
from ovectors.tables import DATA, Row, read_table, read_text

TITLES = {
    "world_capitals": "World capitals",
    "us_state_capitals": "US state capitals",
    "past_tense": "Past tense",
    "uppercase": "Upper-casing",
    "colored_objects": "Coloured objects",
}
RELATIONS = tuple(TITLES)
"""The five of the paper."""

MORE = DATA / "more"
"""Further relations: a CSV file each, and `relations.toml`, which says how they are asked about."""

SAME_NAME = "same_name"
"""The group of items whose answer is their argument (Singapore): loaded, never measured."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One pair of a relation, as in get_capital(Poland) = Warsaw (the paper, section 3.1).

    Attributes:
        argument: the relation's input, without leading space.
        answer: its output, without leading space.
        group: a label to compare by (`regular`, `territory`, ...), or "".
        context: the passage and question that the argument must be read from, or "".
    """

    argument: str
    answer: str
    group: str = ""
    context: str = ""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A named set of pairs.

    Attributes:
        name: the name in file names and results.
        title: the name in figures.
        items: the pairs in the order of the file.
    """

    name: str
    title: str
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known about one of `MORE_RELATIONS` beside its pairs.

    Attributes:
        title: the name in figures.
        kind: what its arguments are (`place`, `verb`, ...); relations of one kind share arguments.
        cue: the function's name in a question, unique within the kind: `Q: cat, plural?`.
        demonstrations: the pair to show, and the one to show where the first tells the answer.
    """

    title: str
    kind: str
    cue: str
    demonstrations: tuple[Item, ...]


def _read_descriptions() -> dict[str, Description]:
    tables = tomllib.loads(read_text(MORE / "relations.toml"))
    for table in tables.values():
        pairs = table.pop("demonstrations", [])
        table["demonstrations"] = tuple(Item(argument=a, answer=b) for a, b in pairs)
    return {name: Description(**table) for name, table in tables.items()}


_DESCRIPTIONS = _read_descriptions()
MORE_RELATIONS = tuple(_DESCRIPTIONS)


def describe(name: str) -> Description | None:
    """The title, kind, cue and demonstrations of one of `MORE_RELATIONS`; None for any other."""
    return _DESCRIPTIONS.get(name)


def load_relation(name: str, *, path: Path | str | None = None, seed: int = 0) -> Relation:
    """A relation of the library, or a user's own.

    Args:
        name: one of `RELATIONS` or `MORE_RELATIONS`; any other name needs a path.
        path: a CSV file (columns argument, answer and, if wanted, group) to read instead of the
            library's; for `colored_objects` a BIG-bench task file, whose first 200 items are used.
        seed: chooses the generated questions of `colored_objects`; nothing else depends on it.

    Errors: UserError for an unknown name, and with file and line for a file that cannot be read, an
    empty field, an argument that occurs twice, or an answer equal to its argument outside the group
    `same_name`.
    """
    if name == "colored_objects":
        questions = read_big_bench(path) if path is not None else generate_questions(seed=seed)
        items = tuple(_colored_item(question) for question in questions)
    elif path is not None:
        items = _csv_items(Path(path))
    elif name in TITLES:
        items = _csv_items(DATA / f"{name}.csv")
    elif name in MORE_RELATIONS:
        items = _csv_items(MORE / f"{name}.csv")
    else:
        known = ", ".join((*RELATIONS, *MORE_RELATIONS))
        raise UserError(f"unknown relation {name!r}; choose one of {known}, or give a CSV file")
    described = describe(name)
    title = described.title if described else TITLES.get(name, name)
    return Relation(name=name, title=title, items=items)


def capitalise(word: str) -> str:
    """The word with its first letter in upper case and the rest untouched."""
    return word[:1].upper() + word[1:]


def _colored_item(question: ColoredQuestion) -> Item:
    """BIG-bench also asks for numbers; a figure has no upper case, so nothing can be seen on it."""
    answer = capitalise(question.colour)
    group = SAME_NAME if answer == question.colour else "colour"
    return Item(argument=question.colour, answer=answer, group=group, context=question.passage)


def _csv_items(path: Path) -> tuple[Item, ...]:
    rows = read_table(path, required=("argument", "answer"))
    _check(path, rows)
    return tuple(
        Item(
            argument=row.fields["argument"],
            answer=row.fields["answer"],
            group=row.fields.get("group", ""),
        )
        for row in rows
    )


def _check(path: Path, rows: Iterable[Row]) -> None:
    first_lines: dict[str, int] = {}
    for row in rows:
        argument, answer = row.fields["argument"], row.fields["answer"]
        where = f"{path}:{row.line}"
        if argument in first_lines:
            raise UserError(
                f"{where}: the argument {argument!r} is already on line {first_lines[argument]}; "
                "a relation gives one answer to an argument"
            )
        first_lines[argument] = row.line
        same, marked = argument == answer, row.fields.get("group") == SAME_NAME
        if same and not marked:
            raise UserError(
                f"{where}: argument and answer are both {argument!r}; drop the line, or put it in "
                f"the group {SAME_NAME} to have it counted but not measured"
            )
        if marked and not same:
            raise UserError(
                f"{where}: {argument!r} and {answer!r} differ; the group {SAME_NAME} is for "
                "answers equal to their argument"
            )
