"""What adding an o vector to zero-shot prompts gains, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from ovectors import claims
from ovectors.claims import Claim, Evidence, Published
from ovectors.experiments.shared.rows import interval_of, row_of
from ovectors.experiments.zero_shot.measure import OUTCOMES
from ovectors.experiments.zero_shot.settings import CHOSEN
from ovectors.experiments.zero_shot.vectors import NONE, OTHER, OWN, RANDOM, SHOWN, TASKS
from ovectors.statistics import (
    Interval,
    bands,
    corrected,
    crossed_mean,
    nothing,
    paired_difference,
    share,
)

ROOM = "accuracy with a demonstration minus accuracy without"
LEAST_ROOM = 0.1
GAIN = "accuracy gained by adding the o vector"
CONTROLS = {
    RANDOM: "gain above that of a random vector of equal norm",
    OTHER: "gain above that of another relation's vector",
}
MEANS = ["relation", "layer", "scale", "mean", "low", "high", "reciprocal_rank", "n", "pairs"]
NAMED = ["relation", "setting", "condition"]
ACCURACIES = [*NAMED, "mean", "low", "high", "n", "n_sources", "worst", "best", "reciprocal_rank"]
GAINS = ["relation", "setting", "against", "mean", "low", "high", "n"]


def map_means(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and mean reciprocal rank at every layer and scale of a `zero_shot.layer_map`.

    Columns: `MEANS`. Each item counts by its mean over sources; `n` counts items, `pairs` items
    with their sources; intervals of the accuracy are over items. Scale 0 has one row.
    """
    rows = []
    for (relation, layer, scale), part in table.groupby(["relation", "layer", "scale"], sort=False):
        by_item = part.assign(reciprocal=1 / part["rank_answer"]).groupby(["item", "argument"])
        means = by_item[["correct", "reciprocal"]].mean()
        accuracy, reciprocal = bands(means, clusters=means.index.get_level_values("argument"))
        row = {"relation": relation, "layer": layer, "scale": scale, "mean": accuracy.value}
        row |= {"low": accuracy.low, "high": accuracy.high, "reciprocal_rank": reciprocal.value}
        rows.append(row | {"n": len(means), "pairs": len(part)})
    return pd.DataFrame(rows, columns=MEANS)


def accuracies(table: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Accuracy in each condition of `zero_shot.zero_shot`, a row per relation and setting.

    Columns: `ACCURACIES`. Intervals: over sources and arguments; a share's where no vector is
    added. `worst` and `best` are the accuracies with the single vectors that did worst and best,
    `reciprocal_rank` is the answer's mean one.
    """
    rows = []
    for named, part in table.groupby(NAMED, sort=False):
        correct = _wide(part, "correct")
        found = _mean(part, "correct", confidence=confidence)
        by_source = correct.mean(axis=1)
        row = dict(zip(NAMED, named, strict=True)) | row_of(found)
        row |= {"n_sources": len(correct), "worst": by_source.min(), "best": by_source.max()}
        row["reciprocal_rank"] = (1 / part["rank_answer"]).mean()
        rows.append(row)
    return pd.DataFrame(rows, columns=ACCURACIES)


def gains(table: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Accuracy with the own vector minus accuracy without, with a random and another vector.

    Columns: `GAINS`, `against` being that condition. Item by item, and for the vectors each with
    the own vector of the same number; intervals over sources and arguments.
    """
    rows = []
    for (relation, setting), part in table.groupby(["relation", "setting"], sort=False):
        values = {name: _wide(one, "correct") for name, one in part.groupby("condition")}
        for against in (NONE, RANDOM, OTHER):
            difference = values[OWN] - values[against]
            found = crossed_mean(difference, clusters=_arguments(part), confidence=confidence)
            row = {"relation": relation, "setting": setting, "against": against}
            rows.append(row | row_of(found))
    return pd.DataFrame(rows, columns=GAINS)


def outcome_shares(table: pd.DataFrame) -> pd.DataFrame:
    """What the top token is in each condition: the share of each of `OUTCOMES`, with intervals."""
    rows = []
    for named, part in table.groupby(NAMED, sort=False):
        for outcome in OUTCOMES:
            found = _mean(part.assign(is_it=part["outcome"] == outcome), "is_it")
            row = dict(zip(NAMED, named, strict=True)) | {"outcome": outcome}
            rows.append(row | row_of(found))
    return pd.DataFrame(rows, columns=[*NAMED, "outcome", "mean", "low", "high", "n"])


def common_tokens(table: pd.DataFrame, *, count: int = 3) -> pd.DataFrame:
    """The commonest top tokens in each condition, with their share of all runs."""
    rows = []
    for named, part in table.groupby(NAMED, sort=False):
        shares = part["top_token"].value_counts(normalize=True).head(count)
        for token, found in shares.items():
            rows.append(dict(zip(NAMED, named, strict=True)) | {"token": token, "share": found})
    return pd.DataFrame(rows, columns=[*NAMED, "token", "share"])


def claim(
    table: pd.DataFrame,
    *,
    model: str,
    relations: Sequence[str] = TASKS,
    published: Sequence[Published] = (),
) -> Claim:
    """The verdict on zero-shot prompts, by the rule `claims.RULES["zero_shot"]`.

    A relation on which a demonstration adds no more than `LEAST_ROOM` leaves nothing to gain, and
    tests nothing. Judged at the layer and scale that development items chose; the paper's setting,
    other relations' vectors and the accuracies themselves are shown beside it.
    """
    confidence = corrected(len(relations))
    gained = gains(table, confidence=confidence)
    reached = accuracies(table, confidence=confidence)
    evidence, context = [], []
    for relation in relations:
        own = gained[gained["relation"] == relation]
        chosen = own[own["setting"] == CHOSEN].set_index("against")
        asked = table[(table["relation"] == relation) & (table["setting"] == CHOSEN)]
        room = {"found": _room(asked, confidence=confidence), "bound": LEAST_ROOM}
        room |= {"relation": relation, "criterion": ROOM, "kind": "precondition"}
        evidence.append(Evidence(**room))
        for against, criterion in {NONE: GAIN, RANDOM: CONTROLS[RANDOM]}.items():
            found = interval_of(chosen[chosen.index == against])
            kind = "paper" if against == NONE else "control"
            piece = {"relation": relation, "criterion": criterion, "kind": kind}
            evidence.append(Evidence(**piece, found=found, bound=0))
        for row in own.to_dict("records"):
            if row["setting"] != CHOSEN or row["against"] == OTHER:
                name = GAIN if row["against"] == NONE else CONTROLS[row["against"]]
                name += "" if row["setting"] == CHOSEN else ", at the paper's layer"
                context.append(claims.context(relation, name, interval_of(pd.DataFrame([row]))))
        levels = reached[(reached["relation"] == relation) & (reached["setting"] == CHOSEN)]
        context += [
            claims.context(relation, _level(row["condition"]), interval_of(pd.DataFrame([row])))
            for row in levels.to_dict("records")
            if row["condition"] in (NONE, OWN, SHOWN)
        ]
    rule = claims.RULES["zero_shot"]
    return claims.judge(rule, evidence, model=model, published=published, context=context)


def _level(condition: str) -> str:
    names = {NONE: "without a demonstration", OWN: "with the o vector"}
    return f"accuracy {names.get(condition, 'with a demonstration')}"


def _wide(part: pd.DataFrame, column: str) -> Float[np.ndarray, "source item"]:
    """One condition's values, a row a source; items in one order, so that conditions compare."""
    wide = part.pivot(index="number", columns="item", values=column)
    return wide.sort_index(axis=1).to_numpy(dtype=float)


def _arguments(part: pd.DataFrame) -> pd.Series:
    """The argument of each column of `_wide`."""
    return part.drop_duplicates("item").sort_values("item")["argument"]


def _mean(part: pd.DataFrame, column: str, *, confidence: float = 0.95) -> Interval:
    """How often a column of truth values is true under one condition."""
    values = _wide(part, column).astype(bool)
    level = {"clusters": _arguments(part), "confidence": confidence}
    return share(values[0], **level) if len(values) == 1 else crossed_mean(values, **level)


def _room(part: pd.DataFrame, *, confidence: float) -> Interval:
    """What a demonstration adds to accuracy, over the items that were run with one."""
    shown, bare = (part[part["condition"] == name].set_index("item") for name in (SHOWN, NONE))
    if shown.empty:
        return nothing()
    level = {"clusters": shown["argument"], "confidence": confidence}
    return paired_difference(shown["correct"], bare.loc[shown.index, "correct"], **level)
