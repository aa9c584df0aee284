"""Zero-shot prompts with a vector added, and with other things in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.experiments.shared.sources import (
    Task,
    at_most,
    find_sources,
    split_by_argument,
    without,
)
from ovectors.experiments.shared.tokens import token_words
from ovectors.experiments.zero_shot.settings import CHOSEN
from ovectors.experiments.zero_shot.vectors import (
    NONE,
    POSITIONS,
    SHOWN,
    Vectors,
    no_vector,
    other_vectors,
    own_vectors,
    random_vectors,
)
from ovectors.models import LanguageModel
from ovectors.prompts import zero_shot as bare
from ovectors.relations import Relation, load_relation
from ovectors.sweeps import Point, sweep

SCALES = (1.0, 2.0, 4.0, 8.0)
OUTCOMES = ("the answer", "the argument", "another answer of the relation", "something else")


def layer_map(
    model: LanguageModel,
    relation: Relation | str,
    *,
    scales: Sequence[float] = SCALES,
    n_sources: int = 5,
    max_items: int = 20,
    n_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Add every layer's o vectors at that layer, times every scale, on development items.

    Returns a row per layer, scale, source and item: model, relation, split ("development"), layer,
    scale, number (of the source), source (its argument), item, argument, answer, rank_answer,
    correct. Rows of scale 0 are the prompts without a vector. A vector is not tried on items with
    its source's argument: where there are no others, only the rows of scale 0 are there.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    task, drawn = Task(relation=relation), {"n_items": n_items, "seed": seed}
    sources = find_sources(model, task, n_sources=n_sources, **drawn)
    whole = encode_relation(model, relation, "zero_shot", **drawn)
    items = at_most(split_by_argument(whole, seed=seed)[0], max_items, seed=seed)
    grid = [(layer, float(scale)) for layer in range(model.n_layers) for scale in scales]
    own = own_vectors(model, relation, sources)
    points = [point for layer, scale in grid for point in own[layer].points(layer, scale)]
    title = f"layers and scales: {relation.name}"
    runs = _run(model, items, [[], *points], progress=progress, title=title)
    # The control run counts once for every source, as each scale does.
    runs = runs[[0] * len(sources) + list(range(1, 1 + len(points)))]
    rows = _rows(model, relation, items, range(len(items)), own[0]).drop(columns="condition")
    table = pd.DataFrame([(0, 0.0), *grid], columns=["layer", "scale"])
    table.insert(0, "split", "development")
    table = table.merge(rows, how="cross")
    table["rank_answer"] = runs.rank_answer.ravel()
    table["correct"] = table["rank_answer"] == 1
    met = table["argument"].str.strip() == table["source"]
    return table[~met | (table["scale"] == 0)].reset_index(drop=True)


def zero_shot(
    model: LanguageModel,
    relation: Relation | str,
    *,
    layer: int,
    scale: float,
    setting: str = CHOSEN,
    n_sources: int = 10,
    max_items: int = 200,
    n_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Add o vectors to zero-shot prompts of the report split, and other things in their place.

    Conditions: `none`; `own`, the vectors of `n_sources` development items at `layer`, times
    `scale`; `random`, for each of them a random vector of its norm; `other`, other relations' o
    vectors of the same layer, scaled to the same norms; `one-shot`, a demonstration and no vector.
    At most `max_items` items, drawn by the seed, and none with a source's argument.

    A row per condition, source and item: model, relation, setting, positions ("last"),
    layer, scale, condition, number (of the source), source (its argument), source_relation,
    source_correct, item (its place among the items), argument, answer, rank_answer, rank_argument
    (1 = top, in the last layer), top_token, outcome (one of `OUTCOMES`), correct.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    drawn = {"n_items": n_items, "seed": seed}
    sources = find_sources(model, Task(relation=relation), n_sources=n_sources, **drawn)
    whole = encode_relation(model, relation, "zero_shot", **drawn)
    report = without(split_by_argument(whole, seed=seed)[1], sources.arguments)
    items = at_most(report, max_items, seed=seed)
    (own,) = own_vectors(model, relation, sources, layers=(layer,))
    vectors = [own, random_vectors(own, seed=seed), other_vectors(model, own, layer, seed=seed)]
    points = [point for one in vectors for point in one.points(layer, scale)]
    runs = _run(model, items, [*points, []], progress=progress, title="zero-shot with a vector")
    asked, every = {"relation": relation, "whole": whole}, range(len(items))
    frames = [
        _table(model, items, every, one, runs[number * len(sources) :], **asked)
        for number, one in enumerate([*vectors, no_vector(NONE)])
    ]
    prompts, places = demonstrated(model, relation, items, **drawn)
    if places:
        shown = _run(model, prompts, [[]])
        frames.append(_table(model, prompts, places, no_vector(SHOWN), shown, **asked))
    table = pd.concat(frames, ignore_index=True)
    return table.assign(setting=setting, positions=POSITIONS, layer=layer, scale=scale)


def demonstrated(
    model: LanguageModel,
    relation: Relation,
    items: EncodedPrompts,
    *,
    n_items: int = 0,
    seed: int = 0,
) -> tuple[EncodedPrompts, list[int]]:
    """The one-shot prompts of zero-shot `items`, and the places in `items` that have one."""
    encoded = encode_relation(model, relation, "one_shot", n_items=n_items, seed=seed)
    at = {bare(relation, one.item).text: place for place, one in enumerate(encoded.prompts)}
    places = [place for place, one in enumerate(items.prompts) if one.text in at]
    return encoded.select(at[items.prompts[place].text] for place in places), places


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Where answer and argument stand after the last layer, and which token is on top."""

    rank_answer: Float[np.ndarray, "run prompt"]
    rank_argument: Float[np.ndarray, "run prompt"]
    top: Int[np.ndarray, "run prompt"]

    def __getitem__(self, runs: slice | Sequence[int]) -> Runs:
        return Runs(
            rank_answer=self.rank_answer[runs],
            rank_argument=self.rank_argument[runs],
            top=self.top[runs],
        )


def _run(
    model: LanguageModel, prompts: EncodedPrompts, points: Sequence[Point], **shown: Any
) -> Runs:
    wanted = {"answer": prompts.answer_ids, "argument": prompts.argument_ids}
    found = sweep(model, prompts, points, wanted=wanted, **shown)
    ranks = {f"rank_{name}": found.final(name) for name in wanted}
    return Runs(**ranks, top=found.top[:, -1])


def _table(
    model: LanguageModel,
    prompts: EncodedPrompts,
    places: Sequence[int],
    vectors: Vectors,
    runs: Runs,
    *,
    relation: Relation,
    whole: EncodedPrompts,
) -> pd.DataFrame:
    """The rows of one condition, of the first runs: one for each of its vectors.

    `whole` are all of the relation's prompts, run or not.
    """
    rows = _rows(model, relation, prompts, places, vectors)
    return rows.assign(**_found(model, prompts, whole, runs[: len(vectors.sources)]))


def _rows(
    model: LanguageModel,
    relation: Relation,
    prompts: EncodedPrompts,
    places: Sequence[int],
    vectors: Vectors,
) -> pd.DataFrame:
    """What is known of each run before it is made: vector outside, item inside."""
    n_sources, n_items = len(vectors.sources), len(places)
    known = {
        "number": np.arange(n_sources),
        "source": vectors.sources,
        "source_relation": vectors.relations,
        "source_correct": pd.array(vectors.correct, dtype="boolean"),
    }
    rows = pd.DataFrame({"condition": vectors.condition, **known})
    rows = rows.loc[np.repeat(np.arange(n_sources), n_items)].reset_index(drop=True)
    rows["item"] = np.tile(np.asarray(places), n_sources)
    rows["argument"] = [prompt.argument for prompt in prompts.prompts] * n_sources
    rows["answer"] = [prompt.answer for prompt in prompts.prompts] * n_sources
    rows.insert(0, "relation", relation.name)
    rows.insert(0, "model", model.name)
    return rows


def named_by_a_token(encoded: EncodedPrompts) -> list[int]:
    """The first tokens of all answers of one word.

    Of `The Valley` or `San Marino` the first token says little: much else begins like that.
    """
    answers = zip(encoded.prompts, encoded.answer_ids.tolist(), strict=True)
    return [token for prompt, token in answers if " " not in prompt.answer.strip()]


def _found(
    model: LanguageModel, prompts: EncodedPrompts, whole: EncodedPrompts, runs: Runs
) -> dict[str, np.ndarray]:
    """The measured columns: ranks, the top token, and what kind of token it is."""
    tests = [
        runs.rank_answer == 1,
        runs.top == prompts.argument_ids.numpy(),
        np.isin(runs.top, named_by_a_token(whole)),
    ]
    found = {
        "rank_answer": runs.rank_answer,
        "rank_argument": runs.rank_argument,
        "top_token": token_words(model, runs.top),
        "outcome": np.select(tests, OUTCOMES[:3], default=OUTCOMES[3]).astype(object),
        "correct": tests[0],
    }
    return {name: values.ravel() for name, values in found.items()}
