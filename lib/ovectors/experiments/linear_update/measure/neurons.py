"""An FFN with some of its neurons alone: what they bring to the top."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovectors.experiments.linear_update.measure.activations import activations, projected, row_norms
from ovectors.experiments.linear_update.measure.answered import (
    Answered,
    answered,
    crossed,
    item_columns,
    some_of,
    torch_places,
)
from ovectors.forward import progress_bar
from ovectors.lens import LogitLens
from ovectors.models import LanguageModel
from ovectors.relations import Relation

LARGEST, REST, RANDOM = "the largest k", "all but the largest k", "k at random"
KEPT = (LARGEST, REST, RANDOM)
COLUMNS = ["layer", "kept", "k", "neurons", "rank_argument", "rank_answer", "lead"]


def neurons(
    model: LanguageModel,
    relation: Relation | str,
    *,
    form: str = "one_shot",
    most: int = 300,
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Keep some neurons of the switching layer's FFN, where the answer needs it, and decode.

    An o vector is a sum: each neuron adds its activation times its row of the output projection,
    and the projection's bias comes on top. The bias belongs to no neuron and is always kept. The
    neurons are ordered by the length of what they add; kept are the largest k, all but those, or k
    drawn at random, once for each item. On at most `most` of the items answered correctly whose
    answer is not on top without the FFN's output at the switching layer.

    Returns one row per item, `kept` and k (0, powers of two, all): the item's columns, layer,
    kept, k, neurons (how many there are), rank_argument, rank_answer, lead. No row where no such
    item is. Arithmetic on activations of one clean pass: nothing later in the model is run again.
    """
    asked = {"form": form, "n_items": n_items, "seed": seed, "progress": progress}
    run = answered(model, relation, **asked)
    items = item_columns(model, run)
    places = some_of(_made_by_ffn(model, run), most, seed=seed)
    if not len(places):
        return crossed(items, [], columns=COLUMNS)
    layers = torch_places(run.switch[places])
    inner = activations(model, run.encoded.select(places), layers, progress=progress)
    lens, generator = LogitLens(model), torch.Generator().manual_seed(seed)
    pieces = []
    for layer in progress_bar(sorted(set(layers.tolist())), title="neurons", shown=progress):
        at = np.flatnonzero(layers.numpy() == layer)
        active = torch.stack([inner[place] for place in at])
        for kept, k, added in _selections(model, layer, active, generator):
            states = run.without_ffn(layer)[torch_places(places[at])] + added
            found = run.read(lens, states, places[at])
            piece = {"places": places[at], "layer": layer, "kept": kept, "k": k}
            pieces.append(piece | {"neurons": active.shape[1]} | found.measures)
    return crossed(items, pieces, columns=COLUMNS)


def _made_by_ffn(model: LanguageModel, run: Answered) -> Int[np.ndarray, " place"]:
    """Items answered correctly whose answer the switching layer's FFN is needed for."""
    places = np.flatnonzero(run.switched)
    if not len(places):
        return places
    at, layers = torch_places(places), torch_places(run.switch[places])
    bare = run.stream["after"][layers, at] - run.stream["ffn"][layers, at]
    return places[run.read(LogitLens(model), bare, places).rank_answer != 1]


def _selections(
    model: LanguageModel,
    layer: int,
    active: Float[Tensor, "item neuron"],
    generator: torch.Generator,
) -> Iterator[tuple[str, int, Float[Tensor, "item d_model"]]]:
    """What the FFN adds with only some of its neurons, for each kind of selection and each k."""
    n_neurons = active.shape[1]
    sizes = active.float().abs() * row_norms(model, layer, n_neurons)
    by_size = sizes.argsort(dim=1, descending=True).argsort(dim=1)  # each neuron's place
    by_chance = torch.rand(active.shape, generator=generator).argsort(dim=1).argsort(dim=1)
    for k in counts_of(n_neurons):
        for kept, chosen in (
            (LARGEST, by_size < k),
            (REST, by_size >= k),
            (RANDOM, by_chance < k),
        ):
            yield kept, k, projected(model, layer, active * chosen)


def counts_of(neurons: int) -> list[int]:
    """The values of k that are tried: 0, the powers of two, and all."""
    powers = [2**power for power in range(neurons.bit_length())]
    return sorted({0, *(k for k in powers if k < neurons), neurons})
