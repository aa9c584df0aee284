"""Removing FFNs: ranks against a forward pass written by hand, costs by arithmetic, verdicts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPTJConfig, GPTJForCausalLM

from hand_written import hand_written
from made_up_ablations import DIRECT, decoded, outcomes
from ovectors.encoding import encode_relation
from ovectors.experiments.retrieval import judge, measure, removal
from ovectors.experiments.retrieval.judge.contest import REMOVALS
from ovectors.experiments.retrieval.judge.costs import DIFFERENCE, TASKS
from ovectors.experiments.retrieval.measure import ABSTRACTIVE, COUNTERFACTUAL, EXTRACTIVE
from ovectors.experiments.shared.rows import interval_of, records
from ovectors.figures import retrieval as figures
from ovectors.models import LanguageModel
from ovectors.prose import retrieval as prose

ABSTRACTIVE, EXTRACTIVE = ABSTRACTIVE, EXTRACTIVE


def reciprocal_ranks(model, ids, tokens, edit):
    """1 / rank of some tokens at the end of one prompt, by the hand-written forward pass."""
    logits = hand_written(model.model, ids, edit=edit)["logits"][-1]
    return [1 / (1 + int((logits > logits[token]).sum())) for token in tokens]


@pytest.mark.parametrize(
    ("relation", "form"),
    [("world_capitals", ABSTRACTIVE), ("colored_objects", EXTRACTIVE)],
)
def test_ablation_from_the_top_down_equals_a_pass_by_hand(mini, relation, form):
    n_items = 3
    encoded = encode_relation(mini, relation, form, n_items=n_items, seed=2)
    table = measure.ablation(mini, relation, form=form, draws=1, n_items=n_items, seed=2)
    means = removal.mean_outputs(mini, encoded, seed=2).double()
    compared = 0
    for row in table[table["removed"].isin([0, 1, 4])].itertuples():
        gone = {int(layer) for layer in row.layers.split()}
        kind = "attention" if row.condition == "attention" else "ffn"
        instead = means if row.condition == "mean" else torch.zeros_like(means)

        def edit(part, layer, vectors, gone=gone, kind=kind, instead=instead):
            return instead[layer].expand_as(vectors) if part == kind and layer in gone else vectors

        at = [prompt.argument + prompt.answer for prompt in encoded.prompts].index(
            row.argument + row.answer
        )
        true = encode_relation(mini, relation, ABSTRACTIVE, n_items=n_items, seed=2).answer_ids[at]
        tokens = [encoded.answer_ids[at], encoded.argument_ids[at], true]
        expected = reciprocal_ranks(mini, encoded.token_ids[at], tokens, edit)
        found = [1 / row.rank_answer, 1 / row.rank_argument, 1 / row.rank_true]
        assert found == pytest.approx(expected, abs=1e-4)
        assert row.correct == (expected[0] == 1)
        compared += 1
    assert compared == 6 * len(encoded)  # nothing, and four conditions of which one also removes 1


def test_the_top_layers_go_first_and_random_ones_go_in_a_seeded_order():
    planned = removal.plan(12, draws=2, seed=0)
    by = {
        (one.condition, len(one.layers), one.draw): one.layers
        for one in planned
        if one.condition != "none"
    }
    assert [by["zero", k, 0] for k in (1, 3)] == [(11,), (9, 10, 11)]
    assert {k for name, k, _ in by if name == "zero"} == set(range(1, 13))
    for name in ("mean", "attention"):
        assert {k for one, k, _ in by if one == name} == {2, 4, 6}
    assert {k for one, k, _ in by if one == "random"} == {4}
    assert by["random", 4, 0] != by["random", 4, 1]
    assert removal.plan(12, draws=2, seed=0) == planned != removal.plan(12, draws=2, seed=1)


@pytest.mark.parametrize(("n_layers", "third"), [(70, 24), (12, 4), (24, 8), (3, 1), (2, 1)])
def test_a_third_is_two_sixths_rounded_up_as_in_the_paper(n_layers, third):
    assert removal.third(n_layers) == third
    assert third in removal.sixths(n_layers) and n_layers in removal.sixths(n_layers)
    assert {third} <= {len(one.layers) for one in removal.plan(n_layers, ("random",))}


def test_the_mean_output_is_over_tokens_after_the_first(mini):
    encoded = encode_relation(mini, "world_capitals", ABSTRACTIVE, n_items=5, seed=0)
    two = replace(
        encoded, token_ids=tuple(ids[at : at + 2] for at, ids in enumerate(encoded.token_ids))
    )
    added = [hand_written(mini.model, ids)["ffn"][:, 1] for ids in two.token_ids]
    expected = torch.stack(added).mean(dim=0)
    assert torch.allclose(removal.mean_outputs(mini, two).double(), expected, atol=1e-8)


def test_what_the_prompt_says_and_what_is_true_are_kept_apart(mini):
    encoded = encode_relation(mini, "world_capitals", COUNTERFACTUAL, n_items=12)
    ids = measure.wanted_ids(mini, encoded)
    for at, prompt in enumerate(encoded.prompts):
        for name, word in (("answer", prompt.answer), ("true", f" {prompt.item.answer}")):
            whole = mini.tokenizer.encode(prompt.text + word)
            assert ids[name][at] == whole[len(encoded.token_ids[at])]
    assert not (ids["answer"] == ids["true"]).any()


def test_layer_by_layer_ends_where_the_control_run_does(mini):
    contest = measure.contest(mini, n_items=8)
    runs = measure.ablation(mini, **REMOVALS, n_items=8)
    control = runs[runs["condition"] == "none"].set_index("item")
    last = contest[contest["layer"] == mini.n_layers - 1].set_index("item")
    for column in ("rank_answer", "rank_true", "rank_argument", "top_token", "answer"):
        assert (last[column] == control[column]).all()


def two_forms(relation="world_capitals", *, left=(0.0, 1.0), n=40):
    """Everything right before; after the removal a share of each form is left."""
    counts = [round(share * n) for share in left]
    frames = [
        outcomes(relation, form, [1] * n, [1] * count + [0] * (n - count))
        for form, count in zip((ABSTRACTIVE, EXTRACTIVE), counts, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def test_what_was_answered_is_lost_or_kept():
    table = pd.concat(
        [
            outcomes("world_capitals", ABSTRACTIVE, [1, 1, 1, 0], [0, 0, 1, 0], items=[3, 5, 7, 9]),
            outcomes("world_capitals", EXTRACTIVE, [1, 1, 0], [1, 0, 1], items=[9, 7, 5]),
        ]
    )
    found = judge.costs(table).set_index("prompts")
    assert found.loc["abstractive", ["mean", "n"]].tolist() == pytest.approx([2 / 3, 3])
    assert found.loc["extractive", ["mean", "n"]].tolist() == pytest.approx([1 / 2, 2])  # 5 is won
    assert found.loc[DIFFERENCE, ["mean", "n"]].tolist() == pytest.approx([1 / 6, 4])
    alike = table.replace({"argument": {" a5": " a3"}})  # 3 and 5, both lost, are one argument
    found = judge.costs(alike).set_index("prompts")
    assert found.loc["abstractive", ["mean", "n"]].tolist() == pytest.approx([1 / 2, 2])
    assert found.loc[DIFFERENCE, ["mean", "n"]].tolist() == pytest.approx([0, 3])
    assert judge.costs(table[table["form"] == ABSTRACTIVE]).empty
    assert judge.costs(table.assign(correct=False)).empty


def test_the_extra_loss_is_over_the_inner_sixths_and_both_forms_own_items():
    """By hand: of three answered one is lost from 4 on, one from 8 on; of two one from 10 on."""
    gone = {2: [1, 1, 1], 4: [0, 1, 1], 6: [0, 1, 1], 8: [0, 0, 1], 10: [0, 0, 1], 12: [0] * 3}
    kept = {2: [1, 1], 4: [1, 1], 6: [1, 1], 8: [1, 1], 10: [0, 1], 11: [0, 0], 12: [0, 0]}
    table = pd.concat(
        [
            outcomes("world_capitals", ABSTRACTIVE, [1] * 3, gone),
            outcomes("world_capitals", EXTRACTIVE, [1] * 2, kept, items=[2, 3]),
        ]
    )
    found = judge.extra_loss(table, "world_capitals")
    assert found.value == pytest.approx((0 + 1 + 1 + 2 + 2) / 3 / 5 - 1 / 2 / 5)
    assert found.n == 4
    assert removal.inner_sixths(12) == [2, 4, 6, 8, 10] and removal.inner_sixths(1) == []


def test_the_interval_of_the_extra_loss_is_that_of_resampled_arguments():
    """The oracle draws arguments and takes both ratios anew; half of the items are in both."""
    rng = np.random.default_rng(0)
    items = {ABSTRACTIVE: range(90), EXTRACTIVE: range(45, 120)}
    chances = {ABSTRACTIVE: 0.4, EXTRACTIVE: 0.7}
    frames = []
    for form, own in items.items():
        after = {k: rng.random(len(own)) < chances[form] for k in removal.inner_sixths(12)}
        frames.append(outcomes("world_capitals", form, [1] * len(own), after, items=list(own)))
    table = pd.concat(frames).assign(argument=lambda rows: (rows["item"] // 3).astype(str))
    lost = 1 - table[table["removed"] > 0].groupby(["form", "argument"])["correct"].mean()
    wide = lost.unstack("form")[[ABSTRACTIVE, EXTRACTIVE]].to_numpy()
    draws = wide[rng.integers(0, len(wide), size=(20_000, len(wide)))]
    drawn = np.nanmean(draws, axis=1) @ [1, -1]
    found = judge.extra_loss(table, "world_capitals", confidence=0.9)
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [5, 95]), abs=0.01)
    assert found.n == 40


def test_random_layers_count_every_draw():
    right, wrong = [1] * 4, [0] * 4
    table = pd.concat(
        [
            outcomes("world_capitals", form, right, after, condition="random", draw=draw)
            for form, both in ((ABSTRACTIVE, (right, wrong)), (EXTRACTIVE, (right, right)))
            for draw, after in enumerate(both)
        ]
    ).drop_duplicates()
    found = judge.costs(table).set_index("prompts").loc[DIFFERENCE]
    assert (found["mean"], found["n"]) == (0.5, 4)
    assert found["low"] < 0.1 and found["high"] > 0.9  # two draws, which disagree
    curve = judge.accuracy_curves(table)
    changed = curve[(curve["form"] == ABSTRACTIVE) & (curve["removed"] == 4)]
    assert changed["mean"].tolist() == [0.5]


REMOVED = (2, 4, 6, 8, 10, 11)
STURDY, FRAIL = (1, 1, 0.9, 0.75, 0.4, 0.2), (0.9, 0.5, 0.2, 0.1, 0, 0)
LATE_STURDY, LATE_FRAIL = (1, 1, 1, 1, 1, 0.985), (1, 1, 1, 1, 0.865, 0.065)


def curves(left, relation="world_capitals", *, n=40, answered=1.0):
    """Of `n` items in both forms a share is answered, and of these a share is left."""
    frames = []
    for form, shares in zip((ABSTRACTIVE, EXTRACTIVE), left, strict=True):
        first = round(answered * n)
        after = {k: np.arange(n) < round(x * first) for k, x in zip(REMOVED, shares, strict=True)}
        frames.append(outcomes(relation, form, np.arange(n) < first, after))
    return pd.concat(frames, ignore_index=True)


def both_tasks(left, **settings):
    return pd.concat([curves(left, task, **settings) for task in TASKS], ignore_index=True)


@pytest.mark.parametrize(
    ("table", "verdict", "said"),
    [
        (both_tasks((FRAIL, STURDY)), "supported", "world capitals and colored objects"),
        (both_tasks((STURDY, FRAIL)), "not supported", "own comparison fails on world capitals"),
        (both_tasks((FRAIL, FRAIL)), "not supported", "own comparison fails on world capitals"),
        (
            pd.concat([curves((FRAIL, STURDY)), curves((FRAIL, FRAIL), TASKS[1])]),
            "partly",
            "every criterion holds on world capitals only",
        ),
        (both_tasks((LATE_FRAIL, LATE_STURDY), n=200), "supported", "every criterion"),
        (both_tasks((FRAIL, STURDY), n=200, answered=0.3), "supported", "every criterion"),
        (
            both_tasks((FRAIL, STURDY), n=15),
            "not testable here",
            "colored objects (abstractive prompts answered: 15 items, 20 are needed)",
        ),
        (
            both_tasks((FRAIL, STURDY), n=200, answered=0.05),
            "not testable here",
            "(abstractive prompts answered: 10 items, 20 are needed)",
        ),
        (
            both_tasks((FRAIL, STURDY)).assign(argument=lambda rows: rows["item"] % 11),
            "not testable here",
            "(abstractive prompts answered: 11 items, 12 are needed)",
        ),
        (
            both_tasks((FRAIL, STURDY)).assign(argument=lambda rows: rows["item"] % 12),
            "supported",
            "every criterion",
        ),
        (
            both_tasks((FRAIL, STURDY)).assign(correct=False),
            "not testable here",
            "(abstractive prompts answered: 0 items, 20 are needed)",
        ),
    ],
    ids=[
        "memory goes first",
        "reading goes first",
        "equal curves",
        "one task",
        "only with nearly all removed",
        "answers less than half",
        "15 items",
        "answers 10 of 200",
        "11 arguments",
        "12 arguments of several items",
        "answers nothing",
    ],
)
def test_the_verdict_follows_the_rule(table, verdict, said):
    found = judge.claim(table, model="made-up")
    assert found.verdict == verdict and said in found.why, found.why
    ruled = [one for one in found.measured if one.bound is not None]
    assert [one.kind for one in ruled] == ["precondition", "precondition", "paper"] * 2
    assert {one.bound for one in ruled} == {0}


def test_the_top_third_and_plain_accuracy_stand_beside_the_rule():
    found = judge.claim(both_tasks((FRAIL, STURDY), n=200, answered=0.5), model="made-up")
    beside = {one.name: one.value for one in found.measured if one.relation == TASKS[0]}
    assert beside["accuracy on abstractive prompts"] == pytest.approx(0.5)
    assert beside["accuracy on abstractive prompts without the top third"] == pytest.approx(0.25)
    assert beside["cost of the top third, abstractive"] == pytest.approx(0.5)
    assert beside[f"cost of the top third, {DIFFERENCE}"] == pytest.approx(0.5)


def test_random_weights_are_no_test(untrained):
    frames = [
        measure.ablation(untrained, task, form=form, conditions=("zero",), n_items=30)
        for task in TASKS
        for form in (ABSTRACTIVE, EXTRACTIVE)
    ]
    found = judge.claim(pd.concat(frames), model="untrained")
    assert found.verdict == "not testable here"
    assert "0 of 2 relations can be tested" in found.why
    assert max(one.n for one in found.measured) >= 20


def test_two_parallel_layers_are_enough(mini):
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
    network = GPTJForCausalLM(config).eval()
    model = LanguageModel.of(network, tokenizer, name="parallel")
    table = pd.concat(
        [
            measure.ablation(model, "colored_objects", form=form, draws=2, n_items=4)
            for form in (ABSTRACTIVE, EXTRACTIVE)
        ],
        ignore_index=True,
    )
    assert judge.claim(table, model="parallel").verdict == "not testable here"
    table.loc[table["condition"] == "none", "correct"] = True
    curves, costs = judge.accuracy_curves(table), judge.costs(table)
    assert set(curves["removed"]) == {0, 1, 2}
    assert len(figures.kept_panels(costs, sixths=[1, 2]).axes) == 1
    assert len(figures.ablation_panels(curves, third=1).axes) == 1
    assert len(figures.cost_panels(costs, third=1).axes) == 1
    assert "top 1 of 2 layers" in prose.cost_sentences(costs, removed=1, n_layers=2)


def test_sentences_follow_the_numbers():
    for left, said in (
        ((0.2, 0.9), "abstractive prompts lose more"),
        ((0.9, 0.2), "extractive prompts lose more"),
        ((0.5, 0.5), "no difference is shown"),
    ):
        costs = judge.costs(two_forms(left=left))
        sentence = prose.cost_sentences(costs, removed=4, n_layers=12)
        assert said in sentence and f"{1 - left[0]:.2f} [" in sentence
        losses = {"world_capitals": interval_of(costs[costs["prompts"] == DIFFERENCE])}
        assert said in prose.loss_sentences(losses)
        assert said in prose.summary(
            "a-model",
            costs,
            losses,
            judge.argument_stage(decoded("x", ABSTRACTIVE, [DIRECT])),
            (pd.DataFrame(), pd.DataFrame()),
            removed=4,
        )


def test_where_the_curves_part_is_said_beside_the_rule():
    curves = {"world_capitals": (0.0, 0.05, 0.2, 0.6, 0.3), "past_tense": (0,) * 5}
    rows = [
        {"relation": relation, "condition": condition, "prompts": judge.DIFFERENCE, "removed": k}
        | {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 50}
        for relation, means in curves.items()
        for condition in ("zero", "mean")
        for k, mean in enumerate(means, start=1)
        if condition == "zero" or k < 3
    ]
    costs = pd.DataFrame(rows)
    said = prose.parting_sentences(costs)
    assert "lose more first with 3 removed (difference of the costs 0.20 [0.10, 0.30])" in said
    assert "most with 4 removed (difference of the costs 0.60 [0.50, 0.70])" in said
    assert "**Past tense:** at no number of removed FFNs" in said
    assert prose.parting_sentences(costs.head(0)) == ""


def test_the_tables_show_every_condition():
    table = pd.concat(
        [two_forms(left=(0.25, 0.75))]
        + [
            outcomes("world_capitals", form, [1], [1] * 40, condition=name).query("removed > 0")
            for form in (ABSTRACTIVE, EXTRACTIVE)
            for name in ("mean", "attention", "random")
        ]
    )
    curves, costs = judge.accuracy_curves(table), judge.costs(table)
    shown = prose.removal_table(curves, costs, removed=4).splitlines()
    assert len(shown) == 2 + 5
    assert "0.25 [" in shown[3] and "0.75 [" in shown[3] and "0.50 [" in shown[3]
    assert all(label in "\n".join(shown) for label in prose.CONDITIONS.values())
    assert "attention from the top" in prose.control_sentences(costs, removed=4)
    axis = figures.cost_panels(costs, third=4).axes[0]
    assert len(axis.get_legend_handles_labels()[1]) == 5  # four conditions and the third


def test_the_figure_draws_both_forms():
    curves = judge.accuracy_curves(two_forms(left=(0.25, 0.75)))
    axis = figures.ablation_panels(curves, third=4).axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert list(lines["abstractive"].get_ydata()) == [1, 0.25]
    assert list(lines["extractive"].get_ydata()) == [1, 0.75]
    assert lines["abstractive"].get_linestyle() != lines["extractive"].get_linestyle()
    assert axis.get_title() == "World capitals (n = 40)"


def test_what_is_kept_starts_whole_and_goes_by_sixths():
    costs = judge.costs(curves((FRAIL, STURDY)))
    axis = figures.kept_panels(costs, sixths=removal.sixths(12)).axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert list(lines["abstractive (n = 40)"].get_xdata()) == [0, 2, 4, 6, 8, 10]
    assert list(lines["abstractive (n = 40)"].get_ydata()) == pytest.approx([1, *FRAIL[:5]])
    assert list(lines["extractive (n = 40)"].get_ydata()) == pytest.approx([1, *STURDY[:5]])
    nothing = figures.kept_panels(costs.head(0), sixths=[2])
    assert "no task" in nothing.texts[0].get_text()


def test_rows_without_numbers_become_json():
    table = pd.DataFrame({"mean": [0.5, np.nan], "n": [3, 0]})
    assert records(table) == [{"mean": 0.5, "n": 3}, {"mean": None, "n": 0}]
    assert interval_of(table.iloc[:0]).n == 0
