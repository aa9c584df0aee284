"""Figures show the numbers they are given, and nothing that a token could smuggle into the page."""

import numpy as np
import pandas as pd
import pytest

from ovectors.figures import stages as figures
from ovectors.figures.training import loss_curve


def curves(relations=("world_capitals", "past_tense")):
    rows = []
    for shift, relation in enumerate(relations):
        for token, means in (("argument", [0.1, 0.8, 0.2]), ("answer", [0.0, 0.3, 0.9])):
            for layer, mean in enumerate(means):
                mean += shift / 100
                row = {"relation": relation, "form": "one_shot", "token": token, "layer": layer}
                rows.append(row | {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n": 7})
    return pd.DataFrame(rows)


def test_every_panel_draws_its_own_means():
    axes = figures.reciprocal_rank_panels(curves()).axes
    assert [axis.get_title() for axis in axes] == [
        "World capitals (n = 7)",
        "Past tense (n = 7)",
    ]
    lines = {line.get_label(): line for line in axes[1].get_lines()}
    assert list(lines["argument"].get_ydata()) == pytest.approx([0.11, 0.81, 0.21])
    assert list(lines["answer"].get_ydata()) == pytest.approx([0.01, 0.31, 0.91])
    assert lines["argument"].get_linestyle() != lines["answer"].get_linestyle()


def test_a_single_relation_is_drawn_too():
    assert len(figures.reciprocal_rank_panels(curves(("uppercase",))).axes) == 1


def test_without_a_correct_item_the_figure_says_so():
    figure = figures.reciprocal_rank_panels(curves().iloc[:0])
    assert "no item" in figure.texts[0].get_text()


def example(**changes):
    row = {
        "relation": "world_capitals",
        "argument": " Poland",
        "answer": " Warsaw",
        "layer": 0,
        "top_tokens": [" the", " Poland", "\n"],
        "rank_argument": 2.0,
        "rank_answer": 9.0,
    }
    return row | changes


def test_the_table_marks_argument_and_answer():
    rows = [
        example(),
        example(layer=1, top_tokens=[" Poland", " a", " b"], rank_argument=1.0),
        example(layer=2, top_tokens=[" Warsaw", " a", " b"], rank_answer=1.0),
    ]
    shown = figures.top_token_table(pd.DataFrame(rows))
    assert shown.count("<tr>") == 4  # the head and three layers
    assert shown.count('class="is-argument"') == shown.count('class="is-answer"') == 1
    assert shown.index("is-argument") < shown.index("is-answer")
    assert "<b>the</b> <small>Poland ↵</small>" in shown


def test_without_an_item_the_table_says_so():
    assert "no such item" in figures.top_token_table(pd.DataFrame([example()]).iloc[:0])


def test_tokens_are_escaped():
    row = example(top_tokens=["<script>", " &", " b"])
    shown = figures.top_token_table(pd.DataFrame([row]))
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_the_loss_curve_shows_every_step():
    log = pd.DataFrame({"tokens": np.arange(1, 201) * 4096, "loss": np.linspace(8, 2, 200)})
    axis = loss_curve(log).axes[0]
    assert [len(line.get_xdata()) for line in axis.get_lines()] == [200, 200]
    assert axis.get_lines()[0].get_xdata()[-1] == pytest.approx(0.8192)
