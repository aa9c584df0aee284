"""Neurons: activations, rows and sums against weights read by hand, on every family."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from hand_written import NETS
from made_answers import made, use
from ovectors.experiments.linear_update import judge
from ovectors.experiments.linear_update.judge.switches import FFN
from ovectors.experiments.linear_update.measure import activations, neurons, switches
from ovectors.experiments.linear_update.measure.neurons import KEPT, LARGEST, RANDOM, REST
from ovectors.figures import linear_update as draw
from ovectors.prose import linear_update as say
from tiny_models import CASES, tiny

FAMILIES = ("gpt2", "gptj", "bloom", "gpt_neox-sequential", "llama")
CAPITALS = "world_capitals"
MATRIX = {
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "gptj": "transformer.h.{}.mlp.fc_out",
    "bloom": "transformer.h.{}.mlp.dense_4h_to_h",
    "falcon": "transformer.h.{}.mlp.dense_4h_to_h",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "opt": "model.decoder.layers.{}.fc2",
}
LIKE_LLAMA = "model.layers.{}.mlp.down_proj"


def rows_and_bias(model, layer):
    """What each neuron adds at activation 1, and what is added anyway, from the weights."""
    family = model.architecture.family
    weights = model.model.state_dict()
    name = MATRIX.get(family, LIKE_LLAMA).format(layer)
    matrix = weights[f"{name}.weight"].double()
    rows = matrix if family == "gpt2" else matrix.T  # Conv1D stores [neuron, d_model]
    bias = weights.get(f"{name}.bias")
    return rows, torch.zeros(rows.shape[1]).double() if bias is None else bias.double()


@pytest.mark.parametrize("case", CASES)
def test_activations_times_rows_plus_bias_is_what_the_ffn_adds(case) -> None:
    one = made(case)
    layers = torch.arange(len(one.encoded)) % one.model.n_layers
    inner = activations.activations(one.model, one.encoded, layers)
    for prompt, layer in enumerate(layers.tolist()):
        by_hand = one.states["neurons"][layer, prompt]
        near = {"rtol": 1e-4, "atol": 1e-4 * max(1, float(by_hand.abs().max()))}
        torch.testing.assert_close(inner[prompt].double(), by_hand, **near)
        rows, bias = rows_and_bias(one.model, layer)
        added = one.states["ffn"][layer, prompt]
        summed = inner[prompt].double() @ rows + bias
        if case in ("gemma2", "gemma3_text", "olmo2"):  # a norm stands behind the matrix
            net = NETS[case](one.model.model, torch.float64)
            summed = net.norm(summed, net.at(layer, "post_feedforward_layernorm"))
        elif case == "granite":
            summed = summed * one.model.config.residual_multiplier
        torch.testing.assert_close(summed, added, **near)
        again = activations.projected(one.model, layer, inner[prompt][None])[0]
        torch.testing.assert_close(again.double(), added, **near)


@pytest.mark.parametrize("case", CASES)
def test_row_norms_are_those_of_the_weights(case) -> None:
    model = tiny(case)
    rows, _ = rows_and_bias(model, 1)
    found = activations.row_norms(model, 1, len(rows))
    torch.testing.assert_close(found.double(), rows.norm(dim=1), rtol=1e-4, atol=1e-4)


def test_a_small_budget_gives_the_same_norms(monkeypatch) -> None:
    model = tiny("gpt2")
    whole = activations.row_norms(model, 0, 40)
    monkeypatch.setattr(activations, "UNIT_BYTES", 1)
    torch.testing.assert_close(activations.row_norms(model, 0, 40), whole)


@pytest.mark.parametrize("case", FAMILIES)
def test_kept_neurons_are_summed_and_decoded_as_by_hand(case, monkeypatch) -> None:
    one = made(case)
    table = neurons.neurons(use(one, monkeypatch), CAPITALS)
    assert len(table) and set(table["kept"]) == set(KEPT)
    for row in table[table["kept"] != RANDOM].itertuples():
        rows, bias = rows_and_bias(one.model, row.layer)
        contributions = one.states["neurons"][row.layer, row.item][:, None] * rows
        order = contributions.norm(dim=1).argsort(descending=True)
        chosen = order[: row.k] if row.kept == LARGEST else order[row.k :]
        state = one.without_ffn(row.layer, row.item) + bias + contributions[chosen].sum(dim=0)
        assert row.lead == pytest.approx(one.lead(state, row.item), abs=1e-4)
        assert row.layer == row.switch


def test_only_items_that_need_the_ffn_are_looked_at(monkeypatch) -> None:
    one = made("gpt2")
    model = use(one, monkeypatch)
    items = judge.per_item(switches.switches(model, CAPITALS))
    table = neurons.neurons(model, CAPITALS)
    assert set(table["item"]) == set(items.loc[items["made_by"] == FFN, "item"])
    assert neurons.neurons(model, CAPITALS, most=3)["item"].nunique() == 3


def test_all_neurons_give_the_answer_and_random_ones_are_k(monkeypatch) -> None:
    one = made("llama")
    table = neurons.neurons(use(one, monkeypatch), CAPITALS)
    n = table["neurons"].iloc[0]
    whole = table[(table["k"] == n) & (table["kept"] != REST)]
    assert (whole["rank_answer"] == 1).all()
    assert (table[(table["k"] == 0) & (table["kept"] == REST)]["rank_answer"] == 1).all()
    none = table[(table["k"] == 0) & (table["kept"] != REST)].groupby("item")["lead"]
    assert (none.max() - none.min()).max() == 0  # the bias alone, in both
    chance = table[table["kept"] == RANDOM].set_index(["item", "k"])["lead"]
    largest = table[table["kept"] == LARGEST].set_index(["item", "k"])["lead"]
    assert (chance - largest).abs().max() > 0.01


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0, 1]), (6, [0, 1, 2, 4, 6]), (8, [0, 1, 2, 4, 8])]
)
def test_counts_are_powers_of_two_and_all(count, expected) -> None:
    assert neurons.counts_of(count) == expected


def test_hooks_are_removed_and_nothing_is_changed() -> None:
    one = made("gpt2")
    ids = torch.tensor([one.encoded.token_ids[0]])
    before = one.model.model(ids).logits
    activations.activations(
        one.model, one.encoded, torch.zeros(len(one.encoded), dtype=torch.int64)
    )
    assert all(not module._forward_hooks for module in one.model.model.modules())
    assert torch.equal(one.model.model(ids).logits, before)


def made_up():
    rows = []
    for item in range(10):
        for k in (0, 1, 2, 4):
            for kept, there in (
                (LARGEST, k == 4 or (k == 2 and item < 6)),
                (REST, k == 0 or (k == 1 and item < 4)),
                (RANDOM, k == 4),
            ):
                row = {"relation": CAPITALS, "item": item, "kept": kept, "k": k, "neurons": 4}
                rows.append(row | {"argument": str(item), "rank_answer": 1.0 if there else 3.0})
    return pd.DataFrame(rows)


def test_shares_and_needs_are_counted_over_items() -> None:
    shares = judge.neuron_shares(made_up())
    found = shares.set_index(["kept", "k"])["share"]
    assert found[LARGEST, 2] == 0.6 and found[REST, 1] == 0.4 and found[RANDOM, 2] == 0
    (need,) = judge.neurons_needed(shares).to_dict("records")
    assert (need["half"], need["nine_tenths"], need["rest_fails"]) == (2, 4, 1)
    never = shares.assign(share=0.0)
    assert judge.neurons_needed(never)["half"].tolist() == [-1]


def test_sentences_follow_the_counts() -> None:
    said = say.neuron_sentences(judge.neurons_needed(judge.neuron_shares(made_up())))
    assert "half of the items with the largest 2 of 4 neurons" in said
    assert "of nine tenths with all 4;" in said and "without the largest one." in said
    never = judge.neurons_needed(judge.neuron_shares(made_up()).assign(share=0.0))
    assert "of half of the items with none of the numbers tried" in say.neuron_sentences(never)
    kept = judge.neurons_needed(judge.neuron_shares(made_up()).assign(share=1.0))
    assert "half of the items keep it however many are left out" in say.neuron_sentences(kept)


def test_the_figure_has_a_log_axis_and_draws_the_shares() -> None:
    axis = draw.neuron_panels(judge.neuron_shares(made_up())).axes[0]
    assert axis.get_xscale() == "log"
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert list(lines[LARGEST].get_xdata()) == [1, 2, 4]
    assert list(lines[LARGEST].get_ydata()) == [0, 0.6, 1]
    assert list(lines[REST].get_ydata()) == [0.4, 0, 0]


def test_without_an_item_tables_are_empty_and_the_page_says_so() -> None:
    table = neurons.neurons(tiny("gptj"), CAPITALS, n_items=6)
    shares = judge.neuron_shares(table)
    assert table.empty and judge.neurons_needed(shares).empty
    assert "no switch" in draw.neuron_panels(shares).texts[0].get_text()
    assert say.neuron_sentences(judge.neurons_needed(shares)) == say.NO_NEURONS
