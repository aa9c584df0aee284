"""Ranks as contributions are removed, and layer by layer where memory and context disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from torch import Tensor

from ovectors import lens, stream
from ovectors.encoding import EncodedPrompts, encode, encode_relation
from ovectors.experiments.retrieval.removal import CONDITIONS, POSITIONS, mean_outputs, plan
from ovectors.experiments.shared.tokens import token_words
from ovectors.models import LanguageModel
from ovectors.relations import Relation, load_relation
from ovectors.sweeps import sweep

ABSTRACTIVE, EXTRACTIVE = "one_shot", "extractive"
COUNTERFACTUAL = "extractive_counterfactual"


def ablation(
    model: LanguageModel,
    relation: Relation | str,
    *,
    form: str = ABSTRACTIVE,
    conditions: Sequence[str] = tuple(CONDITIONS),
    draws: int = 5,
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Remove contributions at every position and see what is still answered (section 5).

    Returns a table with a row per removal and item: model, relation, form, n_layers, positions
    ("all"), condition, draw, removed (how many layers), layers (which), item (its place in the
    relation), argument, answer (what the prompt asks for), true_answer (the relation's own),
    rank_answer, rank_true, rank_argument (1 = top, in the last layer), top_token, correct.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    encoded = encode_relation(model, relation, form, n_items=n_items, seed=seed)
    planned = plan(model.n_layers, conditions, draws=draws, seed=seed)
    means = mean_outputs(model, encoded, seed=seed) if "mean" in conditions else None
    outcome = sweep(
        model,
        encoded,
        [removal.point(means) for removal in planned],
        wanted=wanted_ids(model, encoded),
        progress=progress,
        title=f"removing layers: {relation.name}, {form}",
    )
    items = item_rows(model, relation, encoded, form)
    rows = [
        {
            "n_layers": model.n_layers,
            "positions": POSITIONS,
            "condition": removal.condition,
            "draw": removal.draw,
            "removed": len(removal.layers),
            "layers": " ".join(map(str, removal.layers)),
        }
        for removal in planned
    ]
    ranks = {name: outcome.final(name) for name in outcome.ranks}
    return crossed_table(model, encoded, items, rows, ranks, outcome.top[:, -1])


def contest(
    model: LanguageModel,
    relation: Relation | str = "world_capitals",
    *,
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Ranks of the context's answer and of memory's after every layer, counterfactual prompts.

    Returns a table with a row per layer and item, its columns those of `ablation` but for the
    removal's: `answer` is what the context says, `true_answer` what the relation says.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    encoded = encode_relation(model, relation, COUNTERFACTUAL, n_items=n_items, seed=seed)
    states = stream.record(model, encoded, parts=("after",), progress=progress)["after"]
    decoded = lens.decode(lens.LogitLens(model), states, wanted_ids(model, encoded))
    ranks = {name: found.numpy() for name, found in decoded.ranks.items()}
    top = decoded.top[..., 0].numpy()
    rows = [{"layer": layer} for layer in range(model.n_layers)]
    items = item_rows(model, relation, encoded, COUNTERFACTUAL)
    return crossed_table(model, encoded, items, rows, ranks, top)


def own_answer_ids(model: LanguageModel, encoded: EncodedPrompts) -> Int64[Tensor, " prompt"]:
    """The first token of the relation's own answer, whatever answer the prompts ask for."""
    own = [replace(prompt, answer=f" {prompt.item.answer}") for prompt in encoded.prompts]
    return encode(own, model.tokenizer, max_length=model.max_length).answer_ids


def wanted_ids(
    model: LanguageModel, encoded: EncodedPrompts
) -> dict[str, Int64[Tensor, " prompt"]]:
    """The tokens to rank: the answer asked for, the relation's own one, and the argument."""
    true = own_answer_ids(model, encoded)
    return {"answer": encoded.answer_ids, "true": true, "argument": encoded.argument_ids}


def item_rows(
    model: LanguageModel, relation: Relation, encoded: EncodedPrompts, form: str
) -> pd.DataFrame:
    """What is known of each prompt; `item` is the same for an item in every form."""
    places = {id(item): place for place, item in enumerate(relation.items)}
    rows = {
        "item": [places[id(prompt.item)] for prompt in encoded.prompts],
        "argument": [prompt.argument for prompt in encoded.prompts],
        "answer": [prompt.answer for prompt in encoded.prompts],
        "true_answer": [f" {prompt.item.answer}" for prompt in encoded.prompts],
    }
    return pd.DataFrame({"model": model.name, "relation": relation.name, "form": form, **rows})


def crossed_table(
    model: LanguageModel,
    encoded: EncodedPrompts,
    items: pd.DataFrame,
    rows: Sequence[dict],
    ranks: dict[str, Float[np.ndarray, "row item"]],
    top: np.ndarray,
) -> pd.DataFrame:
    """A table with every row for every item, ranks and top token beside them."""
    table = items.merge(pd.DataFrame(rows), how="cross")  # the item outside, the row inside
    for name, found in ranks.items():
        table[f"rank_{name}"] = found.T.ravel()
    table["top_token"] = token_words(model, top.T.ravel())
    table["correct"] = table["rank_answer"] == 1
    return table
