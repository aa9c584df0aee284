"""The last switch to the answer: at which layer it is made, and by which sublayer (section 4.1)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ovectors.experiments.linear_update.measure.answered import NO_SWITCH
from ovectors.experiments.shared.rows import row_of
from ovectors.statistics import Interval, corrected, share

FFN, ATTENTION, EITHER, NEITHER = "FFN", "attention", "either alone", "neither alone"
MAKERS = (FFN, ATTENTION, EITHER, NEITHER)
RULES = {
    "last switch": (
        "the layer from which on the answer's first token is the top token after every layer, to "
        "the last; looked for on items answered correctly"
    ),
    FFN: "the answer is not on top before this layer's FFN has added its output, and is after",
    ATTENTION: "the answer is on top as soon as this layer's attention has added its output",
    NEITHER: "anything else, such as an answer that is on top before the first layer",
}
PARALLEL_RULES = {
    FFN: "what the FFN adds brings the answer to the top by itself, what attention adds does not",
    ATTENTION: "the other way round",
    EITHER: "each of the two does so by itself",
    NEITHER: "it takes both",
}
SHARE_COLUMNS = ["relation", "made_by", "share", "low", "high", "n"]
LAYER_COLUMNS = ["relation", "layer", "made_by", "share", "items", "n"]


def per_item(table: pd.DataFrame) -> pd.DataFrame:
    """One row per relation and item, in the order of the table, with who made its last switch.

    Adds to the item's columns: made_by, by `RULES` or `PARALLEL_RULES`, "" for items that are not
    answered correctly; argument_before, whether the argument was on top of what the switching layer
    read.
    """
    first = table.drop_duplicates(["relation", "item"]).drop(
        columns=["layer", "place", "rank_argument", "rank_answer", "top_token"]
    )
    items = first.set_index(["relation", "item"])
    there = table[table["layer"] == table["switch"]].set_index(["relation", "item"])
    ranks = {place: there[there["place"] == place] for place in table["place"].unique()}
    on_top = {at: rows["rank_answer"].reindex(items.index) == 1 for at, rows in ranks.items()}
    argument = ranks["before"]["rank_argument"].reindex(items.index) == 1
    items["made_by"] = np.where(items["correct"], _makers(on_top), "")
    items["argument_before"] = argument & items["correct"]
    return items.reset_index()


def _makers(on_top: dict[str, pd.Series]) -> np.ndarray:
    """Who made the switch, from where the answer is on top in the switching layer."""
    before, after = on_top["before"], on_top["after"]
    if "mid" in on_top:
        tests = [before | ~after, on_top["mid"]]
        return np.select(tests, [NEITHER, ATTENTION], default=FFN)
    attention, ffn = on_top["attention alone"], on_top["ffn alone"]
    tests = [before | ~after, attention & ffn, ffn, attention]
    return np.select(tests, [NEITHER, EITHER, FFN, ATTENTION], default=NEITHER)


def is_parallel(table: pd.DataFrame) -> bool:
    """Whether the table comes from a model whose attention and FFN run in parallel."""
    return "mid" not in set(table["place"])


def accuracy(items: pd.DataFrame, *, relations: int = 1) -> Interval:
    """Share of the items that are answered, its interval corrected for so many relations."""
    confidence = corrected(relations)
    return share(items["correct"], clusters=items["argument"], confidence=confidence)


def maker_shares(items: pd.DataFrame) -> pd.DataFrame:
    """Who made the last switch on items answered correctly: a share with its 95% interval each.

    `items` as made by `per_item`. `either alone` has a row only where it occurs.
    """
    rows = []
    for relation, part in items[items["correct"]].groupby("relation", sort=False):
        for maker in MAKERS:
            outcomes = part["made_by"] == maker
            if maker == EITHER and not outcomes.any():
                continue
            found = share(outcomes, clusters=part["argument"])
            rows.append({"relation": relation, "made_by": maker} | row_of(found, "share"))
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)


def makers_by_layer(items: pd.DataFrame, *, layers: int) -> pd.DataFrame:
    """How many of the items answered correctly switch at each layer, by who made the switch.

    One row per relation, layer and maker that occurs: share of the relation's n items.
    """
    rows = []
    switched = items[items["correct"] & (items["switch"] != NO_SWITCH)]
    sizes = items[items["correct"]].groupby("relation").size()
    for relation, part in switched.groupby("relation", sort=False):
        for maker in (one for one in MAKERS if (part["made_by"] == one).any()):
            at = part.loc[part["made_by"] == maker, "switch"]
            for layer, count in enumerate(np.bincount(at, minlength=layers).tolist()):
                n = int(sizes[relation])
                row = {"relation": relation, "layer": layer, "made_by": maker, "n": n}
                rows.append(row | {"items": count, "share": count / n})
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def chosen_layers(items: pd.DataFrame) -> pd.DataFrame:
    """For each relation the commonest switching layer of its development items, and their number.

    Columns: relation, layer, n. Relations without a development item that switches have no row.
    """
    usable = items[items["correct"] & items["development"] & (items["switch"] != NO_SWITCH)]
    rows = [
        {"relation": relation, "layer": int(part["switch"].mode().iloc[0]), "n": len(part)}
        for relation, part in usable.groupby("relation", sort=False)
    ]
    return pd.DataFrame(rows, columns=["relation", "layer", "n"])


def common_layer(items: pd.DataFrame) -> int:
    """The layer at which development items switch most often, each relation weighing the same.

    0 where no development item switches.
    """
    usable = items[items["correct"] & items["development"] & (items["switch"] != NO_SWITCH)]
    if usable.empty:
        return 0
    shares = usable.groupby("relation")["switch"].value_counts(normalize=True)
    return int(shares.groupby("switch").sum().idxmax())
