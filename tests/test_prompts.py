"""Prompt texts, word for word where the paper gives them, and what each form promises."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ovectors import prompts
from ovectors.errors import UserError
from ovectors.prompts import (
    FORMS,
    Prompt,
    build_prompts,
    extractive,
    k_shot,
    one_shot,
    read_nonsense,
    repeated_pattern,
    zero_shot,
)
from ovectors.relations import RELATIONS, SAME_NAME, Item, Relation, load_relation

WITH_FACTS = tuple(name for name in RELATIONS if name != "colored_objects")
LOADED = {name: load_relation(name) for name in RELATIONS}
CAPITALS = LOADED["world_capitals"]

any_relation = st.sampled_from(RELATIONS).map(LOADED.get)
any_pair = any_relation.flatmap(lambda r: st.tuples(st.just(r), st.sampled_from(r.items)))
seeds = st.integers(0, 2**32)


def item_of(name: str, argument: str) -> Item:
    return next(item for item in LOADED[name].items if item.argument == argument)


class TestThePapersTexts:
    @pytest.mark.parametrize(
        ("name", "argument", "text", "answer"),
        [
            (
                "world_capitals",
                "Poland",
                "Q: What is the capital of France?\nA: Paris\n"
                "Q: What is the capital of Poland?\nA:",
                " Warsaw",
            ),
            (
                "world_capitals",
                "France",
                "Q: What is the capital of Italy?\nA: Rome\nQ: What is the capital of France?\nA:",
                " Paris",
            ),
            (
                "us_state_capitals",
                "Texas",
                "Q: What is the capital of Ohio?\nA: Columbus\n"
                "Q: What is the capital of Texas?\nA:",
                " Austin",
            ),
            (
                "us_state_capitals",
                "Ohio",
                "Q: What is the capital of Texas?\nA: Austin\nQ: What is the capital of Ohio?\nA:",
                " Columbus",
            ),
            (
                "past_tense",
                "abolish",
                "Today I abandon. Yesterday I abandoned. Today I abolish. Yesterday I",
                " abolished",
            ),
            (
                "past_tense",
                "abandon",
                "Today I enjoy. Yesterday I enjoyed. Today I abandon. Yesterday I",
                " abandoned",
            ),
            (
                "uppercase",
                "brown",
                "Word: silver\nCapital: Silver\nWord: brown\nCapital:",
                " Brown",
            ),
            ("uppercase", "silver", "Word: gold\nCapital: Gold\nWord: silver\nCapital:", " Silver"),
        ],
    )
    def test_one_shot(self, name: str, argument: str, text: str, answer: str) -> None:
        item = item_of(name, argument)
        assert one_shot(LOADED[name], item) == Prompt(
            text=text,
            argument=f" {argument}",
            answer=answer,
            relation=name,
            form="one_shot",
            item=item,
        )

    @pytest.mark.parametrize(
        ("name", "argument", "text"),
        [
            ("world_capitals", "Poland", "Q: What is the capital of Poland?\nA:"),
            ("past_tense", "go", "Today I go. Yesterday I"),
            ("uppercase", "mug", "Word: mug\nCapital:"),
        ],
    )
    def test_zero_shot(self, name: str, argument: str, text: str) -> None:
        prompt = zero_shot(LOADED[name], item_of(name, argument))
        assert (prompt.text, prompt.form) == (text, "zero_shot")

    def test_coloured_objects(self) -> None:
        question = "On the shelf, there is a brown pen and a pink hat. What color is the pen?"
        item = Item(argument="brown", answer="Brown", context=question)
        relation = Relation(name="colored_objects", title="", items=(item,))
        shown = (
            "Q: On the table, there is a red cup, a silver mug, and a blue pen. "
            "What color is the mug?"
        )
        prompt = one_shot(relation, item)
        assert prompt.text == f"{shown}\nA: Silver\nQ: {question}\nA:"
        assert (prompt.argument, prompt.answer) == (" brown", " Brown")
        assert zero_shot(relation, item).text == f"Q: {question}\nA:"
        lower = extractive(relation, item)
        assert lower.text == f"{shown}\nA: silver\nQ: {question}\nA:"
        assert (lower.argument, lower.answer) == (" brown", " brown")

    def test_the_demo_s_prompts_character_by_character(self, shared, monkeypatch) -> None:
        path = shared / "paper" / "demo_prompts.yaml"
        if not path.is_file():
            pytest.skip("the stimuli of the authors' demo (demo_prompts.yaml) are not here")
        demo = yaml.safe_load(path.read_text("utf-8"))
        assert one_shot(CAPITALS, item_of("world_capitals", "Poland")).text == demo["poland"]
        assert (
            one_shot(LOADED["past_tense"], item_of("past_tense", "abolish")).text
            == (demo["abolish"])
        )
        # The coloured objects of the demo are another author's text: only their form is ours.
        silver, brown = (
            Item(argument=colour, answer=colour.capitalize(), context=context)
            for colour, context in zip(
                ("silver", "brown"), re.findall("Q: (.*)", demo["brown"]), strict=True
            )
        )
        ours = replace(prompts.TEMPLATES["colored_objects"], demonstrations=(silver,))
        monkeypatch.setitem(prompts.TEMPLATES, "colored_objects", ours)
        assert one_shot(LOADED["colored_objects"], brown).text == demo["brown"]

    def test_repeated_pattern(self) -> None:
        prompt = repeated_pattern(CAPITALS, item_of("world_capitals", "China"))
        a, b, c, *rest = prompt.text.split(" ")
        assert rest == ["China", a, b, c, "China", a, b, c]
        assert len({a, b, c}) == 3 and {a, b, c} <= set(read_nonsense())
        assert (prompt.argument, prompt.answer) == (" China", " Beijing")

    def test_extractive_capitals(self) -> None:
        item = item_of("world_capitals", "Poland")
        prompt = extractive(CAPITALS, item, seed=1)
        facts, rest = prompt.text.split("\n", 1)
        assert rest == one_shot(CAPITALS, item).text
        assert re.fullmatch(r"The capital of .+ is .+\. The capital of .+ is .+\.", facts)
        assert "The capital of Poland is Warsaw." in facts
        assert prompt.answer == " Warsaw"


class TestEveryForm:
    @given(any_pair, st.sampled_from(FORMS), seeds)
    def test_promises(self, pair: tuple[Relation, Item], form: str, seed: int) -> None:
        relation, item = pair
        if (relation.name, form) == ("colored_objects", "extractive_counterfactual"):
            return
        prompt = build(relation, item, form, seed)
        assert prompt.item is item
        assert prompt.form == form and prompt.relation == relation.name
        assert prompt.text == prompt.text.strip() and "  " not in prompt.text
        assert prompt.argument == f" {item.argument}"
        assert prompt.answer[0] == " " and prompt.answer[1:] == prompt.answer.strip()
        assert item.argument in prompt.text
        assert build(relation, item, form, seed) == prompt
        if form != "extractive_counterfactual" and relation.name != "colored_objects":
            assert prompt.answer == f" {item.answer}"

    @given(any_pair)
    def test_the_demonstration_does_not_give_the_answer_away(
        self, pair: tuple[Relation, Item]
    ) -> None:
        relation, item = pair
        prompt = one_shot(relation, item)
        question = zero_shot(relation, item).text
        assert prompt.text.endswith(question)
        shown = prompt.text.removesuffix(question).strip().removesuffix(".")
        assert not shown.endswith((f" {item.answer}", f" {item.argument}"))

    def test_builders_do_not_touch_the_global_random_state(self) -> None:
        import random

        random.seed(1)
        state = random.getstate()
        for form in FORMS:
            build_prompts(CAPITALS, form, n_items=5)
        k_shot(CAPITALS, CAPITALS.items[0], k=2, seed=0)
        load_relation("colored_objects", seed=1)
        assert random.getstate() == state


def build(relation: Relation, item: Item, form: str, seed: int) -> Prompt:
    """One prompt by form, written out beside the library's own dispatch."""
    if form == "one_shot":
        return one_shot(relation, item)
    if form == "zero_shot":
        return zero_shot(relation, item)
    if form == "repeated_pattern":
        return repeated_pattern(relation, item, seed=seed)
    return extractive(relation, item, counterfactual="counter" in form, seed=seed)


class TestKShot:
    @given(any_pair, st.integers(1, 8), seeds)
    def test_demonstrations(self, pair: tuple[Relation, Item], k: int, seed: int) -> None:
        relation, item = pair
        prompt = k_shot(relation, item, k=k, seed=seed)
        question = zero_shot(relation, item).text
        assert prompt.form == f"{k}_shot" and prompt.text.endswith(question)
        parts = split_shots(relation, prompt.text)
        assert len(parts) == k + 1 and len(set(parts)) == k + 1
        facts = {f"{zero_shot(relation, o).text} {o.answer}": o for o in relation.items}
        for part in parts[:-1]:
            shown = facts[part]
            assert shown.argument != item.argument and shown.answer != item.answer
            assert shown.group != SAME_NAME

    @given(any_pair, seeds)
    def test_more_shots_extend_fewer(self, pair: tuple[Relation, Item], seed: int) -> None:
        relation, item = pair
        two = split_shots(relation, k_shot(relation, item, k=2, seed=seed).text)
        three = split_shots(relation, k_shot(relation, item, k=3, seed=seed).text)
        assert three[:2] == two[:2]

    def test_nearly_all_prompts_share_their_demonstrations(self) -> None:
        shown = Counter(
            k_shot(CAPITALS, item, k=5, seed=9).text.rsplit("Q:", 1)[0] for item in CAPITALS.items
        )
        # Only the five that are shown themselves, or share an answer with one, differ.
        assert shown.most_common(1)[0][1] >= len(CAPITALS.items) - 10

    def test_seed_decides(self) -> None:
        item = item_of("world_capitals", "Poland")
        assert len({k_shot(CAPITALS, item, k=3, seed=seed).text for seed in range(10)}) == 10

    @pytest.mark.parametrize("k", [0, -1, 50, 1000])
    def test_impossible_k(self, k: int) -> None:
        relation = LOADED["us_state_capitals"]
        with pytest.raises(UserError, match=str(k)):
            k_shot(relation, relation.items[0], k=k, seed=0)
        assert k_shot(relation, relation.items[0], k=49, seed=0).text.count("\nA:") == 50


def split_shots(relation: Relation, text: str) -> list[str]:
    """The demonstrations and the question of a prompt, by the word they begin with."""
    begin = {"past_tense": "Today I", "uppercase": "Word:"}.get(relation.name, "Q:")
    parts = re.split(f"(?={begin})", text)[1:]
    return [part.strip().removesuffix(".") for part in parts]


class TestRepeatedPattern:
    @given(any_pair, seeds)
    def test_shape(self, pair: tuple[Relation, Item], seed: int) -> None:
        relation, item = pair
        text = repeated_pattern(relation, item, seed=seed).text
        once, twice, rest = text.split(f" {item.argument} ")
        assert once == twice == rest
        words = once.split(" ")
        assert len(set(words)) == 3 and set(words) <= set(read_nonsense())

    def test_words_vary_with_item_and_seed(self) -> None:
        for name in RELATIONS:
            prompts = build_prompts(LOADED[name], "repeated_pattern", n_items=50)
            assert len({" ".join(p.text.split()[:3]) for p in prompts}) >= 48
        item = item_of("world_capitals", "China")
        assert len({repeated_pattern(CAPITALS, item, seed=seed).text for seed in range(10)}) == 10

    def test_words_are_never_the_argument_or_answer(self) -> None:
        item = Item(argument="huge", answer="Tiny")
        relation = Relation(name="mine", title="", items=(item,))
        for seed in range(400):
            words = set(repeated_pattern(relation, item, seed=seed).text.split()[:3])
            assert not words & {"huge", "tiny"}


class TestBuildPrompts:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("name", WITH_FACTS)
    def test_all_items_in_file_order(self, name: str, form: str) -> None:
        prompts = build_prompts(LOADED[name], form)
        assert tuple(prompt.item for prompt in prompts) == LOADED[name].items
        assert {prompt.form for prompt in prompts} == {form}

    @pytest.mark.parametrize("n_items", [None, 0, 50, 51])
    def test_all(self, n_items: int | None) -> None:
        relation = LOADED["us_state_capitals"]
        assert len(build_prompts(relation, "one_shot", n_items=n_items)) == 50

    @given(st.integers(1, 247), seeds)
    def test_sample(self, n_items: int, seed: int) -> None:
        prompts = build_prompts(CAPITALS, "one_shot", n_items=n_items, seed=seed)
        places = [CAPITALS.items.index(prompt.item) for prompt in prompts]
        assert len(places) == n_items and places == sorted(set(places))
        assert prompts == build_prompts(CAPITALS, "one_shot", n_items=n_items, seed=seed)

    def test_forms_sample_the_same_items(self) -> None:
        chosen = {
            tuple(prompt.item for prompt in build_prompts(CAPITALS, form, n_items=9, seed=6))
            for form in FORMS
        }
        assert len(chosen) == 1
        others = build_prompts(CAPITALS, "one_shot", n_items=9, seed=7)
        assert tuple(prompt.item for prompt in others) not in chosen

    def test_refused(self) -> None:
        with pytest.raises(UserError, match=r"unknown prompt form 'two_shot'.*one_shot"):
            build_prompts(CAPITALS, "two_shot")
        with pytest.raises(UserError, match="must not be negative, not -1"):
            build_prompts(CAPITALS, "one_shot", n_items=-1)


class TestUsersRelation:
    PAIRS = (("cat", "kitten"), ("dog", "puppy"), ("{cow}", "calf"), ("sow", "calf"))

    def relation(self, count: int = 4) -> Relation:
        items = tuple(Item(argument=a, answer=b) for a, b in self.PAIRS[:count])
        return Relation(name="young", title="young", items=items)

    def test_shows_its_own_pairs(self) -> None:
        relation = self.relation()
        texts = [one_shot(relation, item).text for item in relation.items]
        assert texts == [
            "Q: dog\nA: puppy\nQ: cat\nA:",
            "Q: cat\nA: kitten\nQ: dog\nA:",
            "Q: cat\nA: kitten\nQ: {cow}\nA:",
            "Q: cat\nA: kitten\nQ: sow\nA:",
        ]

    def test_too_few_pairs(self) -> None:
        one, three = self.relation(1), self.relation(3)
        with pytest.raises(UserError, match="no item to demonstrate 'cat' with"):
            one_shot(one, one.items[0])
        with pytest.raises(UserError, match="too few different answers"):
            extractive(three, three.items[0], counterfactual=True)
        text = extractive(three, three.items[2]).text
        assert "{cow} belongs to calf." in text and "dog belongs to puppy." in text
