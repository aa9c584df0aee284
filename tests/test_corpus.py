"""The corpus: documents that depend on a seed only, what of them can be known, and whole words."""

import re
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ovectors.prompts import one_shot, zero_shot
from ovectors.relations import MORE_RELATIONS, describe, load_relation
from ovectors.training.corpus import Corpus, sample_texts
from ovectors.training.documents import Documents, mixture
from ovectors.training.lexicon import Lexicon, is_held_out
from ovectors.training.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon()


@pytest.fixture(scope="module")
def documents(lexicon):
    return Documents(lexicon)


@pytest.fixture(scope="module")
def tokenizer(lexicon):
    return build_tokenizer(lexicon)


@pytest.fixture(scope="module")
def texts(documents):
    return list(sample_texts(documents, n_documents=8000, seed=1))


def text_of(spans):
    return "".join(text for text, _ in spans)


def test_batches_depend_on_seed_and_number_only(documents, tokenizer):
    def corpus(seed):
        return Corpus(documents, tokenizer, seed=seed, rows=4, length=64)

    forward = [corpus(0).batch(n) for n in (0, 1)]
    backward = [corpus(0).batch(n) for n in (1, 0)][::-1]
    for left, right in zip(forward, backward, strict=True):
        assert torch.equal(left.ids, right.ids)
        assert torch.equal(left.predict, right.predict)
    assert not torch.equal(forward[0].ids, forward[1].ids)
    assert not torch.equal(forward[0].ids, corpus(1).batch(0).ids)


def test_spans_encode_apart_as_together(documents, tokenizer):
    rng = Random(3)
    for kind in mixture(documents)[0] * 20:
        spans = kind(rng)
        apart = [token for text, _ in spans for token in tokenizer.encode(text)]
        assert apart == tokenizer.encode(text_of(spans)), text_of(spans)


def test_answers_can_be_known_and_questions_are_background(documents):
    spans = documents.capital_letter(Random(0))
    for (question, known), (answer, answer_known) in zip(spans[::2], spans[1::2], strict=True):
        word = re.search(r"Word: (\w+)\nCapital:$", question).group(1)
        assert (answer, known, answer_known) == (f" {word.capitalize()}", False, True)


def test_what_is_bound_is_asked_for_by_its_second_word(documents):
    rng = Random(1)
    for _ in range(20):
        (listed, _), *spans = documents.word_pairs(rng)
        first_of = {b: a for a, b in re.findall(r" a (\w+) (\w+)[,.]", listed)}
        assert len(first_of) > 1 and len(spans) % (2 * len(first_of)) == 0
        for (b, asked), (a, known) in zip(spans[::2], spans[1::2], strict=True):
            assert (asked, known) == (False, True) and first_of[b.strip()] == a.strip()


def test_what_is_repeated_can_be_known_from_the_second_time_on(documents):
    rng = Random(1)
    for _ in range(20):
        (once, known), *spans = documents.word_repeats(rng)
        row = once.split()
        assert not known and spans and len(spans) % len(row) == 0
        assert [text.strip() for text, _ in spans] == row * (len(spans) // len(row))
        assert all(known for _, known in spans)


@pytest.mark.parametrize("name", ["world_capitals", "us_state_capitals", "past_tense", "uppercase"])
def test_questions_have_the_format_of_the_prompts(name, documents):
    """The text up to each answer is what the prompt builder gives for that item."""
    kind = {"past_tense": "past_questions", "uppercase": "capital_letter"}.get(
        name, "capital_questions"
    )
    relation = load_relation(name)
    asked = {zero_shot(relation, item).text: item for item in relation.items}
    rng, found = Random(5), 0
    for _ in range(50):
        for text, _known in getattr(documents, kind)(rng):
            found += text.strip() in asked
    assert found > 15


def test_one_shot_prompts_are_in_the_corpus_but_for_their_items(documents):
    relation = load_relation("past_tense")
    item = next(item for item in relation.items if item.argument == "abolish")
    demonstration, question = one_shot(relation, item).text.split(" Today I ")
    verb = demonstration.split()[2].strip(".")
    rng = Random(0)
    drawn = [text_of(documents.past_questions(rng)) for _ in range(20)]
    shape = re.compile(r"Today I \w+\. Yesterday I \w+\. Today I \w+\. Yesterday I")
    assert all(shape.match(text) for text in drawn)
    assert shape.fullmatch(f"{demonstration} Today I {question}") and verb == "abandon"


def test_the_held_out_fifth_never_stands_in_its_question_format(texts, lexicon):
    joined = "\n".join(texts)
    for pattern, items in (
        (r"What is the capital of ([^?]+)\?", lexicon.capitals),
        (r"Today I (\w+)\.", lexicon.verbs),
        (r"Word: (\w+)\nCapital:", lexicon.words),
    ):
        asked = set(re.findall(pattern, joined))
        held_out = {item.argument for item in items if is_held_out(item.argument)}
        assert 0.1 < len(held_out) / len(items) < 0.3
        assert asked and not asked & held_out
        in_text = {argument for argument in held_out if argument in joined}
        assert len(in_text) > 0.7 * len(held_out)  # but elsewhere they do occur


def test_nearly_every_word_is_one_token_and_some_names_are_split(lexicon, tokenizer):
    def split(words):
        return {word for word in words if len(tokenizer.encode(f" {word}")) > 1}

    words = {word for item in lexicon.verbs for word in (item.argument, item.answer)}
    words |= {word for item in lexicon.words for word in (item.argument, item.answer)}
    assert not split(words)
    names = {name for item in lexicon.capitals for name in (item.argument, item.answer)}
    single = {name for name in names if name.isalpha()}
    assert 0.01 < len(split(single)) / len(single) < 0.2


@given(st.text())
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_functions_are_named_by_kind_and_the_identity_covers_its_kind(lexicon):
    functions = lexicon.functions
    assert dict(functions["verb_third"])["try"] == "tries"
    assert dict(functions["place_currency"])["Poland"] == "zloty"
    assert dict(functions["word_capital"])["silver"] == "Silver"
    for name, pairs in functions.items():
        kind, _, function = name.partition("_")
        same = dict(functions[f"{kind}_same"])
        assert all(argument in same for argument, _ in pairs)
        assert function != "same" or all(x == y for x, y in pairs)
    for name in MORE_RELATIONS:
        described = describe(name)
        items = load_relation(name).items
        assert functions[f"{described.kind}_{described.cue}"] == tuple(
            (item.argument, item.answer) for item in items
        )


def test_cues_name_the_same_functions_identity_first(lexicon):
    cued = lexicon.cued
    assert sum(map(len, cued.values())) == len(lexicon.functions)
    first = {kind: next(iter(cues)) for kind, cues in cued.items()}
    assert first.pop("place") == "name" and all(kind == cue for kind, cue in first.items())
    for kind, cues in cued.items():
        identity, *others = cues.values()
        assert others and identity == dict(lexicon.functions[f"{kind}_same"])
    assert cued["place"]["capital"]["Poland"] == "Warsaw"
    assert {cue: answers["mirror"] for cue, answers in cued["verb"].items() if cue != "agent"} == {
        "verb": "mirror",
        "past": "mirrored",
        "title": "Mirror",
        "upper": "MIRROR",
        "third": "mirrors",
        "gerund": "mirroring",
    }
    assert cued["word"]["title"]["cup"] == "Cup" and cued["word"]["plural"]["child"] == "children"
    assert cued["person"]["feminine"]["actor"] == "actress"


def test_inflected_verbs_have_every_form(lexicon):
    assert len(lexicon.inflected) == 300
    for function in ("past", "third", "gerund", "capital", "upper"):
        known = dict(lexicon.functions[f"verb_{function}"])
        assert all(verb.argument in known for verb in lexicon.inflected)


def test_any_argument_is_asked_under_the_names_of_its_functions(documents):
    rng = Random(5)
    for _ in range(200):
        cues = documents.cued_answers(rng)
        (argument,) = {argument for argument, _ in cues.values()}
        assert next(iter(cues.values())) == (argument, argument)  # the identity comes first
        text = "".join(text for text, _ in documents.function_card(rng))
        assert text.count(":") >= 1 and text.endswith(".")
