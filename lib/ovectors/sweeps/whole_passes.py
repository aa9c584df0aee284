"""The slow way, which works for every model: hooks, and a pass of all layers for each point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from ovectors.forward import progress_bar
from ovectors.interventions import during
from ovectors.stream import record
from ovectors.sweeps.points import Piece, Point

if TYPE_CHECKING:
    from ovectors.forward import Encoded
    from ovectors.models import LanguageModel


def pieces(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    points: Mapping[int, Point],
    *,
    layers: Sequence[int],
    budget_bytes: int,
    progress: bool,
    title: str,
) -> Iterator[Piece]:
    """The last token's states after `layers` under each of the points."""
    for number, point in progress_bar(list(points.items()), title=title, shown=progress):
        recorded = record(
            model,
            encoded,
            parts=("after",),
            layers=layers,
            around=during(model, list(point)),
            budget_bytes=budget_bytes,
        )
        rows = torch.arange(recorded["after"].shape[1])
        for layer in layers:
            states = recorded.at("after", layer)[None]
            yield Piece(points=(number,), rows=rows, layer=layer, states=states)
