"""Which relations obey the rule of content independence, a row for each, and the verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ovectors import claims
from ovectors.claims import LEAST_ITEMS, Claim, Evidence
from ovectors.experiments.beyond.gather import Beyond
from ovectors.experiments.content_independence.judge.verdict import evidence
from ovectors.experiments.content_independence.tasks import other_condition
from ovectors.experiments.linear_update.judge.switches import FFN
from ovectors.experiments.shared.effects import reciprocal
from ovectors.experiments.shared.kinds import kind_of
from ovectors.experiments.shared.replacing import CONTROL, OWN
from ovectors.experiments.shared.rows import row_of
from ovectors.experiments.stages.judge import ANSWER, SIGNATURE, after_layers, stage_table
from ovectors.experiments.survey import not_judged
from ovectors.statistics import corrected

UNTESTABLE = "the model answers none of these relations with one demonstration"
CONTROL_BEATEN, RANDOM_BEATEN, OTHER_BEATEN, MEAN_BEATEN, ITEM_BEATEN = CRITERIA = (
    "control run",
    "random vector",
    "another relation's vector",
    "mean FFN output",
    "another item's answer",
)
"""What content independence asks of a relation (`claims.RULES`), in short."""
OBEYS, IN_PART, DOES_NOT = "yes", "in part", "no"
TOO_FEW, NOT_ANSWERED, NOT_MEASURED = "too few items", "not answered", "not testable"
GAIN_COLUMNS = ["relation", "criterion", "against", "mean", "low", "high", "n", "holds"]


def gains(found: Beyond, *, seed: int = 0) -> pd.DataFrame:
    """How far the own vectors get, a row for each relation and criterion of content independence.

    Columns: relation, criterion (one of `CRITERIA`), against (the other relation, or ""), mean,
    low, high (of the difference in mean reciprocal rank, over vectors and items, corrected for the
    number of relations), n (items), holds (on at least `LEAST_ITEMS` items).
    """
    confidence = corrected(len(found.tables))
    rows = []
    for name, table in found.tables.items():
        pieces = evidence(table, name, confidence=confidence, seed=seed)
        for criterion, piece in zip(CRITERIA, pieces, strict=True):
            row = {"relation": name, "criterion": criterion, "against": ""} | row_of(piece.found)
            if criterion == OTHER_BEATEN:
                row["against"] = _against(table)
            rows.append(row | {"holds": piece.holds})
    return pd.DataFrame(rows, columns=GAIN_COLUMNS)


def _against(table: pd.DataFrame) -> str:
    prefix = other_condition("")
    found = [one for one in table["condition"].unique() if one.startswith(prefix)]
    return found[0].removeprefix(prefix) if found else ""


def verdicts(found: Beyond, gained: pd.DataFrame) -> dict[str, str]:
    """What each relation's row says in the end, for every relation that was asked about.

    `OBEYS`: all criteria hold; `IN_PART`: the control run is beaten, another control is not;
    `DOES_NOT`: the control run is not; `TOO_FEW` items to tell; `NOT_ANSWERED`; `NOT_MEASURED`.
    """
    said = {}
    for name, known in found.accuracies.items():
        part = gained[gained["relation"] == name]
        if part.empty:
            said[name] = NOT_ANSWERED if known.n else NOT_MEASURED
        elif part["n"].max() < LEAST_ITEMS:
            said[name] = TOO_FEW
        elif part["holds"].all():
            said[name] = OBEYS
        else:
            beaten = part.loc[part["criterion"] == CONTROL_BEATEN, "holds"].all()
            said[name] = IN_PART if beaten else DOES_NOT
    return said


def overview(found: Beyond, gained: pd.DataFrame) -> pd.DataFrame:
    """Everything in one table: a row for each relation that was asked about.

    Columns: relation, kind, obeys (see `verdicts`), accuracy with accuracy_low, accuracy_high and n
    (items); of the items answered correctly: signature, the share with the whole signature of
    `stages.RULES`, with its bounds; argument_peak, the highest mean reciprocal rank of the argument
    after any layer; depth, the median relative depth at which the answer comes to the top; ffn, the
    share whose last switch an FFN makes; source_layer, start_layer; before, after (the answer's
    mean reciprocal rank in nonsense patterns without and with the vectors), top1. NaN where
    something was not measured.
    """
    said = verdicts(found, gained)
    rows = []
    for name, known in found.accuracies.items():
        row = {"relation": name, "kind": kind_of(name), "obeys": said[name]}
        row |= {"accuracy": known.value, "accuracy_low": known.low, "accuracy_high": known.high}
        row |= {"n": known.n} | _stage_numbers(found.stages[name])
        row["ffn"] = _ffn_share(found.switches.get(name))
        rows.append(row | _intervention_numbers(found, name))
    return pd.DataFrame(rows)


def _stage_numbers(table: pd.DataFrame | None) -> dict[str, float]:
    row = dict.fromkeys(("signature", "signature_low", "signature_high", "correct"), np.nan)
    row |= dict.fromkeys(("argument_peak", "depth"), np.nan)
    if table is None or not table["correct"].any():
        return row
    found = stage_table(table).set_index("stage")
    whole = found.loc[SIGNATURE]
    row |= {"signature": whole["share"], "correct": whole["n"]}
    row |= {"signature_low": whole["low"], "signature_high": whole["high"]}
    correct = after_layers(table[table["correct"]])
    peaks = (1 / correct["rank_argument"]).groupby(correct["layer"]).mean()
    return row | {"argument_peak": peaks.max(), "depth": found.loc[ANSWER, "relative_depth"]}


def _ffn_share(items: pd.DataFrame | None) -> float:
    if items is None or not items["correct"].any():
        return np.nan
    return float((items.loc[items["correct"], "made_by"] == FFN).mean())


def _intervention_numbers(found: Beyond, name: str) -> dict[str, float]:
    row = dict.fromkeys(("source_layer", "start_layer", "before", "after", "top1"), np.nan)
    if name not in found.tables:
        return row
    before, after = (reciprocal(found.tables[name], one) for one in (CONTROL, OWN))
    layers = found.layers[name]
    row |= {"source_layer": layers.source, "start_layer": layers.start}
    return row | {"before": before.mean(), "after": after.mean(), "top1": (after == 1).mean()}


def claim(found: Beyond, *, model: str, seed: int = 0) -> Claim:
    """The verdict by `claims.RULES["beyond"]` over the relations that the model answers.

    The accuracy of those that it does not answer stands beside the evidence.
    """
    confidence = corrected(len(found.tables))
    pieces: list[Evidence] = []
    for name, table in found.tables.items():
        pieces += evidence(table, name, confidence=confidence, seed=seed)
    aside = not_judged(found.accuracies, found.tables)
    untestable = "" if found.tables else UNTESTABLE
    rule = claims.RULES["beyond"]
    return claims.judge(rule, pieces, model=model, context=aside, untestable=untestable)
