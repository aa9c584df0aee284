"""The further relations: their files, facts told apart from them, how they are asked about."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest
from setuptools import find_packages

from ovectors import paths, relations
from ovectors.encoding import encode
from ovectors.errors import UserError
from ovectors.prompts import FORMS, GENERIC, TEMPLATES, build_prompts, k_shot
from ovectors.relations import MORE, MORE_RELATIONS, RELATIONS, describe, load_relation

FACTS = {
    "country_language": "Brazil=Portuguese Austria=German Egypt=Arabic Iran=Persian Israel=Hebrew "
    "Suriname=Dutch Moldova=Romanian Mexico=Spanish Senegal=French Ghana=English",
    "country_currency": "Croatia=euro Bulgaria=euro Denmark=krone Sweden=krona Iceland=króna "
    "Switzerland=franc Thailand=baht Ghana=cedi Peru=sol Vietnam=dong Kenya=shilling "
    "United_Kingdom=pound Ecuador=dollar India=rupee Ukraine=hryvnia Zambia=kwacha",
    "country_demonym": "Denmark=Danish Netherlands=Dutch Switzerland=Swiss Niger=Nigerien "
    "Nigeria=Nigerian United_Arab_Emirates=Emirati Costa_Rica=Costa_Rican Peru=Peruvian",
    "country_continent": "Peru=South_America Guyana=South_America Jamaica=North_America "
    "Panama=North_America Fiji=Oceania Mongolia=Asia Chad=Africa Malta=Europe",
    "noun_plural": "child=children tooth=teeth box=boxes library=libraries monkey=monkeys "
    "knife=knives roof=roofs potato=potatoes piano=pianos crisis=crises criterion=criteria",
    "verb_third_person": "try=tries fix=fixes echo=echoes search=searches process=processes "
    "survive=survives bury=buries",
    "verb_gerund": "program=programming control=controlling travel=traveling age=aging sue=suing "
    "study=studying echo=echoing open=opening bathe=bathing",
    "verb_agent": "teach=teacher act=actor sail=sailor run=runner lie=liar beg=beggar "
    "assassinate=assassin apply=applicant study=student govern=governor travel=traveler",
    "adjective_comparative": "good=better bad=worse big=bigger dry=drier wide=wider gentle=gentler "
    "low=lower narrow=narrower",
    "adjective_superlative": "good=best bad=worst hot=hottest early=earliest late=latest "
    "simple=simplest long=longest",
    "adjective_antonym": "hot=cold old=young new=old rich=poor careful=careless true=false "
    "honest=dishonest ancient=modern",
    "adjective_adverb": "good=well happy=happily true=truly gentle=gently public=publicly "
    "full=fully simple=simply careful=carefully possible=possibly",
    "element_symbol": "sodium=Na potassium=K iron=Fe copper=Cu silver=Ag tin=Sn antimony=Sb "
    "tungsten=W gold=Au mercury=Hg lead=Pb manganese=Mn magnesium=Mg terbium=Tb",
    "element_number": "carbon=6 oxygen=8 neon=10 calcium=20 iron=26 krypton=36 silver=47 xenon=54 "
    "tungsten=74 gold=79 lead=82 uranium=92",
    "number_digits": "zero=0 twelve=12 forty=40 hundred=100 million=1000000",
    "number_ordinal": "three=third five=fifth eight=eighth nine=ninth twelve=twelfth "
    "forty=fortieth",
    "animal_young": "goose=gosling swan=cygnet kangaroo=joey horse=foal hare=leveret frog=tadpole",
    "animal_class": "whale=mammal bat=mammal penguin=bird newt=amphibian tortoise=reptile "
    "spider=arachnid shark=fish bee=insect lobster=crustacean platypus=mammal",
    "animal_sound": "donkey=bray snake=hiss owl=hoot pigeon=coo wolf=howl goat=bleat",
    "person_feminine": "duke=duchess nephew=niece monk=nun heir=heiress widower=widow hero=heroine",
    "person_plural": "man=men hero=heroes wizard=wizards salesman=salesmen lady=",
}
"""Facts from memory, not copied from the files; an empty answer means that it must not be there."""

SMALL = {"number_digits": 31, "number_ordinal": 31, "animal_sound": 30}
"""Closed sets; every other relation has at least 55 pairs."""

OFTEN_SHARED = {"country_continent", "animal_class"}
"""Few answers for many arguments, on purpose."""

ONE_TO_ONE = (
    set(MORE_RELATIONS)
    - OFTEN_SHARED
    - {
        "country_language",
        "country_currency",
        "country_demonym",
        "adjective_antonym",
        "animal_young",
        "animal_sound",
    }
)


def pairs(name: str) -> dict[str, str]:
    return {item.argument: item.answer for item in load_relation(name).items}


def of_kind() -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in MORE_RELATIONS:
        kinds[describe(name).kind].append(name)
    return kinds


def test_there_are_many_and_each_is_a_file() -> None:
    assert len(MORE_RELATIONS) >= 14 and not set(MORE_RELATIONS) & set(RELATIONS)
    assert {path.stem for path in MORE.glob("*.csv")} == set(MORE_RELATIONS) == set(FACTS)


def test_an_installed_copy_holds_them() -> None:
    """Data files come along with the package that they lie in, and only with one."""
    assert "ovectors.data.more" in find_packages(str(paths.PACKAGE.parent))


@pytest.mark.parametrize("name", MORE_RELATIONS)
class TestFiles:
    def test_pairs(self, name: str) -> None:
        relation = load_relation(name)
        assert relation.name == name and relation.title == describe(name).title
        assert relation.title[0].isupper()
        assert len(relation.items) >= SMALL.get(name, 55)
        arguments = [item.argument for item in relation.items]
        assert arguments == sorted(set(arguments))
        assert all(item.argument != item.answer and not item.context for item in relation.items)
        assert all(re.fullmatch("[a-z_]+", item.group) for item in relation.items)

    def test_facts(self, name: str) -> None:
        known = pairs(name)
        told = dict(fact.replace("_", " ").split("=") for fact in FACTS[name].split())
        assert sum(map(bool, told.values())) >= 3
        for argument, answer in told.items():
            assert known.get(argument, "") == answer

    def test_answers_are_one_to_one_unless_listed(self, name: str) -> None:
        answers = list(pairs(name).values())
        assert (len(set(answers)) == len(answers)) == (name in ONE_TO_ONE)
        assert len(set(answers)) >= (5 if name in OFTEN_SHARED else 25)

    def test_groups_named_after_sharing_tell_it(self, name: str) -> None:
        items = load_relation(name).items
        answers = [item.answer for item in items]
        for item in items:
            if item.group in ("shared", "unique"):
                assert (item.group == "unique") == (answers.count(item.answer) == 1), item

    def test_demonstrations_are_its_own_facts_with_different_answers(self, name: str) -> None:
        first, second = describe(name).demonstrations
        assert {first.argument: first.answer, second.argument: second.answer}.items() <= (
            pairs(name).items()
        )
        assert first.answer != second.answer


class TestKinds:
    def test_cues_are_short_and_unique_within_their_kind(self) -> None:
        for names in of_kind().values():
            cues = [describe(name).cue for name in names]
            assert len(set(cues)) == len(cues)
            assert all(re.fullmatch("[a-z]+", cue) for cue in cues)

    def test_relations_of_one_kind_share_arguments(self) -> None:
        kinds = of_kind()
        assert len(kinds) >= 6
        for kind, names in kinds.items():
            built_in = {"place": "world_capitals", "verb": "past_tense", "word": "uppercase"}
            both = [*names, *([built_in[kind]] if kind in built_in else [])]
            assert len(both) >= 2
            for one, other in combinations(both, 2):
                common = pairs(one).keys() & pairs(other).keys()
                assert len(common) >= 20, (one, other)

    def test_arguments_are_those_of_the_papers_files(self) -> None:
        for name in of_kind()["place"]:
            assert pairs(name).keys() <= pairs("world_capitals").keys()
        for name in of_kind()["verb"]:
            assert pairs(name).keys() <= pairs("past_tense").keys()
        nouns = pairs("noun_plural").keys()
        assert len(nouns & pairs("uppercase").keys()) > 0.8 * len(nouns)


class TestSpelling:
    """Whole columns against textbook rules."""

    def test_third_person(self) -> None:
        for verb, form in pairs("verb_third_person").items():
            assert form == ("echoes" if verb == "echo" else with_s(verb))

    def test_gerunds_double_as_the_past_does(self) -> None:
        past = pairs("past_tense")
        assert pairs("verb_gerund").keys() == pairs("verb_third_person").keys()
        for verb, form in pairs("verb_gerund").items():
            assert form == (verb if verb.endswith("y") else past[verb].removesuffix("ed")) + "ing"

    def test_regular_means_that_the_rule_gives_the_form(self) -> None:
        for name in ("noun_plural", "person_plural"):
            for item in load_relation(name).items:
                by_rule = item.answer == with_s(item.argument)
                assert by_rule == (item.group == "regular"), item

    def test_degrees_of_comparison_have_one_stem(self) -> None:
        superlatives = pairs("adjective_superlative")
        assert superlatives.keys() == pairs("adjective_comparative").keys()
        for item in load_relation("adjective_comparative").items:
            if item.group != "irregular":
                stem = item.answer.removesuffix("er")
                assert superlatives[item.argument] == stem + "est"
                assert (stem == item.argument) == (item.group == "plain")

    def test_adverbs(self) -> None:
        for item in load_relation("adjective_adverb").items:
            assert item.group == "irregular" or item.answer.endswith("ly")
            assert (item.answer == item.argument + "ly") == (item.group == "plain")

    def test_ordinals_say_their_number(self) -> None:
        digits, ordinals = pairs("number_digits"), pairs("number_ordinal")
        assert digits.keys() == ordinals.keys()
        assert all(word[:2] == ordinals[word][:2] for word in digits.keys() - {"one", "two"})

    def test_antonyms_point_back_where_both_are_there(self) -> None:
        antonyms = pairs("adjective_antonym")
        back = [antonyms[b] == a for a, b in antonyms.items() if b in antonyms]
        assert sum(back) > 0.8 * len(back) > 80


def test_elements_are_the_first_92_without_a_gap() -> None:
    numbers, symbols = pairs("element_number"), pairs("element_symbol")
    assert sorted(map(int, numbers.values())) == list(range(1, 93))
    assert numbers.keys() == symbols.keys()
    assert all(re.fullmatch("[A-Z][a-z]?", symbol) for symbol in symbols.values())
    in_order = sorted(symbols, key=lambda name: int(numbers[name]))
    noble = [name for name in in_order if numbers[name] in ("2", "10", "18", "36", "54", "86")]
    assert [symbols[name] for name in noble] == ["He", "Ne", "Ar", "Kr", "Xe", "Rn"]
    for item in load_relation("element_symbol").items:
        letters = item.answer.lower()
        begins = item.argument[0] == letters[0] and letters[-1] in item.argument
        assert begins == (item.group != "other_name"), item


def test_doubtful_countries_are_left_out() -> None:
    """Two currencies, several official languages, or ground on two continents."""
    assert not {"Zimbabwe", "Panama"} & pairs("country_currency").keys()
    many = {"Belgium", "Canada", "India", "South Africa", "Switzerland", "Ireland", "Finland"}
    assert not many & pairs("country_language").keys()
    both = {"Russia", "Turkey", "Egypt", "Kazakhstan", "Indonesia", "Cyprus"}
    assert not both & pairs("country_continent").keys()
    assert not any("Georgia" in pairs(name) for name in of_kind()["place"])  # also a US state


class TestPrompts:
    def test_question_and_fact_are_made_from_the_cue(self) -> None:
        template = TEMPLATES["noun_plural"]
        assert template.question == "Q: {argument}, plural?\nA:"
        assert template.fact == "The plural of {argument} is {answer}."
        texts = [prompt.text for prompt in build_prompts(load_relation("noun_plural"), "one_shot")]
        assert "Q: cat, plural?\nA: cats\nQ: child, plural?\nA:" in texts
        assert "Q: cup, plural?\nA: cups\nQ: cat, plural?\nA:" in texts

    @pytest.mark.parametrize("name", MORE_RELATIONS)
    def test_every_item_has_every_form(self, name: str) -> None:
        relation = load_relation(name)
        for form in FORMS:
            prompts = build_prompts(relation, form)
            assert tuple(prompt.item for prompt in prompts) == relation.items
            for prompt in prompts:
                assert form == "repeated_pattern" or prompt.text.endswith(
                    f"Q: {prompt.item.argument}, {describe(name).cue}?\nA:"
                )

    @pytest.mark.parametrize("name", MORE_RELATIONS)
    def test_nothing_shown_gives_the_answer_away(self, name: str) -> None:
        relation = load_relation(name)
        shown = [prompt.text for prompt in build_prompts(relation, "one_shot")]
        shown += [k_shot(relation, item, k=4, seed=0).text for item in relation.items]
        for text, item in zip(shown, relation.items * 2, strict=True):
            assert item.answer not in re.findall(r"A: (.+)", text)

    def test_a_users_relation_keeps_the_generic_question(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text("argument,answer\na,b\nc,d\n")
        relation = load_relation("mine", path=path)
        assert describe("mine") is None and relation.title == "mine"
        text = build_prompts(relation, "one_shot")[0].text
        assert text == "Q: c\nA: d\nQ: a\nA:" and GENERIC.question == "Q: {argument}\nA:"

    @pytest.mark.parametrize("name", MORE_RELATIONS)
    def test_gpt2_can_be_measured_on_most_of_them(self, gpt2_tokenizer, name: str) -> None:
        relation = load_relation(name)
        encoded = encode(build_prompts(relation, "one_shot"), gpt2_tokenizer, max_length=1024)
        assert len(encoded) >= 25 and len(encoded) > 0.35 * len(relation.items)


def test_an_unknown_name_is_told_the_further_ones_too() -> None:
    with pytest.raises(UserError) as caught:
        load_relation("noun_plurals")
    assert all(name in str(caught.value) for name in MORE_RELATIONS)


def test_descriptions_are_frozen_and_none_for_the_papers() -> None:
    assert all(describe(name) is None for name in RELATIONS)
    with pytest.raises(AttributeError):
        relations.describe("noun_plural").cue = "other"  # type: ignore[union-attr]


def with_s(word: str) -> str:
    """The -s form of a noun or verb by the rules of spelling."""
    if re.search("(s|x|z|ch|sh)$", word):
        return word + "es"
    return re.sub("(?<![aeiou])y$", "ie", word) + "s"
