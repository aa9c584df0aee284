"""Subtracting and adding the o vector: arithmetic on recorded states (section 4.1, figure 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovectors.experiments.linear_update.measure.answered import (
    Answered,
    answered,
    crossed,
    item_columns,
    some_of,
    torch_places,
)
from ovectors.experiments.linear_update.measure.readout import ReadOut
from ovectors.experiments.shared.tokens import token_words
from ovectors.forward import progress_bar
from ovectors.lens import LogitLens
from ovectors.models import LanguageModel
from ovectors.relations import Relation

SUBTRACT, ADD = "subtract", "add"
OWN, RANDOM = "o vector", "random vector"
DEMO_SCALES = (0.9, 1.0, 2.0, 3.0, 4.0)
SCALES = (0.25, 0.5, 0.75, *DEMO_SCALES[:2], 1.5, *DEMO_SCALES[2:])
COLUMNS = ["operation", "source_layer", "layer", "offset", "full", "vector", "draw", "scale"]
COLUMNS += ["rank_argument", "rank_answer", "lead", "top_token"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One vector a state, added to or subtracted from the states of some items at some layers.

    Attributes:
        places: which prompts; layers: after which layer, one each.
        full: whether these are the states on which every item and scale is tried.
        draw: which random vector; 0 for the o vector.
    """

    operation: str
    places: Int[np.ndarray, " state"]
    layers: Int[np.ndarray, " state"]
    full: bool
    vector: str = OWN
    draw: int = 0
    scale: float = 1.0


def arithmetic(
    model: LanguageModel,
    relation: Relation | str,
    *,
    form: str = "one_shot",
    layer: int | None = None,
    scales: Sequence[float] = SCALES,
    draws: int = 5,
    most: int = 300,
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Subtract an item's o vector where the answer has taken over, add it where the argument leads.

    Arithmetic on recorded states and the lens: no pass is changed. The o vector is what the FFN of
    the item's switching layer adds at the last token (of `layer`, where one is given: then only
    items with the answer on top after it). It is subtracted after that layer and after each later
    one that has the answer on top, and added after each earlier one that has the argument on top.
    The control is a random direction of equal norm, `draws` of them an item.

    At the switching layer, and for adding at the last such layer before it, every item is tried at
    scale 1 and at most `most` items at all `scales`; at the other layers, at most `most` items at
    the demo's scales with one draw. Returns one row a trial: the item's columns, then operation,
    source_layer, layer, offset (layer - source_layer), full (whether the state is of the first
    kind), vector, draw, scale, rank_argument, rank_answer, lead (answer's logit minus argument's),
    top_token. No row where no item is answered. UserError for a layer the model does not have.
    """
    asked = {"form": form, "n_items": n_items, "seed": seed, "progress": progress}
    run = answered(model, relation, **asked)
    source = _source_layers(model, run, layer)
    vectors = _vectors(run, source, draws=draws, seed=seed)
    trials = list(_trials(run, source, scales=scales, draws=draws, most=most, seed=seed))
    lens = LogitLens(model)
    pieces: list[dict] = []
    for trial in progress_bar(trials, title="adding and subtracting", shown=progress):
        found = _try(run, lens, trial, vectors)
        at = source[trial.places]
        piece = {"places": trial.places, "source_layer": at, "layer": trial.layers}
        piece |= {"operation": trial.operation, "offset": trial.layers - at, "full": trial.full}
        piece |= {"vector": trial.vector, "draw": trial.draw, "scale": trial.scale}
        pieces.append(piece | found.measures | {"top_token": found.top})
    table = crossed(item_columns(model, run), pieces, columns=COLUMNS)
    table["top_token"] = token_words(model, table["top_token"].to_numpy(dtype=np.int64))
    return table


def _source_layers(
    model: LanguageModel, run: Answered, layer: int | None
) -> Int[np.ndarray, " prompt"]:
    """The layer that each item's o vector comes from, -1 for items without one."""
    if layer is None:
        return np.where(run.switched, run.switch, -1)
    (number,) = model.layer_numbers([layer])
    there = run.correct & (run.by_layer("rank_answer")[number] == 1)
    return np.where(there, number, -1)


def _vectors(
    run: Answered, source: Int[np.ndarray, " prompt"], *, draws: int, seed: int
) -> dict[tuple[str, int], Float[Tensor, "prompt d_model"]]:
    """Each item's o vector, and random directions of the same length."""
    ffn = run.stream["ffn"]
    own = ffn[torch_places(np.maximum(source, 0)), torch.arange(ffn.shape[1])]
    vectors = {(OWN, 0): own}
    generator = torch.Generator().manual_seed(seed)
    for draw in range(draws):
        noise = torch.randn(own.shape, generator=generator, dtype=own.dtype)
        unit = noise / noise.norm(dim=1, keepdim=True)
        vectors[RANDOM, draw] = unit * own.norm(dim=1, keepdim=True)
    return vectors


def _trials(
    run: Answered,
    source: Int[np.ndarray, " prompt"],
    *,
    scales: Sequence[float],
    draws: int,
    most: int,
    seed: int,
) -> Iterator[Trial]:
    """Every trial of `arithmetic`, by operation and distance from the source layer."""
    answer, argument = run.by_layer("rank_answer") == 1, run.by_layer("rank_argument") == 1
    n_layers, _ = run.shape
    everyone = np.flatnonzero(source >= 0)
    some = some_of(everyone, most, seed=seed)
    before = np.arange(n_layers)[:, None] < source
    leads = argument & before
    nearest = np.where(leads.any(axis=0), n_layers - 1 - np.argmax(leads[::-1], axis=0), -1)
    first = {SUBTRACT: source, ADD: nearest}
    for operation, layers in first.items():
        every = everyone[layers[everyone] >= 0]
        yield from _at(operation, every, layers[every], [1.0], draws=draws, full=True)
        few = some[layers[some] >= 0]
        others = [scale for scale in scales if scale != 1]
        yield from _at(operation, few, layers[few], others, draws=draws, full=True)
    for layer in range(n_layers):
        for operation, open_to in (
            (SUBTRACT, answer[layer] & (source < layer)),
            (ADD, leads[layer] & (nearest != layer)),
        ):
            few = some[open_to[some]]
            at = np.full(len(few), layer)
            yield from _at(operation, few, at, DEMO_SCALES, draws=min(draws, 1), full=False)


def _at(
    operation: str,
    places: Int[np.ndarray, " state"],
    layers: Int[np.ndarray, " state"],
    scales: Sequence[float],
    *,
    draws: int,
    full: bool,
) -> Iterator[Trial]:
    """The o vector and its controls, at these states and scales; nothing where there are none."""
    one = Trial(operation=operation, places=places, layers=layers, full=full)
    for scale in scales if len(places) else ():
        yield replace(one, scale=float(scale))
        for draw in range(draws):
            yield replace(one, scale=float(scale), vector=RANDOM, draw=draw)


def _try(run: Answered, lens: LogitLens, trial: Trial, vectors: dict) -> ReadOut:
    places = torch_places(trial.places)
    sign = 1 if trial.operation == ADD else -1
    states = run.stream["after"][torch_places(trial.layers), places]
    moved = states + sign * trial.scale * vectors[trial.vector, trial.draw][places]
    return run.read(lens, moved, trial.places)
