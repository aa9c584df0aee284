"""Training: a resumable loop, a corpus that depends on its seed only, a tokenizer of words."""

import re
from dataclasses import replace
from random import Random

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from ovectors.errors import UserError
from ovectors.figures.training import loss_curve
from ovectors.prompts import one_shot, zero_shot
from ovectors.relations import MORE_RELATIONS, describe, load_relation
from ovectors.training import train as loop
from ovectors.training.corpus import Corpus, sample_texts
from ovectors.training.documents import Documents, mixture
from ovectors.training.held_out import EACH, HeldOut
from ovectors.training.lexicon import Lexicon, is_held_out
from ovectors.training.recipe import load_recipe
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


def test_a_killed_run_ends_in_the_same_weights(tmp_path, monkeypatch):
    whole = loop.train("tiny", output=tmp_path / "whole", device="cpu")
    step, calls = loop._step, []

    def killed_later(*args, **kwargs):
        calls.append(1)
        if len(calls) == 7:  # after the checkpoint of step 4, before that of step 8
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(loop, "_step", killed_later)
    with pytest.raises(KeyboardInterrupt):
        loop.train("tiny", output=tmp_path / "cut", device="cpu")
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    monkeypatch.setattr(loop, "_step", step)
    cut = loop.train("tiny", output=tmp_path / "cut", device="cpu")
    left = AutoModelForCausalLM.from_pretrained(whole).state_dict()
    right = AutoModelForCausalLM.from_pretrained(cut).state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    logs = [pd.read_csv(folder / loop.LOG) for folder in (whole, cut)]
    assert list(logs[1]["step"]) == list(range(1, 13))
    assert list(logs[0]["loss"]) == list(logs[1]["loss"])


def test_what_is_shipped_loads_by_the_ordinary_road(tmp_path, tokenizer):
    folder = loop.train("tiny", output=tmp_path, device="cpu", steps=2)
    model = AutoModelForCausalLM.from_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    text = "Q: What is the capital of Poland?\nA: Warsaw"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert model.config.vocab_size == len(loaded)


def test_half_precision_trains_as_single_does(tmp_path):
    """On a CPU it takes another road through attention: the losses tell whether both lead home."""
    logs = []
    for dtype in ("float32", "bfloat16"):
        folder = loop.train("tiny", output=tmp_path / dtype, device="cpu", dtype=dtype)
        assert AutoModelForCausalLM.from_pretrained(folder).config._attn_implementation == "sdpa"
        logs.append(pd.read_csv(folder / loop.LOG)["loss"])
    assert max(abs(logs[0] - logs[1])) < 0.02 and not logs[0].equals(logs[1])


def test_a_checkpoint_of_other_settings_or_data_is_refused(tmp_path, monkeypatch):
    loop.train("tiny", output=tmp_path, device="cpu")
    with pytest.raises(UserError, match="made with other settings"):
        loop.train("tiny", output=tmp_path, device="cpu", steps=20)
    monkeypatch.setattr(loop, "data_hashes", lambda: {"past_tense.csv": "another"})
    with pytest.raises(UserError, match="other relation data"):
        loop.train("tiny", output=tmp_path, device="cpu")
    loop.train("tiny", output=tmp_path, device="cpu", resume=False)


def test_a_finished_model_is_not_replaced_unasked(tmp_path):
    folder = loop.train("tiny", output=tmp_path, device="cpu", steps=2)
    log = (folder / loop.LOG).read_text()
    with pytest.raises(UserError, match="holds a finished model"):
        loop.train("tiny", output=tmp_path, device="cpu", steps=2)
    assert (folder / loop.LOG).read_text() == log
    loop.train("tiny", output=tmp_path, device="cpu", steps=2, resume=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "mini-1t"}, "no recipe named 'mini-1t': choose one of mini-2m, mini-6m, tiny"),
        ({"name": "tiny", "dtype": "int8"}, "float32 or bfloat16, not 'int8'"),
        ({"name": "tiny", "device": "tpu"}, "cpu or cuda, not 'tpu'"),
    ],
)
def test_bad_settings_are_named(tmp_path, settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        loop.train(**settings, output=tmp_path / "new")


def test_held_out_accuracy_is_logged_at_checkpoints(tmp_path, tokenizer):
    folder = loop.train("tiny", output=tmp_path)
    log = pd.read_csv(folder / loop.LOG)
    every = load_recipe("tiny").checkpoint_every
    logged = log.loc[log["held_out_accuracy"].notna(), "step"]
    assert logged.tolist() == [*range(every, len(log) + 1, every)]
    assert len(loss_curve(log).axes) == 2 and len(loss_curve(log[: every - 1]).axes) == 1


def test_held_out_accuracy_is_the_share_of_held_out_answers_on_top(tokenizer):
    held_out = HeldOut(tokenizer)
    for prompts in held_out.prompts:
        assert len(prompts.prompts) == EACH
        assert all(is_held_out(one.item.argument) for one in prompts.prompts)
    wanted = torch.cat([one.answer_ids for one in held_out.prompts])
    model = loop.new_model(load_recipe("tiny"), tokenizer)
    favourite = int(wanted[0])
    with torch.no_grad():  # a model that answers one token, whatever it is asked
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(model.transformer.wte.weight[favourite])
        model.transformer.wte.weight[favourite] *= 10
    assert held_out.accuracy(model) == pytest.approx(float((wanted == favourite).float().mean()))


def test_the_loss_falls(tmp_path):
    loop.train("tiny", output=tmp_path, device="cpu", steps=60)
    losses = pd.read_csv(tmp_path / loop.LOG)["loss"]
    assert losses[-10:].mean() < losses[:5].mean() - 0.1


def test_layers_sit_out_a_step_and_come_back(tokenizer):
    recipe = replace(load_recipe("tiny", n_layer=8, steps=10_000), layer_drop=0.5)
    model = loop.new_model(recipe, tokenizer)
    blocks = list(model.transformer.h)

    def kept(step, recipe=recipe):
        with loop._some_layers(model, recipe, step):
            return [blocks.index(block) for block in model.transformer.h]

    drawn = [kept(step) for step in range(60)]
    assert drawn == [kept(step) for step in range(60)]  # by seed and step alone
    assert all(layers == sorted(layers) and layers[0] == 0 for layers in drawn)
    assert 0.4 < sum(len(layers) - 1 for layers in drawn) / (60 * 7) < 0.6
    assert kept(0, replace(recipe, layer_drop=0.0)) == list(range(8))
    late = [len(kept(step)) - 1 for step in range(9000, 9060)]  # the chance has fallen to a tenth
    assert 0.9 < sum(late) / (60 * 7) < 1
    assert kept(9999) == list(range(8))
    with pytest.raises(KeyboardInterrupt), loop._some_layers(model, recipe, 1):
        raise KeyboardInterrupt
    assert list(model.transformer.h) == blocks


def test_the_rates_warm_up_and_fall_to_their_floor():
    recipe = load_recipe("mini-2m")
    shares = [recipe.share(step) for step in range(recipe.steps)]
    assert shares[recipe.warmup_steps - 1] == 1 == max(shares)
    assert shares[0] == 1 / recipe.warmup_steps
    assert shares[-1] == pytest.approx(recipe.final_learning_rate, rel=1e-2)


def test_muon_has_the_blocks_matrices_and_adam_the_rest(tokenizer):
    recipe = load_recipe("tiny")
    model = loop.new_model(recipe, tokenizer)
    optimizer = loop.new_optimizer(model, recipe)
    groups = [*optimizer.muon.param_groups, *optimizer.adam.param_groups]
    matrices, tables, vectors = (set(map(id, group["params"])) for group in groups)
    named = {id(weights): (name, weights.ndim) for name, weights in model.named_parameters()}
    assert {named[one][1] for one in matrices} == {2}
    assert all(named[one][0].startswith("transformer.h.") for one in matrices)
    assert {named[one][0] for one in tables} == {"transformer.wte.weight", "transformer.wpe.weight"}
    assert {named[one][1] for one in vectors} == {1}
    assert len(matrices) + len(tables) + len(vectors) == len(named)
    optimizer.set_share(0.5)
    rates = [recipe.matrix_learning_rate, recipe.learning_rate, recipe.learning_rate]
    assert [group["lr"] for group in groups] == [rate / 2 for rate in rates]
    assert [group["weight_decay"] for group in groups] == [recipe.weight_decay] * 2 + [0.0]


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


def test_the_data_of_a_record_are_all_files_by_their_place():
    hashes = loop.data_hashes()
    assert {"past_tense.csv", "more/noun_plural.csv", "more/relations.toml"} <= hashes.keys()
    assert all(len(digest) == 64 for digest in hashes.values())


def test_positions_start_as_waves_in_which_one_step_back_is_one_rotation(tokenizer):
    recipe = load_recipe("tiny")
    waves = loop.new_model(recipe, tokenizer).transformer.wpe.weight.detach().double()
    pairs = torch.view_as_complex(waves.reshape(len(waves), -1, 2).contiguous())
    turns = pairs[1:] / pairs[:-1]
    assert torch.allclose(turns, turns[:1].expand_as(turns), atol=1e-4)
    assert waves.abs().max().item() == pytest.approx(loop.WAVE_HEIGHT)


def test_any_argument_is_asked_under_the_names_of_its_functions(documents):
    rng = Random(5)
    for _ in range(200):
        cues = documents.cued_answers(rng)
        (argument,) = {argument for argument, _ in cues.values()}
        assert next(iter(cues.values())) == (argument, argument)  # the identity comes first
        text = "".join(text for text, _ in documents.function_card(rng))
        assert text.count(":") >= 1 and text.endswith(".")
