"""What every measurement of a task starts from: its items, its own vectors, its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ovectors.experiments.shared.replacing import OWN, Vector, measure, source_vectors
from ovectors.experiments.shared.sources import Material, Task, material

if TYPE_CHECKING:
    from ovectors.models import LanguageModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """A task ready for vectors to be put in.

    Attributes:
        used: sources, and the items that choose and that are reported.
        own: the sources' o vectors.
        options: as `replacing.measure` takes them: start_layer, positions, answers, seed, progress.
    """

    model: LanguageModel
    used: Material
    own: tuple[Vector, ...]
    options: dict[str, Any]

    def measure(
        self, vectors: Sequence[Vector], *, layers: Sequence[int] | None = (-1,)
    ) -> pd.DataFrame:
        """The reported items as they are and with each vector: see `replacing.measure`."""
        return measure(self.model, self.used.report, vectors, layers=layers, **self.options)


def prepare(
    model: LanguageModel,
    task: Task,
    *,
    source_layer: int,
    start_layer: int,
    positions: str,
    seed: int,
    progress: bool,
    **drawn: Any,
) -> Bench:
    """Find a task's items and sources, and take the sources' vectors from `source_layer`.

    `drawn`: how many of them, as `sources.material` takes it: n_sources, n_items, max_items,
    examples.
    """
    used = material(model, task, seed=seed, **drawn)
    own = source_vectors(model, used.sources, source_layer, condition=OWN)
    options = {"start_layer": start_layer, "positions": positions, "answers": used.answers}
    options |= {"seed": seed, "progress": progress}
    return Bench(model=model, used=used, own=tuple(own), options=options)
