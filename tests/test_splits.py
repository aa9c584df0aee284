"""Splits: the items that choose a setting never report it, in any prompt form."""

from __future__ import annotations

import pytest
import torch

from ovectors.encoding import EncodedPrompts
from ovectors.prompts import build_prompts
from ovectors.relations import Item, Relation, load_relation
from ovectors.splits import DEVELOPMENT_SHARE, is_development, split


def encoded(relation: Relation, form: str, n_items: int | None = None) -> EncodedPrompts:
    """Prompts with ids that stand for nothing: a split looks at the items only."""
    prompts = build_prompts(relation, form, n_items=n_items)
    number = torch.arange(len(prompts))
    return EncodedPrompts(
        prompts=prompts,
        token_ids=tuple((place,) for place in range(len(prompts))),
        argument_ids=number,
        answer_ids=number + 1000,
        argument_lengths=torch.ones_like(number),
        answer_lengths=torch.ones_like(number),
    )


def arguments(side: EncodedPrompts) -> set[str]:
    return {prompt.item.argument for prompt in side.prompts}


def made_up(count: int) -> Relation:
    items = tuple(Item(argument=f"word{n}", answer=f"Word{n}") for n in range(count))
    return Relation(name="mine", title="Mine", items=items)


CAPITALS = load_relation("world_capitals")


def test_every_prompt_is_on_one_side_and_keeps_its_own_ids():
    whole = encoded(CAPITALS, "one_shot")
    chosen, rest = split(whole)
    assert not arguments(chosen) & arguments(rest)
    assert len(chosen) + len(rest) == len(whole)
    for side in (chosen, rest):
        for prompt, ids, answer in zip(side.prompts, side.token_ids, side.answer_ids, strict=True):
            place = whole.prompts.index(prompt)
            assert ids == (place,) and answer == 1000 + place


def test_about_a_fifth_chooses():
    shares = [is_development("any", f"word {number}") for number in range(5000)]
    assert abs(sum(shares) / len(shares) - DEVELOPMENT_SHARE) < 0.02


@pytest.mark.parametrize("form", ["zero_shot", "repeated_pattern", "extractive"])
def test_an_item_is_on_the_same_side_in_every_form(form):
    chosen, rest = split(encoded(CAPITALS, "one_shot"))
    other_chosen, other_rest = split(encoded(CAPITALS, form))
    assert not arguments(other_chosen) & arguments(rest)
    assert not arguments(chosen) & arguments(other_rest)
    assert len(arguments(chosen) & arguments(other_chosen)) > 20


def test_fewer_items_do_not_change_sides():
    chosen, rest = split(encoded(CAPITALS, "one_shot"))
    few_chosen, few_rest = split(encoded(CAPITALS, "one_shot", n_items=60))
    assert arguments(few_chosen) <= arguments(chosen) and arguments(few_rest) <= arguments(rest)


def test_the_seed_decides_and_the_leading_space_does_not():
    whole = encoded(CAPITALS, "one_shot")
    assert arguments(split(whole, seed=0)[0]) == arguments(split(whole, seed=0)[0])
    assert arguments(split(whole, seed=0)[0]) != arguments(split(whole, seed=1)[0])
    for word in ("Poland", "Peru", "Chad", "Fiji"):
        assert is_development("r", word) == is_development("r", f" {word}")


def test_coloured_questions_are_told_apart_by_their_text():
    """Many items share the argument `brown`: by it alone, a colour would be on one side only."""
    chosen, rest = split(encoded(load_relation("colored_objects"), "one_shot"))
    assert arguments(chosen) & arguments(rest)
    texts = [{prompt.text for prompt in side.prompts} for side in (chosen, rest)]
    assert not texts[0] & texts[1]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_neither_side_is_empty_with_very_few_prompts(count):
    for start in range(40):  # whichever side their hashes put them on
        items = made_up(44).items[start : start + count]
        whole = encoded(Relation(name="mine", title="Mine", items=items), "zero_shot")
        chosen, rest = split(whole)
        assert len(chosen) >= 1 and len(rest) >= 1
        if count > 1:
            assert not arguments(chosen) & arguments(rest)
            assert len(chosen) + len(rest) == count
