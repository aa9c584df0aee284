"""Sentences on which function a vector names: who shares arguments, and whose answer comes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.shared.kinds import kind_of
from ovectors.experiments.shared.replacing import CONTROL
from ovectors.prose.common import interval, listed
from ovectors.relations import describe

if TYPE_CHECKING:
    from ovectors.experiments.function_specificity.groups import Group
    from ovectors.experiments.shared.layers import Layers
    from ovectors.statistics import Interval

NO_VECTOR, NO_ANSWER = "No vector was put in.", "No answer was ranked."
KIND_TITLES = {"place": "Countries", "word": "Words", "person": "Persons"}
SHORT = {"world_capitals": "capital", "past_tense": "past tense", "uppercase": "upper case"}
SHORT |= {"verb_third_person": "third person"}
VISIBLE = 0.01  # of mean reciprocal rank: what is less does not count as raised
NO_GROUP = (
    "The model answers no two relations that share enough arguments, so nothing can be told here "
    "about which function a vector names."
)


def kind_title(kind: str) -> str:
    """What the arguments of a group are, as a heading: `Verbs`."""
    return KIND_TITLES.get(kind, f"{kind.capitalize()}s")


def short(name: str) -> str:
    """A relation's name where its kind is known: `plural`."""
    described = describe(name)
    return SHORT.get(name) or (described.cue if described else name.replace("_", " "))


def group_sentences(
    groups: Sequence[Group], layers: Mapping[str, Layers], matrix: pd.DataFrame
) -> str:
    """Which relations share which arguments, how many were tried, and what was left out."""
    if not groups:
        return NO_GROUP
    lines = []
    for group in groups:
        n = int(matrix.loc[matrix["kind"] == group.kind, "n"].iloc[0])
        named = [
            f"{short(name)} (layer {layers[name].source}, put in from {layers[name].start} on)"
            for name in group.relations
        ]
        line = f"- **{kind_title(group.kind)}:** {listed(named)}; "
        line += f"{n} of {len(group.arguments)} shared arguments were tried."
        for name, left in group.left_out.items():
            line += f" With {short(name)} there would be {left} arguments, too few."
        lines.append(line)
    return "\n".join(lines)


def unanswered_sentence(accuracies: Mapping[str, Interval], *, least: float) -> str:
    """The relations that cannot be asked, because the model does not answer them."""
    missing = [
        f"{short(name)} of {kind_title(kind_of(name)).lower()} "
        f"({f'{found.value:.2f}' if found.n else 'no item can be told apart'})"
        for name, found in accuracies.items()
        if not found.value > least
    ]
    if not missing:
        return f"The model answers every relation (one-shot accuracy above {least:g})."
    return (
        f"Not tried, because the model does not answer them (one-shot accuracy of at most "
        f"{least:g}, in brackets): {listed(missing)}."
    )


def matrix_sentences(matrix: pd.DataFrame) -> str:
    """Whose answer each relation's vectors bring up most, a sentence for each group."""
    if matrix.empty:
        return NO_VECTOR
    return "\n\n".join(
        f"**{kind_title(kind)}.** {_brought_up(part)}"
        for kind, part in matrix.groupby("kind", sort=False)
    )


def answer_table(matrix: pd.DataFrame, first: pd.DataFrame) -> str:
    """Markdown table: what its own vectors and others' do to each relation's answer."""
    if matrix.empty:
        return NO_ANSWER
    lines = [
        "| answer of | no vector | own vectors [95%] | on top | best of the others "
        "| to another argument: no vector | own vectors "
        "| best placed of its group: no vector | own vectors [95%] |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, part in matrix.groupby("kind", sort=False):
        shares = first[first["kind"] == kind]
        lines += [_answer_row(kind, part, shares, name) for name in part["answer_of"].unique()]
    return "\n".join(lines)


def most_raised(part: pd.DataFrame) -> dict[str, str | None]:
    """For each vector of a group the answer that it raises most above the control run.

    None where it raises none by `VISIBLE`.
    """
    found: dict[str, str | None] = {}
    for vector, rows in part[part["vector"] != CONTROL].groupby("vector", sort=False):
        best = rows.loc[rows["rise"].idxmax()]
        found[str(vector)] = str(best["answer_of"]) if best["rise"] >= VISIBLE else None
    return found


def _brought_up(part: pd.DataFrame) -> str:
    raised = most_raised(part)
    own = [name for name, best in raised.items() if best == name]
    if len(own) == len(raised):
        return "Every relation's vectors raise their own answer most."
    if len(set(raised.values())) == 1:
        (best,) = set(raised.values())
        if best is None:
            return f"No relation's vectors raise any answer by {VISIBLE:g} or more."
        return f"All vectors raise the same answer most, that of {short(best)}."
    strays = [
        f"those of {short(name)} {f'that of {short(best)}' if best else 'no answer'}"
        for name, best in raised.items()
        if best != name
    ]
    if not own:
        return f"No relation's vectors raise their own answer most: {listed(strays)}."
    kept = listed([short(name) for name in own])
    return f"The vectors of {kept} raise their own answer most, {listed(strays)}."


def _answer_row(kind: str, part: pd.DataFrame, shares: pd.DataFrame, name: str) -> str:
    cells = part[part["answer_of"] == name].set_index("vector")
    own, before = cells.loc[name], cells.loc[CONTROL, "mean"]
    others = cells.drop(index=[name, CONTROL])["mean"]
    placed = shares[shares["answer_of"] == name].set_index("vector")
    best = placed.loc[name]
    shown = [
        f"{kind_title(kind)}: {short(name)}",
        f"{before:.2f}",
        interval(own["mean"], own["low"], own["high"]),
        f"{own['top1']:.0%}",
        f"{others.max():.2f} ({short(str(others.idxmax()))})",
        _number(cells.loc[CONTROL, "other"]),
        _number(own["other"]),
        f"{placed.loc[CONTROL, 'mean']:.2f}",
        interval(best["mean"], best["low"], best["high"]),
    ]
    return f"| {' | '.join(shown)} |"


def _number(value: float) -> str:
    return "none" if pd.isna(value) else f"{value:.2f}"


def specificity_summary(matrix: pd.DataFrame) -> str:
    """One line for the chapter's findings."""
    if matrix.empty:
        return f"- {NO_GROUP}"
    pairs = [
        (name, best)
        for _, part in matrix.groupby("kind", sort=False)
        for name, best in most_raised(part).items()
    ]
    own = sum(name == best for name, best in pairs)
    return (
        f"- On arguments that several relations share, the vectors of {own} of {len(pairs)} "
        "relations (counted in each group) raise their own relation's answer more than any other, "
        "on average."
    )
