"""How alike what FFNs add is: cosines between items of a relation and between relations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ovectors.experiments.linear_update.measure.answered import crossed, item_columns, torch_places
from ovectors.experiments.linear_update.measure.linearity import Fitted, fit_all
from ovectors.experiments.shared.tables import together
from ovectors.forward import progress_bar
from ovectors.models import LanguageModel
from ovectors.relations import Relation

OWN_LAYERS, SAME_LAYER = "own switching layer", "same layer"
COLUMNS = ["other", "at", "layer", "centred", "cosine"]


def cosines(
    model: LanguageModel,
    relations: Sequence[Relation | str],
    *,
    form: str = "one_shot",
    most: int = 300,
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """How alike what FFNs add is, between items of a relation and between relations.

    Over the same report items as `linearity`. Per item, the mean cosine between its vector and
    those of all other items of a relation: the o vectors, each from its own switching layer, and
    the outputs of one layer's FFN for all items. Once as they are, once `centred`, with the mean of
    all relations' mean vectors (development items, same layer) taken away: what FFN outputs of one
    layer have in common, whatever is asked, makes any two of them look alike.

    Returns one row per item, other relation, layer and centring: the item's columns, other, at
    (`own switching layer` or `same layer`), layer (the item's own), centred, cosine.
    """
    asked = {"form": form, "most": most, "n_items": n_items, "seed": seed}
    fitted = fit_all(model, relations, **asked, progress=progress)
    usable = {name: one for name, one in fitted.items() if one.means is not None}
    usable = {name: one for name, one in usable.items() if len(one.report)}
    pieces: dict[str, list[dict[str, object]]] = {name: [] for name in usable}
    if usable:
        common = torch.stack([one.means for one in usable.values()]).mean(dim=0)
        layers = [None, *range(len(common))]
        for layer in progress_bar(layers, title="cosines", shown=progress):
            for centred in (False, True):
                taken = common if centred else torch.zeros_like(common)
                units = {name: _units(one, layer, taken) for name, one in usable.items()}
                for name, one in usable.items():
                    pieces[name] += _pieces(one, name, units, layer, centred)
    nothing = crossed(item_columns(model, next(iter(fitted.values())).run), [], columns=COLUMNS)
    tables = [
        crossed(item_columns(model, one.run), pieces[name], columns=COLUMNS)
        for name, one in usable.items()
    ]
    return together(tables or [nothing])


def _units(
    one: Fitted, layer: int | None, common: Float[Tensor, "layer d_model"]
) -> Float[Tensor, "item d_model"]:
    """Directions of the report items' FFN outputs at a layer, or at their own switching layers."""
    at = torch_places(one.report)
    layers = torch_places(one.run.switch[one.report] if layer is None else at * 0 + layer)
    vectors = (one.run.stream["ffn"][layers, at] - common[layers]).double()
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-30)


def _pieces(
    one: Fitted, name: str, units: Mapping[str, Tensor], layer: int | None, centred: bool
) -> Iterator[dict[str, object]]:
    """Each item's mean cosine with the items of every relation, its own left out."""
    mine = units[name]
    for other, theirs in units.items():
        # The mean of a vector's cosines is its product with the sum of the others' directions.
        total, count = mine @ theirs.sum(dim=0), len(theirs)
        if other == name:
            total, count = total - mine.square().sum(dim=1), count - 1
        yield {
            "places": one.report,
            "other": other,
            "at": OWN_LAYERS if layer is None else SAME_LAYER,
            "layer": one.run.switch[one.report] if layer is None else layer,
            "centred": centred,
            "cosine": (total / count).numpy() if count else np.nan,
        }
