"""What a sweep asks: settings of interventions, and the states that a way of running them gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from ovectors.interventions import Intervention

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

Point = Sequence[Intervention]
"""One setting of a sweep: interventions that act together; none at all is the control run."""

CLEAN = -1  # the number that stands for "nothing is changed"
ENTRY = ("before", "attention", "ffn")  # what is kept of a layer in which points start


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the passes of a sweep are run, whichever way they are.

    Attributes:
        layers: after which layers the last token's states are wanted, in order, each once.
        budget_bytes: what the passes may take on top of the weights.
        progress, title: whether a progress bar is shown, and what it is called.
    """

    layers: Sequence[int]
    budget_bytes: int
    progress: bool = False
    title: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Some of a sweep's states: the last token's, after one layer.

    Attributes:
        points: the numbers of the points, `CLEAN` for the run without a change.
        rows: which prompts.
        layer: after which layer.
        states: the residual stream there, in the model's dtype.
    """

    points: Sequence[int]
    rows: Int[Tensor, " row"]
    layer: int
    states: Float[Tensor, "point row d_model"]


def first_layer(model: LanguageModel, point: Point) -> int:
    """The first layer that a point changes."""
    return min(min(model.layer_numbers(one.layers)) for one in point)


def only_last(point: Point) -> bool:
    """Whether all of a point's changes are at the last token, whose keys nothing else reads."""
    return all(isinstance(one.positions, str) and one.positions == "last" for one in point)


def only_ffns(model: LanguageModel, point: Point, layer: int) -> bool:
    """Whether all that a point changes in a layer is what its FFN adds."""
    return all(one.kind == "ffn" for one in point if layer in model.layer_numbers(one.layers))


def stream_after(
    model: LanguageModel,
    before: Float[Tensor, "*row d_model"],
    attention: Float[Tensor, "*row d_model"],
    ffn: Float[Tensor, "*row d_model"],
) -> Float[Tensor, "*row d_model"]:
    """What leaves a layer, added up in the order in which its block does, so rounded alike."""
    if model.architecture.mid is None:  # attention and FFN in parallel
        return (ffn + attention) + before
    return (before + attention) + ffn
