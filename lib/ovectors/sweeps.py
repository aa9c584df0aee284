"""Sweeps: many interventions asked of the same prompts, answered as ranks and top tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovectors import lens
from ovectors.forward import BUDGET_BYTES, Encoded, progress_bar
from ovectors.interventions import Intervention, during
from ovectors.stream import record

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

Point = Sequence[Intervention]
"""One setting of a sweep: interventions that act together; none at all is the control run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a sweep found at each prompt's last token, early-decoded after the chosen layers.

    Attributes:
        ranks: for each wanted token by its name, its rank (1 = top, ties get the middle rank).
        top: the id of the token on top.
        layers: the layers that the second axis holds.
    """

    ranks: Mapping[str, Float[np.ndarray, "point layer prompt"]]
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

    Full logits are never kept: they live for a chunk of states at a time. UserError for layers,
    positions or vectors that do not fit the model.
    """
    numbers = model.layer_numbers(layers)
    logit_lens = lens.LogitLens(model)
    ranks: dict[str, list[Tensor]] = {name: [] for name in wanted}
    top: list[Tensor] = []
    for point in progress_bar(points, title=title, shown=progress):
        recorded = record(
            model,
            encoded,
            parts=("after",),
            layers=numbers,
            around=during(model, list(point)),
            budget_bytes=budget_bytes,
        )
        states = recorded["after"]
        for name, ids in wanted.items():
            ranks[name].append(lens.ranks(logit_lens, states, ids, budget_bytes=budget_bytes))
        best = lens.top_tokens(logit_lens, states, k=1, budget_bytes=budget_bytes)
        top.append(best[..., 0])
    return Outcome(
        ranks={name: torch.stack(found).numpy() for name, found in ranks.items()},
        top=torch.stack(top).numpy(),
        layers=numbers,
    )
