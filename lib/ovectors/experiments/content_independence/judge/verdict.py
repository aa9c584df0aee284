"""The verdict on content independence: what its rule asks of each relation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ovectors import claims
from ovectors.claims import Claim, Evidence, Measured, Published
from ovectors.experiments.content_independence.measure.controls import LAST
from ovectors.experiments.content_independence.tasks import SHOWN_AS, other_condition
from ovectors.experiments.shared.effects import effects, paired, reciprocal
from ovectors.experiments.shared.replacing import CONTROL, OWN, RANDOM
from ovectors.relations import TITLES, describe
from ovectors.statistics import corrected

RAISES = "answer's mean reciprocal rank: own vector minus control run"
ABOVE_RANDOM = "own vector minus a random vector of equal norm"
ABOVE_MEAN = "own vector minus the mean FFN output on ordinary prompts"
MORE_THAN_OTHER = "rise of the answer minus rise of another item's answer"
LEAST_RISE = 0.02
"""The smallest effect of interest, in mean reciprocal rank: a smaller rise is no function."""
IN_LAST_HALF = "start layer in the last half"
"""The setting in which vectors go in no earlier than half-way, as the paper's do."""
PRINTED = ("answer's rank before", "answer's rank after", "answer on top after", "no effect")
"""The measures of `effects` that the paper prints numbers for."""


def evidence(
    table: pd.DataFrame, name: str, *, confidence: float = 0.95, seed: int = 0
) -> list[Evidence]:
    """What the rule asks of one relation, in its order: see `claims.RULES`.

    Every relation whose vectors were tried has to be beaten. What was not run, or another item's
    answer that could not be told apart, stands without a number: not measured.
    """
    options = {"confidence": confidence, "seed": seed}
    before, own = reciprocal(table, CONTROL), reciprocal(table, OWN)
    prefix = other_condition("")
    others = [one for one in table["condition"].unique() if one.startswith(prefix)]
    other_before, other_after = reciprocal(table, CONTROL, "other"), reciprocal(table, OWN, "other")
    found = {
        RAISES: paired(own, before, **options),
        ABOVE_RANDOM: paired(own, reciprocal(table, RANDOM), **options),
    }
    for one in others or [other_condition("another relation")]:
        against = reciprocal(table, one)
        found[f"own vector minus that of {_titled(one.removeprefix(prefix))}"] = paired(
            own, against, **options
        )
    found[ABOVE_MEAN] = paired(own, reciprocal(table, LAST), **options)
    found[MORE_THAN_OTHER] = paired(own - before, other_after - other_before, **options)
    return [
        Evidence(
            relation=name,
            criterion=criterion,
            found=value,
            bound=LEAST_RISE if criterion == RAISES else 0,
            kind={RAISES: "paper", MORE_THAN_OTHER: "guard"}.get(criterion, "control"),
        )
        for criterion, value in found.items()
    ]


def _titled(relation: str) -> str:
    """A relation's title inside a sentence; the name of one that a user brought along."""
    described = describe(relation)
    shown = described.title if described else TITLES.get(relation, relation)
    return shown if shown.startswith("US ") else shown[:1].lower() + shown[1:]


def claim(
    tables: Mapping[str, pd.DataFrame],
    *,
    model: str,
    further: Mapping[str, pd.DataFrame] | None = None,
    late: Mapping[str, pd.DataFrame] | None = None,
    published: Sequence[Published] = (),
    seed: int = 0,
) -> Claim:
    """The verdict by `claims.RULES["content_independence"]` over these relations, name to table.

    The card also shows, and the verdict does not use, the effects of `further`, tables of
    `FURTHER`, and of `late`, those of the same relations with the vectors put in `IN_LAST_HALF`.
    """
    confidence = corrected(len(tables))
    pieces: list[Evidence] = []
    shown: list[Measured] = []
    for name, table in tables.items():
        pieces += evidence(table, name, confidence=confidence, seed=seed)
    for name, table in {**tables, **(further or {})}.items():
        relation, addition = SHOWN_AS.get(name, (name, ""))
        found = effects(table, seed=seed)
        shown += [claims.context(relation, one + addition, found[one]) for one in PRINTED]
    for name, table in (late or {}).items():
        found = effects(table, seed=seed)
        told = {RAISES: found["change"], PRINTED[1]: found[PRINTED[1]]}
        shown += [
            claims.context(name, f"{one}, {IN_LAST_HALF}", value) for one, value in told.items()
        ]
    rule = claims.RULES["content_independence"]
    return claims.judge(rule, pieces, model=model, published=published, context=shown)
