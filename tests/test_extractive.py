"""Extractive prompts: the answer stands in the context, true or not, and only there."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovectors.errors import UserError
from ovectors.prompts import Prompt, build_prompts, extractive, one_shot
from ovectors.relations import RELATIONS, Item, Relation, load_relation

WITH_FACTS = tuple(name for name in RELATIONS if name != "colored_objects")
LOADED = {name: load_relation(name) for name in RELATIONS}
CAPITALS = LOADED["world_capitals"]
POLAND = next(item for item in CAPITALS.items if item.argument == "Poland")
FACT = re.compile(r"The capital of (.+?) is (.+?)\.(?= The capital of|$)")

seeds = st.integers(0, 2**32)


def stated(prompt: Prompt) -> dict[str, str]:
    """The facts that an extractive prompt about capitals begins with."""
    return dict(FACT.findall(prompt.text.split("\n")[0]))


class TestExtractive:
    @pytest.mark.parametrize("name", WITH_FACTS)
    @pytest.mark.parametrize("counterfactual", [False, True])
    def test_the_answer_is_in_the_context(self, name: str, counterfactual: bool) -> None:
        relation = LOADED[name]
        for item in relation.items:
            prompt = extractive(relation, item, counterfactual=counterfactual, seed=4)
            facts, rest = prompt.text.split("\n", 1)
            assert rest == one_shot(relation, item).text
            assert f" {item.argument} " in f" {facts}"
            assert f"{prompt.answer}." in facts

    def test_true_facts_are_true(self) -> None:
        truth = {item.argument: item.answer for item in CAPITALS.items}
        for prompt in build_prompts(CAPITALS, "extractive", seed=2):
            facts = stated(prompt)
            assert len(facts) == 2 and prompt.item.argument in facts
            assert facts.items() <= truth.items()

    @given(st.sampled_from(CAPITALS.items), seeds)
    def test_counterfactual_facts_are_false_and_hide_the_truth(self, item: Item, seed: int) -> None:
        truth = {other.argument: other.answer for other in CAPITALS.items}
        prompt = extractive(CAPITALS, item, counterfactual=True, seed=seed)
        facts = stated(prompt)
        assert len(facts) == 2 and prompt.answer == f" {facts[item.argument]}"
        for argument, answer in facts.items():
            assert answer != truth[argument] and answer in truth.values()
            assert answer != item.answer
        # Told apart by their first token, so by their first word.
        first_words = [answer.split()[0] for answer in [*facts.values(), item.answer]]
        assert len(set(first_words)) == 3

    @pytest.mark.parametrize("counterfactual", [False, True])
    def test_answers_with_a_common_first_word_never_meet(self, counterfactual: bool) -> None:
        """San Juan and San José start with the same token: the model's choice could not be seen."""
        answers = ["San Juan", "San José", "Port Vila", "Port Louis", "Lima", "Oslo", "Cape Town"]
        items = tuple(Item(argument=f"Land{n}", answer=city) for n, city in enumerate(answers))
        relation = Relation(name="us_state_capitals", title="", items=items)
        for seed in range(50):
            for item in items:
                prompt = extractive(relation, item, counterfactual=counterfactual, seed=seed)
                first_words = [answer.split()[0] for answer in stated(prompt).values()]
                if counterfactual:
                    first_words.append(item.answer.split()[0])
                assert len(set(first_words)) == len(first_words)

    @pytest.mark.parametrize("name", WITH_FACTS)
    def test_counterfactual_answers_are_never_true(self, name: str) -> None:
        prompts = build_prompts(LOADED[name], "extractive_counterfactual", seed=1)
        assert all(prompt.answer != f" {prompt.item.answer}" for prompt in prompts)
        assert len({prompt.answer for prompt in prompts}) > len(prompts) / 4

    def test_the_item_comes_first_about_half_of_the_time(self) -> None:
        prompts = build_prompts(LOADED["past_tense"], "extractive", seed=0)
        first = sum(p.text.startswith(f"The past tense of {p.item.argument} is") for p in prompts)
        assert abs(first / len(prompts) - 0.5) < 0.05

    def test_seeds_give_other_facts(self) -> None:
        texts = {extractive(CAPITALS, POLAND, seed=seed).text for seed in range(10)}
        assert len(texts) == 10

    def test_coloured_objects_differ_from_the_abstractive_form_in_one_character(self) -> None:
        relation = LOADED["colored_objects"]
        for item in relation.items:
            upper, lower = one_shot(relation, item), extractive(relation, item)
            assert len(upper.text) == len(lower.text)
            differing = [(a, b) for a, b in zip(upper.text, lower.text, strict=True) if a != b]
            assert len(differing) == 1
            assert differing[0][0].lower() == differing[0][1]
            assert upper.answer.lower() == lower.answer == lower.argument == upper.argument

    def test_coloured_objects_have_no_counterfactual_form(self) -> None:
        with pytest.raises(UserError, match="no counterfactual form"):
            build_prompts(LOADED["colored_objects"], "extractive_counterfactual")
