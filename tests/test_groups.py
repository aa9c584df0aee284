"""Groups of relations that share arguments, and the patterns that they share."""

import pytest

from ovectors.experiments.function_specificity.groups import (
    LEAST_SHARED,
    VISITOR,
    find_groups,
    group_of,
    shared_patterns,
)
from ovectors.relations import load_relation
from ovectors.splits import is_development

NAMES = ["world_capitals", "country_currency", "past_tense", "verb_third_person", VISITOR]


@pytest.fixture(scope="module")
def groups(mini):
    return find_groups(mini, NAMES, seed=1)


def test_arguments_belong_to_every_relation_of_their_group_and_chose_nothing(groups):
    kinds = {group.kind: group for group in groups}
    assert set(kinds) == {"place", "verb"}  # upper-casing is alone among the words
    for group in groups:
        assert len(group.arguments) >= LEAST_SHARED
        for name in (one for one in group.relations if one != VISITOR):
            pairs = {item.argument for item in load_relation(name).items}
            assert pairs.issuperset(group.arguments)
            assert not any(is_development(name, one, seed=1) for one in group.arguments)


def test_answers_to_one_argument_start_with_different_tokens(mini, groups):
    for group in groups:
        encoded = shared_patterns(mini, group.kind, group.relations, seed=1)
        for argument in group.arguments[:20]:
            starts, texts = set(), set()
            for one in encoded.values():
                (place,) = [i for i, p in enumerate(one.prompts) if p.item.argument == argument]
                texts.add(one.prompts[place].text)
                starts.add(int(one.answer_ids[place]))
                assert int(one.argument_ids[place]) not in starts
            assert len(texts) == 1 and len(starts) == len(group.relations)


def test_no_pattern_holds_an_answer_among_its_nonsense_words(mini):
    names = ["adjective_comparative", "adjective_superlative", "adjective_antonym"]
    encoded = shared_patterns(mini, "adjective", names)
    answers = {}
    for one in encoded.values():
        for prompt in one.prompts:
            answers.setdefault(prompt.text, set()).add(prompt.item.answer)
    assert len(answers) > 20
    assert all(not found & set(text.split()[:3]) for text, found in answers.items())


def test_upper_casing_visits_words_that_are_written_small(mini, groups):
    verbs = next(group for group in groups if group.kind == "verb")
    assert VISITOR in verbs.relations
    encoded = shared_patterns(mini, "verb", verbs.relations)[VISITOR]
    item = encoded.prompts[0].item
    assert item.answer == item.argument[0].upper() + item.argument[1:]
    assert not any(VISITOR in group.relations for group in groups if group.kind == "place")


def test_a_relation_that_leaves_too_few_arguments_stays_out(mini):
    # Language and adjective of a country are mostly the same word.
    names = ["country_language", "country_demonym"]
    whole = group_of(mini, "place", names)
    assert whole.relations == tuple(names) and not whole.left_out
    least = len(whole.arguments) + 1
    group = group_of(mini, "place", names, least=least)
    assert group.relations == ("country_language",)
    assert group.left_out == {"country_demonym": least - 1}
