"""The verdict on the linear update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from ovectors import claims
from ovectors.claims import Claim, Evidence
from ovectors.experiments.linear_update.judge.arithmetic import outcomes
from ovectors.experiments.linear_update.judge.switches import FFN, accuracy
from ovectors.experiments.linear_update.measure.arithmetic import OWN, RANDOM, SUBTRACT
from ovectors.statistics import corrected, nothing, paired_difference, share

ANSWERS = "accuracy"
FFN_SWITCHES = "share of last switches made by the FFN"
COMES_BACK = "share with the argument back above the answer"
MORE_THAN_RANDOM = "the same, o vector minus random vector"
OF_FFN_SWITCHES = "share with the argument back, of the switches that the FFN makes"


def claim(
    items: pd.DataFrame,
    table: pd.DataFrame,
    *,
    model: str,
    relations: Sequence[str],
) -> Claim:
    """The verdict by the rule `claims.RULES["linear_update"]`.

    `items` as made by `switches.per_item`, `table` by `arithmetic`, both of the same settings. An
    item answered correctly that has no last switch (its answer ties with another token) counts as
    one whose argument does not come back. Shown beside, and not part of the rule: the share that
    comes back of the switches made by the FFN.
    """
    confidence = corrected(len(relations))
    evidence, context = [], []
    for relation in relations:
        part = items[items["relation"] == relation]
        known = accuracy(part, relations=len(relations))
        correct = part[part["correct"]]
        made, back, more = (nothing() for _ in range(3))
        if len(correct):
            level = {"clusters": correct["argument"], "confidence": confidence}
            made = share(correct["made_by"] == FFN, **level)
            own, random = _came_back(table, relation, correct["item"])
            back = share(own == 1, **level)
            more = paired_difference(own, random, **level)
            by_ffn = (correct["made_by"] == FFN).to_numpy()
            level["clusters"] = correct.loc[by_ffn, "argument"]
            of_those = share(own[by_ffn] == 1, **level) if by_ffn.any() else nothing()
            context.append(claims.context(relation, OF_FFN_SWITCHES, of_those))
        paper = {"relation": relation, "kind": "paper"}
        answers = {"relation": relation, "kind": "precondition"}
        evidence += [
            Evidence(criterion=ANSWERS, found=known, bound=0.1, **answers),
            Evidence(criterion=FFN_SWITCHES, found=made, bound=0.5, **paper),
            Evidence(criterion=COMES_BACK, found=back, bound=0.5, **paper),
            Evidence(relation=relation, criterion=MORE_THAN_RANDOM, found=more, bound=0.0),
        ]
    published = claims.published("linear_update", model)
    rule = claims.RULES["linear_update"]
    return claims.judge(rule, evidence, model=model, published=published, context=context)


def _came_back(
    table: pd.DataFrame, relation: str, items: pd.Series
) -> tuple[Float[np.ndarray, " item"], Float[np.ndarray, " item"]]:
    """Per item: whether subtracting its o vector, unscaled, at the switching layer puts the
    argument above the answer, and how often a random vector of equal norm does."""
    at = (table["relation"] == relation) & (table["operation"] == SUBTRACT)
    tried = outcomes(table[at & table["full"].astype(bool) & (table["scale"] == 1)])
    found = [
        tried[tried["vector"] == vector].groupby("item")["ahead"].mean().reindex(items)
        for vector in (OWN, RANDOM)
    ]
    own, random = (one.fillna(0.0).to_numpy(dtype=np.float64) for one in found)
    return own, random
