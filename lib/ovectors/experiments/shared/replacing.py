"""Vectors in place of FFN outputs: which ones, and where answer and argument stand with each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ovectors.experiments.shared.outcomes import other_answers, outcomes
from ovectors.experiments.shared.sources import Sources, o_vectors
from ovectors.experiments.shared.tokens import token_words
from ovectors.interventions import Replace
from ovectors.sweeps import Outcome, sweep

if TYPE_CHECKING:
    from ovectors.encoding import EncodedPrompts
    from ovectors.models import LanguageModel

CONTROL, OWN, RANDOM = "control run", "own vector", "random vector"


@dataclass(frozen=True, kw_only=True, eq=False)
class Vector:
    """A vector to put in, and where it comes from.

    Attributes:
        condition: what kind of vector it is (`OWN`, `RANDOM` ...).
        name: which one: its source's argument, or a number.
        values: the vector, unscaled.
        scale: how many times it is put in.
        layer: the layer that it comes from, -1 where it comes from none.
        answer: the first token of its source's answer, where it has a single source.
        correct: whether the model answers its source's prompt.
    """

    condition: str
    name: str
    values: Float[Tensor, " d_model"]
    scale: float = 1.0
    layer: int = -1
    answer: int | None = None
    correct: bool | None = None


def source_vectors(
    model: LanguageModel, sources: Sources, layer: int, *, condition: str
) -> list[Vector]:
    """The o vectors of some sources at one layer, named by their arguments."""
    values = o_vectors(model, sources.prompts, layers=(layer,))[0]
    return [
        Vector(
            condition=condition,
            name=argument,
            values=vector,
            layer=layer,
            answer=int(answer),
            correct=correct,
        )
        for argument, vector, answer, correct in zip(
            sources.arguments, values, sources.prompts.answer_ids, sources.correct, strict=True
        )
    ]


def random_vectors(like: Sequence[Vector], *, seed: int = 0) -> list[Vector]:
    """One random direction for each of these vectors, as long as it is."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number, vector in enumerate(like):
        direction = torch.randn(vector.values.shape, generator=generator, dtype=torch.float64)
        values = direction * (vector.values.double().norm() / direction.norm())
        made.append(Vector(condition=RANDOM, name=str(number), values=values.to(torch.float32)))
    return made


def measure(
    model: LanguageModel,
    encoded: EncodedPrompts,
    vectors: Sequence[Vector],
    *,
    start_layer: int,
    positions: str,
    layers: Sequence[int] | None = (-1,),
    answers: frozenset[int] = frozenset(),
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Run patterns as they are and with each vector in place of the FFN outputs.

    One row for each condition, vector, item and layer: model, relation, condition, vector (its
    name), number (within its condition and scale), source_layer, source_correct, norm (unscaled),
    start_layer, positions, scale, item, argument, answer, group, argument_tokens, answer_tokens,
    layer, rank_answer, rank_argument, rank_other (the rank of another item's answer, see
    `outcomes.other_answers`; NaN where there is none), top_token, outcome (see `outcomes.RULES`;
    "" in the control run).
    """
    replaced = {"layers": range(start_layer, model.n_layers), "positions": positions}
    points = [[], *([Replace(vector=one.scale * one.values, **replaced)] for one in vectors)]
    others = other_answers(encoded.answer_ids.numpy(), encoded.argument_ids.numpy(), seed=seed)
    wanted = {"answer": encoded.answer_ids, "argument": encoded.argument_ids}
    wanted["other"] = encoded.answer_ids if others is None else torch.from_numpy(others)
    shown = {"progress": progress, "title": "replacing FFN outputs"}
    found = sweep(model, encoded, points, wanted=wanted, layers=layers, **shown)
    rows = _runs(model, encoded, [None, *vectors], found, answers)
    table = pd.concat(map(pd.DataFrame, rows), ignore_index=True)
    if others is None:
        table["rank_other"] = np.nan
    repeats = len(encoded) * len(found.layers)
    table["number"] = np.repeat(_numbers(vectors), repeats)
    table = table.assign(start_layer=start_layer, positions=positions)
    return table.assign(scale=np.repeat([1.0, *(float(one.scale) for one in vectors)], repeats))


def _runs(
    model: LanguageModel,
    encoded: EncodedPrompts,
    vectors: Sequence[Vector | None],
    found: Outcome,
    answers: frozenset[int],
) -> Iterator[dict]:
    """The columns of each run after each layer; None stands for the control run."""
    items, words = _items(model, encoded), token_words(model, found.top)
    for point, vector in enumerate(vectors):
        for at, layer in enumerate(found.layers):
            ranks = {f"rank_{name}": values[point, at] for name, values in found.ranks.items()}
            row = _described(vector) | items | {"layer": layer} | ranks
            row["top_token"] = words[point, at]
            row["outcome"] = (
                ""
                if vector is None
                else outcomes(
                    found.top[point, at],
                    found.ranks["answer"][point, at],
                    control_top=found.top[0, at],
                    control_rank=found.ranks["answer"][0, at],
                    answer_ids=encoded.answer_ids.numpy(),
                    argument_ids=encoded.argument_ids.numpy(),
                    source_answer=vector.answer,
                    relation_answers=answers or frozenset(encoded.answer_ids.tolist()),
                )
            )
            yield row


def _items(model: LanguageModel, encoded: EncodedPrompts) -> dict:
    return {
        "model": model.name,
        "relation": encoded.prompts[0].relation,
        "item": np.arange(len(encoded)),
        "argument": [prompt.argument for prompt in encoded.prompts],
        "answer": [prompt.answer for prompt in encoded.prompts],
        "group": [prompt.item.group for prompt in encoded.prompts],
        "argument_tokens": encoded.argument_lengths.numpy(),
        "answer_tokens": encoded.answer_lengths.numpy(),
    }


def _described(vector: Vector | None) -> dict:
    known = {"condition": CONTROL, "vector": "", "source_layer": -1, "source_correct": False}
    if vector is None:
        return known | {"norm": np.nan}
    return {
        "condition": vector.condition,
        "vector": vector.name,
        "source_layer": vector.layer,
        "source_correct": bool(vector.correct),
        "norm": float(vector.values.double().norm()),
    }


def _numbers(vectors: Sequence[Vector]) -> list[int]:
    """Each run's number within its condition and scale; the control run is number 0."""
    seen: Counter[tuple[str, float]] = Counter()
    numbers = [0]
    for vector in vectors:
        numbers.append(seen[vector.condition, vector.scale])
        seen[vector.condition, vector.scale] += 1
    return numbers
