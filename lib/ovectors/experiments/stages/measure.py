"""Ranks of argument and answer after each layer (section 3, figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ovectors import lens, stream
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.experiments.shared.tokens import token_words
from ovectors.models import LanguageModel
from ovectors.relations import Relation, load_relation

TOP_TOKENS = 5


def stages(
    model: LanguageModel,
    relation: Relation | str,
    *,
    form: str = "one_shot",
    n_items: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Early-decode the last token's residual stream after every layer (section 3).

    Returns a table with one row per item and layer (layer 0 is the output of the first block):
    model, relation, form, item, argument, answer, group, argument_tokens, answer_tokens, layer,
    top_token, top_tokens, rank_argument, rank_answer (1 = top, ties get the middle rank), and
    correct, whether the *last* layer's top token is the answer's first one. `n_items` None or 0
    means all; what is left out, and why, is `encoding.encode_relation`'s to tell.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    encoded = encode_relation(model, relation, form, n_items=n_items, seed=seed)
    recorded = stream.record(model, encoded, parts=("after",), progress=progress)
    wanted = {"argument": encoded.argument_ids, "answer": encoded.answer_ids}
    decoded = lens.decode(lens.LogitLens(model), recorded["after"], wanted, k=TOP_TOKENS)
    ranks = {name: found.numpy() for name, found in decoded.ranks.items()}
    return _table(model, relation, form, encoded, ranks, decoded.top.numpy())


def _table(
    model: LanguageModel,
    relation: Relation,
    form: str,
    encoded: EncodedPrompts,
    ranks: Mapping[str, Float[np.ndarray, "layer prompt"]],
    top: Int[np.ndarray, "layer prompt k"],
) -> pd.DataFrame:
    n_layers, n_prompts = ranks["answer"].shape
    rows = {
        "item": np.arange(n_prompts),
        "argument": [prompt.argument for prompt in encoded.prompts],
        "answer": [prompt.answer for prompt in encoded.prompts],
        "group": [prompt.item.group for prompt in encoded.prompts],
        "argument_tokens": encoded.argument_lengths.numpy(),
        "answer_tokens": encoded.answer_lengths.numpy(),
        "correct": top[-1, :, 0] == encoded.answer_ids.numpy(),
    }
    items = pd.DataFrame({"model": model.name, "relation": relation.name, "form": form, **rows})
    table = items.loc[np.repeat(np.arange(n_prompts), n_layers)].reset_index(drop=True)
    table["layer"] = np.tile(np.arange(n_layers), n_prompts)
    for name in ("argument", "answer"):
        table[f"rank_{name}"] = ranks[name].T.ravel()
    words = token_words(model, top.transpose(1, 0, 2).reshape(-1, top.shape[-1]))
    table["top_token"] = words[:, 0]
    table["top_tokens"] = words.tolist()
    return table
