"""Content independence: the intervention written out in torch beside it, verdicts that can fail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ovectors.colored_objects import colours
from ovectors.errors import UserError
from ovectors.experiments.content_independence import gather, judge, tasks
from ovectors.experiments.content_independence.judge.verdict import MORE_THAN_OTHER, RAISES
from ovectors.experiments.content_independence.measure import content_independence
from ovectors.experiments.content_independence.measure.controls import LAST
from ovectors.experiments.shared.effects import effects, reciprocal
from ovectors.experiments.shared.layer_maps import layer_map
from ovectors.experiments.shared.layers import Layers, choose_layers
from ovectors.experiments.shared.replacing import CONTROL, OWN, RANDOM
from ovectors.experiments.shared.sources import Task, find_sources, members, patterns
from ovectors.prompts import one_shot
from ovectors.relations import load_relation
from tiny_models import tiny

LAYER, START = 5, 4


@pytest.fixture(scope="module")
def table(mini):
    settings = {"source_layer": LAYER, "start_layer": START, "n_sources": 3, "n_controls": 2}
    others = (("uppercase", "", 3),)
    return content_independence.content_independence(
        mini, "world_capitals", **settings, others=others, n_items=60, layers=None
    )


def by_hand(network, ids, vector=None, start=None):
    """GPT-2 in plain torch: states after each layer, FFN outputs at the last token. With a vector,
    every FFN from `start` on is skipped and the vector added at all positions instead."""
    states, added = [], []
    with torch.no_grad():
        x = network.transformer.wte.weight[ids] + network.transformer.wpe.weight[: len(ids)]
        for layer, block in enumerate(network.transformer.h):
            heads = network.config.n_head
            q, k, v = block.attn.c_attn(block.ln_1(x)).chunk(3, dim=-1)
            q, k, v = (one.view(len(ids), heads, -1).transpose(0, 1) for one in (q, k, v))
            scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
            hidden = torch.ones(len(ids), len(ids)).triu(1).bool()
            mixed = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
            x = x + block.attn.c_proj(mixed.transpose(0, 1).reshape(len(ids), -1))
            ffn = block.mlp(block.ln_2(x))
            if vector is not None and layer >= start:
                ffn = vector.expand_as(ffn)
            x = x + ffn
            states.append(network.lm_head(network.transformer.ln_f(x[-1])))
            added.append(ffn[-1])
    return states, added


def test_the_intervention_at_all_positions_equals_one_in_plain_torch(mini, table):
    network, tokenizer = mini.model, mini.tokenizer
    relation = load_relation("world_capitals")
    _, report = patterns(mini, relation, n_items=60)
    own = table[table["condition"] == OWN]
    item = {one.argument: one for one in relation.items}
    for name, rows in list(own.groupby("vector"))[:2]:
        ids = tokenizer.encode(one_shot(relation, item[name]).text)
        _, added = by_hand(network, torch.tensor(ids))
        for prompt in report.prompts[:6]:
            ids = torch.tensor(tokenizer.encode(prompt.text))
            states, _ = by_hand(network, ids, added[LAYER], START)
            of_item = rows[rows["argument"] == prompt.argument].sort_values("layer")
            assert len(of_item) == mini.n_layers
            for column, word in (("answer", prompt.answer), ("argument", prompt.argument)):
                token = tokenizer.encode(prompt.text + word)[len(ids)]
                expected = [1 / (1 + int((one > one[token]).sum())) for one in states]
                found = 1 / of_item[f"rank_{column}"].to_numpy()
                assert found == pytest.approx(expected, abs=1e-4)
            top = [tokenizer.decode([int(one.argmax())]) for one in states]
            assert of_item["top_token"].tolist() == top


def test_the_control_run_is_the_model_itself(mini, table):
    control = table[(table["condition"] == CONTROL) & (table["layer"] == mini.n_layers - 1)]
    assert control["outcome"].eq("").all() and len(control) > 20
    _, report = patterns(mini, "world_capitals", n_items=60)
    text = {prompt.argument: prompt.text for prompt in report.prompts}
    for row in control.head(5).itertuples():
        ids = torch.tensor([mini.tokenizer.encode(text[row.argument])])
        with torch.no_grad():
            best = mini.model(ids).logits[0, -1].argmax()
        assert row.top_token == mini.tokenizer.decode([int(best)])


def test_positions_last_and_all_are_different_runs(mini, table):
    settings = {"source_layer": LAYER, "start_layer": START, "n_sources": 3, "n_controls": 0}
    last = content_independence.content_independence(
        mini, "world_capitals", **settings, positions="last", n_items=60, layers=(-1,)
    )
    every = reciprocal(table, OWN)
    assert reciprocal(last, OWN).shape == every.shape
    assert np.abs(reciprocal(last, OWN) - every).max() > 1e-3
    assert reciprocal(last, CONTROL) == pytest.approx(reciprocal(table, CONTROL))


def test_no_source_is_among_the_reported_items(mini, table):
    assert not set(table["vector"]) & set(table["argument"].str.strip())
    found = find_sources(mini, Task(relation="world_capitals"), n_sources=3, n_items=60)
    assert set(found.arguments) == set(table.loc[table["condition"] == OWN, "vector"])


def test_random_vectors_are_as_long_as_the_own_ones(table):
    norms = table.groupby(["condition", "number"])["norm"].first()
    for number in (0, 1):
        assert norms[RANDOM, number] == pytest.approx(norms[OWN, number], rel=1e-5)


def test_out_of_domain_items_get_the_other_set_s_vectors(mini):
    settings = {"source_layer": LAYER, "start_layer": START, "n_sources": 3, "n_controls": 1}
    found = content_independence.content_independence(
        mini, "us_state_capitals", vectors_from="world_capitals", **settings, n_items=20
    )
    countries = {item.argument for item in load_relation("world_capitals").items}
    assert set(found.loc[found["condition"] == OWN, "vector"]) <= countries
    states = {f" {item.argument}" for item in load_relation("us_state_capitals").items}
    assert set(found["argument"]) <= states


def test_upper_casing_takes_its_vectors_from_coloured_objects(mini):
    """As in the paper: one vector a colour, tried on words that are no colours."""
    settings = gather.with_layers(
        tasks.IN_DOMAIN, dict.fromkeys(tasks.IN_DOMAIN, Layers(source=LAYER, start=START))
    )
    others = [name for name, _, _ in settings["world_capitals"]["others"]]
    assert others == ["past_tense", "colored_objects"]
    asked = settings["uppercase"] | {"n_sources": 20, "n_controls": 0, "others": ()}
    found = content_independence.content_independence(mini, **asked, max_items=4)
    sources = found.loc[found["condition"] == OWN, "vector"]
    assert sorted(sources.unique()) == sorted(colours()) and sources.nunique() == 20
    assert set(found["group"]) == {"word"}
    sources = find_sources(mini, tasks.IN_DOMAIN["uppercase"], n_sources=5)
    questions = {item.context for item in load_relation("colored_objects").items}
    assert {prompt.item.context for prompt in sources.prompts.prompts} <= questions
    assert len(set(sources.arguments)) == 5


def test_the_last_half_is_chosen_among_its_own_pairs(table):
    """The best pair of all starts at layer 0; of those from 2 of 4 on the best is 1, 3."""
    tried = {(2, 0): 1.0, (1, 3): 2.0, (0, 2): 4.0}
    rows = [(*pair, 0, rank, 8.0) for pair, rank in tried.items()]
    columns = ["source_layer", "start_layer", "item", "rank_answer", "rank_before"]
    maps = {"past_tense": pd.DataFrame(rows, columns=columns)}
    asked = []

    class Kept:
        def table(self, experiment, **settings):
            asked.append((experiment, settings))
            return "another table"

    def late(source, start):
        layers = {"past_tense": Layers(source=source, start=start)}
        return gather.in_last_half(Kept(), {"past_tense": table}, maps, layers, n_items=7)

    assert late(2, 0) == {"past_tense": "another table"}
    ((_, settings),) = asked
    assert (settings["source_layer"], settings["start_layer"]) == (1, 3)
    assert (settings["group"], settings["n_items"]) == ("regular", 7)
    assert late(1, 3)["past_tense"] is table and len(asked) == 1  # nothing to run again


def test_named_examples_are_the_sources(mini):
    found = find_sources(mini, Task(relation="world_capitals"), examples=("Poland",))
    assert found.arguments == ("Poland",)
    with pytest.raises(UserError, match="Atlantis"):
        find_sources(mini, Task(relation="world_capitals"), examples=("Atlantis",))
    with pytest.raises(UserError, match="no group 'purple'"):
        members("past_tense", "purple")


def test_all_passages_about_one_colour_are_on_one_side(mini):
    development, report = patterns(mini, "colored_objects")
    sides = [{prompt.argument for prompt in side.prompts} for side in (development, report)]
    assert not sides[0] & sides[1] and all(sides)


def test_correct_sources_come_first(mini):
    found = find_sources(mini, Task(relation="world_capitals"), n_sources=10)
    assert list(found.correct) == sorted(found.correct, reverse=True)
    for prompt, correct in zip(found.prompts.prompts, found.correct, strict=True):
        ids = torch.tensor([mini.tokenizer.encode(prompt.text)])
        answer = mini.tokenizer.encode(prompt.text + prompt.answer)[ids.shape[1]]
        with torch.no_grad():
            assert (int(mini.model(ids).logits[0, -1].argmax()) == answer) == correct


def made_up(own, *, control=4.0, random=4.0, other=4.0, mean=4.0, other_after=50.0, items=40):
    """A table in which every item has the same ranks, with three vectors of a kind."""
    rows = []
    vectors = 3
    conditions = {CONTROL: (1, control), OWN: (vectors, own), RANDOM: (vectors, random)}
    conditions[LAST] = (1, mean)
    conditions[tasks.other_condition("past_tense")] = (vectors, other)
    for condition, (count, rank) in conditions.items():
        for number in range(count):
            for item in range(items):
                moved = other_after if condition == OWN else 50.0
                rows.append((condition, number, item, rank, moved))
    table = pd.DataFrame(rows, columns=["condition", "number", "item", "rank_answer", "rank_other"])
    return table.assign(layer=3, relation="r", argument=table["item"].astype(str))


def verdict(*tables):
    named = {f"relation_{number}": table for number, table in enumerate(tables)}
    return judge.claim(named, model="m").verdict


def test_the_verdict_follows_the_rule():
    good = made_up(1.0)
    assert verdict(good, good) == "supported"
    assert verdict(good, made_up(4.0)) == "partly"
    assert verdict(made_up(4.0), made_up(5.0)) == "not supported"
    assert verdict(made_up(1.0, items=10)) == "not testable here"


@pytest.mark.parametrize(
    ("control", "left"),
    [
        ({"random": 1.0}, "partly"),
        ({"other": 1.0}, "partly"),
        ({"mean": 1.0}, "partly"),
        # A vector that raises every answer alike would serve a shuffled relation as well.
        ({"other_after": 1.0}, "not supported"),
    ],
    ids=["random", "other", "mean", "other_after"],
)
def test_each_control_can_refuse_what_the_control_run_grants(control, left):
    beaten = made_up(1.0, **control)
    assert verdict(beaten, beaten) == left
    held = {one.criterion: one.holds for one in judge.evidence(beaten, "r")}
    assert held[RAISES] and sum(not value for value in held.values()) == 1


def test_evidence_is_the_difference_of_reciprocal_ranks():
    table = made_up(1.0, control=4.0, random=2.0, other=5.0, mean=8.0, other_after=25.0)
    found = judge.evidence(table, "r")
    assert [one.found.value for one in found] == pytest.approx([0.75, 0.5, 0.8, 0.875, 0.75 - 0.02])
    assert [one.kind for one in found] == ["paper", "control", "control", "control", "guard"]
    assert [one.bound for one in found] == [0.02, 0, 0, 0, 0]


def test_a_rise_below_the_smallest_effect_of_interest_is_none():
    """From rank 4 to 3.8 is 0.013 of mean reciprocal rank; to 3.6 is 0.028."""
    small = made_up(3.8, random=50.0, other=50.0, mean=50.0)
    assert verdict(small, small) == "not supported"
    large = made_up(3.6, random=50.0, other=50.0, mean=50.0)
    assert verdict(large, large) == "supported"


@pytest.mark.parametrize("missing", [LAST, "vector of past_tense", RANDOM])
def test_a_control_that_nobody_ran_has_neither_held_nor_failed(missing):
    table = made_up(1.0)
    alone = table[table["condition"] != missing]
    (left,) = [one for one in judge.evidence(alone, "r") if one.holds is None]
    assert left.kind == "control" and left.found.n == 0
    found = judge.claim({"a": alone, "b": alone}, model="m")
    assert found.verdict == "partly" and "not measured: own vector minus" in found.why
    assert "fails" not in found.why


def test_the_last_half_is_shown_and_not_judged():
    good, poor = made_up(1.0), made_up(2.0)
    found = judge.claim({"a": good, "b": good}, model="m", late={"a": poor})
    assert found.verdict == "supported"
    shown = {one.name: one.value for one in found.measured if one.name.endswith(judge.IN_LAST_HALF)}
    assert list(shown.values()) == pytest.approx([0.25, 2.0])  # 1/2 - 1/4, and the rank


def run(model, relation, **settings):
    layers = choose_layers(layer_map(model, relation, n_sources=2, max_items=20, **settings))
    return content_independence.content_independence(
        model,
        relation,
        source_layer=layers.source,
        start_layer=layers.start,
        others=(("past_tense", "regular", layers.source),),
        n_sources=4,
        n_controls=4,
        **settings,
    )


def test_shuffled_pairs_are_not_supported(mini):
    relation = load_relation("uppercase")
    answers = [item.answer for item in relation.items]
    items = [
        replace(item, answer=answer)
        for item, answer in zip(relation.items, answers[7:] + answers[:7], strict=True)
    ]
    table = run(mini, replace(relation, items=tuple(items)), n_items=40)
    assert verdict(table, table) == "not supported"
    # The vector may lift upper-cased words as a class: what tells is that it lifts all of them.
    held = {one.criterion: one.holds for one in judge.evidence(table, "uppercase")}
    assert not held[MORE_THAN_OTHER]


def test_random_weights_are_not_supported(untrained):
    tables = {name: run(untrained, name, n_items=40) for name in ("world_capitals", "uppercase")}
    assert judge.claim(tables, model="untrained").verdict == "not supported"


@pytest.mark.parametrize("case", ["gptj", "llama", "bloom"])
def test_every_family_can_be_intervened_on(case):
    model = tiny(case)
    layers = choose_layers(layer_map(model, "uppercase", n_sources=2, n_items=20))
    table = content_independence.content_independence(
        model,
        "uppercase",
        source_layer=layers.source,
        start_layer=layers.start,
        n_sources=2,
        n_controls=1,
        n_items=20,
    )
    ranks = table[["rank_answer", "rank_argument", "rank_other"]].to_numpy()
    assert np.isfinite(ranks).all() and (ranks >= 1).all()


def test_further_sets_are_shown_and_not_judged():
    good, bad = made_up(1.0), made_up(4.0)
    found = judge.claim({"a": good, "b": good}, model="m", further={"irregular_verbs": bad})
    assert found.verdict == "supported"
    shown = {(one.relation, one.name) for one in found.measured if one.bound is None}
    assert ("past_tense", "no effect, irregular verbs") in shown


def test_effects_tell_before_from_after():
    found = effects(made_up(1.0, control=4.0))
    assert found["mean reciprocal rank before"].value == 0.25
    assert found["mean reciprocal rank after"].value == found["answer on top after"].value == 1
    assert found["no effect"].value == 0
    assert effects(made_up(4.0, control=4.0))["no effect"].value == 1


def test_a_single_item_gives_no_verdict(mini):
    table = run(mini, "uppercase", n_items=1)
    assert judge.claim({"uppercase": table}, model="m").verdict == "not testable here"
