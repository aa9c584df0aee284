"""What subtracting and adding the o vector comes to, over scales and layers (figure 2)."""

from __future__ import annotations

import pandas as pd

from ovectors.experiments.linear_update.measure.arithmetic import ADD, DEMO_SCALES, OWN, SUBTRACT
from ovectors.experiments.shared.paper import shown_argument
from ovectors.experiments.shared.rows import row_of
from ovectors.statistics import mean, share

EFFECT_COLUMNS = ["operation", "vector", "scale", "share", "low", "high", "n"]


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """What each trial of `arithmetic` came to, in two columns more.

    `ahead`: after subtracting, the argument's rank is better than the answer's; after adding, the
    answer's better than the argument's. `on_top`: that token is on top of the whole vocabulary.
    """
    taken = table["operation"] == SUBTRACT
    wanted = table["rank_argument"].where(taken, table["rank_answer"])
    other = table["rank_answer"].where(taken, table["rank_argument"])
    return table.assign(ahead=wanted < other, on_top=wanted == 1)


def effects(table: pd.DataFrame, *, outcome: str = "ahead", swept: bool = False) -> pd.DataFrame:
    """Share of items on which a trial has its effect, at the states that every item is tried on.

    One row per relation, operation, vector and scale: share, low, high (95%; for random vectors of
    the mean over draws), n (arguments). With `swept` only the items that were tried at every scale
    count, so that a line over scales is about the same items all along.
    """
    rows = []
    by = ["relation", "operation", "vector", "scale"]
    full = outcomes(table[table["full"].astype(bool)]).sort_values("scale", kind="stable")
    if swept and len(full):
        tried = full.groupby(["relation", "item", "operation"])["scale"].transform("nunique")
        full = full[tried == tried.max()]
    for names, part in full.groupby(by, sort=False):
        items = part.groupby("item").agg(value=(outcome, "mean"), argument=("argument", "first"))
        value, clusters = items["value"].astype(float), items["argument"]
        own = names[2] == OWN
        found = share(value == 1, clusters=clusters) if own else mean(value, clusters=clusters)
        rows.append(dict(zip(by, names, strict=True)) | row_of(found, "share"))
    order = {name: place for place, name in enumerate(table["relation"].unique())}
    rows.sort(key=lambda row: order[row["relation"]])
    return pd.DataFrame(rows, columns=["relation", *EFFECT_COLUMNS])


def effects_by_layer(table: pd.DataFrame, *, outcome: str = "ahead") -> pd.DataFrame:
    """The same at every distance from the source layer, at the demo's scales.

    One row per relation, operation, vector, offset and scale: share and n, over items.
    """
    columns = ["relation", "operation", "vector", "offset", "scale", "share", "n"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    shown = outcomes(table[table["scale"].isin(DEMO_SCALES) & (table["draw"] == 0)])
    grouped = shown.groupby(columns[:5], sort=False)[outcome]
    return grouped.agg(share="mean", n="size").reset_index()


def example(table: pd.DataFrame, switches: pd.DataFrame) -> pd.DataFrame:
    """One item of each relation, layer by layer: what is on top as it is and with the o vector.

    The paper's own example where it was run, otherwise the first item that has the argument on top
    somewhere before its switch, otherwise the first.
    One row per relation and layer: argument, answer, switch, and for `plain` (after the layer),
    `changed` (o vector added before the switch, subtracted from it on; "" where neither applies)
    the token on top, with what it is: `argument`, `answer` or "".
    """
    columns = ["relation", "argument", "answer", "switch", "layer", "operation"]
    columns += ["plain", "plain_is", "changed", "changed_is"]
    rows: list[dict] = []
    own = table[(table["vector"] == OWN) & (table["scale"] == 1)]
    for relation, part in own.groupby("relation", sort=False):
        wide = part[part["item"].isin(part.loc[~part["full"].astype(bool), "item"])]
        both = wide[wide["item"].isin(wide.loc[wide["operation"] == ADD, "item"])]
        named = part[part["argument"] == shown_argument(relation)]
        item = next(pool for pool in (named, both, wide, part) if len(pool))["item"].iloc[0]
        tried = part[part["item"] == item].drop_duplicates("layer").set_index("layer")
        after = switches[(switches["place"] == "after") & (switches["item"] == item)]
        for row in after[after["relation"] == relation].sort_values("layer").itertuples():
            shown = {name: getattr(row, name) for name in columns[:5]}
            shown |= {"plain": row.top_token, "plain_is": _what(row)}
            change = tried.loc[row.layer] if row.layer in tried.index else None
            shown["operation"] = "" if change is None else change["operation"]
            shown["changed"] = "" if change is None else change["top_token"]
            shown["changed_is"] = "" if change is None else _what(change)
            rows.append(shown)
    return pd.DataFrame(rows, columns=columns)


def _what(row) -> str:
    """Whether the token on top is the argument, the answer, or neither."""
    if row.rank_answer == 1:
        return "answer"
    return "argument" if row.rank_argument == 1 else ""
