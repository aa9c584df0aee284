"""What chapter 4 removes: FFNs or attention of which layers, and what is put in their place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ovectors import stream
from ovectors.encoding import EncodedPrompts
from ovectors.interventions import Ablate, Intervention, Replace
from ovectors.models import LanguageModel

CONDITIONS = {
    "zero": "FFNs from the top down, nothing in their place",
    "mean": "FFNs from the top down, their mean output in their place",
    "attention": "attention from the top down, nothing in its place",
    "random": "FFNs of random layers, nothing in their place",
}
CONTROL = "none"  # the run from which nothing is removed
POSITIONS = "all"
STEPS = 6  # the paper removes a sixth of the layers more at each step
CONTROL_STEPS = 3  # what is compared with it goes so many steps down, to half of the layers
MOST_POINTS = 24  # up to so many layers they go one by one, in deeper models in even strides
MEAN_TOKENS = 4  # the tokens of each prompt that a mean output is taken over


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Contributions that are taken away together, at every position.

    Attributes:
        condition: one of `CONDITIONS`, or `CONTROL`.
        layers: where.
        draw: which seeded order of the layers, where they are random.
    """

    condition: str
    layers: tuple[int, ...]
    draw: int = 0

    def point(self, means: Float[Tensor, "layer d_model"] | None) -> list[Intervention]:
        """The interventions that do it."""
        if self.condition == "mean":
            assert means is not None
            return [
                Replace(layers=(layer,), positions=POSITIONS, vector=means[layer])
                for layer in self.layers
            ]
        kind = "attention" if self.condition == "attention" else "ffn"
        return [Ablate(layers=self.layers, positions=POSITIONS, kind=kind)] if self.layers else []


def sixths(n_layers: int) -> list[int]:
    """How many layers one to six sixths are, rounded up (BLOOM's 24 of 70 are two of them)."""
    return sorted({-(-step * n_layers // STEPS) for step in range(1, STEPS + 1)})


def inner_sixths(n_layers: int) -> list[int]:
    """How many layers one to five sixths are: some are gone, and some are left."""
    return [count for count in sixths(n_layers) if count < n_layers]


def third(n_layers: int) -> int:
    """How many layers the top third is: two sixths."""
    return -(-2 * n_layers // STEPS)


def plan(
    n_layers: int, conditions: Sequence[str] = tuple(CONDITIONS), *, draws: int = 5, seed: int = 0
) -> list[Removal]:
    """Every removal of an ablation: the control run, then each condition over what is removed.

    Zero ablation goes to the bottom, one by one; mean ablation and attention go by sixths, down to
    half of the layers. Of random layers a third goes, by each of `draws` seeded orders.
    """
    coarse = sixths(n_layers)
    fine = {round(place * n_layers / MOST_POINTS) for place in range(1, MOST_POINTS + 1)} - {0}
    half = [count for count in coarse if count <= -(-CONTROL_STEPS * n_layers // STEPS)]
    top_down = list(range(n_layers))[::-1]
    planned = [Removal(condition=CONTROL, layers=())]
    for condition in conditions:
        orders = [top_down]
        if condition == "random":
            seeded = [random.Random(f"layers|{seed}|{draw}") for draw in range(draws)]
            orders = [rng.sample(range(n_layers), n_layers) for rng in seeded]
        counts = {"zero": sorted(fine | set(coarse)), "random": [third(n_layers)]}
        for draw, order in enumerate(orders):
            planned += [
                Removal(condition=condition, layers=tuple(sorted(order[:count])), draw=draw)
                for count in counts.get(condition, half)
            ]
    return planned


def mean_outputs(
    model: LanguageModel, encoded: EncodedPrompts, *, seed: int = 0
) -> Float[Tensor, "layer d_model"]:
    """What each FFN adds on average over `MEAN_TOKENS` random tokens of each of these prompts.

    The first token is left out: many models add outsized vectors there, and nowhere else.
    """
    generator = torch.Generator().manual_seed(seed)
    after_first = (encoded.lengths - 1).clamp(min=0)
    total = 0
    for _ in range(MEAN_TOKENS):
        drawn = torch.rand(len(encoded), generator=generator, dtype=torch.float64)
        at = torch.minimum(1 + (drawn * after_first).long(), encoded.lengths - 1)
        total = total + stream.record(model, encoded, parts=("ffn",), positions=at)["ffn"].mean(1)
    return total / MEAN_TOKENS
