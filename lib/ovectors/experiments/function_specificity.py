"""Apply, or which function? Every relation's o vector on arguments that several relations share.

The paper's three relations have no argument in common, and so cannot tell a vector that says "give
the capital" from one that says "now apply what is due here". *Poland* has a capital, a language and
a currency: each relation's vector is put in on the same patterns, and every answer is ranked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ovectors import claims
from ovectors.claims import Claim, Evidence, Measured
from ovectors.encoding import EncodedPrompts
from ovectors.experiments.content_independence import (
    IN_DOMAIN,
    MORE_THAN_OTHER,
    RAISES,
    chosen_layers,
    paired,
)
from ovectors.experiments.groups import (
    CANDIDATES,
    LEAST_SHARED,
    Group,
    find_groups,
    group_of,
    kind_of,
    shared_patterns,
)
from ovectors.experiments.layer_maps import Layers
from ovectors.experiments.outcomes import other_answers
from ovectors.experiments.replacing import CONTROL, Vector, source_vectors
from ovectors.experiments.rows import row_of
from ovectors.experiments.sources import find_sources
from ovectors.experiments.survey import (
    LEAST_ACCURACY,
    accuracies,
    answered,
    layers_of,
    stage_tables,
    task_of,
)
from ovectors.interventions import Replace
from ovectors.statistics import Interval, corrected, crossed_mean
from ovectors.sweeps import Outcome, sweep

if TYPE_CHECKING:
    from ovectors.models import LanguageModel
    from ovectors.store import Store

TOKENS = ("rank", "rank_other")
OTHER = "{}, another argument"
UNTESTABLE = f"the model answers no two relations that share {LEAST_SHARED} arguments or more"
COLUMNS = ["model", "kind", "vector", "number", "source", "source_correct", "source_layer"]
COLUMNS += ["start_layer", "positions", "item", "argument", "answer_of", "answer", "rank"]
COLUMNS += ["rank_other"]
MATRIX_COLUMNS = ["kind", "vector", "answer_of", "mean", "low", "high", "n", "top1", "rise"]
MATRIX_COLUMNS += ["other"]
FIRST_COLUMNS = ["kind", "vector", "answer_of", "mean", "low", "high", "n", "relations"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Specificity:
    """Everything that was measured on one model.

    Attributes:
        accuracies: one-shot accuracy of every candidate relation.
        groups: relations that share arguments, of those that the model answers.
        layers: where each of their vectors comes from and goes in, chosen on development items.
        table: the tables of `confusion` for all groups.
    """

    accuracies: Mapping[str, Interval]
    groups: tuple[Group, ...]
    layers: Mapping[str, Layers]
    table: pd.DataFrame


def measure_all(
    store: Store, *, n_items: int = 0, seed: int = 0, least_accuracy: float = LEAST_ACCURACY
) -> Specificity:
    """Measure every group that the model can take part in, each table once, through the store.

    `least_accuracy`: a relation takes part where its one-shot accuracy is above it.
    """
    drawn = {"n_items": n_items, "seed": seed}
    known = accuracies(stage_tables(store, {name: name for name in CANDIDATES}, **drawn))
    groups = find_groups(store.model, answered(known, least=least_accuracy), seed=seed)
    used = {name for group in groups for name in group.relations}
    papers = {name: task for name, task in IN_DOMAIN.items() if name in used}
    further = {name: name for name in CANDIDATES if name in used - set(papers)}
    layers = chosen_layers(store, papers, **drawn) | layers_of(store, further, **drawn)
    tables = [
        store.table(
            confusion,
            kind=group.kind,
            relations=tuple((n, layers[n].source, layers[n].start) for n in group.relations),
            **drawn,
        )
        for group in groups
    ]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return Specificity(accuracies=known, groups=groups, layers=layers, table=table)


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

    Args:
        kind: what the arguments are.
        relations: name, source layer and start layer of each, as the development items chose them.
        positions: "all" tokens, as the authors' code does, or only the "last".
        n_sources: vectors a relation, each from one example of its development split.
        max_items: at most so many arguments, drawn by the seed; fewer with `n_items`.

    The arguments are those of `groups.group_of`. One row for each vector, argument and relation
    whose answer is ranked, with the columns of `COLUMNS`: `vector` is the relation that the vector
    comes from, or the control run; `rank` is that of the answer of `answer_of`, after the last
    layer, `rank_other` that of the same relation's answer to another argument (NaN where all have
    the same).
    """
    names = [name for name, _, _ in relations]
    vectors = {}
    for name, layer, _ in relations:
        found = find_sources(model, task_of(name), n_sources=n_sources, n_items=n_items, seed=seed)
        vectors[name] = source_vectors(model, found, layer, condition=name)
    met = {vector.name for own in vectors.values() for vector in own}
    arguments = [one for one in group_of(model, kind, names, seed=seed).arguments if one not in met]
    arguments = _some_of(arguments, min(max_items, n_items or max_items), seed=seed)
    patterns = {
        name: _about(encoded, arguments)
        for name, encoded in shared_patterns(model, kind, names, seed=seed).items()
    }
    wanted = _wanted(patterns, seed=seed)
    shown = {"progress": progress, "positions": positions}
    frames = [_table(_run(model, patterns[names[0]], wanted, [], 0, **shown), patterns, [None])]
    for name, _, start in relations:
        outcome = _run(model, patterns[names[0]], wanted, vectors[name], start, **shown)
        frames.append(_table(outcome, patterns, vectors[name], start=start))
    table = pd.concat(frames, ignore_index=True)
    return table.assign(model=model.name, kind=kind, positions=positions)[COLUMNS]


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


def _run(
    model: LanguageModel,
    encoded: EncodedPrompts,
    wanted: Mapping[str, Tensor],
    vectors: Sequence[Vector],
    start: int,
    *,
    positions: str,
    progress: bool,
) -> Outcome:
    """All patterns with each vector, in one pass: a prompt for each vector and argument."""
    repeats = max(1, len(vectors))
    each = encoded.select(list(range(len(encoded))) * repeats)
    point = []
    if vectors:
        values = torch.stack([vector.values for vector in vectors])
        per_prompt = values.repeat_interleave(len(encoded), dim=0)
        layers = range(start, model.n_layers)
        point = [Replace(layers=layers, positions=positions, vector=per_prompt)]
    return sweep(
        model,
        each,
        [point],
        wanted={name: ids.repeat(repeats) for name, ids in wanted.items()},
        progress=progress,
        title=f"vectors: {vectors[0].condition}" if vectors else CONTROL,
    )


def _table(
    outcome: Outcome,
    patterns: Mapping[str, EncodedPrompts],
    vectors: Sequence[Vector | None],
    *,
    start: int = -1,
) -> pd.DataFrame:
    """The rows of one run; `[None]` stands for the control run, which has no vector."""
    frames = []
    for name, encoded in patterns.items():
        shape = (len(vectors), len(encoded))
        ranks, others = outcome.final(name)[0].reshape(shape), np.full(shape, np.nan)
        if OTHER.format(name) in outcome.ranks:
            others = outcome.final(OTHER.format(name))[0].reshape(shape)
        for number, vector in enumerate(vectors):
            rows = {
                "vector": CONTROL if vector is None else vector.condition,
                "number": number,
                "source": "" if vector is None else vector.name,
                "source_correct": bool(vector is not None and vector.correct),
                "source_layer": -1 if vector is None else vector.layer,
                "start_layer": start,
                "item": np.arange(len(encoded)),
                "argument": [prompt.argument for prompt in encoded.prompts],
                "answer_of": name,
                "answer": [prompt.answer for prompt in encoded.prompts],
                "rank": ranks[number],
                "rank_other": others[number],
            }
            frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


def ranks_of(
    table: pd.DataFrame, kind: str, vector: str, answer_of: str, *, token: str = "rank"
) -> Float[np.ndarray, "source item"]:
    """Ranks of one relation's answers under one relation's vectors, a row for each vector.

    `token` "rank_other" for those of its answers to other arguments.
    """
    rows = table[
        (table["kind"] == kind) & (table["vector"] == vector) & (table["answer_of"] == answer_of)
    ]
    return rows.pivot(index="number", columns="item", values=token).to_numpy(dtype=np.float64)


def _pairs(table: pd.DataFrame) -> list[tuple[str, str, list[str]]]:
    """Kind, vector and the group's relations, in the order of the table, control runs first."""
    return [
        (kind, vector, list(part["answer_of"].unique()))
        for (kind, vector), part in table.groupby(["kind", "vector"], sort=False)
    ]


def confusion_matrix(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """What each relation's vectors do to each relation's answers, and what stands without any.

    One row for each kind, vector (the control run first) and answer: the answer's mean reciprocal
    rank with its 95% interval over sources and items, n, top1 (share with the answer on top), rise
    (the mean minus that of the control run), other (the mean of the same relation's answer to
    another argument, which tells a vector that raises all of its answers from one that finds the
    right one).
    """
    rows, before = [], {}
    for kind, vector, relations in _pairs(table):
        for answer_of in relations:
            ranks = ranks_of(table, kind, vector, answer_of)
            found = row_of(crossed_mean(1 / ranks, seed=seed))
            before.setdefault((kind, answer_of), found["mean"])
            rows.append({"kind": kind, "vector": vector, "answer_of": answer_of} | found)
            rows[-1]["top1"] = float((ranks == 1).mean())
            rows[-1]["rise"] = found["mean"] - before[kind, answer_of]
            other = ranks_of(table, kind, vector, answer_of, token="rank_other")
            rows[-1]["other"] = float((1 / other).mean())
    return pd.DataFrame(rows, columns=MATRIX_COLUMNS)


def first_answers(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """How often each relation's answer is the best placed of the group's, under each vector.

    By chance it would be one in `relations`. One row for each kind, vector and answer: share as
    `mean` with its 95% interval over sources and items, n, relations (how many compete).
    """
    rows = []
    for kind, vector, relations in _pairs(table):
        ranks = np.stack([ranks_of(table, kind, vector, one) for one in relations])
        first = ranks.argmin(axis=0)
        for place, answer_of in enumerate(relations):
            found = row_of(crossed_mean((first == place).astype(float), seed=seed))
            rows.append({"kind": kind, "vector": vector, "answer_of": answer_of} | found)
            rows[-1]["relations"] = len(relations)
    return pd.DataFrame(rows, columns=FIRST_COLUMNS)


def strongest_other(matrix: pd.DataFrame, kind: str, relation: str) -> str:
    """The other relation of the kind whose vectors place this relation's answer best."""
    others = matrix[
        (matrix["kind"] == kind)
        & (matrix["answer_of"] == relation)
        & ~matrix["vector"].isin([relation, CONTROL])
    ]
    return str(others.loc[others["mean"].idxmax(), "vector"])


def evidence(
    table: pd.DataFrame, kind: str, relation: str, *, confidence: float = 0.95, seed: int = 0
) -> list[Evidence]:
    """What the rule asks of one relation: above the control run, and above every other vector.

    Of the others the strongest is taken, so that none of them reaches as far.
    """
    matrix = confusion_matrix(table[table["kind"] == kind])
    other = strongest_other(matrix, kind, relation)
    own, control, against = (
        1 / ranks_of(table, kind, vector, relation) for vector in (relation, CONTROL, other)
    )
    options = {"confidence": confidence, "seed": seed}
    beaten = f"own vector minus that of {other.replace('_', ' ')}, the strongest of the others"
    return [
        Evidence(
            relation=relation,
            criterion=RAISES,
            found=paired(own, control, **options),
            bound=0,
            paper=True,
        ),
        Evidence(
            relation=relation, criterion=beaten, found=paired(own, against, **options), bound=0
        ),
    ]


def beside(
    table: pd.DataFrame, kind: str, relation: str, *, confidence: float = 0.95, seed: int = 0
) -> Measured:
    """Not asked by the rule: whether the answer rises more than that to another argument does."""
    (own, other), (before, other_before) = (
        [1 / ranks_of(table, kind, vector, relation, token=token) for token in TOKENS]
        for vector in (relation, CONTROL)
    )
    found = paired(own - before, other - other_before, confidence=confidence, seed=seed)
    return claims.context(relation, MORE_THAN_OTHER, found)


def judged(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Kind and name of every relation that is judged: each once, where it is at home."""
    return [
        (group.kind, name)
        for group in groups
        for name in group.relations
        if kind_of(name) == group.kind
    ]


def claim(found: Specificity, *, model: str, seed: int = 0) -> Claim:
    """The verdict by `claims.RULES["function_specificity"]`, with every accuracy beside it."""
    relations = judged(found.groups)
    confidence = corrected(len(relations))
    pieces = [
        one
        for kind, name in relations
        for one in evidence(found.table, kind, name, confidence=confidence, seed=seed)
    ]
    names = {name for _, name in relations}
    options = {"confidence": confidence, "seed": seed}
    aside = [beside(found.table, kind, name, **options) for kind, name in relations]
    aside += [
        claims.context(name, "one-shot accuracy (not judged)", interval)
        for name, interval in found.accuracies.items()
        if name not in names
    ]
    return claims.judge(
        claims.RULES["function_specificity"],
        pieces,
        model=model,
        context=aside,
        untestable="" if pieces else UNTESTABLE,
    )
