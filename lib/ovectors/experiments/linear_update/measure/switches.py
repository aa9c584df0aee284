"""The token on top before, in the middle of, and after each layer (section 4.1)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ovectors.experiments.linear_update.measure.answered import (
    answered,
    crossed,
    decode_layers,
    item_columns,
)
from ovectors.experiments.shared.tokens import token_words
from ovectors.models import LanguageModel
from ovectors.relations import Relation


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
