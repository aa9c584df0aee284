"""Whose answer each relation's vectors bring up, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from ovectors import claims
from ovectors.claims import Claim, Evidence, Measured
from ovectors.experiments.content_independence.judge.verdict import MORE_THAN_OTHER, RAISES
from ovectors.experiments.function_specificity.gather import Specificity
from ovectors.experiments.function_specificity.groups import LEAST_SHARED, Group
from ovectors.experiments.shared.effects import paired
from ovectors.experiments.shared.kinds import kind_of
from ovectors.experiments.shared.replacing import CONTROL
from ovectors.experiments.shared.rows import row_of
from ovectors.experiments.survey import not_judged
from ovectors.statistics import corrected, crossed_mean

ANSWERS = "accuracy"
TOKENS = ("rank", "rank_other")
UNTESTABLE = f"the model answers no two relations that share {LEAST_SHARED} arguments or more"
MATRIX_COLUMNS = ["kind", "vector", "answer_of", "mean", "low", "high", "n", "top1", "rise"]
MATRIX_COLUMNS += ["other"]
FIRST_COLUMNS = ["kind", "vector", "answer_of", "mean", "low", "high", "n", "relations"]


def ranks_of(
    table: pd.DataFrame, kind: str, vector: str, answer_of: str, *, token: str = "rank"
) -> Float[np.ndarray, "source item"]:
    """Ranks of one relation's answers under one relation's vectors, a row for each vector.

    `token` "rank_other" for those of its answers to other arguments.
    """
    rows = table[
        (table["kind"] == kind) & (table["vector"] == vector) & (table["answer_of"] == answer_of)
    ]
    return rows.pivot(index="number", columns="item", values=token).to_numpy(dtype=np.float64)


def _pairs(table: pd.DataFrame) -> list[tuple[str, str, list[str]]]:
    """Kind, vector and the group's relations, in the order of the table, control runs first."""
    return [
        (kind, vector, list(part["answer_of"].unique()))
        for (kind, vector), part in table.groupby(["kind", "vector"], sort=False)
    ]


def confusion_matrix(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """What each relation's vectors do to each relation's answers, and what stands without any.

    One row for each kind, vector (the control run first) and answer: the answer's mean reciprocal
    rank with its 95% interval over sources and items, n, top1 (share with the answer on top), rise
    (the mean minus that of the control run), other (the mean of the same relation's answer to
    another argument, which tells a vector that raises all of its answers from one that finds the
    right one).
    """
    rows, before = [], {}
    for kind, vector, relations in _pairs(table):
        for answer_of in relations:
            ranks = ranks_of(table, kind, vector, answer_of)
            found = row_of(crossed_mean(1 / ranks))
            before.setdefault((kind, answer_of), found["mean"])
            rows.append({"kind": kind, "vector": vector, "answer_of": answer_of} | found)
            rows[-1]["top1"] = float((ranks == 1).mean())
            rows[-1]["rise"] = found["mean"] - before[kind, answer_of]
            other = ranks_of(table, kind, vector, answer_of, token="rank_other")
            rows[-1]["other"] = float((1 / other).mean())
    return pd.DataFrame(rows, columns=MATRIX_COLUMNS)


def first_answers(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """How often each relation's answer is the best placed of the group's, under each vector.

    By chance it would be one in `relations`. One row for each kind, vector and answer: share as
    `mean` with its 95% interval over sources and items, n, relations (how many compete).
    """
    rows = []
    for kind, vector, relations in _pairs(table):
        ranks = np.stack([ranks_of(table, kind, vector, one) for one in relations])
        first = ranks.argmin(axis=0)
        for place, answer_of in enumerate(relations):
            found = row_of(crossed_mean(first == place))
            rows.append({"kind": kind, "vector": vector, "answer_of": answer_of} | found)
            rows[-1]["relations"] = len(relations)
    return pd.DataFrame(rows, columns=FIRST_COLUMNS)


def strongest_other(matrix: pd.DataFrame, kind: str, relation: str) -> str:
    """The other relation of the kind whose vectors place this relation's answer best."""
    others = matrix[
        (matrix["kind"] == kind)
        & (matrix["answer_of"] == relation)
        & ~matrix["vector"].isin([relation, CONTROL])
    ]
    return str(others.loc[others["mean"].idxmax(), "vector"])


def evidence(
    table: pd.DataFrame, kind: str, relation: str, *, confidence: float = 0.95, seed: int = 0
) -> list[Evidence]:
    """What the rule asks of one relation: above the control run, and above every other vector.

    Of the others the strongest is taken, so that none of them reaches as far.
    """
    matrix = confusion_matrix(table[table["kind"] == kind])
    other = strongest_other(matrix, kind, relation)
    own, control, against = (
        1 / ranks_of(table, kind, vector, relation) for vector in (relation, CONTROL, other)
    )
    options = {"confidence": confidence, "seed": seed}
    beaten = f"own vector minus that of {other.replace('_', ' ')}, the strongest of the others"
    return [
        Evidence(
            relation=relation,
            criterion=RAISES,
            found=paired(own, control, **options),
            bound=0,
            kind="paper",
        ),
        Evidence(
            relation=relation, criterion=beaten, found=paired(own, against, **options), bound=0
        ),
    ]


def beside(
    table: pd.DataFrame, kind: str, relation: str, *, confidence: float = 0.95, seed: int = 0
) -> Measured:
    """Not asked by the rule: whether the answer rises more than that to another argument does."""
    (own, other), (before, other_before) = (
        [1 / ranks_of(table, kind, vector, relation, token=token) for token in TOKENS]
        for vector in (relation, CONTROL)
    )
    found = paired(own - before, other - other_before, confidence=confidence, seed=seed)
    return claims.context(relation, MORE_THAN_OTHER, found)


def judged(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Kind and name of every relation that is judged: each once, where it is at home."""
    return [
        (group.kind, name)
        for group in groups
        for name in group.relations
        if kind_of(name) == group.kind
    ]


def claim(found: Specificity, *, model: str, seed: int = 0) -> Claim:
    """The verdict by `claims.RULES["function_specificity"]`, with every accuracy beside it."""
    relations = judged(found.groups)
    options = {"confidence": corrected(len(relations)), "seed": seed}
    pieces: list[Evidence] = []
    aside: list[Measured] = []
    for kind, name in relations:
        answers = {"found": found.accuracies[name], "bound": found.least_accuracy}
        answers |= {"relation": name, "criterion": ANSWERS, "kind": "precondition"}
        pieces += [*evidence(found.table, kind, name, **options), Evidence(**answers)]
        aside.append(beside(found.table, kind, name, **options))
    aside += not_judged(found.accuracies, [name for _, name in relations])
    untestable = "" if pieces else UNTESTABLE
    rule = claims.RULES["function_specificity"]
    return claims.judge(rule, pieces, model=model, context=aside, untestable=untestable)
