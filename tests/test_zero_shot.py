"""Vectors added to zero-shot prompts: against a pass by hand, by arithmetic, and verdicts."""

import random
from dataclasses import replace

import pandas as pd
import pytest
import torch
from transformers import GPTJConfig, GPTJForCausalLM

from hand_written import hand_written
from ovectors import prompts
from ovectors.encoding import encode_relation
from ovectors.experiments.shared.sources import Task, find_sources
from ovectors.experiments.zero_shot import judge, measure, vectors
from ovectors.experiments.zero_shot.measure import OUTCOMES
from ovectors.experiments.zero_shot.settings import Setting, choose, settings_of
from ovectors.experiments.zero_shot.vectors import CONDITIONS, TASKS
from ovectors.figures import zero_shot as figures
from ovectors.models import LanguageModel
from ovectors.prose import zero_shot as prose
from ovectors.relations import load_relation
from ovectors.splits import is_development

LAYER, SCALE = 5, 2.0


@pytest.fixture(scope="module")
def table(mini):
    settings = {"layer": LAYER, "scale": SCALE, "n_sources": 2, "max_items": 4, "n_items": 40}
    return measure.zero_shot(mini, "world_capitals", **settings)


def by_hand(model, prompt, tokens, *, vector=None, scale=1.0, layer=LAYER):
    """1 / rank of some tokens after a prompt; with `scale` times a vector added to one FFN."""
    ids = model.tokenizer.encode(prompt.text)

    def edit(kind, at, vectors):
        if vector is None or kind != "ffn" or at != layer:
            return vectors
        return torch.cat([vectors[:-1], vectors[-1:] + scale * vector])

    logits = hand_written(model.model, ids, edit=edit)["logits"][-1]
    wanted = [model.tokenizer.encode(prompt.text + token)[len(ids)] for token in tokens]
    return [1 / (1 + int((logits > logits[token]).sum())) for token in wanted]


def o_vector(model, prompt, layer):
    ids = model.tokenizer.encode(prompt.text)
    return hand_written(model.model, ids)["ffn"][layer, -1]


def test_addition_equals_a_pass_by_hand(mini, table):
    relation = load_relation("world_capitals")
    items = {item.argument: item for item in relation.items}
    shown = table[table["condition"].isin(["own", "none", "one-shot"])]
    assert set(shown["condition"].value_counts()) == {8, 4}
    for row in shown.itertuples():
        item = items[row.argument.strip()]
        vector = None
        if row.condition == "own":
            vector = o_vector(mini, prompts.one_shot(relation, items[row.source]), LAYER)
        build = prompts.one_shot if row.condition == "one-shot" else prompts.zero_shot
        words = (row.answer, row.argument)
        expected = by_hand(mini, build(relation, item), words, vector=vector, scale=SCALE)
        assert [1 / row.rank_answer, 1 / row.rank_argument] == pytest.approx(expected, abs=1e-4)
        assert row.correct == (expected[0] == 1) == (row.outcome == "the answer")


def test_the_map_adds_each_layers_own_vector(mini):
    relation = load_relation("uppercase")
    items = {item.argument: item for item in relation.items}
    found = measure.layer_map(
        mini, relation, scales=(1.0, 4.0), n_sources=2, max_items=3, n_items=40
    )
    tried = found[(found["layer"].isin([0, 7])) & (found["scale"] == 4.0)]
    assert 8 <= len(tried) <= 12 and set(tried["layer"]) == {0, 7}
    for row in tried.itertuples():
        vector = o_vector(mini, prompts.one_shot(relation, items[row.source]), row.layer)
        prompt = prompts.zero_shot(relation, items[row.argument.strip()])
        expected = by_hand(
            mini, prompt, [row.answer], vector=vector, scale=row.scale, layer=row.layer
        )
        assert [1 / row.rank_answer] == pytest.approx(expected, abs=1e-4)
    bare = found[found["scale"] == 0].iloc[0]
    prompt = prompts.zero_shot(relation, items[bare["argument"].strip()])
    assert [1 / bare["rank_answer"]] == pytest.approx(by_hand(mini, prompt, [bare["answer"]]))
    assert len(found[["layer", "scale"]].drop_duplicates()) == 1 + 2 * mini.n_layers


def test_no_vector_meets_its_own_item_and_no_chooser_reports(mini, table):
    reported = set(table["argument"].str.strip())
    assert not any(is_development("world_capitals", argument) for argument in reported)
    own = table[table["condition"] == "own"]
    assert all(is_development("world_capitals", argument) for argument in own["source"])
    chosen_by = measure.layer_map(
        mini, "world_capitals", scales=(1.0,), n_sources=3, max_items=9, n_items=40
    )
    assert not set(chosen_by["argument"].str.strip()) & reported
    tried = chosen_by[chosen_by["scale"] > 0]
    assert not (tried["argument"].str.strip() == tried["source"]).any()


def test_no_colour_is_on_both_sides(mini):
    settings = {"layer": 2, "scale": 1.0, "n_sources": 3, "max_items": 10, "n_items": 60}
    found = measure.zero_shot(mini, "colored_objects", **settings)
    sources = found.loc[found["condition"] == "own", "source"]
    assert not set(sources) & set(found["argument"].str.strip())
    others = found[found["condition"] == "other"]
    assert set(others["source_relation"]) == {"world_capitals", "past_tense"}
    shown = found[found["condition"] == "one-shot"].set_index("item")["argument"]
    assert (shown == found[found["condition"] == "none"].set_index("item")["argument"]).all()


def test_controls_are_as_long_as_the_own_vectors_and_point_elsewhere(mini):
    relation = load_relation("past_tense")
    sources = find_sources(mini, Task(relation=relation), n_sources=3, n_items=60)
    (own,) = vectors.own_vectors(mini, relation, sources, layers=(4,))
    lengths = own.values.norm(dim=1)
    drawn = vectors.random_vectors(own, seed=1)
    others = vectors.other_vectors(mini, own, 4)
    for control in (drawn, others):
        assert torch.allclose(control.values.double().norm(dim=1), lengths.double(), rtol=1e-5)
        cosines = torch.cosine_similarity(control.values.double(), own.values.double())
        assert (cosines < 0.99).all()
    assert others.relations == ("world_capitals", "uppercase", "world_capitals")
    assert not torch.equal(drawn.values, vectors.random_vectors(own, seed=2).values)


def mapped(rows):
    columns = ["layer", "scale", "correct", "rank_answer"]
    return pd.DataFrame(rows, columns=columns).assign(item=range(len(rows)), relation="uppercase")


def test_accuracy_chooses_then_reciprocal_rank_then_the_smaller_step():
    rows = [(0, 0.0, True, 1.0), (1, 1.0, False, 2.0), (2, 1.0, False, 3.0), (3, 2.0, False, 2.0)]
    assert choose(mapped(rows), n_layers=4) == Setting(layer=1, scale=1.0)
    better = [*rows, (2, 4.0, True, 1.0), (3, 4.0, True, 1.0)]
    assert choose(mapped(better), n_layers=4) == Setting(layer=2, scale=4.0)
    nothing = choose(mapped(rows[:1]), n_layers=12)
    assert nothing == Setting(layer=7, scale=1.0)  # two thirds of the depth
    assert choose(mapped(rows[:1]), n_layers=1).layer == 0


def test_the_papers_layers_are_a_setting_of_their_own():
    maps = {"uppercase": mapped([(1, 2.0, True, 1.0)]), "past_tense": mapped([(0, 0.0, True, 1.0)])}
    found = settings_of(maps, n_layers=3, paper={"uppercase": 2, "world_capitals": 1})
    assert [(name, one.name, one.layer) for name, one in found] == [
        ("uppercase", "chosen", 1),
        ("past_tense", "chosen", 1),
        ("uppercase", "paper", 2),
    ]


def test_the_map_is_summed_up_item_by_item():
    rows = [(1, 1.0, True, 1.0), (1, 1.0, False, 4.0), (1, 1.0, True, 1.0)]
    table = mapped(rows).assign(item=[0, 0, 1], argument=["a", "a", "b"])
    (found,) = judge.map_means(table).to_dict("records")
    assert found["mean"] == pytest.approx((0.5 + 1) / 2)
    assert found["reciprocal_rank"] == pytest.approx((5 / 8 + 1) / 2)
    assert (found["n"], found["pairs"]) == (2, 3)


def made(relation, shares, *, n=40, sources=2, setting="chosen"):
    """Made-up runs: for each condition the share of items that every one of its vectors answers."""
    rows = []
    for condition, share in shares.items():
        for number in range(sources if condition in ("own", "random", "other") else 1):
            for item in range(n):
                row = {"relation": relation, "setting": setting, "condition": condition}
                right = item < share * n
                row |= {"number": number, "item": item, "argument": f"word {item}"}
                row |= {"correct": right, "source_correct": True}
                row |= {"outcome": OUTCOMES[0 if right else 3]}
                row["rank_answer"] = 1.0 if right else 4.0
                rows.append(row | {"top_token": " Yes" if right else " The"})
    return pd.DataFrame(rows)


BARE = {"none": 0.1, "random": 0.1, "other": 0.1, "one-shot": 1.0}


def claimed(*shares, n=40):
    names = TASKS[: len(shares)]
    table = pd.concat(made(name, BARE | one, n=n) for name, one in zip(names, shares, strict=True))
    return judge.claim(table, model="made-up", relations=names)


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        (({"own": 0.8}, {"own": 0.8}, {"own": 0.1}), "supported"),
        (({"own": 0.8}, {"own": 0.1}, {"own": 0.1}), "partly"),
        (({"own": 0.8, "random": 0.8}, {"own": 0.8, "random": 0.9}), "partly"),
        (({"own": 0.8, "random": 0.8}, {"own": 0.1}), "not supported"),
        (({"own": 0.1}, {"own": 0.0}), "not supported"),
    ],
)
def test_the_verdict_follows_the_rule(shares, verdict):
    found = claimed(*shares)
    assert found.verdict == verdict, found.why
    ruled = [one for one in found.measured if one.bound is not None]
    assert [one.kind for one in ruled] == ["precondition", "paper", "control"] * len(shares)


def test_where_nothing_can_be_gained_nothing_is_tested():
    ceiling = {"none": 0.99, "own": 1.0}
    found = claimed(ceiling, ceiling, {"own": 0.8}, n=100)
    assert found.verdict == "not testable here"
    assert "1 of 3 relations can be tested, and 2 are needed" in found.why
    assert f"({judge.ROOM} 0.01, not clearly above 0.1)" in found.why
    # It is the gain that is missing, not the level: 0.5 with and without is no better.
    level = {"none": 0.5, "one-shot": 0.5, "own": 1.0}
    assert claimed(level, level, {"own": 0.8}).verdict == "not testable here"
    assert claimed(ceiling, {"own": 0.8}, {"own": 0.8}, n=100).verdict == "supported"
    # Without a run with a demonstration one does not know.
    table = made("uppercase", BARE | {"own": 0.8})
    unknown = judge.claim(table[table["condition"] != "one-shot"], model="made-up")
    assert f"({judge.ROOM}: 0 items" in unknown.why


def test_questions_about_one_argument_count_once():
    table = made("uppercase", BARE | {"own": 0.5}, n=40)
    table["argument"] = "colour " + (table["item"] // 2).astype(str)
    assert set(judge.gains(table)["n"]) == set(judge.accuracies(table)["n"]) == {20}
    found = judge.claim(table, model="made-up", relations=("uppercase",))
    assert {one.n for one in found.measured} == {20}


def test_a_dozen_items_are_no_test():
    assert claimed({"own": 0.8}, {"own": 0.8}, n=12).verdict == "not testable here"
    found = judge.claim(made("uppercase", BARE | {"own": 0.8}), model="made-up")
    assert found.verdict == "not testable here" and len(found.measured) >= 3 * len(TASKS)


def test_gains_are_taken_item_by_item_and_vector_by_vector():
    table = made("uppercase", BARE | {"own": 0.5, "random": 0.25, "other": 0.75}, n=4)
    table.loc[(table["condition"] == "own") & (table["number"] == 1), "correct"] = False
    found = judge.gains(table).set_index("against")["mean"]
    assert found["none"] == pytest.approx(0.25 - 0.25)  # one of four has it: 0.1 of 4 is item 0
    assert found["random"] == pytest.approx(0.25 - 0.25)
    assert found["other"] == pytest.approx(0.25 - 0.75)
    reached = judge.accuracies(table).set_index("condition")
    own = reached.loc["own", ["mean", "worst", "best", "n", "n_sources"]]
    assert own.tolist() == [0.25, 0.0, 0.5, 4, 2]
    assert reached.loc["none", "reciprocal_rank"] == pytest.approx((1 + 3 / 4) / 4)


def shuffled(name):
    """The relation with its answers dealt out anew."""
    relation = load_relation(name)
    answers = [item.answer for item in relation.items]
    random.Random(3).shuffle(answers)
    pairs = zip(relation.items, answers, strict=True)
    return replace(relation, items=tuple(replace(item, answer=answer) for item, answer in pairs))


def run(model, relation, *, n_items):
    found = measure.layer_map(
        model, relation, scales=(1.0,), n_sources=2, max_items=6, n_items=n_items
    )
    at = choose(found, n_layers=model.n_layers)
    settings = {"n_sources": 3, "max_items": 24, "n_items": n_items}
    return measure.zero_shot(model, relation, **at.arguments, **settings)


def test_shuffled_pairs_are_not_supported(mini):
    names = ("world_capitals", "uppercase", "past_tense")
    table = pd.concat(run(mini, shuffled(name), n_items=60) for name in names)
    found = judge.claim(table, model="mini-2m", relations=names)
    assert found.verdict in ("not supported", "not testable here"), found.why
    assert all(one.n >= 20 for one in found.measured if one.bound is not None)


def test_random_weights_are_not_supported(untrained):
    names = TASKS
    table = pd.concat(run(untrained, name, n_items=40) for name in names)
    found = judge.claim(table, model="untrained", relations=names)
    assert found.verdict == "not testable here", found.why
    answered = table[table["condition"] == "own"]["source_correct"]
    assert not answered.any()  # the vectors come from unanswered examples, and that is on record


@pytest.mark.parametrize("n_items", [1, 3])
def test_two_parallel_layers_and_hardly_an_item_do_not_crash(mini, n_items):
    tokenizer = mini.tokenizer
    torch.manual_seed(0)
    config = GPTJConfig(
        n_embd=16,
        n_layer=2,
        n_head=2,
        rotary_dim=4,
        n_positions=256,
        vocab_size=len(tokenizer),
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LanguageModel.of(GPTJForCausalLM(config).eval(), tokenizer, name="parallel")
    name = "uppercase"
    found = measure.layer_map(model, name, scales=(1.0,), n_items=n_items)
    asked = settings_of({name: found}, n_layers=2, paper={})
    ((_, at),) = asked
    table = measure.zero_shot(model, name, **at.arguments, n_items=n_items)
    means, reached = judge.map_means(found), judge.accuracies(table)
    assert set(reached["condition"]) == set(CONDITIONS)
    assert judge.claim(table, model="parallel", relations=(name,)).verdict == "not testable here"
    assert len(figures.map_panels(means, asked).axes) == 1
    assert len(figures.accuracy_panels(reached).axes) == 1
    encoded = {name: encode_relation(model, name, "zero_shot", n_items=n_items)}
    assert "Upper-casing" in prose.setting_table(asked, means, table)
    assert "Upper-casing" in prose.exclusion_table(encoded)


@pytest.mark.parametrize(
    ("own", "said"), [(0.8, "a gain"), (0.0, "a loss"), (0.5, "no change is shown")]
)
def test_sentences_follow_the_numbers(own, said):
    table = made("uppercase", BARE | {"none": 0.5, "own": own})
    reached, found = judge.accuracies(table), judge.gains(table)
    sentence = prose.gain_sentences(reached, found)
    assert said in sentence and f"0.50 without and {own:.2f} with" in sentence
    assert "little to gain" not in sentence
    assert f"0.62 without and {(1 + 3 * own) / 4:.2f} with it" in sentence
    assert f"{own - 0.5:.2f}" in prose.summary("a-model", reached, found)
    assert "no second setting" in prose.paper_sentences(reached, found)
    row = next(line for line in prose.accuracy_table(reached).splitlines() if "own o" in line)
    assert f"{own:.2f} [" in row and f"single vectors {own:.2f} to {own:.2f}" in row


def test_a_relation_that_needs_no_vector_is_said_to():
    table = made("uppercase", BARE | {"none": 1.0, "own": 1.0})
    reached, found = judge.accuracies(table), judge.gains(table)
    assert "little to gain" in prose.gain_sentences(reached, found)
    assert "1.00 without any vector" in prose.summary("a-model", reached, found)
    paper = pd.concat([table, made("uppercase", BARE | {"own": 0.3}, setting="paper")])
    again = judge.accuracies(paper), judge.gains(paper)
    assert "0.30 with" in prose.paper_sentences(*again)


def test_the_first_of_several_words_names_no_answer(mini):
    encoded = encode_relation(mini, "world_capitals", "zero_shot")
    tokens = {mini.tokenizer.decode([token]) for token in measure.named_by_a_token(encoded)}
    assert " Paris" in tokens and not {" The", " San"} & tokens
    assert {" The", " San"} <= {
        mini.tokenizer.decode([token]) for token in encoded.answer_ids.tolist()
    }


def test_what_comes_out_on_top_is_counted_and_drawn():
    table = made("uppercase", BARE | {"own": 0.75}, n=4)
    shares, tokens = judge.outcome_shares(table), judge.common_tokens(table)
    own = shares[shares["condition"] == "own"].set_index("outcome")["mean"]
    assert own["the answer"] == 0.75 and own["something else"] == 0.25 and own.sum() == 1
    said = prose.outcome_sentences(shares, tokens)
    assert "with it: the answer 0.75 and something else 0.25" in said
    assert "`Yes` (75%)" in said and "the argument" not in said
    axis = figures.outcome_panels(shares).axes[0]
    widths = [bar.get_width() for bar in axis.patches if bar.get_y() > 0.5 and bar.get_y() < 1]
    assert sum(widths) == pytest.approx(1) and 0.75 in widths
    assert "nothing" in figures.outcome_panels(shares, setting="paper").texts[0].get_text()
