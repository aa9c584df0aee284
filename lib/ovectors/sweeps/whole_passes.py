"""The slow way, which works for every model: hooks, and a pass of all layers for each point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from ovectors.forward import progress_bar
from ovectors.interventions import during
from ovectors.stream import record
from ovectors.sweeps.points import Piece, Point, Settings

if TYPE_CHECKING:
    from ovectors.forward import Encoded
    from ovectors.models import LanguageModel


def pieces(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    points: Mapping[int, Point],
    settings: Settings,
) -> Iterator[Piece]:
    """The last token's states after the chosen layers under each of the points."""
    shown = {"title": settings.title, "shown": settings.progress}
    for number, point in progress_bar(list(points.items()), **shown):
        recorded = record(
            model,
            encoded,
            parts=("after",),
            layers=settings.layers,
            around=during(model, list(point)),
            budget_bytes=settings.budget_bytes,
        )
        rows = torch.arange(recorded["after"].shape[1])
        for layer in settings.layers:
            states = recorded.at("after", layer)[None]
            yield Piece(points=(number,), rows=rows, layer=layer, states=states)
