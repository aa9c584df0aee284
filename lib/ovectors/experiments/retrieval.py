"""Retrieval from memory or from context: accuracy as FFNs are removed (section 5, figures 6, 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from torch import Tensor

from ovectors import claims
from ovectors.claims import Claim, Evidence, Published
from ovectors.encoding import EncodedPrompts, encode, encode_relation
from ovectors.experiments.removal import CONDITIONS, CONTROL, POSITIONS, mean_outputs, plan, third
from ovectors.experiments.rows import interval_of, row_of
from ovectors.models import LanguageModel
from ovectors.relations import Relation, load_relation
from ovectors.statistics import Interval, corrected, crossed_mean, share
from ovectors.sweeps import sweep

TASKS = ("world_capitals", "colored_objects")
ABSTRACTIVE, EXTRACTIVE = "one_shot", "extractive"
COUNTERFACTUAL = "extractive_counterfactual"
DIFFERENCE = "abstractive minus extractive"
CURVES = ["relation", "form", "condition", "removed", "share_removed", "mean", "low", "high", "n"]
COSTS = ["relation", "condition", "removed", "share_removed", "prompts", "mean", "low", "high", "n"]


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
    words = {token: model.tokenizer.decode([token]) for token in np.unique(top).tolist()}
    table["top_token"] = [words[token] for token in top.T.ravel().tolist()]
    table["correct"] = (top == encoded.answer_ids.numpy()).T.ravel()
    return table


def accuracy_curves(
    table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Accuracy over the number of layers removed, for each relation, form and condition.

    Columns: `CURVES`. Intervals are Wilson's over items; for random layers a bootstrap over draws
    and items. Every condition starts from the control run, where nothing is removed.
    """
    rows = []
    n_layers = int(table["n_layers"].max())
    for (relation, form), part in table.groupby(["relation", "form"], sort=False):
        for condition, removed, correct in _removals(part):
            found = _accuracy(correct, confidence=confidence, seed=seed)
            row = {"relation": relation, "form": form, "condition": condition, "removed": removed}
            rows.append(row | {"share_removed": removed / n_layers} | row_of(found))
    return pd.DataFrame(rows, columns=CURVES)


def _removals(part: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """(condition, number removed, correct [draw, item]) of one relation's prompts in one form."""
    wide = part.pivot(index=["condition", "removed", "draw"], columns="item", values="correct")
    control = wide.loc[(CONTROL, 0)]
    found = []
    for condition in [name for name in CONDITIONS if name in wide.index.levels[0]]:
        found.append((condition, 0, control))
        counts = wide.loc[condition].index.get_level_values("removed").unique()
        found += [(condition, int(count), wide.loc[(condition, count)]) for count in counts]
    return found


def _accuracy(correct: pd.DataFrame, *, confidence: float, seed: int) -> Interval:
    values = correct.to_numpy(dtype=float)
    if len(values) == 1:
        return share(values[0], confidence=confidence)
    return crossed_mean(values, confidence=confidence, seed=seed)


def costs(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """What a removal costs in accuracy: before minus after, and how much more it costs one form.

    Columns: `COSTS`; `prompts` is abstractive, extractive, or `DIFFERENCE`, the difference of these
    two differences. All over the items that both forms have, paired; bootstrap over items, for
    random layers over draws and items. A relation that lacks a form gives no rows.
    """
    rows = []
    n_layers = int(table["n_layers"].max())
    for relation, part in table.groupby("relation", sort=False):
        forms = [part[part["form"] == form] for form in (ABSTRACTIVE, EXTRACTIVE)]
        common = set(forms[0]["item"]) & set(forms[1]["item"])
        if not common:
            continue
        both = [_losses(form[form["item"].isin(common)]) for form in forms]
        for (condition, removed), lost in both[0].items():
            named = {"relation": relation, "condition": condition, "removed": removed}
            named["share_removed"] = removed / n_layers
            lost_context = both[1][condition, removed]
            compared = {"abstractive": lost, "extractive": lost_context}
            for prompts, values in (compared | {DIFFERENCE: lost - lost_context}).items():
                found = crossed_mean(values, confidence=confidence, seed=seed)
                rows.append(named | {"prompts": prompts} | row_of(found))
    return pd.DataFrame(rows, columns=COSTS)


def _losses(part: pd.DataFrame) -> dict[tuple[str, int], Float[np.ndarray, "draw item"]]:
    """For each condition and number removed: correct before minus correct after, item by item."""
    lost, before = {}, None
    for condition, removed, correct in _removals(part):
        values = correct.to_numpy(dtype=float)
        if removed == 0:
            before = values
        else:
            lost[condition, removed] = before - values
    return lost


def claim(
    table: pd.DataFrame,
    *,
    model: str,
    tasks: Sequence[str] = TASKS,
    published: Sequence[Published] = (),
    seed: int = 0,
) -> Claim:
    """The verdict on retrieval, by the rule `claims.RULES["retrieval"]`, over these tasks.

    `table`: `ablation` of every task in the forms `ABSTRACTIVE` and `EXTRACTIVE`. The rule looks at
    zero ablation of the top third; what the other conditions cost is shown beside it.
    """
    confidence = corrected(len(tasks))
    whole = accuracy_curves(table, confidence=confidence, seed=seed)
    whole = whole[(whole["removed"] == 0) & (whole["condition"] == "zero")]
    lost = costs(table, confidence=confidence, seed=seed)
    lost = lost[lost["removed"] == third(int(table["n_layers"].max()))]
    evidence, context = [], []
    for relation in tasks:
        own = whole[whole["relation"] == relation]
        for form, name in ((ABSTRACTIVE, "abstractive"), (EXTRACTIVE, "extractive")):
            found, named = interval_of(own[own["form"] == form]), f"accuracy on {name} prompts"
            evidence.append(Evidence(relation=relation, criterion=named, found=found, bound=0.5))
        cost = lost[lost["relation"] == relation]
        for row in cost.groupby(["condition", "prompts"], sort=False):
            (condition, prompts), found = row[0], interval_of(row[1])
            if prompts == DIFFERENCE and condition == "zero":
                named = {"relation": relation, "criterion": f"cost of the top third, {DIFFERENCE}"}
                evidence.append(Evidence(**named, found=found, bound=0, paper=True))
            elif prompts == DIFFERENCE or condition == "zero":
                context.append(claims.context(relation, _named(condition, prompts), found))
    rule = claims.RULES["retrieval"]
    return claims.judge(rule, evidence, model=model, published=published, context=context)


def _named(condition: str, prompts: str) -> str:
    """What a number beside the verdict is called."""
    if condition == "zero":
        return f"cost of the top third on {prompts} prompts"
    what = {"mean": "mean ablation", "attention": "attention instead", "random": "random layers"}
    return f"the same with {what[condition]}, {prompts}"
