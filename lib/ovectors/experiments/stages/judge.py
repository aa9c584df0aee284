"""Which items show the stages, mean reciprocal ranks over layers, and the verdict (section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd

from ovectors import claims
from ovectors.claims import Claim, Evidence
from ovectors.experiments.shared.paper import shown_argument
from ovectors.experiments.shared.rows import layer_rows, row_of
from ovectors.statistics import Interval, corrected, nothing, share

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
SHOWS_STAGES = "share of items with the whole signature"
CURVE_COLUMNS = ["relation", "form", "token", "layer", "mean", "low", "high", "n"]
SHARE_COLUMNS = ["relation", "form", "stage", "share", "low", "high", "n"]
SHARE_COLUMNS += ["median_layer", "relative_depth"]


def accuracy(table: pd.DataFrame) -> Interval:
    """Share of items answered correctly in the last layer, with a 95% interval."""
    return share(_per_item(table)["correct"].to_numpy())


def reciprocal_rank_curves(
    table: pd.DataFrame, *, seed: int = 0, correct_only: bool = True
) -> pd.DataFrame:
    """Mean reciprocal rank of argument and answer per layer (section 3, figure 3).

    Over correctly answered items, unless told otherwise: where the model is wrong there is no
    function application to look at. Columns: relation, form, token (argument or answer), layer,
    mean, low, high (95% bootstrap over items), n. A relation without a correct item gives no rows.
    """
    rows: list[dict] = []
    shown = table[table["correct"]] if correct_only else table
    for (relation, form), part in shown.groupby(["relation", "form"], sort=False):
        for token in ("argument", "answer"):
            ranks = part.pivot(index="item", columns="layer", values=f"rank_{token}")
            named = {"relation": relation, "form": form, "token": token}
            rows += [named | row for row in layer_rows(1.0 / ranks, seed=seed)]
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


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
    for (relation, form), part in table[table["correct"]].groupby(["relation", "form"], sort=False):
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
            row |= row_of(share(shown), "share")
            if layers.get(stage):
                row["median_layer"] = float(np.median(layers[stage]))
                row["relative_depth"] = (row["median_layer"] + 1) / n_layers
            rows.append(row)
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)


def example_items(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one item per relation and form: the paper's own example where it was run.

    Otherwise the first correctly answered item, otherwise the first.
    """
    chosen = []
    for (relation, _), part in table.groupby(["relation", "form"], sort=False):
        wanted = part[part["argument"] == shown_argument(relation)]
        pool = next(p for p in (wanted, part[part["correct"]], part) if not p.empty)
        chosen.append(part[part["item"] == pool["item"].iloc[0]])
    return pd.concat(chosen, ignore_index=True)


def signature_items(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first correctly answered item per relation with the whole signature.

    Relations without such an item give no rows.
    """
    chosen = []
    for _, part in table[table["correct"]].groupby(["relation", "form"], sort=False):
        whole = (item for _, item in part.groupby("item") if _of_item(item).has_signature)
        chosen += islice(whole, 1)
    return pd.concat(chosen, ignore_index=True) if chosen else table.iloc[:0]


def _of_item(rows: pd.DataFrame) -> ItemStages:
    rows = rows.sort_values("layer")
    return detect_stages(rows["rank_argument"].to_numpy(), rows["rank_answer"].to_numpy())


def final_top_tokens(table: pd.DataFrame, *, count: int = 3) -> pd.DataFrame:
    """The commonest last-layer top tokens per relation and form, with their share of all items."""
    last = table[table["layer"] == table["layer"].max()]
    shares = (
        last.groupby(["relation", "form"], sort=False)["top_token"]
        .value_counts(normalize=True)
        .groupby(level=[0, 1], sort=False)
        .head(count)
    )
    return shares.rename("share").reset_index()


def _per_item(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop_duplicates(["relation", "form", "item"])


def claim(table: pd.DataFrame, *, model: str, relations: Sequence[str], seed: int = 0) -> Claim:
    """The verdict on the stages, by the rule `claims.RULES["stages"]`, over these relations."""
    confidence = corrected(len(relations))
    evidence = []
    for relation in relations:
        items = _per_item(table[table["relation"] == relation])
        known = share(items["correct"].to_numpy(), confidence=confidence)
        evidence.append(
            Evidence(
                relation=relation, criterion=ANSWERS, found=known, bound=0.1, kind="precondition"
            )
        )
        correct = table[(table["relation"] == relation) & table["correct"]]
        whole = [_of_item(item).has_signature for _, item in correct.groupby("item")]
        found = share(whole, confidence=confidence) if whole else nothing()
        evidence.append(
            Evidence(
                relation=relation, criterion=SHOWS_STAGES, found=found, bound=0.5, kind="paper"
            )
        )
    printed = claims.published("stages", model)
    return claims.judge(claims.RULES["stages"], evidence, model=model, published=printed)
