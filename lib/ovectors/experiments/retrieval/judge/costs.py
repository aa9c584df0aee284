"""Accuracy as layers go, what each kind of prompt loses, and the verdict (figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Num

from ovectors import claims
from ovectors.claims import Claim, Evidence, Published
from ovectors.experiments.retrieval.measure import ABSTRACTIVE, EXTRACTIVE
from ovectors.experiments.retrieval.removal import CONDITIONS, CONTROL, inner_sixths, third
from ovectors.experiments.shared.rows import interval_of, row_of
from ovectors.statistics import Interval, corrected, crossed_mean, nothing, share

TASKS = ("world_capitals", "colored_objects")
PROMPTS = ("abstractive", "extractive")
DIFFERENCE = "abstractive minus extractive"
LOST = "share of answered items lost, over one to five sixths of the FFNs"
CURVES = ["relation", "form", "condition", "removed", "share_removed", "mean", "low", "high", "n"]
COSTS = ["relation", "condition", "removed", "share_removed", "prompts", "mean", "low", "high", "n"]


def accuracy_curves(
    table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Accuracy over the number of layers removed, for each relation, form and condition.

    Columns: `CURVES`. Intervals are over arguments, for random layers over draws and arguments.
    Every condition starts from the control run, where nothing is removed.
    """
    rows = []
    n_layers = int(table["n_layers"].max())
    for (relation, form), part in table.groupby(["relation", "form"], sort=False):
        arguments = _arguments(part)
        for condition, removed, correct in _removals(part):
            found = _share(correct.to_numpy(), arguments, confidence=confidence, seed=seed)
            row = {"relation": relation, "form": form, "condition": condition, "removed": removed}
            rows.append(row | {"share_removed": removed / n_layers} | row_of(found))
    return pd.DataFrame(rows, columns=CURVES)


def _arguments(part: pd.DataFrame) -> list[str]:
    """The argument of each item, in the order of `_removals`."""
    return part.groupby("item")["argument"].first().tolist()


def _removals(part: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """(condition, number removed, correct [draw, item]) of one relation's prompts in one form."""
    wide = part.pivot(index=["condition", "removed", "draw"], columns="item", values="correct")
    control = wide.loc[(CONTROL, 0)]
    found = []
    for condition in [name for name in CONDITIONS if name in wide.index.levels[0]]:
        found.append((condition, 0, control))
        counts = wide.loc[condition].index.get_level_values("removed").unique()
        found += [(condition, int(count), wide.loc[(condition, count)]) for count in counts]
    return found


def _share(
    outcomes: Bool[np.ndarray, "draw item"], arguments: list[str], *, confidence: float, seed: int
) -> Interval:
    outcomes, level = outcomes.astype(bool), {"clusters": arguments, "confidence": confidence}
    if len(outcomes) == 1:
        return share(outcomes[0], **level)
    return crossed_mean(outcomes, **level, seed=seed)


@dataclass(frozen=True)
class _Losses:
    """Of one form's answered items: their arguments, and which of them each removal loses."""

    arguments: list[str]
    lost: dict[tuple[str, int], Bool[np.ndarray, "draw item"]]

    @classmethod
    def of(cls, table: pd.DataFrame, relation: str, form: str) -> _Losses:
        """By condition and number removed; without arguments where no item is answered."""
        part = table[(table["relation"] == relation) & (table["form"] == form)]
        control = part[part["condition"] == CONTROL]
        part = part[part["item"].isin(control.loc[control["correct"], "item"])]
        if part.empty:
            return cls([], {})
        removals = _removals(part)
        lost = {(name, k): ~correct.to_numpy(dtype=bool) for name, k, correct in removals if k}
        return cls(_arguments(part), lost)


def costs(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """What a removal costs: the share of the items answered before that is answered no more.

    Columns: `COSTS`; `prompts` is abstractive, extractive (each over the items that it answers with
    nothing removed), or `DIFFERENCE`, the one less the other. Intervals are over arguments, for
    random layers over draws and arguments. A relation that answers no item in one of the forms
    gives no rows.
    """
    rows = []
    n_layers = int(table["n_layers"].max())
    for relation in table["relation"].unique():
        forms = [_Losses.of(table, relation, form) for form in (ABSTRACTIVE, EXTRACTIVE)]
        level = {"confidence": confidence, "seed": seed}
        for condition, removed in forms[0].lost if forms[1].lost else ():
            named = {"relation": relation, "condition": condition, "removed": removed}
            named["share_removed"] = removed / n_layers
            lost = [one.lost[condition, removed] for one in forms]
            found = {
                prompts: _share(values, one.arguments, **level)
                for prompts, values, one in zip(PROMPTS, lost, forms, strict=True)
            }
            found[DIFFERENCE] = _difference(forms, lost, **level)
            rows += [named | {"prompts": name} | row_of(one) for name, one in found.items()]
    return pd.DataFrame(rows, columns=COSTS)


def _difference(
    forms: Sequence[_Losses],
    values: Sequence[Num[np.ndarray, "draw item"]],
    *,
    confidence: float,
    seed: int,
) -> Interval:
    """The mean of one form's values less that of the other's, over the arguments of either.

    The forms may answer different items, so it is a difference of two means and not a mean of
    differences. An argument counts by how it moves the two (the difference, linearised): by its own
    difference where all are answered in both forms. `n` counts arguments.
    """
    arguments = list(dict.fromkeys(forms[0].arguments + forms[1].arguments))
    moved = 0.0
    for sign, form, found in zip((1, -1), forms, values, strict=True):
        own = pd.DataFrame(found.T, index=form.arguments, dtype=float)
        own = own.groupby(level=0).mean().reindex(arguments).to_numpy().T
        mean, answered = np.nanmean(own), ~np.isnan(own[0])
        weighted = np.nan_to_num(own - mean) / answered.mean()
        moved = moved + sign * (mean + weighted)
    return crossed_mean(moved, confidence=confidence, seed=seed)


def extra_loss(
    table: pd.DataFrame, relation: str, *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """How much more of what it answers the abstractive form loses than the extractive one.

    The mean over one to five sixths of the FFNs, removed from the top down: what the rule judges.
    """
    forms = [_Losses.of(table, relation, form) for form in (ABSTRACTIVE, EXTRACTIVE)]
    counts = inner_sixths(int(table["n_layers"].max()))
    if not counts or not all(one.lost for one in forms):
        return nothing()
    values = [np.mean([one.lost["zero", k] for k in counts], axis=0) for one in forms]
    return _difference(forms, values, confidence=confidence, seed=seed)


def claim(
    table: pd.DataFrame,
    *,
    model: str,
    tasks: Sequence[str] = TASKS,
    published: Sequence[Published] = (),
    seed: int = 0,
) -> Claim:
    """The verdict on retrieval, by the rule `claims.RULES["retrieval"]`, over these tasks.

    `table`: `ablation` of every task in the forms `ABSTRACTIVE` and `EXTRACTIVE`. Beside the rule
    stand plain accuracy and what the top third costs, under every condition.
    """
    level = {"confidence": corrected(len(tasks)), "seed": seed}
    top = third(int(table["n_layers"].max()))
    curves, lost = accuracy_curves(table, **level), costs(table, **level)
    curves = curves[(curves["condition"] == "zero") & curves["removed"].isin((0, top))]
    evidence, context = [], []
    for relation in tasks:
        asked = table[(table["relation"] == relation) & (table["form"] == ABSTRACTIVE)]
        least = claims.least_of(_arguments(asked))
        for form, name in zip((ABSTRACTIVE, EXTRACTIVE), PROMPTS, strict=True):
            own = curves[(curves["relation"] == relation) & (curves["form"] == form)]
            whole = interval_of(own[own["removed"] == 0])
            answered = set(_Losses.of(table, relation, form).arguments)
            told = {"criterion": f"{name} prompts answered", "kind": "precondition", "bound": 0}
            found = replace(whole, n=len(answered))
            evidence.append(Evidence(relation=relation, found=found, least=least, **told))
            for removed, which in ((0, ""), (top, " without the top third")):
                found = interval_of(own[own["removed"] == removed])
                named = f"accuracy on {name} prompts{which}"
                context.append(claims.context(relation, named, found))
        told = {"criterion": f"{LOST}, {DIFFERENCE}", "kind": "paper", "bound": 0}
        found = extra_loss(table, relation, **level)
        evidence.append(Evidence(relation=relation, found=found, least=least, **told))
        cost = lost[(lost["relation"] == relation) & (lost["removed"] == top)]
        for (condition, prompts), row in cost.groupby(["condition", "prompts"], sort=False):
            if prompts == DIFFERENCE or condition == "zero":
                named = _named(condition, prompts)
                context.append(claims.context(relation, named, interval_of(row)))
    rule = claims.RULES["retrieval"]
    return claims.judge(rule, evidence, model=model, published=published, context=context)


def _named(condition: str, prompts: str) -> str:
    """What a cost of the top third is called beside the verdict."""
    if condition == "zero":
        return f"cost of the top third, {prompts}"
    what = {"mean": "mean ablation", "attention": "attention instead", "random": "random layers"}
    return f"the same with {what[condition]}, {prompts}"
