"""Many vectors on the same prompts, each by itself.

At the last position every vector is a point of its own sweep, which is cheap there: only one token
of each prompt changes. At all positions a vector costs a whole pass, and one pass takes the prompts
once for each vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovectors.interventions import Replace
from ovectors.sweeps import Point, sweep

if TYPE_CHECKING:
    from ovectors.encoding import EncodedPrompts
    from ovectors.models import LanguageModel

Ranks = Mapping[str, Float[np.ndarray, "vector prompt"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """Vectors to put in, each by itself, in place of what the FFNs of the same layers add.

    Attributes:
        layers: the layers whose FFN outputs are replaced.
        vectors: one vector a run.
    """

    layers: Sequence[int]
    vectors: Float[Tensor, "vector d_model"]

    def points(self, positions: str) -> list[Point]:
        """A point for each vector."""
        kept = {"layers": self.layers, "positions": positions}
        return [[Replace(vector=vector, **kept)] for vector in self.vectors]

    def stacked(self, positions: str, *, copies: int, prompts: int) -> Point:
        """One point for all vectors, for `copies` of the prompts; the last vector fills up."""
        at = torch.arange(copies).clamp(max=len(self.vectors) - 1)
        each = self.vectors[at].repeat_interleave(prompts, dim=0)
        return [Replace(layers=self.layers, positions=positions, vector=each)]


def replace_each(
    model: LanguageModel,
    encoded: EncodedPrompts,
    trials: Sequence[Trial],
    *,
    positions: str,
    wanted: Mapping[str, Int[Tensor, " prompt"]],
    progress: bool = False,
    title: str = "vectors",
) -> list[Ranks]:
    """Ranks of the wanted tokens after the last layer: the control run's, then each trial's.

    For each name a row a vector; the control run, in which nothing is replaced, has one row.
    `positions`: "all" tokens or only the "last".
    """
    shown = {"progress": progress, "title": title}
    sizes = [1, *(len(trial.vectors) for trial in trials)]
    if positions == "last":
        points = [[], *(point for trial in trials for point in trial.points(positions))]
        found = sweep(model, encoded, points, wanted=wanted, **shown)
        parts = {name: np.split(found.final(name), np.cumsum(sizes)[:-1]) for name in wanted}
    else:
        copies, prompts = max(sizes), len(encoded)
        stack = {"copies": copies, "prompts": prompts}
        points = [[], *(trial.stacked(positions, **stack) for trial in trials)]
        each = encoded.select(list(range(prompts)) * copies)
        repeated = {name: ids.repeat(copies) for name, ids in wanted.items()}
        found = sweep(model, each, points, wanted=repeated, **shown)
        parts = {name: found.final(name).reshape(-1, copies, prompts) for name in wanted}
    return [
        {name: part[number][:size] for name, part in parts.items()}
        for number, size in enumerate(sizes)
    ]
