"""Accuracy as layers go, what it costs each kind of prompt, and the verdict (figure 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from ovectors import claims
from ovectors.claims import Claim, Evidence, Published
from ovectors.experiments.retrieval.measure import ABSTRACTIVE, EXTRACTIVE
from ovectors.experiments.retrieval.removal import CONDITIONS, CONTROL, third
from ovectors.experiments.shared.rows import interval_of, row_of
from ovectors.statistics import Interval, corrected, crossed_mean, share

TASKS = ("world_capitals", "colored_objects")
DIFFERENCE = "abstractive minus extractive"
CURVES = ["relation", "form", "condition", "removed", "share_removed", "mean", "low", "high", "n"]
COSTS = ["relation", "condition", "removed", "share_removed", "prompts", "mean", "low", "high", "n"]


def accuracy_curves(
    table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Accuracy over the number of layers removed, for each relation, form and condition.

    Columns: `CURVES`. Intervals are Wilson's over items; for random layers a bootstrap over draws
    and items. Every condition starts from the control run, where nothing is removed.
    """
    rows = []
    n_layers = int(table["n_layers"].max())
    for (relation, form), part in table.groupby(["relation", "form"], sort=False):
        for condition, removed, correct in _removals(part):
            found = _accuracy(correct, confidence=confidence, seed=seed)
            row = {"relation": relation, "form": form, "condition": condition, "removed": removed}
            rows.append(row | {"share_removed": removed / n_layers} | row_of(found))
    return pd.DataFrame(rows, columns=CURVES)


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


def _accuracy(correct: pd.DataFrame, *, confidence: float, seed: int) -> Interval:
    values = correct.to_numpy(dtype=float)
    if len(values) == 1:
        return share(values[0], confidence=confidence)
    return crossed_mean(values, confidence=confidence, seed=seed)


def costs(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """What a removal costs in accuracy: before minus after, and how much more it costs one form.

    Columns: `COSTS`; `prompts` is abstractive, extractive, or `DIFFERENCE`, the difference of these
    two differences. All over the items that both forms have, paired; bootstrap over items, for
    random layers over draws and items. A relation that lacks a form gives no rows.
    """
    rows = []
    n_layers = int(table["n_layers"].max())
    for relation, part in table.groupby("relation", sort=False):
        forms = [part[part["form"] == form] for form in (ABSTRACTIVE, EXTRACTIVE)]
        common = set(forms[0]["item"]) & set(forms[1]["item"])
        if not common:
            continue
        both = [_losses(form[form["item"].isin(common)]) for form in forms]
        for (condition, removed), lost in both[0].items():
            named = {"relation": relation, "condition": condition, "removed": removed}
            named["share_removed"] = removed / n_layers
            lost_context = both[1][condition, removed]
            compared = {"abstractive": lost, "extractive": lost_context}
            for prompts, values in (compared | {DIFFERENCE: lost - lost_context}).items():
                found = crossed_mean(values, confidence=confidence, seed=seed)
                rows.append(named | {"prompts": prompts} | row_of(found))
    return pd.DataFrame(rows, columns=COSTS)


def _losses(part: pd.DataFrame) -> dict[tuple[str, int], Float[np.ndarray, "draw item"]]:
    """For each condition and number removed: correct before minus correct after, item by item."""
    lost, before = {}, None
    for condition, removed, correct in _removals(part):
        values = correct.to_numpy(dtype=float)
        if removed == 0:
            before = values
        else:
            lost[condition, removed] = before - values
    return lost


def claim(
    table: pd.DataFrame,
    *,
    model: str,
    tasks: Sequence[str] = TASKS,
    published: Sequence[Published] = (),
    seed: int = 0,
) -> Claim:
    """The verdict on retrieval, by the rule `claims.RULES["retrieval"]`, over these tasks.

    `table`: `ablation` of every task in the forms `ABSTRACTIVE` and `EXTRACTIVE`. The rule looks at
    zero ablation of the top third; what the other conditions cost is shown beside it.
    """
    confidence = corrected(len(tasks))
    whole = accuracy_curves(table, confidence=confidence, seed=seed)
    whole = whole[(whole["removed"] == 0) & (whole["condition"] == "zero")]
    lost = costs(table, confidence=confidence, seed=seed)
    lost = lost[lost["removed"] == third(int(table["n_layers"].max()))]
    evidence, context = [], []
    for relation in tasks:
        own = whole[whole["relation"] == relation]
        for form, name in ((ABSTRACTIVE, "abstractive"), (EXTRACTIVE, "extractive")):
            found, named = interval_of(own[own["form"] == form]), f"accuracy on {name} prompts"
            piece = {"relation": relation, "criterion": named, "kind": "precondition"}
            evidence.append(Evidence(**piece, found=found, bound=0.5))
        cost = lost[lost["relation"] == relation]
        for row in cost.groupby(["condition", "prompts"], sort=False):
            (condition, prompts), found = row[0], interval_of(row[1])
            if prompts == DIFFERENCE and condition == "zero":
                named = {"relation": relation, "criterion": f"cost of the top third, {DIFFERENCE}"}
                evidence.append(Evidence(**named, found=found, bound=0, kind="paper"))
            elif prompts == DIFFERENCE or condition == "zero":
                context.append(claims.context(relation, _named(condition, prompts), found))
    rule = claims.RULES["retrieval"]
    return claims.judge(rule, evidence, model=model, published=published, context=context)


def _named(condition: str, prompts: str) -> str:
    """What a number beside the verdict is called."""
    if condition == "zero":
        return f"cost of the top third on {prompts} prompts"
    what = {"mean": "mean ablation", "attention": "attention instead", "random": "random layers"}
    return f"the same with {what[condition]}, {prompts}"
