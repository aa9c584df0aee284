"""What vectors did, over vectors and items: by task, source, kind of vector, scale, outcome."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ovectors.experiments.shared.effects import effects, paired, reciprocal
from ovectors.experiments.shared.outcomes import OUTCOMES
from ovectors.experiments.shared.replacing import CONTROL, OWN
from ovectors.experiments.shared.rows import row_of
from ovectors.statistics import bands, crossed_mean, nothing

Tables = Mapping[str, pd.DataFrame]


def effect_rows(tables: Tables, *, setting: str = "chosen", seed: int = 0) -> pd.DataFrame:
    """What the own vectors do: a row for each task and measure of `effects`.

    Columns: task, setting, positions, source_layer, start_layer, vectors, correct (how many of
    their sources the model answers), measure, value, low, high, n (items).
    """
    rows = []
    for task, table in tables.items():
        own = table[table["condition"] == OWN]
        sources = own.drop_duplicates("number")
        named = {
            "task": task,
            "setting": setting,
            "positions": own["positions"].iloc[0],
            "source_layer": int(own["source_layer"].iloc[0]),
            "start_layer": int(own["start_layer"].iloc[0]),
            "vectors": len(sources),
            "correct": int(sources["source_correct"].sum()),
        }
        for measure, found in effects(table, seed=seed).items():
            rows.append(named | {"measure": measure} | row_of(found, "value"))
    return pd.DataFrame(rows)


def source_spread(tables: Tables, *, seed: int = 0) -> pd.DataFrame:
    """What each source's vector does: answer's mean reciprocal rank minus the control run's.

    Columns: task, vector (the source's argument), correct, mean, low, high (over items), n.
    """
    rows = []
    for task, table in tables.items():
        difference = reciprocal(table, OWN) - reciprocal(table, CONTROL)
        sources = table[table["condition"] == OWN].drop_duplicates("number").sort_values("number")
        found = bands(difference.T, seed=seed)
        for source, band in zip(sources.itertuples(), found, strict=True):
            named = {"task": task, "vector": source.vector, "correct": source.source_correct}
            rows.append(named | row_of(band))
    return pd.DataFrame(rows)


def condition_means(tables: Tables, more: Tables, *, seed: int = 0) -> pd.DataFrame:
    """Answer's mean reciprocal rank under every kind of vector, a row for each task and condition.

    `more` are tables of `controls.control_vectors` on the same items. Columns: task, condition,
    mean, low, high, n, vectors, norm (their mean length), lead, lead_low, lead_high (the own
    vectors' mean minus this one; NaN in their own row).
    """
    rows = []
    for task, table in tables.items():
        own = reciprocal(table, OWN)
        for part in (table, more.get(task, table.iloc[:0])):
            for condition in part["condition"].unique():
                if condition == CONTROL and part is not table:
                    continue
                found = reciprocal(part, condition)
                lead = nothing() if condition == OWN else paired(own, found, seed=seed)
                vectors = part[part["condition"] == condition].drop_duplicates("number")
                named = {"task": task, "condition": condition, "vectors": len(vectors)}
                row = named | row_of(crossed_mean(found, seed=seed))
                row |= {"norm": vectors["norm"].mean(), "lead": lead.value}
                rows.append(row | {"lead_low": lead.low, "lead_high": lead.high})
    return pd.DataFrame(rows)


def scale_curve(tables: Tables, *, seed: int = 0) -> pd.DataFrame:
    """Answer's mean reciprocal rank over the vectors' scale, with the control run's beside it.

    Columns: task, scale, mean, low, high, n, before.
    """
    rows = []
    for task, table in tables.items():
        before = float(reciprocal(table, CONTROL).mean())
        changed = table[table["condition"] == OWN]
        for scale, part in changed.groupby("scale"):
            found = crossed_mean(reciprocal(part, OWN), seed=seed)
            rows.append({"task": task, "scale": scale, "before": before} | row_of(found))
    return pd.DataFrame(rows)


def outcome_shares(tables: Tables, *, condition: str = OWN, seed: int = 0) -> pd.DataFrame:
    """Which share of intervened runs ends how: a row for each task and outcome.

    Columns: task, condition, outcome, share, low, high, n.
    """
    rows = []
    for task, table in tables.items():
        last = table[(table["condition"] == condition) & (table["layer"] == table["layer"].max())]
        if last.empty:
            continue
        ends = last.pivot(index="number", columns="item", values="outcome").to_numpy()
        arguments = last.drop_duplicates("item").sort_values("item")["argument"].tolist()
        for outcome in OUTCOMES:
            found = crossed_mean(ends == outcome, clusters=arguments, seed=seed)
            named = {"task": task, "condition": condition, "outcome": outcome}
            rows.append(named | row_of(found, "share"))
    return pd.DataFrame(rows)
