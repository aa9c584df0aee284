"""Sweeps: many interventions asked of the same prompts, answered as ranks and top tokens.

There are three ways to run a point, and they give the same numbers up to rounding: `one_token`
where only the last token is changed, `resume` where others are too, and a hooked pass through the
whole model (`whole_passes`), which always works. OVECTORS_SLOW=1 forces the last one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ovectors import lens
from ovectors.forward import BUDGET_BYTES, Encoded, token_rows
from ovectors.interventions import checked_layers
from ovectors.sweeps import one_token, resume, whole_passes
from ovectors.sweeps.points import CLEAN, Piece, Point, Settings, only_last
from ovectors.sweeps.replay import NotReplayable

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

SLOW = "OVECTORS_SLOW"
MOST_WINDOW = 1024
"""Up to here the self-check compares the fast ways with the slow one beyond a sliding window; a
prompt that reaches beyond a longer window is run in whole passes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a sweep found at each prompt's last token, early-decoded after the chosen layers.

    Attributes:
        ranks: for each wanted token by its name, its rank (1 = top, ties get the middle rank).
        logits: its logit.
        top: the id of the token on top.
        layers: the layers that the second axis holds.
    """

    ranks: Mapping[str, Float[np.ndarray, "point layer prompt"]]
    logits: Mapping[str, Float[np.ndarray, "point layer prompt"]]
    top: Int[np.ndarray, "point layer prompt"]
    layers: tuple[int, ...]

    def final(self, token: str) -> Float[np.ndarray, "point prompt"]:
        """Ranks of a wanted token after the last of the chosen layers."""
        return self.ranks[token][:, -1]


def sweep(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    points: Sequence[Point],
    *,
    wanted: Mapping[str, Int[Tensor, " prompt"]],
    layers: Sequence[int] | None = (-1,),
    budget_bytes: int = BUDGET_BYTES,
    progress: bool = False,
    title: str = "sweep",
) -> Outcome:
    """Run the prompts under each point and rank the wanted tokens in what comes out.

    Args:
        points: each a list of interventions that act together; an empty one changes nothing.
        wanted: for each name one token id a prompt, such as `{"answer": encoded.answer_ids}`.
        layers: after which layers to decode (None: all; -1: the last, where it is the model's own
            answer).
        budget_bytes: what the passes may take on top of the weights.

    Ask all points of the same prompts in one call: what they share is computed once. Full logits
    are never kept: they live for a chunk of states at a time. UserError for layers, positions or
    vectors that do not fit the model.
    """
    numbers = model.layer_numbers(layers)
    prompts = len(token_rows(model, encoded))
    for point in points:
        for one in point:
            checked_layers(model, one, prompts)
    found = _Found(model, points, numbers, wanted, prompts, budget_bytes)
    settings = Settings(
        layers=sorted(set(numbers)), budget_bytes=budget_bytes, progress=progress, title=title
    )
    for piece in _pieces(model, encoded, points, settings):
        found.add(piece)
    return found.outcome()


def _pieces(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    points: Sequence[Point],
    settings: Settings,
) -> Iterator[Piece]:
    """The states of all points, each by the cheapest way that gives them."""
    window = model.window or 0
    unchecked = window > MOST_WINDOW and max(map(len, token_rows(model, encoded))) > window
    if unchecked or os.environ.get(SLOW, "") not in ("", "0"):
        yield from whole_passes.pieces(model, encoded, dict(enumerate(points)), settings)
        return
    changing = {number: point for number, point in enumerate(points) if point}
    last = {number: point for number, point in changing.items() if only_last(point)}
    other = {number: point for number, point in changing.items() if number not in last}
    try:
        if last or not other:
            yield from one_token.pieces(model, encoded, last, settings)
        if other:
            yield from resume.pieces(model, encoded, other, settings)
    except NotReplayable as reason:
        warnings.warn(f"sweeps take whole passes: {reason}", stacklevel=4)
        yield from whole_passes.pieces(model, encoded, dict(enumerate(points)), settings)


class _Found:
    """The answers as they come in: arrays as of `Outcome`, with the clean run in a row more.

    A layer below a point's first change comes in no piece: there it is as in the clean run.
    """

    def __init__(
        self,
        model: LanguageModel,
        points: Sequence[Point],
        layers: tuple[int, ...],
        wanted: Mapping[str, Int[Tensor, " prompt"]],
        prompts: int,
        budget_bytes: int,
    ) -> None:
        shape = (len(points) + 1, len(layers), prompts)  # CLEAN, the last, is no point
        self.lens, self.wanted, self.budget_bytes = lens.LogitLens(model), wanted, budget_bytes
        self.layers = layers
        self.ranks = {name: np.empty(shape, np.float32) for name in wanted}
        kept = np.float64 if model.dtype.itemsize == 8 else np.float32
        self.logits = {name: np.empty(shape, kept) for name in wanted}
        self.top = np.empty(shape, np.int64)
        self.seen = np.zeros(shape[:2], dtype=bool)

    def add(self, piece: Piece) -> None:
        """Decode a piece's states and put what they say in its place."""
        ids = {name: tokens[piece.rows] for name, tokens in self.wanted.items()}
        decoded = lens.decode(self.lens, piece.states, ids, budget_bytes=self.budget_bytes)
        points = np.array(piece.points)
        for at in (number for number, one in enumerate(self.layers) if one == piece.layer):
            where = (points[:, None], at, piece.rows.numpy()[None])
            self.top[where] = decoded.top[..., 0].numpy()
            self.seen[points, at] = True
            for name in self.wanted:
                self.ranks[name][where] = decoded.ranks[name].numpy()
                self.logits[name][where] = decoded.logits[name].numpy()

    def outcome(self) -> Outcome:
        """All answers, once every piece is in."""
        point, layer = np.nonzero(~self.seen)
        for values in (*self.ranks.values(), *self.logits.values(), self.top):
            values[point, layer] = values[CLEAN, layer]
        return Outcome(
            ranks={name: values[:-1] for name, values in self.ranks.items()},
            logits={name: values[:-1] for name, values in self.logits.items()},
            top=self.top[:-1],
            layers=self.layers,
        )
