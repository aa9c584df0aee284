"""The argument's stage on extractive prompts, and memory against context."""

import pandas as pd
import pytest

from made_up_ablations import DIRECT, STAGED, decoded, outcomes
from ovectors.experiments.retrieval import judge
from ovectors.experiments.retrieval.judge.contest import WINS
from ovectors.experiments.retrieval.judge.costs import DIFFERENCE
from ovectors.experiments.retrieval.measure import ABSTRACTIVE, COUNTERFACTUAL, EXTRACTIVE
from ovectors.experiments.stages.judge import reciprocal_rank_curves
from ovectors.figures import retrieval as figures
from ovectors.prose import retrieval as prose

COPIED = ([4, 1, 1], [4, 1, 1])


def test_the_argument_stage_is_compared_where_it_could_be():
    table = pd.concat(
        [
            decoded("world_capitals", ABSTRACTIVE, [STAGED, STAGED, DIRECT]),
            decoded("world_capitals", EXTRACTIVE, [DIRECT, STAGED, ([1, 1, 1], [9, 9, 9])]),
            decoded("colored_objects", ABSTRACTIVE, [STAGED, DIRECT]).assign(argument=" red"),
            decoded("colored_objects", EXTRACTIVE, [COPIED]),
        ]
    )
    found = judge.argument_stage(table).set_index(["relation", "prompts"])
    capitals = found.loc["world_capitals"]
    assert capitals.loc[ABSTRACTIVE, "mean"] == pytest.approx(2 / 3)
    assert capitals.loc[EXTRACTIVE, "mean"] == pytest.approx(1 / 2)
    assert capitals.loc[DIFFERENCE, ["mean", "n"]].tolist() == [0.5, 2]
    colours = found.loc["colored_objects"]  # two items about one colour are one argument
    assert list(colours.index) == [ABSTRACTIVE]
    assert colours.loc[ABSTRACTIVE, ["mean", "n"]].tolist() == [0.5, 1]
    curves = reciprocal_rank_curves(table)
    said = prose.stage_sentences(found.reset_index(), curves).split("\n\n")
    assert "on 0.67" in said[0] and "n = 3" in said[0] and "no difference is shown" in said[0]
    assert "ask for the argument itself" in said[1] and "ask for" not in said[0]
    assert len(figures.stage_panels(curves).axes) == 4


def contested(context, memory, *, layers=3):
    ranks = zip(context, memory, strict=True)
    made = [
        {"item": item, "layer": layer, "rank_answer": x[layer], "rank_true": y[layer]}
        for item, (x, y) in enumerate(ranks)
        for layer in range(layers)
    ]
    return pd.DataFrame(made).assign(rank_argument=8.0)


def test_the_contest_is_over_known_items():
    table = contested([[9, 4, 1], [9, 1, 1], [1, 1, 1]], [[1, 1, 2], [2, 2, 2], [9, 9, 9]])
    curves = judge.contest_curves(table, {0, 1}).set_index(["shown", "layer"])
    assert curves.loc[("context", 1), "mean"] == pytest.approx((1 / 4 + 1) / 2)
    assert curves.loc[("memory", 0), "mean"] == pytest.approx((1 + 1 / 2) / 2)
    ahead = [curves.loc[("context ahead", layer), "mean"] for layer in range(3)]
    assert ahead == [0, 0.5, 1]
    runs = outcomes("world_capitals", COUNTERFACTUAL, [1, 1, 0, 0], [1, 0, 0, 0])
    runs["rank_true"] = [9.0, 9.0, 1.0, 1.0] * 2
    shares = judge.contest_outcomes(runs, {0, 1, 2}).set_index(["removed", "winner"])["mean"]
    assert [shares[0, name] for name in WINS] == pytest.approx([2 / 3, 1 / 3, 0])
    assert [shares[4, name] for name in WINS] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    said = prose.contest_sentences(
        curves.reset_index(), judge.contest_outcomes(runs, {0, 1, 2}), removed=4
    )
    assert "from layer 2 on" in said and "the context's answer 0.67" in said


def test_without_a_known_item_the_page_says_so():
    empty = judge.contest_curves(contested([[1, 1, 1]], [[2, 2, 2]]), set())
    runs = outcomes("world_capitals", COUNTERFACTUAL, [1], [1])
    nobody = judge.contest_outcomes(runs, set())
    assert empty.empty and nobody.empty and list(nobody.columns)
    assert prose.contest_sentences(empty, nobody, removed=4) == prose.NONE_KNOWN
    assert "no item" in figures.contest_panels(empty, nobody).texts[0].get_text()


def test_only_what_the_whole_model_recalls_is_known():
    table = pd.concat(
        [
            outcomes("world_capitals", ABSTRACTIVE, [1, 0, 1], [0, 1, 0]),
            outcomes("world_capitals", EXTRACTIVE, [1, 1, 1], [1, 1, 1]),
        ]
    )
    assert judge.known_items(table, "world_capitals") == {0, 2}
