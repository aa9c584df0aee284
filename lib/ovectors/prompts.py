"""Prompt builders: pure functions from a relation's item to the paper's texts (section 3.1)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ovectors.errors import UserError
from ovectors.relations import MORE_RELATIONS, SAME_NAME, Item, Relation, describe
from ovectors.tables import read_words


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One text to run, and the two words to look for in the stream.

    Attributes:
        text: the prompt, ending right before the answer's leading space.
        argument: the relation's argument with its leading space, as in " Poland".
        answer: the answer wanted here with its leading space; counterfactual prompts want the
            answer that their context gives.
        relation: the relation's name.
        form: which builder made it.
        item: the pair it was built from.
    """

    text: str
    argument: str
    answer: str
    relation: str
    form: str
    item: Item


@dataclass(frozen=True, kw_only=True)
class Template:
    """How a relation is asked about.

    Attributes:
        question: the text up to the answer; `{argument}` and `{context}` are filled in.
        separator: what stands between a demonstration's answer and the next question.
        fact: one sentence that states a pair, for extractive prompts; "" where lower-casing the
            answer makes the extractive form.
        demonstrations: the pair to show, and the one to show where the first would give away the
            answer; empty for a user's relation, which shows its own first pairs.
    """

    question: str
    separator: str
    fact: str
    demonstrations: tuple[Item, ...] = ()


def _pairs(*pairs: tuple[str, str]) -> tuple[Item, ...]:
    return tuple(Item(argument=argument, answer=answer) for argument, answer in pairs)


CAPITALS = partial(
    Template,
    question="Q: What is the capital of {argument}?\nA:",
    separator="\n",
    fact="The capital of {argument} is {answer}.",
)

TEMPLATES = {
    "world_capitals": CAPITALS(demonstrations=_pairs(("France", "Paris"), ("Italy", "Rome"))),
    "us_state_capitals": CAPITALS(demonstrations=_pairs(("Ohio", "Columbus"), ("Texas", "Austin"))),
    "past_tense": Template(
        question="Today I {argument}. Yesterday I",
        separator=". ",
        fact="The past tense of {argument} is {answer}.",
        demonstrations=_pairs(("abandon", "abandoned"), ("enjoy", "enjoyed")),
    ),
    "uppercase": Template(
        question="Word: {argument}\nCapital:",
        separator="\n",
        fact="The word {argument} is written {answer}.",
        demonstrations=_pairs(("silver", "Silver"), ("gold", "Gold")),
    ),
    "colored_objects": Template(
        question="Q: {context}\nA:",
        separator="\n",
        fact="",
        demonstrations=(
            Item(
                argument="silver",
                answer="Silver",
                context="On the table, there is a red cup, a silver mug, and a blue pen. "
                "What color is the mug?",
            ),
            Item(
                argument="gold",
                answer="Gold",
                context="On the table, there is a red cup, a gold mug, and a blue pen. "
                "What color is the mug?",
            ),
        ),
    ),
}


def _cued(name: str) -> Template:
    """The template of one of `MORE_RELATIONS`: the argument stands before the function's name.

    What is prepared at the argument is then not yet the answer to this question.
    """
    described = describe(name)
    assert described is not None
    return Template(
        question=f"Q: {{argument}}, {described.cue}?\nA:",
        separator="\n",
        fact=f"The {described.cue} of {{argument}} is {{answer}}.",
        demonstrations=described.demonstrations,
    )


TEMPLATES |= {name: _cued(name) for name in MORE_RELATIONS}

GENERIC = Template(
    question="Q: {argument}\nA:", separator="\n", fact="{argument} belongs to {answer}."
)
"""For relations that a user brings along."""


def one_shot(relation: Relation, item: Item) -> Prompt:
    """The paper's standard form: one demonstration, then the question.

    `Q: What is the capital of France?\\nA: Paris\\nQ: What is the capital of Poland?\\nA:`
    """
    return _prompt(relation, item, _demonstrated(relation, item), form="one_shot")


def k_shot(relation: Relation, item: Item, *, k: int, seed: int) -> Prompt:
    """`k` demonstrations drawn from the relation itself, then the question.

    One seed gives one order of the items, from which each prompt takes the first `k` that do not
    give its own answer away: nearly all prompts share their demonstrations, and k + 1 extends k.
    Errors: UserError when `k` is below 1 or the relation has too few other items.
    """
    if k < 1:
        raise UserError(f"k-shot prompts need k of at least 1, not {k}; zero_shot shows none")
    order = list(relation.items)
    random.Random(f"k_shot|{relation.name}|{seed}").shuffle(order)
    shown = [other for other in order if _may_stand_beside(other, item)][:k]
    if len(shown) < k:
        raise UserError(
            f"{relation.name} has {len(shown)} items to show beside {item.argument!r}, not {k}; "
            "choose a smaller k"
        )
    return _prompt(relation, item, _text(relation, shown, item), form=f"{k}_shot")


def zero_shot(relation: Relation, item: Item) -> Prompt:
    """The question alone."""
    return _prompt(relation, item, _text(relation, (), item), form="zero_shot")


def extractive(
    relation: Relation, item: Item, *, counterfactual: bool = False, seed: int = 0
) -> Prompt:
    """A prompt whose answer can be read off the context (the paper, section 5).

    Two facts, the item's and one other in random order, go before the one-shot prompt:
    `The capital of A is B. The capital of C is D.` Counterfactual facts give both arguments answers
    of other items, so that the true answer is nowhere in the context, and `Prompt.answer` is what
    the context says. Coloured objects are extractive already: there the demonstration's answer and
    the wanted answer are in lower case, which changes one character of the text.

    Errors: UserError for counterfactual coloured objects, or a relation with too few items.
    """
    form = "extractive_counterfactual" if counterfactual else "extractive"
    template = _template(relation)
    if template.fact:
        stated = _stated_facts(relation, item, counterfactual=counterfactual, seed=seed)
        facts = " ".join(_fill(template.fact, fact) for fact in stated)
        answer = next(fact.answer for fact in stated if fact.argument == item.argument)
        text = f"{facts}\n{_demonstrated(relation, item)}"
        return _prompt(relation, item, text, form=form, answer=answer)
    if counterfactual:
        raise UserError(
            f"{relation.name} has no counterfactual form: nothing about its items is known from "
            "memory; use the extractive form"
        )
    shown = _demonstration(relation, item)
    lower = Item(argument=shown.argument, answer=shown.argument, context=shown.context)
    text = _text(relation, (lower,), item)
    return _prompt(relation, item, text, form=form, answer=item.argument)


def repeated_pattern(relation: Relation, item: Item, *, seed: int = 0) -> Prompt:
    """Three random words and the argument, twice, then the three words (the paper, section 4).

    `table mug free China table mug free China table mug free`: a plain model goes on with " China";
    with the o vector put in, " Beijing" is what to look for.
    """
    rng = random.Random(f"repeated|{relation.name}|{item.argument}|{item.context}|{seed}")
    taken = {item.argument.lower(), item.answer.lower()}
    words = rng.sample([word for word in read_nonsense() if word not in taken], 3)
    text = " ".join([*words, item.argument, *words, item.argument, *words])
    return _prompt(relation, item, text, form="repeated_pattern")


def read_nonsense() -> tuple[str, ...]:
    """Common short words for the repeated pattern; none is in a relation of the paper."""
    return read_words("nonsense_words.csv")


_BUILDERS: dict[str, Callable[[Relation, Item, int], Prompt]] = {
    "one_shot": lambda relation, item, seed: one_shot(relation, item),
    "zero_shot": lambda relation, item, seed: zero_shot(relation, item),
    "extractive": lambda relation, item, seed: extractive(relation, item, seed=seed),
    "extractive_counterfactual": lambda relation, item, seed: extractive(
        relation, item, counterfactual=True, seed=seed
    ),
    "repeated_pattern": lambda relation, item, seed: repeated_pattern(relation, item, seed=seed),
}
FORMS = tuple(_BUILDERS)


def build_prompts(
    relation: Relation, form: str, *, n_items: int | None = None, seed: int = 0
) -> tuple[Prompt, ...]:
    """The prompts of a relation in one form, in the order of the relation's items.

    Args:
        relation: the pairs; extractive facts are drawn from all of them.
        form: one of `FORMS`.
        n_items: how many items, drawn without replacement; None, 0 or more than there are: all.
        seed: chooses the items, the facts and the random words.

    Errors: UserError for an unknown form or a negative `n_items`.
    """
    if form not in _BUILDERS:
        raise UserError(f"unknown prompt form {form!r}; choose one of {', '.join(FORMS)}")
    build = _BUILDERS[form]
    items = _sample(relation, n_items, seed)
    return tuple(build(relation, item, seed) for item in items)


def _sample(relation: Relation, n_items: int | None, seed: int) -> tuple[Item, ...]:
    if n_items is not None and n_items < 0:
        raise UserError(f"n_items must not be negative, not {n_items}; 0 means all items")
    if not n_items or n_items >= len(relation.items):
        return relation.items
    rng = random.Random(f"items|{relation.name}|{seed}")
    places = sorted(rng.sample(range(len(relation.items)), n_items))
    return tuple(relation.items[place] for place in places)


def _template(relation: Relation) -> Template:
    return TEMPLATES.get(relation.name, GENERIC)


def _fill(pattern: str, item: Item) -> str:
    return pattern.format(argument=item.argument, answer=item.answer, context=item.context)


def _text(relation: Relation, shown: Sequence[Item], item: Item) -> str:
    template = _template(relation)
    parts = [f"{_fill(template.question, other)} {other.answer}" for other in shown]
    return template.separator.join([*parts, _fill(template.question, item)])


def _demonstrated(relation: Relation, item: Item) -> str:
    return _text(relation, (_demonstration(relation, item),), item)


def _demonstration(relation: Relation, item: Item) -> Item:
    """The relation's demonstration, or its second one where the first would tell the answer."""
    candidates = _template(relation).demonstrations or relation.items
    for candidate in candidates:
        if _may_stand_beside(candidate, item):
            return candidate
    raise UserError(
        f"{relation.name} has no item to demonstrate {item.argument!r} with; add another pair"
    )


def _may_stand_beside(other: Item, item: Item) -> bool:
    """Whether `other` can be shown in a prompt about `item` without telling its answer."""
    return (
        other.argument != item.argument and other.answer != item.answer and other.group != SAME_NAME
    )


def _stated_facts(
    relation: Relation, item: Item, *, counterfactual: bool, seed: int
) -> tuple[Item, Item]:
    """The item's fact and another's, true or with wrong answers, in random order."""
    rng = random.Random(f"extractive|{relation.name}|{item.argument}|{seed}")
    others = _unlike(relation, item, count=3 if counterfactual else 1, rng=rng)
    facts = [item, others[0]]
    if counterfactual:
        facts = [
            Item(argument=fact.argument, answer=source.answer, group=fact.group)
            for fact, source in zip(facts, others[1:], strict=True)
        ]
    rng.shuffle(facts)
    return facts[0], facts[1]


def _unlike(relation: Relation, item: Item, *, count: int, rng: random.Random) -> list[Item]:
    """Random items that no first word of an answer ties to `item`, its demonstration or each other.

    First words, because answers are told apart by their first token: San Juan, San José.
    """
    shown = _demonstration(relation, item)
    taken = {_first_word(item.answer), _first_word(shown.answer)}
    remaining, found = list(relation.items), []
    while remaining and len(found) < count:
        place = rng.randrange(len(remaining))
        remaining[place], remaining[-1] = remaining[-1], remaining[place]
        other = remaining.pop()
        fits = _may_stand_beside(other, item) and other.argument != shown.argument
        if fits and _first_word(other.answer) not in taken:
            taken.add(_first_word(other.answer))
            found.append(other)
    if len(found) < count:
        raise UserError(
            f"{relation.name} has too few different answers for extractive prompts; add more pairs"
        )
    return found


def _first_word(text: str) -> str:
    return text.split()[0]


def _prompt(
    relation: Relation, item: Item, text: str, *, form: str, answer: str | None = None
) -> Prompt:
    return Prompt(
        text=text,
        argument=f" {item.argument}",
        answer=f" {item.answer if answer is None else answer}",
        relation=relation.name,
        form=form,
        item=item,
    )
