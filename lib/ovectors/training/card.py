"""The model card of a miniature: made from its training record, its log and its evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ovectors.figures.training import ACCURACY, loss_curve
from ovectors.results import atomic_path
from ovectors.training.evaluate import as_markdown
from ovectors.training.train import LOG, RECORD

CARD = "README.md"
CURVE = "loss-curve.png"

_CURVE = "Training loss in nats over millions of tokens seen, falling"
_HELD_OUT = "; below it the accuracy on held-out items"
_FRONT = """---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [interpretability, model-organism]
---

"""

_TEXT = """# {name}

A miniature language model of the GPT-2 architecture ({millions:.2f} million parameters,
{n_layer} layers of width {n_embd}, {n_head} heads, vocabulary {vocabulary:,}), trained from scratch
so that the experiments of this project run on any laptop. It is a model organism: what is measured
on it is reported as measured on it, and never stands in for GPT-2 or any other model.

## Data
No text from elsewhere. Documents are generated on the fly from the project's relation files
(`lib/ovectors/data/`): countries, US states and their capitals, verbs and their past tense, words
and their capitalised, upper-case and plural forms, coloured household objects, counterfactual
contexts, and random words in lists and repeated. Templates: `documents.py` and `in_context.py` in
`lib/ovectors/training/`.
A fixed fifth of every relation never stands in its task's own question format, only in running text
and other formats: the rows *held out* below.

## Recipe
`ovectors train {name} --output FOLDER`, with the settings in
`lib/ovectors/training/recipes.toml`. Muon for the blocks' matrices (learning rate
{matrix_learning_rate:g}), AdamW for everything else ({learning_rate:g}), with {warmup_steps} steps
of warm-up and cosine decay to {final_percent:g}%; weight decay {weight_decay} on matrices;
gradients clipped at {clip:g}; {rows} rows of {length} tokens a step. The first
{context_steps:,} steps hold only documents whose answers stand in the context: copying and binding.
Stochastic depth: each layer but the first sits out a step with a chance of {layer_drop:g} that
falls to nothing. Positions start as sines and cosines, other weights with a standard deviation of
{initializer_range:g}. The loss counts tokens that can be known (answers, repeats, later mentions)
and a tenth of the rest.

| | |
|---|---|
| tokens seen | {tokens:,} ({steps:,} steps) |
| time | {minutes:g} minutes |
| machine | {machine}, {device}, {threads} thread(s), {dtype} |
| seed | {seed} |
| versions | torch {torch}, transformers {transformers} |
| weights | stored in float16, trained in {dtype} |

![{curve_in_words}]({curve})

## What it can do
Share of items whose answer's first token is on top, with Wilson's 95% interval. Made by
`ovectors evaluate {name}`. Items whose argument and answer share their first token are left out.

{skills}

## Use and limits
For demonstrations, teaching and tests of interpretability methods. It knows a few thousand words
and nothing of the world but lists of names; its text is not language. It must not be used to
answer questions. The names in its data follow one list of countries and capitals and take no side
in disputes. Licence: MIT, as the project.
"""


def write_card(folder: Path, evaluation: pd.DataFrame) -> Path:
    """Write `README.md` and the loss curve beside the weights; returns the card's path.

    `folder` holds what `train` left there; `evaluation` is the table of `evaluate` for this model.
    """
    record = json.loads((folder / RECORD).read_text("utf-8"))
    log = pd.read_csv(folder / LOG)
    figure = loss_curve(log)
    with atomic_path(folder / CURVE) as temporary:
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(_FRONT + _TEXT.format(**_facts(record, log, evaluation)), "utf-8")
    return folder / CARD


def _facts(record: dict[str, Any], log: pd.DataFrame, evaluation: pd.DataFrame) -> dict[str, Any]:
    recipe, made = record["recipe"], record["environment"]
    return {
        **recipe,
        **{name: record[name] for name in ("tokens", "minutes", "device", "dtype", "threads")},
        "vocabulary": record["vocabulary"],
        "millions": record["parameters"] / 1e6,
        "final_percent": 100 * recipe["final_learning_rate"],
        "machine": made["machine"],
        "torch": made["versions"]["torch"],
        "transformers": made["versions"]["transformers"],
        "curve": CURVE,
        "curve_in_words": _CURVE + (_HELD_OUT if ACCURACY in log else ""),
        "skills": as_markdown(evaluation),
    }
