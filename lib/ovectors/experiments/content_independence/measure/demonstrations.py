"""One-shot prompts whose demonstration is wrong."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from ovectors.encoding import encode
from ovectors.experiments.shared.sources import Sources
from ovectors.prompts import GENERIC, TEMPLATES, Prompt, one_shot, zero_shot
from ovectors.relations import SAME_NAME, Item, Relation, load_relation

if TYPE_CHECKING:
    from ovectors.models import LanguageModel


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
