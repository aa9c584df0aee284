"""The vectors that chapter 5 adds: o vectors of a relation's examples, and those beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ovectors.experiments.shared.sources import Sources, Task, find_sources, o_vectors
from ovectors.interventions import Add
from ovectors.models import LanguageModel
from ovectors.relations import Relation, load_relation
from ovectors.sweeps import Point

TASKS = ("world_capitals", "past_tense", "uppercase", "colored_objects")
UPPER_CASING = ("uppercase", "colored_objects")  # one function under two names
POSITIONS = "last"
NONE, OWN, RANDOM, OTHER, SHOWN = CONDITIONS = ("none", "own", "random", "other", "one-shot")


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """The vectors of one condition, one a source.

    Attributes:
        condition: one of `CONDITIONS`.
        values: the vectors, unscaled.
        sources, relations: the argument that each comes from and its relation, "" for none.
        correct: whether the model answers the source's one-shot prompt; None for no source.
    """

    condition: str
    values: Float[Tensor, "source d_model"]
    sources: tuple[str, ...]
    relations: tuple[str, ...]
    correct: tuple[bool | None, ...]

    def points(self, layer: int, scale: float) -> list[Point]:
        """For each vector the point at which it is added at a layer."""
        where = {"layers": (layer,), "positions": POSITIONS}
        return [[Add(vector=vector, scale=scale, **where)] for vector in self.values]


def own_vectors(
    model: LanguageModel,
    relation: Relation,
    sources: Sources,
    *,
    layers: Sequence[int] | None = None,
) -> list[Vectors]:
    """For each layer (None: all) what its FFN adds at the last token of each source."""
    return [
        Vectors(
            condition=OWN,
            values=values,
            sources=sources.arguments,
            relations=(relation.name,) * len(sources),
            correct=sources.correct,
        )
        for values in o_vectors(model, sources.prompts, layers=layers)
    ]


def random_vectors(own: Vectors, *, seed: int = 0) -> Vectors:
    """For each vector a random direction of its norm."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(own.values.shape, generator=generator, dtype=torch.float64)
    nobody = ("",) * len(drawn)
    return Vectors(
        condition=RANDOM,
        values=_as_long_as(own, drawn),
        sources=nobody,
        relations=nobody,
        correct=(None,) * len(drawn),
    )


def other_vectors(model: LanguageModel, own: Vectors, layer: int, *, seed: int = 0) -> Vectors:
    """For each vector another relation's of the same layer and norm, the relations in turn.

    Coloured objects and upper-casing ask for one function: neither is another to the other.
    """
    home = own.relations[0]
    same = UPPER_CASING if home in UPPER_CASING else (home,)
    partners = [name for name in TASKS[:3] if name not in same]
    wanted = -(-len(own.values) // len(partners))
    lists = []
    for name in partners:
        relation = load_relation(name, seed=seed)
        found = find_sources(model, Task(relation=relation), n_sources=wanted, seed=seed)
        (taken,) = own_vectors(model, relation, found, layers=(layer,))
        facts = zip(taken.values, taken.sources, taken.relations, taken.correct, strict=True)
        lists.append(list(facts))
    turns = range(len(own.values))
    dealt = [lists[at % len(lists)] for at in turns]
    dealt = [cards[at // len(lists) % len(cards)] for at, cards in zip(turns, dealt, strict=True)]
    values, arguments, relations, correct = zip(*dealt, strict=True)
    return Vectors(
        condition=OTHER,
        values=_as_long_as(own, torch.stack(values)),
        sources=arguments,
        relations=relations,
        correct=correct,
    )


def no_vector(condition: str) -> Vectors:
    """What stands in the table where prompts run as they are."""
    empty = torch.zeros(1, 0)
    return Vectors(
        condition=condition, values=empty, sources=("",), relations=("",), correct=(None,)
    )


def _as_long_as(own: Vectors, values: Float[Tensor, "source d_model"]) -> Tensor:
    length = own.values.double().norm(dim=1, keepdim=True)
    values = values.double()
    return (values * (length / values.norm(dim=1, keepdim=True).clamp(min=1e-12))).float()
