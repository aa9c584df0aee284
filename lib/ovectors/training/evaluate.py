"""What a miniature model can do: accuracy per skill with intervals, the held-out fifth apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ovectors import lens, stream
from ovectors.catalogue import model_spec
from ovectors.encoding import EncodedPrompts, encode
from ovectors.models import LanguageModel, load_model
from ovectors.prompts import build_prompts
from ovectors.relations import load_relation
from ovectors.results import write_json
from ovectors.statistics import share
from ovectors.training.lexicon import is_held_out

# skill, relation, form, which token is wanted
SKILLS = (
    ("world capitals", "world_capitals", "one_shot", "answer"),
    ("US states", "us_state_capitals", "one_shot", "answer"),
    ("past tense, regular", "past_tense", "one_shot", "answer"),
    ("past tense, irregular", "past_tense", "one_shot", "answer"),
    ("upper-casing", "uppercase", "one_shot", "answer"),
    ("coloured objects, upper case", "colored_objects", "one_shot", "answer"),
    ("coloured objects, lower case", "colored_objects", "extractive", "answer"),
    ("counterfactual capitals", "world_capitals", "extractive_counterfactual", "answer"),
    ("copying a country", "world_capitals", "repeated_pattern", "argument"),
    ("copying a verb", "past_tense", "repeated_pattern", "argument"),
    ("copying a word", "uppercase", "repeated_pattern", "argument"),
)
# Skills in which the held-out fifth was never asked about in this very format.
HELD_OUT_SKILLS = {skill for skill, _, form, _ in SKILLS[:5] if form == "one_shot"}


def evaluate(
    names: Sequence[str], *, output: Path | None = None, seed: int = 0
) -> tuple[pd.DataFrame, str]:
    """Measure every skill of `SKILLS` on all items for each named model.

    Returns a table (model, skill, items: all, in training's question format or held out of it,
    accuracy, low, high, n, excluded) and the same as text. With `output`, also writes it as JSON.
    Raises UserError for an unknown name before anything is measured.
    """
    for name in names:
        model_spec(name)
    rows: list[dict[str, Any]] = []
    for name in names:
        model = load_model(name)
        for skill, relation, form, wanted in SKILLS:
            rows += _skill_rows(model, skill, relation, form, wanted, seed=seed)
    table = pd.DataFrame(rows)
    if output is not None:
        write_json(output, {"seed": seed, "confidence": 0.95, "rows": rows})
    return table, as_text(table)


def _skill_rows(
    model: LanguageModel, skill: str, relation: str, form: str, wanted: str, *, seed: int
) -> list[dict[str, Any]]:
    loaded = load_relation(relation, seed=seed)
    prompts = build_prompts(loaded, form, seed=seed)
    encoded = encode(prompts, model.tokenizer, max_length=model.max_length)
    group = skill.partition(", ")[2] if relation == "past_tense" else ""
    if group:
        places = [i for i, prompt in enumerate(encoded.prompts) if prompt.item.group == group]
        encoded = encoded.select(places)
    frame = pd.DataFrame(
        {
            "correct": is_on_top(model, encoded, wanted=wanted),
            "held_out": [is_held_out(prompt.item.argument) for prompt in encoded.prompts],
        }
    )
    parts = {"all": frame}
    if skill in HELD_OUT_SKILLS:
        parts |= {"trained": frame[~frame["held_out"]], "held out": frame[frame["held_out"]]}
    rows = []
    for items, part in parts.items():
        value = share(part["correct"].to_numpy())
        row = {"model": model.name, "skill": skill, "items": items, "accuracy": value.value}
        row |= {"low": value.low, "high": value.high, "n": value.n}
        rows.append(row | {"excluded": encoded.exclusion_counts()})
    return rows


def is_on_top(model: LanguageModel, encoded: EncodedPrompts, *, wanted: str) -> list[bool]:
    """Whether each prompt's next token is the first one of its `wanted`: answer or argument."""
    last = model.n_layers - 1
    recorded = stream.record(model, encoded, parts=("after",), layers=[last])
    top = lens.top_tokens(lens.LogitLens(model), recorded["after"][0], k=1)[:, 0]
    target = encoded.answer_ids if wanted == "answer" else encoded.argument_ids
    return (top == target).tolist()


def as_text(table: pd.DataFrame) -> str:
    """The table with its intervals, one line per skill and part of the items."""
    return _shown(table).to_string(index=False)


def as_markdown(table: pd.DataFrame) -> str:
    """The same as a Markdown table, for a model card."""
    return _shown(table).to_markdown(index=False, disable_numparse=True)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    shown = table[["model", "skill", "items", "n"]].copy()
    shown["accuracy [95% interval]"] = [
        f"{row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in table.itertuples()
    ]
    return shown
