"""Ranks of argument and answer after each layer (section 3, figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ovectors import lens, stream
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.experiments.shared.tokens import token_words
from ovectors.lens import Decoded
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
    """Early-decode the last token's residual stream in and after every layer (section 3).

    Returns a table with one row per item, layer (layer 0 is the first block) and state, in the
    order of computation: "mid", between attention and FFN, where the architecture has it, then
    "after" the layer. Columns: model, relation, form, item, argument, answer, group,
    argument_tokens, answer_tokens, layer, state, top_token, top_tokens, rank_argument, rank_answer
    (1 = top, ties get the middle rank), and correct, whether the *last* layer's top token is the
    answer's first one. `n_items` None or 0 means all; what is left out, and why, is
    `encoding.encode_relation`'s to tell. Most of what reads the table looks at
    `judge.after_layers` alone.
    """
    relation = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    encoded = encode_relation(model, relation, form, n_items=n_items, seed=seed)
    states = ("after",) if model.architecture.mid is None else ("mid", "after")
    recorded = stream.record(model, encoded, parts=states, progress=progress)
    wanted = {"argument": encoded.argument_ids, "answer": encoded.answer_ids}
    head = lens.LogitLens(model)
    decoded = {state: lens.decode(head, recorded[state], wanted, k=TOP_TOKENS) for state in states}
    return _table(model, relation, form, encoded, decoded)


def _table(
    model: LanguageModel,
    relation: Relation,
    form: str,
    encoded: EncodedPrompts,
    decoded: Mapping[str, Decoded],
) -> pd.DataFrame:
    n_layers, n_prompts, _ = decoded["after"].top.shape
    rows = {
        "item": np.arange(n_prompts),
        "argument": [prompt.argument for prompt in encoded.prompts],
        "answer": [prompt.answer for prompt in encoded.prompts],
        "group": [prompt.item.group for prompt in encoded.prompts],
        "argument_tokens": encoded.argument_lengths.numpy(),
        "answer_tokens": encoded.answer_lengths.numpy(),
        "correct": (decoded["after"].ranks["answer"][-1] == 1).numpy(),
    }
    items = pd.DataFrame({"model": model.name, "relation": relation.name, "form": form, **rows})
    n_states = n_layers * len(decoded)
    table = items.loc[np.repeat(np.arange(n_prompts), n_states)].reset_index(drop=True)
    table["layer"] = np.tile(np.repeat(np.arange(n_layers), len(decoded)), n_prompts)
    table["state"] = np.tile(list(decoded), n_layers * n_prompts)
    for name in ("argument", "answer"):
        ranks = np.stack([found.ranks[name].numpy() for found in decoded.values()], axis=1)
        table[f"rank_{name}"] = ranks.reshape(n_states, n_prompts).T.ravel()
    top = np.stack([found.top.numpy() for found in decoded.values()], axis=1)
    top = top.reshape(n_states, n_prompts, -1).transpose(1, 0, 2)
    words = token_words(model, top.reshape(-1, top.shape[-1]))
    table["top_token"] = words[:, 0]
    table["top_tokens"] = words.tolist()
    return table
