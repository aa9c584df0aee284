"""Subtracting and adding the o vector: arithmetic on recorded states (section 4.1, figure 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovectors import claims
from ovectors.claims import Claim, Evidence
from ovectors.experiments.readout import read_out
from ovectors.experiments.stages import PAPER_EXAMPLES
from ovectors.experiments.switches import (
    FFN,
    Answered,
    accuracy,
    answered,
    crossed,
    item_columns,
    some_of,
    token_words,
    torch_places,
)
from ovectors.forward import progress_bar
from ovectors.lens import LogitLens
from ovectors.models import LanguageModel
from ovectors.relations import Relation
from ovectors.statistics import (
    Interval,
    bootstrap_mean,
    corrected,
    nothing,
    paired_difference,
    share,
)

SUBTRACT, ADD = "subtract", "add"
OWN, RANDOM = "o vector", "random vector"
DEMO_SCALES = (0.9, 1.0, 2.0, 3.0, 4.0)
SCALES = (0.25, 0.5, 0.75, *DEMO_SCALES[:2], 1.5, *DEMO_SCALES[2:])
AHEAD, ON_TOP = "ahead", "on top"
ANSWERS = "accuracy"
FFN_SWITCHES = "share of last switches made by the FFN"
COMES_BACK = "share with the argument back above the answer"
MORE_THAN_RANDOM = "the same, o vector minus random vector"
OF_FFN_SWITCHES = "share with the argument back, of the switches that the FFN makes"
COLUMNS = ["operation", "source_layer", "layer", "offset", "full", "vector", "draw", "scale"]
COLUMNS += ["rank_argument", "rank_answer", "lead", "top_token"]
EFFECT_COLUMNS = ["operation", "vector", "scale", "share", "low", "high", "n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One vector a state, added to or subtracted from the states of some items at some layers.

    Attributes:
        places: which prompts; layers: after which layer, one each.
        full: whether these are the states on which every item and scale is tried.
        draw: which random vector; 0 for the o vector.
    """

    operation: str
    places: Int[np.ndarray, " state"]
    layers: Int[np.ndarray, " state"]
    full: bool
    vector: str = OWN
    draw: int = 0
    scale: float = 1.0


def arithmetic(
    model: LanguageModel,
    relation: Relation | str,
    *,
    form: str = "one_shot",
    layer: int | None = None,
    scales: Sequence[float] = SCALES,
    draws: int = 5,
    most: int = 300,
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Subtract an item's o vector where the answer has taken over, add it where the argument leads.

    Arithmetic on recorded states and the lens: no pass is changed. The o vector is what the FFN of
    the item's switching layer adds at the last token (of `layer`, where one is given: then only
    items with the answer on top after it). It is subtracted after that layer and after each later
    one that has the answer on top, and added after each earlier one that has the argument on top.
    The control is a random direction of equal norm, `draws` of them an item.

    At the switching layer, and for adding at the last such layer before it, every item is tried at
    scale 1 and at most `most` items at all `scales`; at the other layers, at most `most` items at
    the demo's scales with one draw. Returns one row a trial: the item's columns, then operation,
    source_layer, layer, offset (layer - source_layer), full (whether the state is of the first
    kind), vector, draw, scale, rank_argument, rank_answer, lead (answer's logit minus argument's),
    top_token. No row where no item is answered. UserError for a layer the model does not have.
    """
    asked = {"form": form, "n_items": n_items, "seed": seed, "progress": progress}
    run = answered(model, relation, **asked)
    source = _source_layers(model, run, layer)
    vectors = _vectors(run, source, draws=draws, seed=seed)
    trials = list(_trials(run, source, scales=scales, draws=draws, most=most, seed=seed))
    lens = LogitLens(model)
    pieces = []
    for trial in progress_bar(trials, title="adding and subtracting", shown=progress):
        found = _try(run, lens, trial, vectors)
        at = source[trial.places]
        piece = {"places": trial.places, "source_layer": at, "layer": trial.layers}
        piece |= {"operation": trial.operation, "offset": trial.layers - at, "full": trial.full}
        piece |= {"vector": trial.vector, "draw": trial.draw, "scale": trial.scale}
        pieces.append(piece | found.measures | {"top_token": found.top})
    table = crossed(item_columns(model, run), pieces, columns=COLUMNS)
    table["top_token"] = token_words(model, table["top_token"].to_numpy(dtype=np.int64))
    return table


def _source_layers(
    model: LanguageModel, run: Answered, layer: int | None
) -> Int[np.ndarray, " prompt"]:
    """The layer that each item's o vector comes from, -1 for items without one."""
    if layer is None:
        return np.where(run.switched, run.switch, -1)
    (number,) = model.layer_numbers([layer])
    there = run.correct & (run.by_layer("rank_answer")[number] == 1)
    return np.where(there, number, -1)


def _vectors(
    run: Answered, source: Int[np.ndarray, " prompt"], *, draws: int, seed: int
) -> dict[tuple[str, int], Float[Tensor, "prompt d_model"]]:
    """Each item's o vector, and random directions of the same length."""
    ffn = run.stream["ffn"]
    own = ffn[torch_places(np.maximum(source, 0)), torch.arange(ffn.shape[1])]
    vectors = {(OWN, 0): own}
    generator = torch.Generator().manual_seed(seed)
    for draw in range(draws):
        noise = torch.randn(own.shape, generator=generator, dtype=own.dtype)
        unit = noise / noise.norm(dim=1, keepdim=True)
        vectors[RANDOM, draw] = unit * own.norm(dim=1, keepdim=True)
    return vectors


def _trials(
    run: Answered,
    source: Int[np.ndarray, " prompt"],
    *,
    scales: Sequence[float],
    draws: int,
    most: int,
    seed: int,
) -> Iterator[Trial]:
    """Every trial of `arithmetic`, by operation and distance from the source layer."""
    answer, argument = run.by_layer("rank_answer") == 1, run.by_layer("rank_argument") == 1
    n_layers, _ = run.shape
    everyone = np.flatnonzero(source >= 0)
    some = some_of(everyone, most, seed=seed)
    before = np.arange(n_layers)[:, None] < source
    leads = argument & before
    nearest = np.where(leads.any(axis=0), n_layers - 1 - np.argmax(leads[::-1], axis=0), -1)
    first = {SUBTRACT: source, ADD: nearest}
    for operation, layers in first.items():
        every = everyone[layers[everyone] >= 0]
        yield from _at(operation, every, layers[every], [1.0], draws=draws, full=True)
        few = some[layers[some] >= 0]
        others = [scale for scale in scales if scale != 1]
        yield from _at(operation, few, layers[few], others, draws=draws, full=True)
    for layer in range(n_layers):
        for operation, open_to in (
            (SUBTRACT, answer[layer] & (source < layer)),
            (ADD, leads[layer] & (nearest != layer)),
        ):
            few = some[open_to[some]]
            at = np.full(len(few), layer)
            yield from _at(operation, few, at, DEMO_SCALES, draws=min(draws, 1), full=False)


def _at(
    operation: str,
    places: Int[np.ndarray, " state"],
    layers: Int[np.ndarray, " state"],
    scales: Sequence[float],
    *,
    draws: int,
    full: bool,
) -> Iterator[Trial]:
    """The o vector and its controls, at these states and scales; nothing where there are none."""
    one = Trial(operation=operation, places=places, layers=layers, full=full)
    for scale in scales if len(places) else ():
        yield replace(one, scale=float(scale))
        for draw in range(draws):
            yield replace(one, scale=float(scale), vector=RANDOM, draw=draw)


def _try(run: Answered, lens: LogitLens, trial: Trial, vectors: dict):
    places = torch_places(trial.places)
    sign = 1 if trial.operation == ADD else -1
    states = run.stream["after"][torch_places(trial.layers), places]
    moved = states + sign * trial.scale * vectors[trial.vector, trial.draw][places]
    ids = run.encoded.argument_ids[places], run.encoded.answer_ids[places]
    return read_out(lens, moved, *ids)


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """What each trial of `arithmetic` came to, in two columns more.

    `ahead`: after subtracting, the argument's rank is better than the answer's; after adding, the
    answer's better than the argument's. `on_top`: that token is on top of the whole vocabulary.
    """
    taken = table["operation"] == SUBTRACT
    wanted = table["rank_argument"].where(taken, table["rank_answer"])
    other = table["rank_answer"].where(taken, table["rank_argument"])
    return table.assign(ahead=wanted < other, on_top=wanted == 1)


def effects(
    table: pd.DataFrame, *, outcome: str = "ahead", swept: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Share of items on which a trial has its effect, at the states that every item is tried on.

    One row per relation, operation, vector and scale: share, low, high (95%: Wilson's for the o
    vector; for random vectors a bootstrap over items of the mean over draws), n. With `swept` only
    the items that were tried at every scale count, so that a line over scales is about the same
    items all along.
    """
    rows = []
    by = ["relation", "operation", "vector", "scale"]
    full = outcomes(table[table["full"].astype(bool)]).sort_values("scale", kind="stable")
    if swept and len(full):
        tried = full.groupby(["relation", "item", "operation"])["scale"].transform("nunique")
        full = full[tried == tried.max()]
    for names, part in full.groupby(by, sort=False):
        per_item = part.groupby("item")[outcome].mean().to_numpy(dtype=np.float64)
        found = share(per_item == 1) if names[2] == OWN else bootstrap_mean(per_item, seed=seed)
        rows.append(dict(zip(by, names, strict=True)) | interval_columns(found))
    order = {name: place for place, name in enumerate(table["relation"].unique())}
    rows.sort(key=lambda row: order[row["relation"]])
    return pd.DataFrame(rows, columns=["relation", *EFFECT_COLUMNS])


def interval_columns(found: Interval) -> dict[str, float]:
    """An interval as columns of a row."""
    return {"share": found.value, "low": found.low, "high": found.high, "n": found.n}


def effects_by_layer(table: pd.DataFrame, *, outcome: str = "ahead") -> pd.DataFrame:
    """The same at every distance from the source layer, at the demo's scales.

    One row per relation, operation, vector, offset and scale: share and n, over items.
    """
    columns = ["relation", "operation", "vector", "offset", "scale", "share", "n"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    shown = outcomes(table[table["scale"].isin(DEMO_SCALES) & (table["draw"] == 0)])
    grouped = shown.groupby(columns[:5], sort=False)[outcome]
    return grouped.agg(share="mean", n="size").reset_index()


def example(table: pd.DataFrame, switches: pd.DataFrame) -> pd.DataFrame:
    """One item of each relation, layer by layer: what is on top as it is and with the o vector.

    The paper's own example where it was run, otherwise the first item that has the argument on top
    somewhere before its switch, otherwise the first.
    One row per relation and layer: argument, answer, switch, and for `plain` (after the layer),
    `changed` (o vector added before the switch, subtracted from it on; "" where neither applies)
    the token on top, with what it is: `argument`, `answer` or "".
    """
    columns = ["relation", "argument", "answer", "switch", "layer", "operation"]
    columns += ["plain", "plain_is", "changed", "changed_is"]
    rows: list[dict] = []
    own = table[(table["vector"] == OWN) & (table["scale"] == 1)]
    for relation, part in own.groupby("relation", sort=False):
        wide = part[part["item"].isin(part.loc[~part["full"].astype(bool), "item"])]
        both = wide[wide["item"].isin(wide.loc[wide["operation"] == ADD, "item"])]
        named = part[part["argument"] == PAPER_EXAMPLES.get(relation)]
        item = next(pool for pool in (named, both, wide, part) if len(pool))["item"].iloc[0]
        tried = part[part["item"] == item].drop_duplicates("layer").set_index("layer")
        after = switches[(switches["place"] == "after") & (switches["item"] == item)]
        for row in after[after["relation"] == relation].sort_values("layer").itertuples():
            shown = {name: getattr(row, name) for name in columns[:5]}
            shown |= {"plain": row.top_token, "plain_is": _what(row)}
            change = tried.loc[row.layer] if row.layer in tried.index else None
            shown["operation"] = "" if change is None else change["operation"]
            shown["changed"] = "" if change is None else change["top_token"]
            shown["changed_is"] = "" if change is None else _what(change)
            rows.append(shown)
    return pd.DataFrame(rows, columns=columns)


def _what(row) -> str:
    """Whether the token on top is the argument, the answer, or neither."""
    if row.rank_answer == 1:
        return "answer"
    return "argument" if row.rank_argument == 1 else ""


def claim(
    items: pd.DataFrame,
    table: pd.DataFrame,
    *,
    model: str,
    relations: Sequence[str],
    seed: int = 0,
) -> Claim:
    """The verdict by the rule `claims.RULES["linear_update"]`.

    `items` as made by `switches.per_item`, `table` by `arithmetic`, both of the same settings. An
    item answered correctly that has no last switch (its answer ties with another token) counts as
    one whose argument does not come back. Shown beside, and not part of the rule: the share that
    comes back of the switches made by the FFN.
    """
    confidence = corrected(len(relations))
    evidence, context = [], []
    for relation in relations:
        part = items[items["relation"] == relation]
        known = accuracy(part, relations=len(relations))
        correct = part[part["correct"]]
        made, back, more = (nothing() for _ in range(3))
        if len(correct):
            made = share(correct["made_by"] == FFN, confidence=confidence)
            own, random = _came_back(table, relation, correct["item"])
            back = share(own == 1, confidence=confidence)
            more = paired_difference(own, random, confidence=confidence, seed=seed)
            by_ffn = own[(correct["made_by"] == FFN).to_numpy()]
            of_those = share(by_ffn == 1, confidence=confidence) if len(by_ffn) else nothing()
            context.append(claims.context(relation, OF_FFN_SWITCHES, of_those))
        paper = {"relation": relation, "paper": True}
        evidence += [
            Evidence(criterion=ANSWERS, found=known, bound=0.1, **paper),
            Evidence(criterion=FFN_SWITCHES, found=made, bound=0.5, **paper),
            Evidence(criterion=COMES_BACK, found=back, bound=0.5, **paper),
            Evidence(relation=relation, criterion=MORE_THAN_RANDOM, found=more, bound=0.0),
        ]
    published = claims.published("linear_update", model)
    rule = claims.RULES["linear_update"]
    return claims.judge(rule, evidence, model=model, published=published, context=context)


def _came_back(
    table: pd.DataFrame, relation: str, items: pd.Series
) -> tuple[Float[np.ndarray, " item"], Float[np.ndarray, " item"]]:
    """Per item: whether subtracting its o vector, unscaled, at the switching layer puts the
    argument above the answer, and how often a random vector of equal norm does."""
    at = (table["relation"] == relation) & (table["operation"] == SUBTRACT)
    tried = outcomes(table[at & table["full"].astype(bool) & (table["scale"] == 1)])
    found = [
        tried[tried["vector"] == vector].groupby("item")["ahead"].mean().reindex(items)
        for vector in (OWN, RANDOM)
    ]
    own, random = (one.fillna(0.0).to_numpy(dtype=np.float64) for one in found)
    return own, random
