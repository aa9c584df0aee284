"""A relation run once: what layers did at the last token, and where they switch to the answer."""

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
from ovectors.experiments.linear_update.measure.readout import ReadOut, read_out
from ovectors.lens import Lens, LogitLens
from ovectors.models import LanguageModel
from ovectors.relations import Relation, load_relation
from ovectors.splits import is_development
from ovectors.stream import Stream, record

NO_SWITCH = -1


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

    def read(
        self,
        lens: Lens,
        states: Float[Tensor, "state d_model"],
        places: Int[np.ndarray, " state"],
    ) -> ReadOut:
        """Decode some states, each of the item at its place."""
        at = torch_places(places)
        return read_out(lens, states, self.encoded.argument_ids[at], self.encoded.answer_ids[at])

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
    rank_answer = decoded.rank_answer.reshape(shape)
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
        correct=rank_answer[-1] == 1,
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


def some_of(
    places: Int[np.ndarray, " place"], most: int, *, seed: int
) -> Int[np.ndarray, " chosen"]:
    """At most `most` of the places, drawn by the seed and kept in order; 0 means all."""
    if not most or len(places) <= most:
        return places
    chosen = random.Random(f"some of|{most}|{seed}").sample(range(len(places)), most)
    return places[sorted(chosen)]


def torch_places(places: Int[np.ndarray, " place"]) -> Int[Tensor, " place"]:
    """An index for tensors."""
    return torch.from_numpy(np.asarray(places, dtype=np.int64))
