"""Which items show the stages, mean reciprocal ranks over layers, and the verdict (section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pandas as pd

from ovectors import claims
from ovectors.claims import Claim, Evidence
from ovectors.experiments.shared.paper import shown_argument
from ovectors.experiments.shared.rows import interval_of, layer_rows, row_of
from ovectors.statistics import Interval, bands, corrected, nothing, share

RULES = {
    "argument formation": (
        "the argument's first token is the top token after at least one layer that comes before "
        "the answer first is"
    ),
    "function application": (
        "the first layer after which the answer's first token is the top token, counted only "
        "where the argument was formed before"
    ),
    "saturation": (
        "from function application on, the answer stays the top token to the last layer, and "
        "for at least one layer more"
    ),
}
APPLICATION, SIGNATURE, ANSWER = "function application", "whole signature", "answer on top"
ANSWERS = "accuracy"
CLEARLY = 0.1
"""By how much the argument's mean reciprocal rank has to exceed the answer's."""
ARGUMENT_ABOVE, ANSWER_ABOVE = "argument above the answer", "answer above the argument"
SHOWS_STAGES = "share of items with the whole signature"
CURVE_COLUMNS = ["relation", "form", "token", "layer", "mean", "low", "high", "n"]
SHARE_COLUMNS = ["relation", "form", "stage", "share", "low", "high", "n"]
SHARE_COLUMNS += ["median_layer", "relative_depth"]


def after_layers(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of states after a layer; those between attention and FFN are left out.

    A table kept from before 2026-11-29, without the column `state`, has no others.
    """
    return table[table["state"] == "after"] if "state" in table else table


def accuracy(table: pd.DataFrame, *, confidence: float = 0.95) -> Interval:
    """Share of items answered correctly in the last layer, arguments resampled as clusters."""
    items = table.drop_duplicates(["relation", "form", "item"])
    return share(items["correct"], clusters=items["argument"].tolist(), confidence=confidence)


def reciprocal_rank_curves(
    table: pd.DataFrame, *, seed: int = 0, correct_only: bool = True, mid: bool = False
) -> pd.DataFrame:
    """Mean reciprocal rank of argument and answer per layer (section 3, figure 3).

    Over correctly answered items, unless told otherwise: where the model is wrong there is no
    function application to look at. Columns: relation, form, token (argument or answer), layer,
    mean, low, high (95%, over arguments), n. With `mid`, the states between attention and
    FFN too, as half layers: that of layer 3 is layer 2.5. A relation without a correct item gives
    no rows.
    """
    rows: list[dict] = []
    shown = _half_layers(table) if mid else after_layers(table)
    shown = shown[shown["correct"]] if correct_only else shown
    for (relation, form), part in shown.groupby(["relation", "form"], sort=False):
        arguments = part.drop_duplicates("item").set_index("item")["argument"]
        for token in ("argument", "answer"):
            ranks = part.pivot(index="item", columns="layer", values=f"rank_{token}")
            named = {"relation": relation, "form": form, "token": token}
            clusters = arguments[ranks.index].tolist()
            rows += [named | row for row in layer_rows(1.0 / ranks, clusters=clusters, seed=seed)]
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


def _half_layers(table: pd.DataFrame) -> pd.DataFrame:
    """Layers as places in the order of computation: what is between two `after` states is half."""
    return table.assign(layer=table["layer"] - 0.5 * (table["state"] == "mid"))


def place(layer: float) -> str:
    """What a state comes after: "layer 3", or "layer 3's attention" for the half layer 2.5."""
    named = f"layer {math.ceil(layer)}"
    return named if layer == int(layer) else f"{named}'s attention"


@dataclass(frozen=True)
class ItemStages:
    """Layers at which one item passes the stages; None where it does not (rules in `RULES`)."""

    argument_formed: bool
    answer_first: int | None  # layer after which the answer is first on top
    application: int | None  # the same, where the argument was formed before
    is_abrupt: bool  # the argument was on top one layer earlier
    saturated: bool

    @property
    def has_signature(self) -> bool:
        """Argument formation, then function application, then saturation."""
        return self.argument_formed and self.application is not None and self.saturated


def detect_stages(rank_argument: np.ndarray, rank_answer: np.ndarray) -> ItemStages:
    """Apply the rules of `RULES` to the ranks of one item, each of shape [layer]."""
    answer_on_top = np.asarray(rank_answer) == 1
    argument_on_top = np.asarray(rank_argument) == 1
    if not answer_on_top.any():
        return ItemStages(bool(argument_on_top.any()), None, None, False, False)
    first = int(answer_on_top.argmax())
    formed = bool(argument_on_top[:first].any())
    stays = bool(answer_on_top[first:].all()) and first < len(answer_on_top) - 1
    abrupt = formed and bool(argument_on_top[first - 1])
    return ItemStages(formed, first, first if formed else None, abrupt, formed and stays)


def stage_table(table: pd.DataFrame) -> pd.DataFrame:
    """How many correctly answered items show each stage, and all of them (table 1's question).

    One row per relation, form and stage: share with its 95% interval, n, and for function
    application the median layer and its relative depth, (layer + 1) / layers. A last row, `answer
    on top`, gives the same for the first layer with the answer on top, whatever came before it.
    """
    rows: list[dict] = []
    n_layers = int(table["layer"].max()) + 1
    table = after_layers(table)
    for (relation, form), part in table[table["correct"]].groupby(["relation", "form"], sort=False):
        arguments = part.groupby("item")["argument"].first().tolist()
        found = [_of_item(item) for _, item in part.groupby("item")]
        outcomes = {
            "argument formation": [item.argument_formed for item in found],
            APPLICATION: [item.application is not None for item in found],
            "abrupt: the argument was on top one layer before": [item.is_abrupt for item in found],
            "saturation": [item.saturated for item in found],
            SIGNATURE: [item.has_signature for item in found],
            ANSWER: [item.answer_first is not None for item in found],
        }
        applied = [item.application for item in found if item.application is not None]
        layers = {
            APPLICATION: applied,
            ANSWER: [item.answer_first for item in found if item.answer_first is not None],
        }
        for stage, shown in outcomes.items():
            row = {"relation": relation, "form": form, "stage": stage}
            row |= row_of(share(shown, clusters=arguments), "share")
            if layers.get(stage):
                row["median_layer"] = float(np.median(layers[stage]))
                row["relative_depth"] = (row["median_layer"] + 1) / n_layers
            rows.append(row)
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)


def example_items(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one item per relation and form: the paper's own example where it was run.

    Otherwise the first correctly answered item, otherwise the first.
    """
    chosen, table = [], after_layers(table)
    for (relation, _), part in table.groupby(["relation", "form"], sort=False):
        wanted = part[part["argument"] == shown_argument(relation)]
        pool = next(p for p in (wanted, part[part["correct"]], part) if not p.empty)
        chosen.append(part[part["item"] == pool["item"].iloc[0]])
    return pd.concat(chosen, ignore_index=True)


def signature_items(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first correctly answered item per relation with the whole signature.

    Relations without such an item give no rows.
    """
    chosen, table = [], after_layers(table)
    for _, part in table[table["correct"]].groupby(["relation", "form"], sort=False):
        whole = (item for _, item in part.groupby("item") if _of_item(item).has_signature)
        chosen += islice(whole, 1)
    return pd.concat(chosen, ignore_index=True) if chosen else table.iloc[:0]


def _of_item(rows: pd.DataFrame) -> ItemStages:
    rows = rows.sort_values("layer")
    return detect_stages(rows["rank_argument"].to_numpy(), rows["rank_answer"].to_numpy())


def final_top_tokens(table: pd.DataFrame, *, count: int = 3) -> pd.DataFrame:
    """The commonest last-layer top tokens per relation and form, with their share of all items."""
    table = after_layers(table)
    last = table[table["layer"] == table["layer"].max()]
    shares = (
        last.groupby(["relation", "form"], sort=False)["top_token"]
        .value_counts(normalize=True)
        .groupby(level=[0, 1], sort=False)
        .head(count)
    )
    return shares.rename("share").reset_index()


def claim(table: pd.DataFrame, *, model: str, relations: Sequence[str], seed: int = 0) -> Claim:
    """The verdict on the stages, by the rule `claims.RULES["stages"]`, over these relations.

    The share of items with the whole signature stands beside it: the stricter finding.
    """
    evidence, context = [], []
    for relation in relations:
        own = table[table["relation"] == relation]
        known = accuracy(own, confidence=corrected(len(relations)))
        least = claims.least_of(own.drop_duplicates("item")["argument"])
        told = {"relation": relation, "criterion": ANSWERS, "kind": "precondition"}
        evidence.append(Evidence(**told, found=known, bound=0.1, least=least))
        correct = own[own["correct"]]
        crossing = _crossing(correct, relation, relations=len(relations), seed=seed)
        evidence += [replace(one, least=least) for one in crossing]
        shares = stage_table(own).rename(columns={"share": "mean"})
        whole = interval_of(shares[shares["stage"] == SIGNATURE])
        context.append(claims.context(relation, SHOWS_STAGES, whole))
    return claims.judge(
        claims.RULES["stages"],
        evidence,
        model=model,
        published=claims.published("stages", model),
        context=context,
    )


def _crossing(correct: pd.DataFrame, relation: str, *, relations: int, seed: int) -> list[Evidence]:
    """That the argument stands above the answer in one state, and below it in a later one.

    Both are the states where it is clearest, so intervals are corrected for the number of states.
    The argument's comes last, as cards show the last of the paper's comparisons.
    """
    shown = _half_layers(correct)
    shown = shown.assign(ahead=1 / shown["rank_argument"] - 1 / shown["rank_answer"])
    ahead = shown.pivot(index="item", columns="layer", values="ahead")
    states = ahead.columns
    above, below, where, later = nothing(), nothing(), "", ""
    if len(ahead) and len(states) > 1:
        arguments = shown.groupby("item")["argument"].first().tolist()
        level = {"clusters": arguments, "confidence": corrected(relations * len(states))}
        found = bands(ahead.to_numpy(), **level, seed=seed)
        lows = np.nan_to_num([state.low for state in found], nan=-np.inf)
        highs = np.nan_to_num([state.high for state in found], nan=np.inf)
        at = int(lows[:-1].argmax())  # the last state has no later one
        after = at + 1 + int(highs[at + 1 :].argmin())
        above, answers = found[at], found[after]
        below = Interval(value=-answers.value, low=-answers.high, high=-answers.low, n=answers.n)
        where, later = (f", after {place(states[one])}" for one in (at, after))
    answer, argument = f"{ANSWER_ABOVE}{later}", f"{ARGUMENT_ABOVE}{where}"
    told = {"relation": relation, "kind": "paper"}
    return [
        Evidence(**told, criterion=answer, found=below, bound=0),
        Evidence(**told, criterion=argument, found=above, bound=CLEARLY),
    ]
