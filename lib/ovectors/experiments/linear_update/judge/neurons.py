"""How many neurons of an FFN carry its o vector: the largest few, or the many others."""

from __future__ import annotations

import pandas as pd

from ovectors.experiments.linear_update.measure.neurons import LARGEST, REST
from ovectors.experiments.shared.rows import row_of
from ovectors.statistics import share

SHARE_COLUMNS = ["relation", "kept", "k", "neurons", "share", "low", "high", "n"]
NEED_COLUMNS = ["relation", "half", "nine_tenths", "rest_fails", "neurons", "n"]


def neuron_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Share of items whose answer is on top with the kept neurons, with 95% intervals."""
    rows = []
    by = ["relation", "kept", "k"]
    for names, part in table.groupby(by, sort=False):
        found = share(part["rank_answer"] == 1, clusters=part["argument"])
        row = dict(zip(by, names, strict=True)) | {"neurons": int(part["neurons"].iloc[0])}
        rows.append(row | row_of(found, "share"))
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)


def neurons_needed(shares: pd.DataFrame) -> pd.DataFrame:
    """The smallest k that was tried with which the answer is on top of enough items.

    One row per relation: half and nine_tenths, the k of the largest neurons for half and for nine
    tenths of the items; rest_fails, the k whose removal leaves less than half of the items their
    answer. Each -1 where no k does.
    """
    rows = []
    for relation, part in shares.groupby("relation", sort=False):
        largest = part[part["kept"] == LARGEST].sort_values("k")
        rest = part[part["kept"] == REST].sort_values("k")
        row = {"relation": relation, "half": _first(largest, largest["share"] >= 0.5)}
        row["nine_tenths"] = _first(largest, largest["share"] >= 0.9)
        row["rest_fails"] = _first(rest, rest["share"] < 0.5)
        rows.append(row | {"neurons": int(part["neurons"].iloc[0]), "n": int(part["n"].iloc[0])})
    return pd.DataFrame(rows, columns=NEED_COLUMNS)


def _first(part: pd.DataFrame, enough: pd.Series) -> int:
    return int(part.loc[enough, "k"].iloc[0]) if enough.any() else -1
