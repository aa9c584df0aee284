"""One mean vector, or an affine map, in place of the FFN: how linear its update is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovectors.experiments.linear_update.measure.affine import LEAST_TO_FIT, AffineMap, fit_affine
from ovectors.experiments.linear_update.measure.answered import (
    Answered,
    answered,
    crossed,
    item_columns,
    some_of,
    torch_places,
)
from ovectors.experiments.shared.tables import together
from ovectors.forward import progress_bar
from ovectors.lens import LogitLens
from ovectors.models import LanguageModel
from ovectors.relations import Relation

NOTHING, WHOLE, MEAN = "nothing", "the FFN's own output", "mean vector"
REMAINDER, AFFINE, OTHERS = "own remainder", "affine map", "other tasks' mean vector"
ADDED = (NOTHING, WHOLE, MEAN, REMAINDER, AFFINE, OTHERS)
COLUMNS = ["layer", "added", "fitted_on", "penalty", "squared_norm", "squared_error", "lead"]
COLUMNS += ["rank_argument", "rank_answer", "same_top"]


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
        found = one.run.read(lens, states, one.report)
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
