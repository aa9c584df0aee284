"""Each relation's vectors on shared arguments, every relation's answer ranked."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ovectors.encoding import EncodedPrompts
from ovectors.experiments.content_independence.tasks import task_of
from ovectors.experiments.function_specificity.groups import group_of, shared_patterns
from ovectors.experiments.shared.outcomes import other_answers
from ovectors.experiments.shared.replacing import CONTROL, Vector, source_vectors
from ovectors.experiments.shared.sources import find_sources
from ovectors.experiments.shared.vector_sweeps import Ranks, Trial, replace_each

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

OTHER = "{}, another argument"
COLUMNS = ["model", "kind", "vector", "number", "source", "source_correct", "source_layer"]
COLUMNS += ["start_layer", "positions", "item", "argument", "answer_of", "answer", "rank"]
COLUMNS += ["rank_other"]


def confusion(
    model: LanguageModel,
    kind: str,
    relations: Sequence[tuple[str, int, int]],
    *,
    positions: str = "all",
    n_sources: int = 10,
    max_items: int = 100,
    n_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Put each relation's o vectors in on the arguments that all of them share.

    `kind` says what the arguments are, `relations` are each a name, source layer and start layer.
    At "all" positions, as the authors' code does, or only the "last". `n_sources` vectors a
    relation, each from one example of its development split. At most `max_items` of the arguments
    of `groups.group_of`, drawn by the seed; fewer with `n_items`.

    One row for each vector, argument and relation whose answer is ranked, with the columns of
    `COLUMNS`: `vector` is the relation that the vector comes from, or the control run; `rank` is
    that of the answer of `answer_of`, after the last layer, `rank_other` that of the same
    relation's answer to another argument (NaN where all have the same).
    """
    names = [name for name, _, _ in relations]
    drawn = {"n_sources": n_sources, "n_items": n_items, "seed": seed}
    vectors = {
        name: source_vectors(
            model, find_sources(model, task_of(name), **drawn), layer, condition=name
        )
        for name, layer, _ in relations
    }
    met = {vector.name for own in vectors.values() for vector in own}
    most = min(max_items, n_items or max_items)
    patterns = _patterns(model, kind, names, without=met, most=most, seed=seed)
    shown = {"positions": positions, "progress": progress}
    before, *found = _run(model, patterns, vectors, relations, seed=seed, **shown)
    frames = [_table(before, patterns, [None])]
    for (name, _, start), ranks in zip(relations, found, strict=True):
        frames.append(_table(ranks, patterns, vectors[name], start=start))
    table = pd.concat(frames, ignore_index=True)
    return table.assign(model=model.name, kind=kind, positions=positions)[COLUMNS]


def _patterns(
    model: LanguageModel,
    kind: str,
    names: Sequence[str],
    *,
    without: Collection[str],
    most: int,
    seed: int,
) -> dict[str, EncodedPrompts]:
    """For each relation the same patterns, about at most so many of the shared arguments."""
    shared = group_of(model, kind, names, seed=seed).arguments
    tried = _some_of([one for one in shared if one not in without], most, seed=seed)
    encoded = shared_patterns(model, kind, names, seed=seed)
    return {name: _about(prompts, tried) for name, prompts in encoded.items()}


def _some_of(arguments: Sequence[str], count: int, *, seed: int) -> list[str]:
    """At most `count` of them, drawn by the seed and kept in order."""
    places = range(len(arguments))
    if len(arguments) > count:
        places = sorted(random.Random(f"shared|{count}|{seed}").sample(places, count))
    return [arguments[place] for place in places]


def _about(encoded: EncodedPrompts, arguments: Sequence[str]) -> EncodedPrompts:
    """The prompts about these arguments, in their order."""
    places = {prompt.item.argument: at for at, prompt in enumerate(encoded.prompts)}
    return encoded.select(places[argument] for argument in arguments)


def _run(
    model: LanguageModel,
    patterns: Mapping[str, EncodedPrompts],
    vectors: Mapping[str, Sequence[Vector]],
    relations: Sequence[tuple[str, int, int]],
    *,
    positions: str,
    seed: int,
    progress: bool,
) -> list[Ranks]:
    """The patterns, which are the same for all relations, without and with their vectors."""
    trials = [
        Trial(
            layers=range(start, model.n_layers),
            vectors=torch.stack([vector.values for vector in vectors[name]]),
        )
        for name, _, start in relations
    ]
    return replace_each(
        model,
        patterns[relations[0][0]],
        trials,
        positions=positions,
        wanted=_wanted(patterns, seed=seed),
        progress=progress,
        title="vectors of several relations",
    )


def _wanted(patterns: Mapping[str, EncodedPrompts], *, seed: int) -> dict[str, Tensor]:
    """Which tokens to rank: each relation's answers, and those to other arguments."""
    wanted = {}
    for name, encoded in patterns.items():
        wanted[name] = encoded.answer_ids
        argument_ids = encoded.argument_ids.numpy()
        others = other_answers(encoded.answer_ids.numpy(), argument_ids, seed=seed)
        if others is not None:
            wanted[OTHER.format(name)] = torch.from_numpy(others)
    return wanted


def _table(
    found: Ranks,
    patterns: Mapping[str, EncodedPrompts],
    vectors: Sequence[Vector | None],
    *,
    start: int = -1,
) -> pd.DataFrame:
    """The rows of one relation's runs; `[None]` stands for the control run, without a vector."""
    frames = []
    for name, encoded in patterns.items():
        others = found.get(OTHER.format(name), np.full_like(found[name], np.nan))
        items = {
            "item": np.arange(len(encoded)),
            "argument": [prompt.argument for prompt in encoded.prompts],
            "answer_of": name,
            "answer": [prompt.answer for prompt in encoded.prompts],
            "start_layer": start,
        }
        for number, vector in enumerate(vectors):
            ranks = {"rank": found[name][number], "rank_other": others[number]}
            rows = _described(vector) | {"number": number} | items | ranks
            frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


def _described(vector: Vector | None) -> dict[str, str | int | bool]:
    if vector is None:
        return {"vector": CONTROL, "source": "", "source_correct": False, "source_layer": -1}
    return {
        "vector": vector.condition,
        "source": vector.name,
        "source_correct": bool(vector.correct),
        "source_layer": vector.layer,
    }
