"""Chapter 7's sentences: which relations a model answers, and which obey the paper's mechanism."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ovectors.claims import LEAST_ITEMS
from ovectors.experiments.beyond.judge import (
    CRITERIA,
    DOES_NOT,
    IN_PART,
    NOT_ANSWERED,
    NOT_MEASURED,
    OBEYS,
    TOO_FEW,
)
from ovectors.experiments.survey import LEAST_ACCURACY
from ovectors.prose.common import interval, listed, title
from ovectors.prose.function_specificity import kind_title
from ovectors.relations import MORE_RELATIONS, Relation, describe, load_relation

NOTHING_ANSWERED = (
    "The model answers none of these relations with one demonstration, so there is nothing to "
    "intervene on."
)


def relation_table(relations: Sequence[Relation | str] = MORE_RELATIONS) -> str:
    """Markdown table: what each relation is about, how it is asked, how many pairs it has.

    A relation is a name of the library or one of a reader's own, which is asked without a cue.
    """
    lines = [
        "| relation | arguments | asked as | pairs | different answers |",
        "|---|---|---|---|---|",
    ]
    for one in relations:
        relation = load_relation(one) if isinstance(one, str) else one
        if described := describe(relation.name):
            shown, kind = described.demonstrations[0], kind_title(described.kind).lower()
            asked = f"`Q: {shown.argument}, {described.cue}? A: {shown.answer}`"
        else:
            shown, kind = relation.items[0], "a reader's own"
            asked = f"`Q: {shown.argument} A: {shown.answer}`"
        answers = len({item.answer for item in relation.items})
        lines.append(
            f"| {title(relation.name)} | {kind} | {asked} | {len(relation.items)} | {answers} |"
        )
    return "\n".join(lines)


def accuracy_table(overview: pd.DataFrame) -> str:
    """Markdown table: each relation's accuracy, and the stages of the items answered correctly."""
    lines = [
        "| relation | items | accuracy [95%] | whole signature [95%] | argument's peak "
        "| answer's relative depth | last switch by an FFN |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in overview.itertuples():
        cells = [title(row.relation), str(row.n)]
        cells.append(_interval(row.accuracy, row.accuracy_low, row.accuracy_high))
        cells.append(_interval(row.signature, row.signature_low, row.signature_high))
        cells += [_number(row.argument_peak), _number(row.depth), _number(row.ffn)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mechanism_table(overview: pd.DataFrame, gains: pd.DataFrame) -> str:
    """Markdown table: what the vectors do to each relation that is answered, and who obeys."""
    tried = overview[overview["relation"].isin(gains["relation"])]
    if tried.empty:
        return NOTHING_ANSWERED
    lines = [
        "| relation | layers | RR before | RR after | on top | n | "
        + " | ".join(f"above {criterion}" for criterion in CRITERIA)
        + " | obeys |",
        "|---" * (7 + len(CRITERIA)) + "|",
    ]
    for row in tried.itertuples():
        part = gains[gains["relation"] == row.relation].set_index("criterion")
        cells = [title(row.relation), f"{row.source_layer:.0f}, {row.start_layer:.0f} on"]
        cells += [_number(row.before), _number(row.after), f"{row.top1:.0%}"]
        cells += [str(int(part["n"].max())), *(_criterion(part.loc[one]) for one in CRITERIA)]
        lines.append(f"| {' | '.join([*cells, row.obeys])} |")
    return "\n".join(lines)


def _criterion(row: pd.Series) -> str:
    """`yes, +0.21`; for another relation's vector with its name."""
    if pd.isna(row["mean"]):
        return "not measured"
    against = f" ({title(row['against']).lower()})" if row["against"] else ""
    return f"{'yes' if row['holds'] else 'no'}, {row['mean']:+.2f}{against}"


def _interval(value: float, low: float, high: float) -> str:
    return "none" if pd.isna(value) else interval(value, low, high)


def _number(value: float) -> str:
    return "none" if pd.isna(value) else f"{value:.2f}"


def _named(overview: pd.DataFrame, *outcomes: str) -> list[str]:
    rows = overview[overview["obeys"].isin(outcomes)]
    return [title(name).lower() for name in rows["relation"]]


def answered_sentence(overview: pd.DataFrame) -> str:
    """How many relations the model answers, and which it does not."""
    unanswered = overview[overview["obeys"].isin([NOT_ANSWERED, NOT_MEASURED])]
    said = f"The model answers {_how_many(overview)}."
    if unanswered.empty:
        return said
    named = [
        f"{title(row.relation).lower()} "
        f"({NOT_MEASURED if pd.isna(row.accuracy) else f'{row.accuracy:.2f}'})"
        for row in unanswered.itertuples()
    ]
    return f"{said} It does not answer {listed(named)}; no vector of theirs was tried."


def _how_many(overview: pd.DataFrame) -> str:
    unanswered = overview["obeys"].isin([NOT_ANSWERED, NOT_MEASURED])
    return (
        f"{(~unanswered).sum()} of {len(overview)} relations with one demonstration "
        f"(accuracy above {LEAST_ACCURACY:g})"
    )


def mechanism_sentences(overview: pd.DataFrame) -> str:
    """Which relations obey, which in part, and which do not."""
    tried = overview[~overview["obeys"].isin([NOT_ANSWERED, NOT_MEASURED])]
    if tried.empty:
        return NOTHING_ANSWERED
    obey, part, fail, few = (_named(overview, one) for one in (OBEYS, IN_PART, DOES_NOT, TOO_FEW))
    said = [f"The rule of content independence holds on {len(obey)} of {len(tried)} relations"]
    said[0] += f": {listed(obey)}." if obey else "."
    if part:
        said.append(f"The control run is beaten, but not every other control, on {listed(part)}.")
    if fail:
        said.append(f"Not even the control run is beaten for certain on {listed(fail)}.")
    if few:
        said.append(f"There are too few items to tell on {listed(few)}.")
    return " ".join(said)


def verdict_lines(overview: pd.DataFrame) -> str:
    """One line a relation: what was found, in words."""
    said = {
        OBEYS: "obeys: all four criteria hold",
        IN_PART: "the control run is beaten, but not every other control",
        DOES_NOT: "the control run is not beaten for certain",
        TOO_FEW: f"fewer than {LEAST_ITEMS} items could be reported, too few to tell",
        NOT_ANSWERED: f"the model does not answer it (accuracy of at most {LEAST_ACCURACY:g})",
        NOT_MEASURED: "not testable with this tokenizer: no item can be measured, or all answers "
        "start with the same token",
    }
    return "\n".join(f"{title(row.relation)}: {said[row.obeys]}." for row in overview.itertuples())


def signature_sentence(overview: pd.DataFrame) -> str:
    """On which relations the paper's three stages are the rule."""
    shown = overview[overview["signature"].notna() & (overview["accuracy"] > LEAST_ACCURACY)]
    if shown.empty:
        return "No relation has stages to look at."
    rule = [title(row.relation).lower() for row in shown.itertuples() if row.signature_low > 0.5]
    said = (
        "All three stages show on more than half of the items answered correctly, interval "
        f"included, on {len(rule)} of the {len(shown)} relations that are answered"
    )
    return f"{said}: {listed(rule)}." if rule else f"{said}."


def ffn_sentence(overview: pd.DataFrame) -> str:
    """How often it is an FFN that makes the last switch to the answer."""
    shares = overview["ffn"].dropna()
    if shares.empty:
        return "There is no switch to look at."
    low, high = overview.loc[shares.idxmin()], overview.loc[shares.idxmax()]
    if len(shares) == 1:
        return f"An FFN makes the last switch on {low['ffn']:.0%} of the items answered correctly."
    return (
        "An FFN makes the last switch on between "
        f"{low['ffn']:.0%} ({title(low['relation']).lower()}) and "
        f"{high['ffn']:.0%} ({title(high['relation']).lower()}) of the items answered correctly."
    )


def summary(name: str, overview: pd.DataFrame) -> str:
    """The findings of chapter 7 in a short list, for whatever model was run."""
    lines = [f"- `{name}` answers {_how_many(overview)}.", f"- {mechanism_sentences(overview)}"]
    if overview["signature"].notna().any():
        lines.append(f"- {signature_sentence(overview)}")
    if overview["ffn"].notna().any():
        lines.append(f"- {ffn_sentence(overview)}")
    return "\n".join(lines)
