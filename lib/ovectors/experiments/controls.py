"""Control vectors, and what else a vector could owe its effect to: averages, scale, its prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ovectors import stream
from ovectors.encoding import EncodedPrompts, encode
from ovectors.experiments.replacing import CONTROL, OWN, Vector, measure, source_vectors
from ovectors.experiments.sources import Sources, Task, material
from ovectors.prompts import GENERIC, TEMPLATES, Prompt, one_shot, zero_shot
from ovectors.relations import SAME_NAME, Item, Relation, load_relation

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

WRONG = "wrong demonstration"
TEXT, LAST = "mean FFN output (all tokens)", "mean FFN output (last tokens)"
ZERO = "zero"
SCALES = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
MEANS = (5, 20)


def mean_condition(count: int) -> str:
    """The condition's name for the mean of several own vectors."""
    return f"mean of {count} own vectors"


def control_vectors(
    model: LanguageModel,
    relation: Relation | str,
    *,
    source_layer: int,
    start_layer: int,
    group: str = "",
    positions: str = "all",
    n_sources: int = 20,
    n_controls: int = 10,
    n_items: int = 0,
    max_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Vectors that are not one example's own, on the same items as `content_independence`.

    Conditions: the sources' prompts with a wrong pair as demonstration (`n_controls` of them); the
    means of several own vectors; what the FFN of the source layer adds on average while it reads
    the nonsense patterns of the development items, over all tokens and over the last ones; zero.
    One row for each vector and item, the control run among them: see `replacing.measure`.
    """
    drawn = {"n_items": n_items, "seed": seed}
    task = Task(relation=relation, group=group)
    used = material(model, task, n_sources=n_sources, max_items=max_items, **drawn)
    shown = wrongly_demonstrated(model, relation, used.sources, count=n_controls, seed=seed)
    vectors = source_vectors(model, shown, source_layer, condition=WRONG) if shown else []
    own = source_vectors(model, used.sources, source_layer, condition=OWN)
    for count in dict.fromkeys(min(count, len(own)) for count in MEANS):
        vectors.append(_averaged(own[:count], mean_condition(count)))
    for name, last in ((TEXT, False), (LAST, True)):
        values = mean_ffn_output(model, used.development, source_layer, last_only=last)
        vectors.append(Vector(condition=name, name="", values=values, layer=source_layer))
    vectors.append(Vector(condition=ZERO, name="", values=torch.zeros_like(own[0].values)))
    return measure(
        model,
        used.report,
        vectors,
        start_layer=start_layer,
        positions=positions,
        answers=used.answers,
        seed=seed,
        progress=progress,
    )


def scales(
    model: LanguageModel,
    relation: Relation | str,
    *,
    source_layer: int,
    start_layer: int,
    group: str = "",
    positions: str = "all",
    factors: Sequence[float] = SCALES,
    n_sources: int = 5,
    n_items: int = 0,
    max_items: int = 150,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Own vectors, longer and shorter. Rows as of `replacing.measure`, with the factor in `scale`.

    The control run stands there once, with scale 0 (nothing is replaced in it).
    """
    drawn = {"n_items": n_items, "seed": seed}
    task = Task(relation=relation, group=group)
    used = material(model, task, n_sources=n_sources, max_items=max_items, **drawn)
    own = source_vectors(model, used.sources, source_layer, condition=OWN)
    frames = []
    for factor in factors:
        frames.append(
            measure(
                model,
                used.report,
                own,
                start_layer=start_layer,
                positions=positions,
                scale=factor,
                answers=used.answers,
                seed=seed,
                progress=progress,
            )
        )
    control = frames[0][frames[0]["condition"] == CONTROL].assign(scale=0.0)
    changed = [frame[frame["condition"] != CONTROL] for frame in frames]
    return pd.concat([control, *changed], ignore_index=True)


def _averaged(vectors: Sequence[Vector], condition: str) -> Vector:
    values = torch.stack([one.values for one in vectors]).mean(dim=0)
    return Vector(condition=condition, name="", values=values, layer=vectors[0].layer)


def mean_ffn_output(
    model: LanguageModel, encoded: EncodedPrompts, layer: int, *, last_only: bool = False
) -> Float[Tensor, " d_model"]:
    """What one layer's FFN adds on average while the model reads these prompts, unchanged.

    Over the last token of each prompt, or over all tokens of all prompts.
    """
    lengths = encoded.lengths
    places = [-1] if last_only else range(int(lengths.max()))
    total, count = torch.zeros(model.d_model, dtype=torch.float64), 0
    for place in places:
        rows = [row for row, length in enumerate(lengths.tolist()) if place < length]
        part = encoded.select(rows)
        at = part.lengths - 1 if last_only else torch.full((len(rows),), place)
        added = stream.record(model, part, parts=("ffn",), layers=(layer,), positions=at)["ffn"][0]
        total += added.double().sum(dim=0)
        count += len(rows)
    return (total / count).to(torch.float32)


def wrongly_demonstrated(
    model: LanguageModel, relation: Relation | str, sources: Sources, *, count: int, seed: int = 0
) -> Sources | None:
    """The first `count` sources, each asked after a demonstration with a wrong answer.

    None where the relation has no answer that would be wrong.
    """
    whole = load_relation(relation, seed=seed) if isinstance(relation, str) else relation
    made = [
        (wrong_demonstration(whole, prompt.item, seed=seed), correct)
        for prompt, correct in zip(sources.prompts.prompts[:count], sources.correct, strict=False)
    ]
    prompts = [(prompt, correct) for prompt, correct in made if prompt is not None]
    if not prompts:
        return None
    encoded = encode(
        [prompt for prompt, _ in prompts], model.tokenizer, max_length=model.max_length
    )
    kept = {id(prompt) for prompt in encoded.prompts}
    correct = tuple(correct for prompt, correct in prompts if id(prompt) in kept)
    return Sources(prompts=encoded, correct=correct, pool=sources.pool)


def wrong_demonstration(relation: Relation, item: Item, *, seed: int = 0) -> Prompt | None:
    """The one-shot prompt with another item's answer in its demonstration.

    `Q: What is the capital of France? A: Lima Q: What is the capital of Poland? A:` The wrong
    answer is drawn by the seed; it starts with another word than the item's answer and both words
    of the demonstration. None where the relation has no such answer.
    """
    right, template = one_shot(relation, item), TEMPLATES.get(relation.name, GENERIC)
    asked = zero_shot(relation, item).text
    head = right.text.removesuffix(asked).removesuffix(template.separator)
    questions = {
        f"{template.question.format(**_fields(pair))} {pair.answer}": pair
        for pair in template.demonstrations or relation.items
    }
    shown = questions[head]
    apart = {one.split()[0].lower() for one in (item.answer, shown.answer, shown.argument)}
    answers = sorted(
        {
            other.answer
            for other in relation.items
            if other.group != SAME_NAME and other.answer.split()[0].lower() not in apart
        }
    )
    if not answers:
        return None
    wrong = random.Random(f"wrong|{relation.name}|{item.argument}|{seed}").choice(answers)
    head = f"{head.removesuffix(shown.answer)}{wrong}"
    return replace(right, text=f"{head}{template.separator}{asked}", form="wrong_demonstration")


def _fields(item: Item) -> dict[str, str]:
    return {"argument": item.argument, "answer": item.answer, "context": item.context}
