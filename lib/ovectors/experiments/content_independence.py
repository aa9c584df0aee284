"""Content independence: one example's o vector on arguments that it never met (section 4).

The vector is what an FFN added at the last token of a one-shot prompt. It takes the place of the
outputs of the FFNs from a start layer to the last, while the model reads a nonsense pattern that
ends where the argument would come next: `table mug free China table mug free China table mug free`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ovectors import claims
from ovectors.claims import Claim, Evidence, Measured, Published
from ovectors.encoding import EncodedPrompts
from ovectors.experiments.outcomes import other_answers, outcomes
from ovectors.experiments.sources import (
    Sources,
    Task,
    at_most,
    find_sources,
    members,
    o_vectors,
    patterns,
    without,
)
from ovectors.interventions import Replace
from ovectors.models import LanguageModel
from ovectors.relations import Relation
from ovectors.statistics import Interval, corrected, crossed_mean, nothing, share
from ovectors.sweeps import sweep

CONTROL, OWN, RANDOM = "control run", "own vector", "random vector"
RAISES = "answer's mean reciprocal rank: own vector minus control run"
ABOVE_RANDOM = "own vector minus a random vector of equal norm"
MORE_THAN_OTHER = "rise of the answer minus rise of another item's answer"
IN_DOMAIN = {
    "world_capitals": Task(relation="world_capitals"),
    "past_tense": Task(relation="past_tense", group="regular"),
    "uppercase": Task(relation="uppercase"),
}
"""The relations that the claim is judged on."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Where a vector is taken from, and from which layer to the last it is put in."""

    source: int
    start: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Vector:
    """A vector to put in, and where it comes from.

    Attributes:
        condition: what kind of vector it is (`OWN`, `RANDOM` ...).
        name: which one: its source's argument, or a number.
        values: the vector.
        layer: the layer that it comes from, -1 where it comes from none.
        answer: the first token of its source's answer, where it has a single source.
        correct: whether the model answers its source's prompt.
    """

    condition: str
    name: str
    values: Float[Tensor, " d_model"]
    layer: int = -1
    answer: int | None = None
    correct: bool | None = None


def other_condition(relation: str) -> str:
    """The condition's name for vectors of another relation."""
    return f"vector of {relation}"


def content_independence(
    model: LanguageModel,
    relation: Relation | str,
    *,
    source_layer: int,
    start_layer: int,
    group: str = "",
    vectors_from: Relation | str = "",
    vectors_group: str = "",
    others: Sequence[tuple[str, str, int]] = (),
    examples: Sequence[str] = (),
    positions: str = "all",
    layers: Sequence[int] | None = (-1,),
    n_sources: int = 20,
    n_controls: int = 10,
    n_items: int = 0,
    max_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Put o vectors in place of the FFN outputs of `start_layer` to the last (section 4).

    Args:
        relation, group, vectors_from, vectors_group: as in `sources.Task`.
        source_layer, start_layer: as `choose_layers` finds them on the development items.
        others: relations whose vectors are tried as a control, each with its group ("" for all) and
            its own source layer.
        examples: arguments of the examples to take the vectors from, instead of `n_sources`
            development items.
        positions: "all" tokens, as the authors' code does, or only the "last".
        layers: after which layers to decode; None for all.
        n_controls: how many random vectors (each of the norm of one own vector), and how many
            vectors of each other relation.
        max_items: report at most so many items, drawn by the seed; 0 for all.

    Items are those of the report split, without the arguments of the sources. One row for each
    vector, item and layer: see `measure`.
    """
    task = Task(
        relation=relation, group=group, vectors_from=vectors_from, vectors_group=vectors_group
    )
    sources = find_sources(
        model, task, n_sources=n_sources, n_items=n_items, seed=seed, examples=examples
    )
    _, report = patterns(model, relation, group, n_items=n_items, seed=seed)
    report = at_most(without(report, sources.arguments), max_items, seed=seed)
    own = source_vectors(model, sources, source_layer, condition=OWN)
    vectors = [*own, *random_vectors(own[:n_controls], seed=seed)]
    for name, other_group, layer in others:
        found = find_sources(
            model,
            Task(relation=name, group=other_group),
            n_sources=n_controls,
            n_items=n_items,
            seed=seed,
        )
        vectors += source_vectors(model, found, layer, condition=other_condition(name))
    return measure(
        model,
        report,
        vectors,
        start_layer=start_layer,
        positions=positions,
        layers=layers,
        answers=relation_answers(model, relation, group, n_items=n_items, seed=seed),
        seed=seed,
        progress=progress,
    )


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


def relation_answers(
    model: LanguageModel, relation: Relation | str, group: str, *, n_items: int = 0, seed: int = 0
) -> frozenset[int]:
    """The first tokens of all answers of a relation's measurable items, run or not."""
    sides = patterns(model, members(relation, group, seed=seed), n_items=n_items, seed=seed)
    return frozenset(token for side in sides for token in side.answer_ids.tolist())


def measure(
    model: LanguageModel,
    encoded: EncodedPrompts,
    vectors: Sequence[Vector],
    *,
    start_layer: int,
    positions: str,
    layers: Sequence[int] | None = (-1,),
    scale: float = 1.0,
    answers: frozenset[int] = frozenset(),
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Run patterns as they are and with each vector in place of the FFN outputs.

    One row for each condition, vector, item and layer: model, relation, condition, vector (its
    name), number (within its condition), source_layer, source_correct, norm, start_layer,
    positions, scale, item, argument, answer, group, argument_tokens, answer_tokens, layer,
    rank_answer, rank_argument, rank_other (the rank of another item's answer, see
    `outcomes.other_answers`; NaN where there is none), top_token, outcome (see `outcomes.RULES`;
    "" in the control run).
    """
    replaced = range(start_layer, model.n_layers)
    points = [[]] + [
        [Replace(layers=replaced, positions=positions, vector=scale * one.values)]
        for one in vectors
    ]
    answer_ids, argument_ids = encoded.answer_ids.numpy(), encoded.argument_ids.numpy()
    others = other_answers(answer_ids, argument_ids, seed=seed)
    wanted = {"answer": encoded.answer_ids, "argument": encoded.argument_ids}
    wanted["other"] = encoded.answer_ids if others is None else torch.from_numpy(others)
    found = sweep(
        model,
        encoded,
        points,
        wanted=wanted,
        layers=layers,
        progress=progress,
        title="replacing FFN outputs",
    )
    words = {token: model.tokenizer.decode([token]) for token in np.unique(found.top).tolist()}
    frames = []
    for point, vector in enumerate([None, *vectors]):
        for at, layer in enumerate(found.layers):
            rows = _items(model, encoded) | {"layer": layer}
            for name, ranks in found.ranks.items():
                rows[f"rank_{name}"] = ranks[point, at]
            top = found.top[point, at]
            rows["top_token"] = [words[token] for token in top.tolist()]
            rows["outcome"] = (
                ""
                if vector is None
                else outcomes(
                    top,
                    found.ranks["answer"][point, at],
                    control_top=found.top[0, at],
                    control_rank=found.ranks["answer"][0, at],
                    answer_ids=answer_ids,
                    argument_ids=argument_ids,
                    source_answer=vector.answer,
                    relation_answers=answers or frozenset(answer_ids.tolist()),
                )
            )
            frames.append(pd.DataFrame(_described(vector) | rows))
    table = pd.concat(frames, ignore_index=True)
    if others is None:
        table["rank_other"] = np.nan
    table["number"] = _numbered(vectors, repeats=len(encoded) * len(found.layers))
    return table.assign(start_layer=start_layer, positions=positions, scale=scale)


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
    if vector is None:
        return {"condition": CONTROL, "vector": "", "source_layer": -1, "source_correct": False} | {
            "norm": np.nan
        }
    return {
        "condition": vector.condition,
        "vector": vector.name,
        "source_layer": vector.layer,
        "source_correct": bool(vector.correct),
        "norm": float(vector.values.double().norm()),
    }


def _numbered(vectors: Sequence[Vector], *, repeats: int) -> np.ndarray:
    """The number of each row's vector within its condition; the control run is number 0."""
    seen: dict[str, int] = {}
    numbers = [0]
    for vector in vectors:
        numbers.append(seen.get(vector.condition, 0))
        seen[vector.condition] = numbers[-1] + 1
    return np.repeat(numbers, repeats)


def layer_map(
    model: LanguageModel,
    relation: Relation | str,
    *,
    group: str = "",
    positions: str = "all",
    every_pair: bool = False,
    n_sources: int = 4,
    max_items: int = 60,
    max_layers: int = 0,
    n_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """The answer's rank over source and start layers, on development items alone (appendix D).

    First each layer's vector is put in from its own layer on; then the best of these is put in from
    every other layer on. With `every_pair`, all starts are tried with all sources instead, of at
    most `max_layers` layers (0 for all), evenly spread. One row for each pair of layers, source and
    item, an item never with the vector of its own example: model, relation, source_layer,
    start_layer, positions, vector, item, argument, rank_before, rank_answer.
    """
    task = Task(relation=relation, group=group)
    sources = find_sources(model, task, n_sources=n_sources, n_items=n_items, seed=seed)
    development, _ = patterns(model, relation, group, n_items=n_items, seed=seed)
    development = at_most(development, max_items, seed=seed)
    count = min(max_layers or model.n_layers, model.n_layers)
    layers = [int(one) for one in np.linspace(0, model.n_layers - 1, count).round()]
    if every_pair:
        pairs = [Layers(source=one, start=other) for one in layers for other in layers]
        return _mapped(model, development, sources, pairs, positions=positions, progress=progress)
    diagonal = [Layers(source=one, start=one) for one in layers]
    first = _mapped(model, development, sources, diagonal, positions=positions, progress=progress)
    best = choose_layers(first).source
    rest = [Layers(source=best, start=other) for other in layers if other != best]
    more = _mapped(model, development, sources, rest, positions=positions, progress=progress)
    return pd.concat([first, more], ignore_index=True)


def _mapped(
    model: LanguageModel,
    encoded: EncodedPrompts,
    sources: Sources,
    pairs: Sequence[Layers],
    *,
    positions: str,
    progress: bool,
) -> pd.DataFrame:
    vectors = o_vectors(model, sources.prompts)
    places = [(pair, number) for pair in pairs for number in range(len(sources))]
    points = [[]] + [
        [
            Replace(
                layers=range(pair.start, model.n_layers),
                positions=positions,
                vector=vectors[pair.source, number],
            )
        ]
        for pair, number in places
    ]
    wanted = {"answer": encoded.answer_ids}
    found = sweep(model, encoded, points, wanted=wanted, progress=progress, title="layers")
    ranks = found.final("answer")
    items = {"item": np.arange(len(encoded)), "argument": [p.argument for p in encoded.prompts]}
    frames = [
        pd.DataFrame(
            items
            | {"source_layer": pair.source, "start_layer": pair.start}
            | {"vector": sources.arguments[number], "rank_before": ranks[0]}
            | {"rank_answer": ranks[point]}
        )
        for point, (pair, number) in enumerate(places, start=1)
    ]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if len(encoded) > 1 and len(table):  # a vector says little on the example it was taken from
        table = table[table["argument"].str.strip() != table["vector"]].reset_index(drop=True)
    names = {"model": model.name, "relation": encoded.prompts[0].relation, "positions": positions}
    return table.assign(**names)


def choose_layers(table: pd.DataFrame) -> Layers:
    """The pair of layers with the best mean reciprocal rank in a `layer_map`, the first of ties."""
    means = layer_means(table)
    best = means.loc[means["mean"].idxmax()]
    return Layers(source=int(best["source_layer"]), start=int(best["start_layer"]))


def layer_means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean reciprocal rank of the answer for each pair of layers of a `layer_map`, in its order.

    Columns: source_layer, start_layer, mean, before (that of the control run), n (items).
    """
    scored = table.assign(mean=1 / table["rank_answer"], before=1 / table["rank_before"])
    pairs = scored.groupby(["source_layer", "start_layer"], sort=False)
    means = pairs[["mean", "before"]].mean()
    return means.assign(n=pairs["item"].nunique()).reset_index()


def reciprocal(
    table: pd.DataFrame, condition: str, token: str = "answer"
) -> Float[np.ndarray, "source item"]:
    """Reciprocal ranks under one condition after the last layer, a row for each vector.

    No rows where the condition was not run.
    """
    last = table[(table["condition"] == condition) & (table["layer"] == table["layer"].max())]
    ranks = last.pivot(index="number", columns="item", values=f"rank_{token}")
    return 1.0 / ranks.to_numpy(dtype=np.float64)


def paired(
    one: Float[np.ndarray, "source item"],
    other: Float[np.ndarray, "source item"],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `one - other` over items and vectors, vectors taken in pairs in their order.

    A single row (a control run) stands beside every row of the other. `nothing()` where either was
    not measured.
    """
    if not (one.size and other.size) or np.isnan(one).any() or np.isnan(other).any():
        return nothing()
    count = min(len(one), len(other)) if min(len(one), len(other)) > 1 else None
    difference = one[:count] - other[:count]
    return crossed_mean(difference, confidence=confidence, seed=seed)


def evidence(
    table: pd.DataFrame, name: str, *, confidence: float = 0.95, seed: int = 0
) -> list[Evidence]:
    """What the rule asks of one relation, in its order: see `claims.RULES`.

    Every relation whose vectors were tried has to be beaten. Where none was, or another item's
    answer could not be told apart, that criterion stands without a number and does not hold.
    """
    options = {"confidence": confidence, "seed": seed}
    before, own = reciprocal(table, CONTROL), reciprocal(table, OWN)
    prefix = other_condition("")
    others = [one for one in table["condition"].unique() if one.startswith(prefix)]
    other_before, other_after = reciprocal(table, CONTROL, "other"), reciprocal(table, OWN, "other")
    found = {
        RAISES: paired(own, before, **options),
        ABOVE_RANDOM: paired(own, reciprocal(table, RANDOM), **options),
    }
    for one in others or [other_condition("another relation")]:
        against = reciprocal(table, one)
        shown = one.removeprefix(prefix).replace("_", " ")
        found[f"own vector minus that of {shown}"] = paired(own, against, **options)
    found[MORE_THAN_OTHER] = paired(own - before, other_after - other_before, **options)
    return [
        Evidence(
            relation=name, criterion=criterion, found=value, bound=0, paper=criterion == RAISES
        )
        for criterion, value in found.items()
    ]


def effects(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """Numbers of a table's own vectors: reciprocal rank before and after, top-1, no effect."""
    before, after = reciprocal(table, CONTROL), reciprocal(table, OWN)
    options = {"confidence": confidence, "seed": seed}
    return {
        "mean reciprocal rank before": crossed_mean(before, **options),
        "mean reciprocal rank after": crossed_mean(after, **options),
        "share with the answer on top before": share(before[0] == 1, confidence=confidence),
        "share with the answer on top after": crossed_mean(after == 1, **options),
        "share without any effect": crossed_mean(after <= before, **options),
    }


def claim(
    tables: Mapping[str, pd.DataFrame],
    *,
    model: str,
    published: Sequence[Published] = (),
    seed: int = 0,
) -> Claim:
    """The verdict by `claims.RULES["content_independence"]` over these relations, name to table."""
    confidence = corrected(len(tables))
    pieces: list[Evidence] = []
    shown: list[Measured] = []
    for name, table in tables.items():
        pieces += evidence(table, name, confidence=confidence, seed=seed)
        numbers = effects(table, seed=seed)
        shown += [claims.context(name, label, found) for label, found in numbers.items()]
    rule = claims.RULES["content_independence"]
    return claims.judge(rule, pieces, model=model, published=published, context=shown)
