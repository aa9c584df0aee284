"""The last switch to the answer: at which layer it is made, and by which sublayer (section 4.1)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.experiments.readout import ReadOut, read_out
from ovectors.lens import LogitLens
from ovectors.models import LanguageModel
from ovectors.relations import Relation, load_relation
from ovectors.splits import is_development
from ovectors.statistics import Interval, corrected, share
from ovectors.stream import Stream, record

FFN, ATTENTION, EITHER, NEITHER = "FFN", "attention", "either alone", "neither alone"
MAKERS = (FFN, ATTENTION, EITHER, NEITHER)
NO_SWITCH = -1
RULES = {
    "last switch": (
        "the layer from which on the answer's first token is the top token after every layer, to "
        "the last; looked for on items answered correctly"
    ),
    FFN: "the answer is not on top before this layer's FFN has added its output, and is after",
    ATTENTION: "the answer is on top as soon as this layer's attention has added its output",
    NEITHER: "anything else, such as an answer that is on top before the first layer",
}
PARALLEL_RULES = {
    FFN: "what the FFN adds brings the answer to the top by itself, what attention adds does not",
    ATTENTION: "the other way round",
    EITHER: "each of the two does so by itself",
    NEITHER: "it takes both",
}
SHARE_COLUMNS = ["relation", "made_by", "share", "low", "high", "n"]
LAYER_COLUMNS = ["relation", "layer", "made_by", "share", "items", "n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """The prompts of a relation, what the layers did at their last token, and where they switched.

    Attributes:
        stream: the recorded states; "after" and "ffn" are always among them.
        decoded: the early decoding of the states after each layer, layers first.
        correct: whether the answer is the top token after the last layer.
        switch: the layer of the last switch to the answer; NO_SWITCH where there is none.
        development: whether an item belongs to the split that chooses and fits.
    """

    relation: Relation
    form: str
    encoded: EncodedPrompts
    stream: Stream
    decoded: ReadOut
    correct: Bool[np.ndarray, " prompt"]
    switch: Int[np.ndarray, " prompt"]
    development: Bool[np.ndarray, " prompt"]

    @property
    def shape(self) -> tuple[int, int]:
        """How many layers and prompts."""
        return len(self.stream.layers), len(self.encoded)

    @property
    def switched(self) -> Bool[np.ndarray, " prompt"]:
        """Items answered correctly that have a last switch: those that have an o vector."""
        return self.correct & (self.switch != NO_SWITCH)

    def by_layer(self, name: str) -> Float[np.ndarray, "layer prompt"]:
        """One measure of `decoded`, with its two axes."""
        return getattr(self.decoded, name).reshape(self.shape)

    def without_ffn(self, layer: int) -> Float[Tensor, "prompt d_model"]:
        """The state after a layer without what its FFN added: the mid residual, where there is one,
        else the state before the layer plus what attention added."""
        return self.stream["after"][layer] - self.stream["ffn"][layer]


def answered(
    model: LanguageModel,
    relation: Relation | str,
    *,
    form: str = "one_shot",
    n_items: int | None = None,
    seed: int = 0,
    parts: Sequence[str] = ("ffn", "after"),
    progress: bool = False,
) -> Answered:
    """Run a relation's prompts once and find the last switch of each item.

    Development items are chosen by their argument alone, so that coloured objects of one colour,
    in whatever passage, are all on the same side. `n_items` None or 0 means all.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    encoded = encode_relation(model, relation, form, n_items=n_items, seed=seed)
    stream = record(model, encoded, parts=parts, progress=progress)
    decoded = decode_layers(model, encoded, stream["after"])
    shape = stream["after"].shape[:2]
    top, rank_answer = decoded.top.reshape(shape), decoded.rank_answer.reshape(shape)
    development = [
        is_development(prompt.relation, prompt.item.argument, seed=seed)
        for prompt in encoded.prompts
    ]
    return Answered(
        relation=relation,
        form=form,
        encoded=encoded,
        stream=stream,
        decoded=decoded,
        correct=top[-1] == encoded.answer_ids.numpy(),
        switch=last_switch(rank_answer == 1),
        development=np.array(development),
    )


def decode_layers(
    model: LanguageModel, encoded: EncodedPrompts, states: Float[Tensor, "layer prompt d_model"]
) -> ReadOut:
    """Early decoding of all prompts after some layers, layer by layer."""
    layers = len(states)
    ids = (encoded.argument_ids.repeat(layers), encoded.answer_ids.repeat(layers))
    return read_out(LogitLens(model), states.flatten(0, 1), *ids)


def last_switch(on_top: Bool[np.ndarray, "layer prompt"]) -> Int[np.ndarray, " prompt"]:
    """The layer from which on `on_top` stays true to the last; NO_SWITCH where none does."""
    stays = np.flip(np.cumprod(np.flip(np.asarray(on_top), 0), axis=0), 0)
    return np.where(stays[-1] == 1, len(stays) - stays.sum(axis=0), NO_SWITCH)


def item_columns(model: LanguageModel, run: Answered) -> pd.DataFrame:
    """What every table of this chapter says about an item, one row an item."""
    prompts = run.encoded.prompts
    return pd.DataFrame(
        {
            "model": model.name,
            "relation": run.relation.name,
            "form": run.form,
            "item": np.arange(len(prompts)),
            "argument": [prompt.argument for prompt in prompts],
            "answer": [prompt.answer for prompt in prompts],
            "correct": run.correct,
            "development": run.development,
            "switch": run.switch,
        }
    )


def crossed(
    items: pd.DataFrame, pieces: Sequence[Mapping[str, object]], *, columns: Sequence[str]
) -> pd.DataFrame:
    """The table of all pieces: each has `places` of items, and values, or one value, for them.

    `columns` names the pieces' own columns, which follow the item's; without a piece they are
    there, and empty. Put together at the end: many small tables would take longer to join than
    they took to measure.
    """
    if not pieces:
        return items.iloc[:0].reindex(columns=[*items.columns, *columns])
    places = [np.asarray(piece["places"]) for piece in pieces]
    table = items.loc[np.concatenate(places)].reset_index(drop=True)
    for name in columns:
        parts = (
            np.broadcast_to(np.asarray(piece[name]), at.shape)
            for piece, at in zip(pieces, places, strict=True)
        )
        table[name] = np.concatenate(list(parts))
    return table


def token_words(model: LanguageModel, tokens: Int[np.ndarray, " state"]) -> list[str]:
    """The text of each token."""
    words = {token: model.tokenizer.decode([token]) for token in np.unique(tokens).tolist()}
    return [words[token] for token in tokens.tolist()]


def some_of(
    places: Int[np.ndarray, " place"], most: int, *, seed: int
) -> Int[np.ndarray, " chosen"]:
    """At most `most` of the places, drawn by the seed and kept in order; 0 means all."""
    if not most or len(places) <= most:
        return places
    chosen = random.Random(f"some of|{most}|{seed}").sample(range(len(places)), most)
    return places[sorted(chosen)]


def switches(
    model: LanguageModel,
    relation: Relation | str,
    *,
    form: str = "one_shot",
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Early-decode the last token before, in the middle of, and after each layer (section 4.1).

    Returns a table with one row per item, layer and place: the columns of `item_columns`, then
    layer, place, rank_argument, rank_answer (1 = top, ties get the middle rank), top_token. Places
    are `before`, `mid` (attention has added, the FFN has not) and `after`. In a block that runs
    both in parallel no such middle exists; there each contribution is added to the incoming stream
    by itself, and the places are `before`, `attention alone`, `ffn alone` and `after`.
    """
    parallel = model.architecture.mid is None
    parts = ("before", "ffn", "after", "attention" if parallel else "mid")
    asked = {"form": form, "n_items": n_items, "seed": seed, "progress": progress}
    run = answered(model, relation, parts=parts, **asked)
    states = {"before": run.stream["before"]}
    if parallel:
        states["attention alone"] = run.stream["before"] + run.stream["attention"]
        states["ffn alone"] = run.stream["before"] + run.stream["ffn"]
    else:
        states["mid"] = run.stream["mid"]
    decoded = {place: decode_layers(model, run.encoded, at) for place, at in states.items()}
    decoded["after"] = run.decoded
    items = item_columns(model, run)
    layers, prompts = run.shape
    every = {"places": np.tile(np.arange(prompts), layers)}
    every["layer"] = np.repeat(np.arange(layers), prompts)
    pieces = [
        every | {"place": place, "top_token": token_words(model, found.top)} | found.ranks
        for place, found in decoded.items()
    ]
    columns = ["layer", "place", "rank_argument", "rank_answer", "top_token"]
    return crossed(items, pieces, columns=columns)


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables of several relations as one; those without a row do not count."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def per_item(table: pd.DataFrame) -> pd.DataFrame:
    """One row per relation and item, in the order of the table, with who made its last switch.

    Adds to the item's columns: made_by, by `RULES` or `PARALLEL_RULES`, "" for items that are not
    answered correctly; argument_before, whether the argument was on top of what the switching layer
    read.
    """
    first = table.drop_duplicates(["relation", "item"]).drop(
        columns=["layer", "place", "rank_argument", "rank_answer", "top_token"]
    )
    items = first.set_index(["relation", "item"])
    there = table[table["layer"] == table["switch"]].set_index(["relation", "item"])
    ranks = {place: there[there["place"] == place] for place in table["place"].unique()}
    on_top = {at: rows["rank_answer"].reindex(items.index) == 1 for at, rows in ranks.items()}
    argument = ranks["before"]["rank_argument"].reindex(items.index) == 1
    items["made_by"] = np.where(items["correct"], _makers(on_top), "")
    items["argument_before"] = argument & items["correct"]
    return items.reset_index()


def _makers(on_top: dict[str, pd.Series]) -> np.ndarray:
    """Who made the switch, from where the answer is on top in the switching layer."""
    before, after = on_top["before"], on_top["after"]
    if "mid" in on_top:
        tests = [before | ~after, on_top["mid"]]
        return np.select(tests, [NEITHER, ATTENTION], default=FFN)
    attention, ffn = on_top["attention alone"], on_top["ffn alone"]
    tests = [before | ~after, attention & ffn, ffn, attention]
    return np.select(tests, [NEITHER, EITHER, FFN, ATTENTION], default=NEITHER)


def is_parallel(table: pd.DataFrame) -> bool:
    """Whether the table comes from a model whose attention and FFN run in parallel."""
    return "mid" not in set(table["place"])


def accuracy(items: pd.DataFrame, *, relations: int = 1) -> Interval:
    """Share of the items that are answered, its interval corrected for so many relations."""
    return share(items["correct"].to_numpy(), confidence=corrected(relations))


def maker_shares(items: pd.DataFrame) -> pd.DataFrame:
    """Who made the last switch on items answered correctly: a share with its 95% interval each.

    `items` as made by `per_item`. `either alone` has a row only where it occurs.
    """
    rows = []
    for relation, part in items[items["correct"]].groupby("relation", sort=False):
        for maker in MAKERS:
            outcomes = (part["made_by"] == maker).to_numpy()
            if maker == EITHER and not outcomes.any():
                continue
            found = share(outcomes)
            row = {"relation": relation, "made_by": maker, "share": found.value, "n": found.n}
            rows.append(row | {"low": found.low, "high": found.high})
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)


def makers_by_layer(items: pd.DataFrame, *, layers: int) -> pd.DataFrame:
    """How many of the items answered correctly switch at each layer, by who made the switch.

    One row per relation, layer and maker that occurs: share of the relation's n items.
    """
    rows = []
    switched = items[items["correct"] & (items["switch"] != NO_SWITCH)]
    sizes = items[items["correct"]].groupby("relation").size()
    for relation, part in switched.groupby("relation", sort=False):
        for maker in (one for one in MAKERS if (part["made_by"] == one).any()):
            at = part.loc[part["made_by"] == maker, "switch"]
            for layer, count in enumerate(np.bincount(at, minlength=layers).tolist()):
                n = int(sizes[relation])
                row = {"relation": relation, "layer": layer, "made_by": maker, "n": n}
                rows.append(row | {"items": count, "share": count / n})
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def chosen_layers(items: pd.DataFrame) -> pd.DataFrame:
    """For each relation the commonest switching layer of its development items, and their number.

    Columns: relation, layer, n. Relations without a development item that switches have no row.
    """
    usable = items[items["correct"] & items["development"] & (items["switch"] != NO_SWITCH)]
    rows = [
        {"relation": relation, "layer": int(part["switch"].mode().iloc[0]), "n": len(part)}
        for relation, part in usable.groupby("relation", sort=False)
    ]
    return pd.DataFrame(rows, columns=["relation", "layer", "n"])


def common_layer(items: pd.DataFrame) -> int:
    """The layer at which development items switch most often, each relation weighing the same.

    0 where no development item switches.
    """
    usable = items[items["correct"] & items["development"] & (items["switch"] != NO_SWITCH)]
    if usable.empty:
        return 0
    shares = usable.groupby("relation")["switch"].value_counts(normalize=True)
    return int(shares.groupby("switch").sum().idxmax())


def torch_places(places: Int[np.ndarray, " place"]) -> Int[Tensor, " place"]:
    """An index for tensors."""
    return torch.from_numpy(np.asarray(places, dtype=np.int64))
