"""How linear the FFN update is: one mean vector, or an affine map, in place of the FFN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovectors.experiments.affine import LEAST_TO_FIT, AffineMap, fit_affine
from ovectors.experiments.linear_update import interval_columns
from ovectors.experiments.readout import ReadOut, read_out
from ovectors.experiments.switches import (
    NO_SWITCH,
    Answered,
    answered,
    crossed,
    item_columns,
    some_of,
    together,
    torch_places,
)
from ovectors.forward import progress_bar
from ovectors.lens import LogitLens
from ovectors.models import LanguageModel
from ovectors.relations import Relation
from ovectors.statistics import (
    N_RESAMPLES,
    Interval,
    bootstrap_bands,
    nothing,
    share,
)

NOTHING, WHOLE, MEAN = "nothing", "the FFN's own output", "mean vector"
REMAINDER, AFFINE, OTHERS = "own remainder", "affine map", "other tasks' mean vector"
ADDED = (NOTHING, WHOLE, MEAN, REMAINDER, AFFINE, OTHERS)
COLUMNS = ["layer", "added", "fitted_on", "penalty", "squared_norm", "squared_error", "lead"]
COLUMNS += ["rank_argument", "rank_answer", "same_top"]
BAND_COLUMNS = ["relation", "added", "layer", "mean", "low", "high", "n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A relation's run with what its development items taught: a mean and a map for each layer.

    Attributes:
        fitted_on: how many development items that were answered correctly; none of the rest is
            there where they are fewer than LEAST_TO_FIT.
        report: the places of the items that are measured.
    """

    run: Answered
    fitted_on: int
    report: Int[np.ndarray, " place"]
    means: Float[Tensor, "layer d_model"] | None
    maps: tuple[AffineMap, ...]


def fit(run: Answered, *, most: int, seed: int) -> Fitted:
    """Fit on development items answered correctly; measure on at most `most` of the others."""
    places = np.flatnonzero(run.correct & run.development)
    report = some_of(np.flatnonzero(run.switched & ~run.development), most, seed=seed)
    if len(places) < LEAST_TO_FIT:
        return Fitted(run=run, fitted_on=len(places), report=report, means=None, maps=())
    at = torch_places(places)
    added = run.stream["ffn"][:, at]
    maps = tuple(fit_affine(run.without_ffn(i)[at], own) for i, own in enumerate(added))
    return Fitted(run=run, fitted_on=len(places), report=report, means=added.mean(dim=1), maps=maps)


def fit_all(
    model: LanguageModel,
    relations: Sequence[Relation | str],
    *,
    form: str,
    most: int,
    n_items: int | None,
    seed: int,
    progress: bool,
) -> dict[str, Fitted]:
    """Run and fit every relation, by its name."""
    fitted = {}
    for relation in progress_bar(relations, title="fitting mean vectors", shown=progress):
        run = answered(model, relation, form=form, n_items=n_items, seed=seed)
        fitted[run.relation.name] = fit(run, most=most, seed=seed)
    return fitted


def mean_of_others(
    fitted: Mapping[str, Fitted], name: str
) -> Float[Tensor, "layer d_model"] | None:
    """The mean of the other relations' mean vectors, each counted once; None without any."""
    others = [one.means for other, one in fitted.items() if other != name]
    known = [means for means in others if means is not None]
    return torch.stack(known).mean(dim=0) if known else None


def linearity(
    model: LanguageModel,
    relations: Sequence[Relation | str],
    *,
    form: str = "one_shot",
    most: int = 300,
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Put simpler things in place of what the FFN adds, at every layer, and decode.

    Fitted on the development items of a relation that are answered correctly, measured on at most
    `most` of its other items that are. `added` is what the state without the FFN's output is given:

    - nothing;
    - the FFN's own output (the o vector, where the layer is the item's switching layer);
    - the mean vector: the mean of the FFN's outputs over the development items;
    - the own remainder: the item's own output minus the mean vector;
    - the affine map: the mean vector plus a linear function of the state (`fit_affine`);
    - the other tasks' mean vector: the mean of the other relations' mean vectors.

    Returns one row per item, layer and `added`: the item's columns, layer, added, fitted_on,
    penalty (of the affine map), squared_norm (of the FFN's output), squared_error (its squared
    distance from what was added), lead (answer's logit minus argument's), rank_argument,
    rank_answer, same_top (the top token is that of the true state). A relation without two
    development items to fit on has no row.
    """
    asked = {"form": form, "most": most, "n_items": n_items, "seed": seed}
    fitted = fit_all(model, relations, **asked, progress=progress)
    lens = LogitLens(model)
    tables = []
    for name, one in progress_bar(fitted.items(), title="mean vectors", shown=progress):
        if one.means is None or not len(one.report):
            continue
        others = mean_of_others(fitted, name)
        pieces = [
            piece
            for layer in range(len(one.means))
            for piece in _at_layer(one, others, layer, lens)
        ]
        tables.append(crossed(item_columns(model, one.run), pieces, columns=COLUMNS))
    nothing_measured = item_columns(model, next(iter(fitted.values())).run)
    return together(tables or [crossed(nothing_measured, [], columns=COLUMNS)])


def _at_layer(
    one: Fitted, others: Tensor | None, layer: int, lens: LogitLens
) -> Iterator[dict[str, object]]:
    """The measurements at one layer: for each thing that is added, one piece of the table."""
    at = torch_places(one.report)
    base = one.run.without_ffn(layer)[at]
    own = one.run.stream["ffn"][layer, at]
    mean = one.means[layer].expand_as(own)
    added = {WHOLE: own, NOTHING: torch.zeros_like(own), MEAN: mean, REMAINDER: own - mean}
    added[AFFINE] = one.maps[layer](base)
    if others is not None:
        added[OTHERS] = others[layer].expand_as(own)
    true_top = None
    for name, vectors in added.items():
        states = one.run.stream["after"][layer, at] if name == WHOLE else base + vectors
        found = _decode(one.run, at, states, lens)
        true_top = found.top if true_top is None else true_top
        yield found.measures | {
            "places": one.report,
            "layer": layer,
            "added": name,
            "fitted_on": one.fitted_on,
            "penalty": one.maps[layer].penalty if name == AFFINE else np.nan,
            "squared_norm": own.double().square().sum(dim=1).numpy(),
            "squared_error": (own - vectors).double().square().sum(dim=1).numpy(),
            "same_top": found.top == true_top,
        }


def _decode(run: Answered, at: Tensor, states: Tensor, lens: LogitLens) -> ReadOut:
    return read_out(lens, states, run.encoded.argument_ids[at], run.encoded.answer_ids[at])


def fitted_on(table: pd.DataFrame) -> dict[str, int]:
    """On how many development items each relation's mean vectors and affine maps were fitted."""
    return table.groupby("relation", sort=False)["fitted_on"].first().astype(int).to_dict()


def explained(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The share of the FFN outputs' squared length that is explained, per layer, 95% intervals.

    1 - (sum of squared errors) / (sum of squared lengths) over the report items: 1 where what was
    added is the FFN's output on every item, 0 where it is no better than nothing, below 0 where it
    is worse. For the mean vector, the affine map and the other tasks' mean vector.
    """
    rows = []
    for (relation, added), part in table.groupby(["relation", "added"], sort=False):
        if added not in (MEAN, AFFINE, OTHERS):
            continue
        for layer, at in part.groupby("layer"):
            found = ratio(at["squared_error"].to_numpy(), at["squared_norm"].to_numpy(), seed=seed)
            rows.append(_band(relation, added, layer, found))
    return pd.DataFrame(rows, columns=BAND_COLUMNS)


def ratio(
    errors: Float[np.ndarray, " item"], totals: Float[np.ndarray, " item"], *, seed: int = 0
) -> Interval:
    """1 - sum of errors / sum of totals, with a 95% percentile bootstrap over items."""
    if not totals.sum():
        return nothing()
    value = float(1 - errors.sum() / totals.sum())
    if len(errors) == 1:
        return Interval(value=value, low=np.nan, high=np.nan, n=1)
    counts = _resamples(len(errors), seed)
    low, high = np.percentile(1 - (counts @ errors) / (counts @ totals), [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high), n=len(errors))


@cache
def _resamples(n: int, seed: int) -> Float[np.ndarray, "resample item"]:
    """How often each of n items is drawn in each resample; the same for all layers."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES).astype(np.float64)


def _band(relation: str, added: str, layer: int, found: Interval) -> dict[str, object]:
    row = {"relation": relation, "added": added, "layer": int(layer), "mean": found.value}
    return row | {"low": found.low, "high": found.high, "n": found.n}


def _bands(table: pd.DataFrame, values: pd.Series, added: Sequence[str], *, seed: int):
    """Means over items per relation, kind and layer, items kept whole over layers."""
    rows = []
    shown = table.assign(value=values)[table["added"].isin(added)]
    for (relation, name), part in shown.groupby(["relation", "added"], sort=False):
        wide = part.pivot(index="item", columns="layer", values="value")
        bands = bootstrap_bands(wide.to_numpy(dtype=np.float64), seed=seed)
        for layer, found in zip(wide.columns, bands, strict=True):
            rows.append(_band(relation, name, layer, found))
    return pd.DataFrame(rows, columns=BAND_COLUMNS)


def gains(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """By how much each thing raises the answer's lead over the argument, in logits, per layer.

    The lead with it minus the lead with nothing, mean over report items with 95% intervals. The
    lens normalises each state, so the parts need not add up to the whole.
    """
    key = ["relation", "item", "layer"]
    bare = table[table["added"] == NOTHING].set_index(key)["lead"]
    before = bare.reindex(pd.MultiIndex.from_frame(table[key])).to_numpy()
    gained = table["lead"] - before
    return _bands(table, gained, (WHOLE, MEAN, REMAINDER, OTHERS), seed=seed)


def faithfulness(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Share of report items whose top token is that of the true state after the layer, per layer.

    With nothing added, with the mean vector, with the affine map; 95% intervals.
    """
    return _bands(table, table["same_top"].astype(float), (NOTHING, MEAN, AFFINE), seed=seed)


def at_switch(table: pd.DataFrame) -> pd.DataFrame:
    """The same at the items' own switching layers, where the answer is not on top without the FFN.

    One row per relation and kind: share of items with the answer on top, low, high, n.
    """
    rows = []
    there = table[(table["layer"] == table["switch"]) & (table["switch"] != NO_SWITCH)]
    bare = there[there["added"] == NOTHING]
    needed = bare[bare["rank_answer"] != 1].set_index(["relation", "item"]).index
    shown = there[pd.MultiIndex.from_frame(there[["relation", "item"]]).isin(needed)]
    for (relation, added), part in shown.groupby(["relation", "added"], sort=False):
        found = share((part["rank_answer"] == 1).to_numpy())
        rows.append({"relation": relation, "added": added} | interval_columns(found))
    return pd.DataFrame(rows, columns=["relation", "added", "share", "low", "high", "n"])
