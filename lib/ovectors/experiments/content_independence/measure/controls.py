"""Vectors that are not one example's own: means, other scales, a mean FFN output, none at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ovectors import stream
from ovectors.encoding import EncodedPrompts
from ovectors.experiments.content_independence.measure.bench import prepare
from ovectors.experiments.content_independence.measure.demonstrations import wrongly_demonstrated
from ovectors.experiments.shared.replacing import CONTROL, Vector, source_vectors
from ovectors.experiments.shared.sources import Task

if TYPE_CHECKING:
    from ovectors.models import LanguageModel
    from ovectors.relations import Relation

WRONG = "wrong demonstration"
TEXT, LAST = "mean FFN output (all tokens but the first)", "mean FFN output (last tokens)"
ZERO = "zero"
SCALES = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
MEANS = (5, 20)


def mean_condition(count: int) -> str:
    """The condition's name for the mean of several own vectors."""
    return f"mean of {count} own vectors"


def control_vectors(
    model: LanguageModel,
    relation: Relation | str,
    *,
    source_layer: int,
    start_layer: int,
    group: str = "",
    vectors_from: Relation | str = "",
    vectors_group: str = "",
    positions: str = "all",
    n_sources: int = 20,
    n_controls: int = 10,
    n_items: int = 0,
    max_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Vectors that are not one example's own, on the same items as `content_independence`.

    Conditions: the sources' prompts with a wrong pair as demonstration (`n_controls` of them); the
    means of several own vectors; what the FFN of the source layer adds on average while it reads
    the nonsense patterns of the development items, over all tokens but each first; zero.
    One row for each vector and item, the control run among them: see `replacing.measure`.
    """
    put_in = {"source_layer": source_layer, "start_layer": start_layer, "positions": positions}
    drawn = {"n_sources": n_sources, "n_items": n_items, "max_items": max_items, "seed": seed}
    named = {"vectors_from": vectors_from, "vectors_group": vectors_group}
    task = Task(relation=relation, group=group, **named)
    bench = prepare(model, task, progress=progress, **put_in, **drawn)
    used, own = bench.used, bench.own
    shown = wrongly_demonstrated(
        model, task.origin.relation, used.sources, count=n_controls, seed=seed
    )
    vectors = source_vectors(model, shown, source_layer, condition=WRONG) if shown else []
    for count in dict.fromkeys(min(count, len(own)) for count in MEANS):
        vectors.append(_averaged(own[:count], mean_condition(count)))
    values = mean_ffn_output(model, used.development, source_layer)
    vectors.append(Vector(condition=TEXT, name="", values=values, layer=source_layer))
    vectors.append(Vector(condition=ZERO, name="", values=torch.zeros_like(own[0].values)))
    return bench.measure(vectors)


def scales(
    model: LanguageModel,
    relation: Relation | str,
    *,
    source_layer: int,
    start_layer: int,
    group: str = "",
    vectors_from: Relation | str = "",
    vectors_group: str = "",
    positions: str = "all",
    factors: Sequence[float] = SCALES,
    n_sources: int = 5,
    n_items: int = 0,
    max_items: int = 150,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Own vectors, longer and shorter. Rows as of `replacing.measure`, with the factor in `scale`.

    The control run stands there once, with scale 0 (nothing is replaced in it).
    """
    put_in = {"source_layer": source_layer, "start_layer": start_layer, "positions": positions}
    drawn = {"n_sources": n_sources, "n_items": n_items, "max_items": max_items, "seed": seed}
    named = {"vectors_from": vectors_from, "vectors_group": vectors_group}
    task = Task(relation=relation, group=group, **named)
    bench = prepare(model, task, progress=progress, **put_in, **drawn)
    scaled = [replace(one, scale=float(factor)) for factor in factors for one in bench.own]
    table = bench.measure(scaled)
    return table.assign(scale=table["scale"].where(table["condition"] != CONTROL, 0.0))


def _averaged(vectors: Sequence[Vector], condition: str) -> Vector:
    values = torch.stack([one.values for one in vectors]).mean(dim=0)
    return Vector(condition=condition, name="", values=values, layer=vectors[0].layer)


def mean_ffn_output(
    model: LanguageModel, encoded: EncodedPrompts, layer: int, *, last_only: bool = False
) -> Float[Tensor, " d_model"]:
    """What one layer's FFN adds on average while the model reads these prompts, unchanged.

    Over the last token of each prompt, or over all tokens but the first, which in many models has a
    state a hundred times as large as any other and says nothing of the text.
    """
    lengths = encoded.lengths
    places = [-1] if last_only else range(1, int(lengths.max()))
    total, count = torch.zeros(model.d_model, dtype=torch.float64), 0
    for place in places:
        rows = [row for row, length in enumerate(lengths.tolist()) if place < length]
        part = encoded.select(rows)
        at = part.lengths - 1 if last_only else torch.full((len(rows),), place)
        added = stream.record(model, part, parts=("ffn",), layers=(layer,), positions=at)["ffn"][0]
        total += added.double().sum(dim=0)
        count += len(rows)
    return (total / count).to(torch.float32)
