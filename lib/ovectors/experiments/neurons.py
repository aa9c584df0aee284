"""How many neurons of an FFN carry its o vector: the largest few, or the many others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ovectors.experiments.linear_update import interval_columns
from ovectors.experiments.readout import read_out
from ovectors.experiments.switches import (
    Answered,
    answered,
    crossed,
    item_columns,
    some_of,
    torch_places,
)
from ovectors.forward import Batch, Encoded, execution_device, progress_bar
from ovectors.lens import LogitLens
from ovectors.models import LanguageModel
from ovectors.relations import Relation
from ovectors.statistics import share
from ovectors.stream import record

LARGEST, REST, RANDOM = "the largest k", "all but the largest k", "k at random"
KEPT = (LARGEST, REST, RANDOM)
UNIT_BYTES = 64 * 2**20
COLUMNS = ["layer", "kept", "k", "neurons", "rank_argument", "rank_answer", "lead"]
SHARE_COLUMNS = ["relation", "kept", "k", "neurons", "share", "low", "high", "n"]
NEED_COLUMNS = ["relation", "half", "nine_tenths", "rest_fails", "neurons", "n"]


def activations(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    layers: Int[Tensor, " prompt"],
    *,
    progress: bool = False,
) -> list[Float[Tensor, " neuron"]]:
    """The activations of FFN neurons at each prompt's last token, at one layer for each prompt.

    They are what the FFN's last matrix reads: in a gated FFN the product of gate and value. On the
    CPU, in the model's dtype. One clean pass, hooks that only read.
    """
    kept: list[Tensor] = [torch.empty(0)] * len(layers)
    record(
        model,
        encoded,
        parts=("ffn",),
        layers=[int(layers[0])],
        around=_watching(model, layers, kept),
        progress=progress,
    )
    return kept


def _watching(
    model: LanguageModel, layers: Int[Tensor, " prompt"], kept: list[Tensor]
) -> Callable[[Batch], AbstractContextManager]:
    """For `stream.record(around=...)`: fills `kept` at the places of each batch."""

    @contextmanager
    def around(batch: Batch) -> Iterator[None]:
        handles = []
        try:
            for layer in sorted(set(layers[batch.rows].tolist())):
                projection = model.architecture.projection_of(model.layers[layer])
                hook = _keeper(batch, layers[batch.rows] == layer, kept)
                handles.append(projection.register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()

    return around


def _keeper(batch: Batch, wanted: Tensor, kept: list[Tensor]) -> Callable:
    def keep(_module: nn.Module, args: tuple, _output: Tensor) -> None:
        for row in torch.nonzero(wanted)[:, 0].tolist():
            state = args[0][row, int(batch.last[row])]
            kept[int(batch.rows[row])] = state.detach().cpu().clone()

    return keep


@torch.no_grad()
def projected(
    model: LanguageModel, layer: int, inner: Float[Tensor, "row neuron"]
) -> Float[Tensor, "row d_model"]:
    """What an FFN adds for these activations: its last matrix, and its bias, if it has one.

    The module itself is called, so that it makes no difference which way round it stores its
    weights (GPT-2's does it unlike all others), or whether they are in memory.
    """
    projection = model.architecture.projection_of(model.layers[layer])
    return projection(inner.to(execution_device(projection), model.dtype)).float().cpu()


def row_norms(model: LanguageModel, layer: int, neurons: int) -> Float[Tensor, " neuron"]:
    """The length of each neuron's row: of what it adds to the stream at activation 1."""
    bias = projected(model, layer, torch.zeros(1, neurons))
    rows = max(1, UNIT_BYTES // (4 * neurons))
    norms = []
    for start in range(0, neurons, rows):
        some = torch.arange(start, min(start + rows, neurons))
        units = torch.zeros(len(some), neurons)
        units[torch.arange(len(some)), some] = 1.0
        norms.append((projected(model, layer, units) - bias).norm(dim=1))
    return torch.cat(norms)


def counts_of(neurons: int) -> list[int]:
    """The values of k that are tried: 0, the powers of two, and all."""
    powers = [2**power for power in range(neurons.bit_length())]
    return sorted({0, *(k for k in powers if k < neurons), neurons})


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
            found = _decode(run, places[at], layer, added, lens)
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
    ids = run.encoded.argument_ids[at], run.encoded.answer_ids[at]
    return places[read_out(LogitLens(model), bare, *ids).rank_answer != 1]


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


def _decode(run: Answered, places: np.ndarray, layer: int, added: Tensor, lens: LogitLens):
    at = torch_places(places)
    states = run.without_ffn(layer)[at] + added
    return read_out(lens, states, run.encoded.argument_ids[at], run.encoded.answer_ids[at])


def neuron_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Share of items whose answer is on top with the kept neurons, with 95% intervals."""
    rows = []
    by = ["relation", "kept", "k"]
    for names, part in table.groupby(by, sort=False):
        found = share((part["rank_answer"] == 1).to_numpy())
        row = dict(zip(by, names, strict=True)) | {"neurons": int(part["neurons"].iloc[0])}
        rows.append(row | interval_columns(found))
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
