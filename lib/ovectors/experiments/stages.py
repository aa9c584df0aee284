"""Stages of processing: ranks of argument and answer after each layer (section 3, figures 2, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd

from ovectors import claims, lens, stream
from ovectors.claims import Claim, Evidence
from ovectors.encoding import EncodedPrompts, encode_relation
from ovectors.models import LanguageModel
from ovectors.relations import Relation, load_relation
from ovectors.statistics import Interval, bootstrap_bands, corrected, nothing, share

RULES = {
    "argument formation": (
        "the argument's first token is the top token after at least one layer that comes before "
        "the answer first is"
    ),
    "function application": (
        "the first layer after which the answer's first token is the top token, counted only "
        "where the argument was formed before"
    ),
    "saturation": (
        "from function application on, the answer stays the top token to the last layer, and "
        "for at least one layer more"
    ),
}
APPLICATION, SIGNATURE, ANSWER = "function application", "whole signature", "answer on top"
ANSWERS = "accuracy"
SHOWS_STAGES = "share of items with the whole signature"
TOP_TOKENS = 5
PAPER_EXAMPLES = {  # the arguments of the prompts that the paper follows (figure 2, table 1)
    "world_capitals": " Poland",
    "past_tense": " abolish",
    "colored_objects": " brown",
    "uppercase": " brown",
}
CURVE_COLUMNS = ["relation", "form", "token", "layer", "mean", "low", "high", "n"]
SHARE_COLUMNS = ["relation", "form", "stage", "share", "low", "high", "n"]
SHARE_COLUMNS += ["median_layer", "relative_depth"]


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
    logit_lens = lens.LogitLens(model)
    states = recorded["after"]
    rank_argument = lens.ranks(logit_lens, states, encoded.argument_ids).numpy()
    rank_answer = lens.ranks(logit_lens, states, encoded.answer_ids).numpy()
    top = lens.top_tokens(logit_lens, states, k=TOP_TOKENS).numpy()
    return _table(model, relation, form, encoded, rank_argument, rank_answer, top)


def _table(
    model: LanguageModel,
    relation: Relation,
    form: str,
    encoded: EncodedPrompts,
    rank_argument: np.ndarray,
    rank_answer: np.ndarray,
    top: np.ndarray,
) -> pd.DataFrame:
    n_layers, n_prompts = rank_answer.shape
    words = {token: model.tokenizer.decode([token]) for token in np.unique(top).tolist()}
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
    table["rank_argument"] = rank_argument.T.ravel()
    table["rank_answer"] = rank_answer.T.ravel()
    by_row = top.transpose(1, 0, 2).reshape(-1, top.shape[-1])
    table["top_token"] = [words[row[0]] for row in by_row.tolist()]
    table["top_tokens"] = [[words[token] for token in row] for row in by_row.tolist()]
    return table


def accuracy(table: pd.DataFrame) -> Interval:
    """Share of items answered correctly in the last layer, with a 95% interval."""
    return share(_per_item(table)["correct"].to_numpy())


def reciprocal_rank_curves(
    table: pd.DataFrame, *, seed: int = 0, correct_only: bool = True
) -> pd.DataFrame:
    """Mean reciprocal rank of argument and answer per layer (section 3, figure 3).

    Over correctly answered items, unless told otherwise: where the model is wrong there is no
    function application to look at. Columns: relation, form, token (argument or answer), layer,
    mean, low, high (95% bootstrap over items), n. A relation without a correct item gives no rows.
    """
    rows: list[dict] = []
    shown = table[table["correct"]] if correct_only else table
    for (relation, form), part in shown.groupby(["relation", "form"], sort=False):
        for token in ("argument", "answer"):
            ranks = part.pivot(index="item", columns="layer", values=f"rank_{token}")
            bands = bootstrap_bands(1.0 / ranks.to_numpy(), seed=seed)
            for layer, band in zip(ranks.columns, bands, strict=True):
                named = {"relation": relation, "form": form, "token": token, "layer": layer}
                rows.append(named | {"mean": band.value, "low": band.low, "high": band.high})
                rows[-1]["n"] = band.n
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


@dataclass(frozen=True)
class ItemStages:
    """Layers at which one item passes the stages; None where it does not (rules in `RULES`)."""

    argument_formed: bool
    answer_first: int | None  # layer after which the answer is first on top
    application: int | None  # the same, where the argument was formed before
    is_abrupt: bool  # the argument was on top one layer earlier
    saturated: bool

    @property
    def has_signature(self) -> bool:
        """Argument formation, then function application, then saturation."""
        return self.argument_formed and self.application is not None and self.saturated


def detect_stages(rank_argument: np.ndarray, rank_answer: np.ndarray) -> ItemStages:
    """Apply the rules of `RULES` to the ranks of one item, each of shape [layer]."""
    answer_on_top = np.asarray(rank_answer) == 1
    argument_on_top = np.asarray(rank_argument) == 1
    if not answer_on_top.any():
        return ItemStages(bool(argument_on_top.any()), None, None, False, False)
    first = int(answer_on_top.argmax())
    formed = bool(argument_on_top[:first].any())
    stays = bool(answer_on_top[first:].all()) and first < len(answer_on_top) - 1
    abrupt = formed and bool(argument_on_top[first - 1])
    return ItemStages(formed, first, first if formed else None, abrupt, formed and stays)


def stage_table(table: pd.DataFrame) -> pd.DataFrame:
    """How many correctly answered items show each stage, and all of them (table 1's question).

    One row per relation, form and stage: share with its 95% interval, n, and for function
    application the median layer and its relative depth, (layer + 1) / layers. A last row, `answer
    on top`, gives the same for the first layer with the answer on top, whatever came before it.
    """
    rows: list[dict] = []
    n_layers = int(table["layer"].max()) + 1
    for (relation, form), part in table[table["correct"]].groupby(["relation", "form"], sort=False):
        found = [_of_item(item) for _, item in part.groupby("item")]
        outcomes = {
            "argument formation": [item.argument_formed for item in found],
            APPLICATION: [item.application is not None for item in found],
            "abrupt: the argument was on top one layer before": [item.is_abrupt for item in found],
            "saturation": [item.saturated for item in found],
            SIGNATURE: [item.has_signature for item in found],
            ANSWER: [item.answer_first is not None for item in found],
        }
        applied = [item.application for item in found if item.application is not None]
        layers = {
            APPLICATION: applied,
            ANSWER: [item.answer_first for item in found if item.answer_first is not None],
        }
        for stage, shown in outcomes.items():
            value = share(shown)
            row = {"relation": relation, "form": form, "stage": stage, "share": value.value}
            row |= {"low": value.low, "high": value.high, "n": value.n}
            if layers.get(stage):
                row["median_layer"] = float(np.median(layers[stage]))
                row["relative_depth"] = (row["median_layer"] + 1) / n_layers
            rows.append(row)
    return pd.DataFrame(rows, columns=SHARE_COLUMNS)


def example_items(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one item per relation and form: the paper's own example where it was run.

    Otherwise the first correctly answered item, otherwise the first.
    """
    chosen = []
    for (relation, _), part in table.groupby(["relation", "form"], sort=False):
        wanted = part[part["argument"] == PAPER_EXAMPLES.get(relation)]
        pool = next(p for p in (wanted, part[part["correct"]], part) if not p.empty)
        chosen.append(part[part["item"] == pool["item"].iloc[0]])
    return pd.concat(chosen, ignore_index=True)


def signature_items(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first correctly answered item per relation with the whole signature.

    Relations without such an item give no rows.
    """
    chosen = []
    for _, part in table[table["correct"]].groupby(["relation", "form"], sort=False):
        whole = (item for _, item in part.groupby("item") if _of_item(item).has_signature)
        chosen += islice(whole, 1)
    return pd.concat(chosen, ignore_index=True) if chosen else table.iloc[:0]


def _of_item(rows: pd.DataFrame) -> ItemStages:
    rows = rows.sort_values("layer")
    return detect_stages(rows["rank_argument"].to_numpy(), rows["rank_answer"].to_numpy())


def final_top_tokens(table: pd.DataFrame, *, count: int = 3) -> pd.DataFrame:
    """The commonest last-layer top tokens per relation and form, with their share of all items."""
    last = table[table["layer"] == table["layer"].max()]
    shares = (
        last.groupby(["relation", "form"], sort=False)["top_token"]
        .value_counts(normalize=True)
        .groupby(level=[0, 1], sort=False)
        .head(count)
    )
    return shares.rename("share").reset_index()


def _per_item(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop_duplicates(["relation", "form", "item"])


def claim(table: pd.DataFrame, *, model: str, relations: Sequence[str], seed: int = 0) -> Claim:
    """The verdict on the stages, by the rule `claims.RULES["stages"]`, over these relations."""
    confidence = corrected(len(relations))
    evidence = []
    for relation in relations:
        items = _per_item(table[table["relation"] == relation])
        known = share(items["correct"].to_numpy(), confidence=confidence)
        evidence.append(Evidence(relation=relation, criterion=ANSWERS, found=known, bound=0.1))
        correct = table[(table["relation"] == relation) & table["correct"]]
        whole = [_of_item(item).has_signature for _, item in correct.groupby("item")]
        found = share(whole, confidence=confidence) if whole else nothing()
        evidence.append(
            Evidence(relation=relation, criterion=SHOWS_STAGES, found=found, bound=0.5, paper=True)
        )
    printed = claims.published("stages", model)
    return claims.judge(claims.RULES["stages"], evidence, model=model, published=printed)
