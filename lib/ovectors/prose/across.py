"""Chapter 6's sentences and tables: whatever was run, on however many models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ovectors.experiments.stages.judge import APPLICATION
from ovectors.prose.common import (
    interval,
    listed,
    quantisation,
    quantised_sentence,
    readable,
    title,
)
from ovectors.prose.front import cell, claim_name
from ovectors.studies import all_rules

if TYPE_CHECKING:
    from ovectors.claims import Published

NOTHING_RUN = "No chapter has left a result yet: `ovectors run` makes some."
NO_VALUE = "No claim has a value of its main criterion on any model yet."
MARK = "†"
MARKED = (
    f"{MARK} The chapter, the library, the data or the weights have changed since this was run; "
    "the table of models names what."
)
FEW_ITEMS = 20  # a median over fewer items is not quoted
MANY_RELATIONS = 7  # from more on, a table counts relations instead of listing them
CHANGES = {"rises": "rises", "falls": "falls", "no clear change": "shows no clear change"}
VERDICTS = ("supported", "partly", "not supported", "not testable here")


def size(parameters: float) -> str:
    """`2.1M`, `6.1B`; `?` where it is not known."""
    if pd.isna(parameters):
        return "?"
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{letter}"
    return f"{parameters:.0f}"


def model_table(models: pd.DataFrame) -> str:
    """Which models there are results of, and where these come from."""
    if models.empty:
        return NOTHING_RUN
    heads = "model", "parameters", "kind", "results", "chapters", "items a task", "run in"
    lines = [f"| {' | '.join((*heads, 'changed since'))} |", "|---" * 8 + "|"]
    for row in models.itertuples():
        items = "" if pd.isna(row.n_items) else "all" if row.n_items == 0 else f"{row.n_items:.0f}"
        commit = f", commit {row.commit[:10]}" if row.commit and "committed" in row.origin else ""
        kind = ", ".join(filter(None, (row.kind, quantisation(row.model))))
        cells = [f"`{row.model}`", size(row.parameters), kind, row.origin + commit]
        dtype = "" if pd.isna(row.dtype) else row.dtype
        cells += [str(row.chapters), items, dtype, row.changed or "nothing"]
        lines.append(f"| {' | '.join(cells)} |")
    told = [said for said in map(quantised_sentence, models["model"]) if said]
    return "\n".join([*lines, "", " ".join(told)] if told else lines)


def claim_list() -> str:
    """Every claim with its question and where the paper makes it."""
    return "\n".join(
        f"- **{claim_name(rule.id)}** ({rule.section or 'not in the paper'}): {rule.question}"
        for rule in all_rules().values()
    )


def verdict_table(verdicts: pd.DataFrame) -> str:
    """Every claim on every model: a row a model, a column a claim."""
    if verdicts.empty:
        return NOTHING_RUN
    claims = list(dict.fromkeys(verdicts["claim"]))
    lines = ["| model | " + " | ".join(map(claim_name, claims)) + " |"]
    lines.append("|---" * (len(claims) + 1) + "|")
    for model, part in verdicts.groupby("model", sort=False):
        rows = part.set_index("claim").loc[claims]
        cells = [f"{row.state}{f' {MARK}' if row.changed else ''}" for row in rows.itertuples()]
        lines.append(f"| `{model}` | {' | '.join(cells)} |")
    if verdicts["changed"].any():
        lines += ["", MARKED]
    return "\n".join(lines)


def reason_table(verdicts: pd.DataFrame) -> str:
    """Why each verdict is what it is, or why there is none."""
    if verdicts.empty:
        return NOTHING_RUN
    lines = ["| claim | model | verdict | why |", "|---|---|---|---|"]
    for claim, part in verdicts.groupby("claim", sort=False):
        for row in part.itertuples():
            why = cell(readable(row.why))
            lines.append(f"| {claim_name(claim)} | `{row.model}` | {row.state} | {why} |")
    return "\n".join(lines)


BOLD = "Bold: it holds, by the rule of the claim."


def value_table(headlines: pd.DataFrame) -> str:
    """The main criterion of every claim on every relation, a column a model.

    Where a claim has more than MANY_RELATIONS relations, those on which it holds are counted.
    """
    if headlines.empty:
        return NO_VALUE
    models = list(dict.fromkeys(headlines["model"]))
    lines = ["| claim | relation | " + _columns(models), "|---" * (len(models) + 2) + "|"]
    for claim in (claim for claim in all_rules() if claim in set(headlines["claim"])):
        part = headlines[headlines["claim"] == claim]
        lines += [f"| {_measure(part)} {row}" for row in _rows(part, models)]
    return "\n".join([*lines, "", BOLD])


def value_tables(headlines: pd.DataFrame) -> str:
    """The same, a table a claim, for where there are few claims and little room."""
    tables = []
    for _, part in headlines.groupby("claim", sort=False):
        models = list(dict.fromkeys(part["model"]))
        lines = [f"| {_measure(part)} | {_columns(models)}", "|---" * (len(models) + 1) + "|"]
        tables.append("\n".join([*lines, *_rows(part, models)]))
    return "\n\n".join([*tables, BOLD])


def _columns(models: Sequence[str]) -> str:
    return " | ".join(f"`{model}`" for model in models) + " |"


def _measure(part: pd.DataFrame) -> str:
    """What is measured for a claim."""
    return f"{claim_name(part['claim'].iloc[0])}: {cell(part['name'].iloc[0])}"


def _rows(part: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """One claim's rows, a relation each: `| Past tense | 0.30 [0.20, 0.40], n = 100 | ... |`."""
    if part["relation"].nunique() > MANY_RELATIONS:
        cells = [_held(part[part["model"] == model]) for model in models]
        return [f"| all of them | {' | '.join(cells)} |"]
    rows = []
    for relation, found in part.groupby("relation", sort=False):
        cells = [_value(found[found["model"] == model]) for model in models]
        rows.append(f"| {title(relation)} | {' | '.join(cells)} |")
    return rows


def _held(rows: pd.DataFrame) -> str:
    holding = int(rows["holds"].astype(bool).sum())
    return f"holds on {holding} of {len(rows)}" if len(rows) else ""


def _value(rows: pd.DataFrame) -> str:
    """The one row's value with interval and n; empty where there is no row."""
    if rows.empty:
        return ""
    row = rows.iloc[0]
    if pd.isna(row["value"]):
        return f"none, n = {row['n']}"
    shown = interval(row["value"], row["low"], row["high"])
    return f"{f'**{shown}**' if row['holds'] else shown}, n = {row['n']}"


def trend_sentences(trends: pd.DataFrame, models: pd.DataFrame) -> str:
    """What rises and falls from the smallest to the largest model of a kind."""
    if trends.empty:
        return _no_trend(models)
    said = []
    for (kind, claim), part in trends.groupby(["kind", "claim"], sort=False):
        ends = dict.fromkeys(zip(part["smallest"], part["largest"], strict=True))
        small, large = next(iter(ends))
        between = f"from `{small}` to `{large}`" if len(ends) == 1 else "from smallest to largest"
        changes = [_change(change, rows) for change, rows in part.groupby("change", sort=False)]
        measure = f"*{part['name'].iloc[0]}*, {kind}s, {between}"
        said.append(f"**{claim_name(claim)}** ({measure}): {'; '.join(changes)}.")
    return "\n\n".join(said)


def _change(change: str, rows: pd.DataFrame) -> str:
    """`rises on past tense (0.59, 0.80, 1.00)`, by size; many relations are counted."""
    if len(rows) > MANY_RELATIONS:
        return f"{CHANGES[change]} on {len(rows)} relations"
    named = [
        f"{title(row.relation).lower()} ({', '.join(f'{value:.2f}' for value in row.values)})"
        for row in rows.itertuples()
    ]
    return f"{CHANGES[change]} on {listed(named)}"


def _no_trend(models: pd.DataFrame) -> str:
    if models.empty:
        return NOTHING_RUN
    counts = models["kind"].value_counts(sort=False)
    known = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items()]
    return (
        f"There are results of {listed(known)}. Nothing can be said about size: that takes two "
        "models of one kind, with a claim tested on both."
    )


def peak_table(peaks: pd.DataFrame) -> str:
    """How far the argument comes up on each task, and at which relative depth, a row a model."""
    if peaks.empty:
        return "No model has a table of reciprocal ranks."
    return _by_relation(
        peaks,
        lambda row: f"{interval(row.value, row.low, row.high)} at {row.relative_depth:.2f}",
    )


def depth_table(depths: pd.DataFrame) -> str:
    """Relative depth of function application with the number of items that show it."""
    shown = depths[depths["stage"] == APPLICATION]
    if shown.empty:
        return "On no model and task is the function applied on any item."
    return _by_relation(shown, lambda row: f"{row.relative_depth:.2f} ({row.items} items)")


def _by_relation(table: pd.DataFrame, shown: Callable[[Any], str]) -> str:
    """A row a model, a column a relation; `shown` makes the cell of each row of the table."""
    relations = list(dict.fromkeys(table["relation"]))
    lines = ["| model | " + " | ".join(map(title, relations)) + " |"]
    lines.append("|---" * (len(relations) + 1) + "|")
    for model, part in table.groupby("model", sort=False):
        cells = {row.relation: shown(row) for row in part.itertuples()}
        row = " | ".join(cells.get(relation, "no item") for relation in relations)
        lines.append(f"| `{model}` | {row} |")
    return "\n".join(lines)


def depth_sentence(depths: pd.DataFrame, published: Sequence[Published]) -> str:
    """The range of depths, over models and tasks where enough items show the switch."""
    shown = depths[(depths["stage"] == APPLICATION) & (depths["items"] >= FEW_ITEMS)]
    paper = "".join(f" The paper's number is {one.value:.2f} ({one.model})." for one in published)
    if shown.empty:
        none = f"On no model and task is the function applied on {FEW_ITEMS} items or more"
        return f"{none}, so no depth can be given.{paper}"
    values, count = shown["relative_depth"], len(shown)
    if count == 1:
        row = shown.iloc[0]
        where = f"{row['relative_depth']:.2f} on {title(row['relation']).lower()}, `{row['model']}`"
        return f"The median relative depth of function application is {where}.{paper}"
    spread = f"{values.min():.2f} to {values.max():.2f}, with the middle at {values.median():.2f}"
    return (
        f"The median relative depth of function application runs from {spread}, over {count} "
        f"pairs of model and task on which {FEW_ITEMS} items or more show it.{paper}"
    )


def other_table(others: pd.DataFrame) -> str:
    """The catalogue's models without any result."""
    if others.empty:
        return "Every model of the catalogue has results here."
    lines = ["| model | parameters | weights take | state |", "|---|---|---|---|"]
    for row in others.itertuples():
        memory = "?" if pd.isna(row.memory_bytes) else f"{row.memory_bytes / 1e9:.3g} GB"
        lines.append(f"| `{row.model}` | {size(row.parameters)} | {memory} | {row.state} |")
    return "\n".join(lines)


def summary(
    verdicts: pd.DataFrame,
    trends: pd.DataFrame,
    models: pd.DataFrame,
    depths: pd.DataFrame,
    published: Sequence[Published],
) -> str:
    """The findings of chapter 6 in a short list, whatever was run."""
    if verdicts.empty:
        return f"- {NOTHING_RUN}"
    lines = [f"- {_counts(claim, part)}" for claim, part in verdicts.groupby("claim", sort=False)]
    if trends.empty:
        lines.append(f"- {_no_trend(models)}")
    else:
        counts = trends["change"].value_counts()
        told = listed([f"{CHANGES[change]} on {count}" for change, count in counts.items()])
        lines.append(
            f"- Of {len(trends)} pairs of claim and relation measured on the smallest and the "
            f"largest model of a kind, the main criterion {told}."
        )
    lines.append(f"- {depth_sentence(depths, published)}")
    return "\n".join(lines)


def _counts(claim: str, part: pd.DataFrame) -> str:
    """`**Stages:** supported on a and b; not supported on c; not run on d.`"""
    said = []
    for state in dict.fromkeys([*VERDICTS, *part["state"]]):
        named = [f"`{model}`" for model in part.loc[part["state"] == state, "model"]]
        if named:
            shown = listed(named) if len(named) <= MANY_RELATIONS else f"{len(named)} models"
            here = state.removesuffix(" here")  # "not testable on ..."
            said.append(f"{here} on {shown}")
    return f"**{claim_name(claim)}:** {'; '.join(said)}."
