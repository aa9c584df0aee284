"""Control vectors: averages against loops, prompts that differ in one word, lengths."""

import numpy as np
import pytest
import torch

from ovectors.experiments.content_independence.measure import (
    content_independence,
    controls,
    demonstrations,
)
from ovectors.experiments.content_independence.measure.controls import WRONG, ZERO
from ovectors.experiments.shared.effects import reciprocal
from ovectors.experiments.shared.replacing import CONTROL, OWN, source_vectors
from ovectors.experiments.shared.sources import Task, find_sources, material, patterns
from ovectors.interventions import Replace, next_token_logits
from ovectors.prompts import one_shot
from ovectors.relations import RELATIONS, Item, Relation, load_relation

SOURCE, START = 5, 8


@pytest.fixture(scope="module")
def used(mini):
    return material(mini, Task(relation="uppercase"), n_sources=6, n_items=60)


@pytest.fixture(scope="module")
def table(mini):
    settings = {"source_layer": SOURCE, "start_layer": START, "n_sources": 6, "n_controls": 2}
    return controls.control_vectors(mini, "uppercase", **settings, n_items=60)


def ffn_by_hand(model, ids):
    """What the FFN of one layer adds at every token, read with a hook of our own."""
    kept = []
    block = model.model.transformer.h[SOURCE]
    handle = block.mlp.register_forward_hook(lambda _module, _args, output: kept.append(output[0]))
    with torch.no_grad():
        model.model(torch.tensor([ids]))
    handle.remove()
    return kept[0]


@pytest.mark.parametrize("last_only", [False, True])
def test_the_mean_ffn_output_equals_a_loop(mini, last_only):
    encoded, _ = patterns(mini, "world_capitals", n_items=60)
    assert len(set(encoded.lengths.tolist())) > 1  # prompts of different lengths
    every = [ffn_by_hand(mini, ids) for ids in encoded.token_ids]
    # All but the first token, whose state says nothing of the text.
    parts = [one[-1:] if last_only else one[1:] for one in every]
    expected = torch.cat(parts)
    found = controls.mean_ffn_output(mini, encoded, SOURCE, last_only=last_only)
    assert found.numpy() == pytest.approx(expected.mean(dim=0).numpy(), abs=1e-5)


def test_every_control_is_measured_on_the_same_items_as_the_own_vectors(mini, table):
    settings = {"source_layer": SOURCE, "start_layer": START, "n_sources": 6, "n_controls": 0}
    own = content_independence.content_independence(mini, "uppercase", **settings, n_items=60)
    items = own[own["condition"] == CONTROL]["argument"].tolist()
    for _, rows in table.groupby(["condition", "number"]):
        assert rows["argument"].tolist() == items
    assert reciprocal(table, CONTROL) == pytest.approx(reciprocal(own, CONTROL))


def test_the_conditions_are_what_they_are_called(mini, used, table):
    counts = table.groupby("condition")["number"].nunique()
    assert counts[WRONG] == 2 and counts[ZERO] == 1
    norms = table.groupby("condition")["norm"].first()
    assert norms[ZERO] == 0
    own = source_vectors(mini, used.sources, SOURCE, condition=OWN)
    for count in (5, 6):  # six sources are fewer than the twenty that the last mean asks for
        mean = torch.stack([one.values for one in own[:count]]).mean(dim=0)
        assert norms[controls.mean_condition(count)] == pytest.approx(float(mean.norm()), rel=1e-5)


def test_zero_is_the_run_with_the_ffns_taken_out(mini, used, table):
    zero = table[table["condition"] == ZERO].head(4)
    hidden = [block.mlp for block in mini.model.transformer.h[START:]]
    handles = [one.register_forward_hook(lambda _m, _a, out: 0 * out) for one in hidden]
    for row, ids in zip(zero.itertuples(), used.report.token_ids, strict=False):
        with torch.no_grad():
            logits = mini.model(torch.tensor([ids])).logits[0, -1]
        assert row.top_token == mini.tokenizer.decode([int(logits.argmax())])
    for handle in handles:
        handle.remove()


def test_a_scale_multiplies_the_vector(mini, used):
    settings = {"source_layer": SOURCE, "start_layer": START, "n_sources": 2}
    found = controls.scales(mini, "uppercase", **settings, factors=(0.5, 2.0), n_items=60)
    assert sorted(found["scale"].unique()) == [0.0, 0.5, 2.0]
    sources = find_sources(mini, Task(relation="uppercase"), n_sources=2, n_items=60)
    vector = source_vectors(mini, sources, SOURCE, condition=OWN)[0].values
    doubled = Replace(layers=range(START, mini.n_layers), positions="all", vector=2 * vector)
    encoded = material(mini, Task(relation="uppercase"), n_sources=2, n_items=60, max_items=150)
    logits = next_token_logits(mini, encoded.report, interventions=[doubled]).numpy()
    own = logits[np.arange(len(logits)), encoded.report.answer_ids.numpy()][:, None]
    rows = found[(found["scale"] == 2.0) & (found["number"] == 0)]
    assert rows["rank_answer"].tolist() == (1 + (logits > own).sum(axis=1)).tolist()


@pytest.mark.parametrize("name", [*RELATIONS, "verb_gerund"])
def test_a_wrong_demonstration_differs_in_its_answer_alone(name):
    relation = load_relation(name)
    answers = {item.answer for item in relation.items}
    for item in relation.items[3:30]:
        right, wrong = one_shot(relation, item), demonstrations.wrong_demonstration(relation, item)
        same = [one == other for one, other in zip(right.text, wrong.text, strict=False)]
        before = same.index(False)
        tail = 0
        while right.text[-1 - tail] == wrong.text[-1 - tail]:
            tail += 1
        assert item.argument in right.text[-tail:]  # the question is left alone
        changed = wrong.text[: len(wrong.text) - tail]
        assert any(f" {answer}" in wrong.text for answer in answers - {item.answer})
        assert f" {item.answer}" not in changed[before:]
        assert (wrong.argument, wrong.answer) == (right.argument, right.answer)


def test_a_relation_with_one_answer_has_no_wrong_demonstration():
    items = tuple(Item(argument=word, answer="yes") for word in ("a", "b"))
    items += (Item(argument="c", answer="no"),)
    relation = Relation(name="mine", title="mine", items=items)
    assert demonstrations.wrong_demonstration(relation, items[0]) is None
