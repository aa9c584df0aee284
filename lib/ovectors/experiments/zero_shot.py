"""Zero-shot prompts with an o vector added: does the model answer without a demonstration?

The vector is what an FFN added at the last token of one one-shot prompt. It is added (nothing is
replaced) to what the FFN of the same layer adds at the last token of zero-shot prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.experiments.added import (
    NONE,
    POSITIONS,
    SHOWN,
    Vectors,
    no_vector,
    other_vectors,
    own_vectors,
    random_vectors,
)
from ovectors.experiments.sources import (
    Task,
    at_most,
    find_sources,
    split_by_argument,
    without,
)
from ovectors.models import LanguageModel
from ovectors.prompts import zero_shot as bare
from ovectors.relations import Relation, load_relation
from ovectors.sweeps import Outcome, sweep

SCALES = (1.0, 2.0, 4.0, 8.0)
CHOSEN, PAPER = "chosen", "paper"
OUTCOMES = ("the answer", "the argument", "another answer of the relation", "something else")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Which layer's vector is added at that layer, how many times, and who says so."""

    layer: int
    scale: float
    name: str = CHOSEN

    @property
    def arguments(self) -> dict[str, int | float | str]:
        """As `zero_shot` takes them."""
        return {"layer": self.layer, "scale": self.scale, "setting": self.name}


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
    crossed = _crossed(items, len(sources))
    grid = [(layer, float(scale)) for layer in range(model.n_layers) for scale in scales]
    own = own_vectors(model, relation, sources)
    points = [own[layer].added(layer, scale, items=len(items)) for layer, scale in grid]
    outcome = sweep(
        model,
        crossed,
        [[], *points],
        wanted={"answer": crossed.answer_ids},
        progress=progress,
        title=f"layers and scales: {relation.name}",
    )
    rows = _rows(model, relation, crossed, range(len(items)), own[0]).drop(columns="condition")
    table = pd.DataFrame([(0, 0.0), *grid], columns=["layer", "scale"])
    table.insert(0, "split", "development")
    table = table.merge(rows, how="cross")
    table["rank_answer"] = outcome.final("answer").ravel()
    table["correct"] = (outcome.top[:, -1] == crossed.answer_ids.numpy()).ravel()
    met = table["argument"].str.strip() == table["source"]
    return table[~met | (table["scale"] == 0)].reset_index(drop=True)


def choose(table: pd.DataFrame, *, n_layers: int) -> Setting:
    """The layer and scale of a `layer_map` with the best accuracy on development items.

    Ties go to the better mean reciprocal rank, then to the smaller scale and the earlier layer.
    Where no vector met another item: two thirds of the depth, where the paper finds function
    application, and scale 1.
    """
    tried = table[table["scale"] > 0]
    if tried.empty:
        return Setting(layer=max(0, round(2 * n_layers / 3) - 1), scale=1.0)
    tried = tried.assign(reciprocal=1 / tried["rank_answer"])
    means = tried.groupby(["layer", "scale"], as_index=False)[["correct", "reciprocal"]].mean()
    order = ["correct", "reciprocal", "scale", "layer"]
    best = means.sort_values(order, ascending=[False, False, True, True]).iloc[0]
    return Setting(layer=int(best["layer"]), scale=float(best["scale"]))


def settings_of(
    maps: Mapping[str, pd.DataFrame], *, n_layers: int, paper: Mapping[str, int]
) -> list[tuple[str, Setting]]:
    """For each relation what its `layer_map` chooses, and the paper's layer where it gives one."""
    chosen = [(name, choose(table, n_layers=n_layers)) for name, table in maps.items()]
    given = [(name, paper[name]) for name in maps if name in paper]
    return chosen + [(name, Setting(layer=at, scale=1.0, name=PAPER)) for name, at in given]


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

    Returns a row per condition, source and item: model, relation, setting, positions ("last"),
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
    crossed = _crossed(items, len(sources))
    added = [one.added(layer, scale, items=len(items)) for one in vectors]
    title = f"zero-shot with a vector: {relation.name}"
    outcome = _run(model, crossed, added, progress=progress, title=title)
    places = range(len(items))
    frames = [
        _rows(model, relation, crossed, places, one).assign(**_found(model, crossed, whole, *run))
        for one, run in zip(vectors, _points(outcome), strict=True)
    ]
    frames += _unchanged(model, relation, items, whole, **drawn)
    table = pd.concat(frames, ignore_index=True)
    return table.assign(setting=setting, positions=POSITIONS, layer=layer, scale=scale)


def _unchanged(
    model: LanguageModel,
    relation: Relation,
    items: EncodedPrompts,
    whole: EncodedPrompts,
    **drawn: int,
) -> list[pd.DataFrame]:
    """The runs without a vector: the items as they are, and with a demonstration."""
    shown = demonstrated(model, relation, items, **drawn)
    frames = []
    for condition, (prompts, places) in {NONE: (items, range(len(items))), SHOWN: shown}.items():
        if len(places):
            (run,) = _points(_run(model, prompts, [[]]))
            rows = _rows(model, relation, prompts, places, no_vector(condition))
            frames.append(rows.assign(**_found(model, prompts, whole, *run)))
    return frames


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


def _crossed(items: EncodedPrompts, n_sources: int) -> EncodedPrompts:
    """The items once for every source: the source outside, the item inside."""
    return items.select(list(range(len(items))) * n_sources)


def _run(model: LanguageModel, prompts: EncodedPrompts, points: Sequence, **shown) -> Outcome:
    wanted = {"answer": prompts.answer_ids, "argument": prompts.argument_ids}
    return sweep(model, prompts, points, wanted=wanted, **shown)


def _points(outcome: Outcome) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Ranks of answer and argument and the top token at the end, point by point."""
    return zip(outcome.final("answer"), outcome.final("argument"), outcome.top[:, -1], strict=True)


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
    rows["argument"] = [prompt.argument for prompt in prompts.prompts]
    rows["answer"] = [prompt.answer for prompt in prompts.prompts]
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
    model: LanguageModel,
    prompts: EncodedPrompts,
    whole: EncodedPrompts,
    rank_answer: np.ndarray,
    rank_argument: np.ndarray,
    top: np.ndarray,
) -> dict[str, np.ndarray | list[str]]:
    """The measured columns: ranks, the top token, and what kind of token it is."""
    words = {token: model.tokenizer.decode([token]) for token in np.unique(top).tolist()}
    tests = [
        top == prompts.answer_ids.numpy(),
        top == prompts.argument_ids.numpy(),
        np.isin(top, named_by_a_token(whole)),
    ]
    return {
        "rank_answer": rank_answer,
        "rank_argument": rank_argument,
        "top_token": [words[token] for token in top.tolist()],
        "outcome": np.select(tests, OUTCOMES[:3], default=OUTCOMES[3]).tolist(),
        "correct": tests[0],
    }
