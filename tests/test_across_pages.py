"""Chapter 6's sentences, tables and figures follow the claims of whatever was run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import trivial
from made_up_models import BEYOND, STAGES, write_stages, write_three
from made_up_runs import claim, make_project, shares, write_run
from ovectors import catalogue, claims
from ovectors.experiments.across import gather, judge
from ovectors.figures import across as draw
from ovectors.prose import across as say
from ovectors.prose import common, front

DEPTH = claims.published("stages")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(catalogue, "machine_memory", lambda: 16 * 10**9)
    return trivial.enter(make_project(tmp_path / "project"), monkeypatch)


@pytest.fixture
def three(project) -> list:
    write_three()
    return gather.collect()


def test_tables_say_what_the_cells_are(three):
    verdicts = judge.verdicts(three)
    rows = [line.split(" | ") for line in say.verdict_table(verdicts).splitlines()]
    assert rows[0][1] == "Stages" and len(rows) == 5
    assert rows[2][0] == "| `mini-2m`" and rows[2][1] == "partly"
    assert rows[4][1] == "supported" and "refused" in rows[4]
    assert say.MARK not in say.verdict_table(verdicts)
    changed = verdicts.assign(changed="library")
    assert f"supported {say.MARK}" in say.verdict_table(changed)
    assert say.MARKED in say.verdict_table(changed)


def test_the_table_of_models_marks_quantised_ones(three, monkeypatch):
    plain = say.model_table(judge.models(three))
    for module in (say, common):
        monkeypatch.setattr(module, "quantisation", {"gpt2": "Q4_K_M"}.get)
    marked = say.model_table(judge.models(three))
    (row,) = (line for line in marked.splitlines() if "| language model, Q4_K_M |" in line)
    assert row.startswith("| `gpt2` |") and "quantised" not in plain
    assert marked.endswith(common.quantised_sentence("gpt2")) and "\n\nThe weights" in marked


def test_values_are_shown_with_interval_and_n_and_bold_where_they_hold(three):
    table = say.value_table(judge.headlines(judge.measured(three)))
    (row,) = (line for line in table.splitlines() if "Past tense" in line)
    cells = [cell.strip() for cell in row.strip("| ").split("|")]
    assert cells[0] == "Stages: main" and cells[2:] == [
        "**0.80 [0.70, 0.90]**, n = 100",
        "0.20 [0.10, 0.30], n = 100",
        "**0.90 [0.80, 1.00]**, n = 100",
    ]


def test_many_relations_are_counted(project):
    values = {f"relation_{number}": 0.9 if number < 6 else 0.1 for number in range(20)}
    for model, parameters in (("gpt2", 124_000_000), ("gpt2-medium", 355_000_000)):
        found = [claim("beyond", model, values)]
        write_run(BEYOND, model, found, parameters=parameters)
    findings = gather.collect()
    headlines = judge.headlines(judge.measured(findings))
    assert say.value_table(headlines).count("holds on 6 of 20") == 2
    said = say.trend_sentences(judge.trends(headlines), judge.models(findings))
    assert "shows no clear change on 20 relations" in said
    assert draw.value_over_size(headlines)


def test_the_summary_follows_the_cells(three):
    verdicts, models = judge.verdicts(three), judge.models(three)
    trends = judge.trends(judge.headlines(judge.measured(three)))
    said = say.summary(verdicts, trends, models, judge.depths(three), DEPTH)
    assert "**Stages:** supported on `gpt2-medium`; partly on `mini-2m` and `gpt2`." in said
    assert "failed on `gpt2`" in said and "refused on `gpt2-medium`" in said
    assert "not testable on `gpt2`" in said
    assert "Of 2 pairs of claim and relation" in said
    assert "rises on 1" in said and "shows no clear change on 1" in said
    assert "runs from 0.25 to 0.75, with the middle at 0.50, over 3 pairs" in said
    assert f"The paper's number is {DEPTH[0].value:.2f}" in said
    other = verdicts.assign(state="not supported")
    shown = say.summary(other, trends, models, judge.depths(three), DEPTH)
    assert "**Stages:** not supported on `mini-2m`, `gpt2` and `gpt2-medium`." in shown


def test_one_model_has_no_trend(project):
    write_stages("mini-2m", {"past_tense": 0.8}, 2_000_000)
    findings = gather.collect()
    trends = judge.trends(judge.headlines(judge.measured(findings)))
    said = say.trend_sentences(trends, judge.models(findings))
    assert "There are results of 1 miniature." in said and "Nothing can be said" in said
    depth = say.depth_sentence(judge.depths(findings), DEPTH)
    assert "function application is 0.50 on past tense, `mini-2m`" in depth


def test_depths_of_few_items_are_shown_and_not_quoted(project):
    write_run(STAGES, "gpt2", [], table=shares({"past_tense": 0.5}, n=10))
    depths = judge.depths(gather.collect())
    assert "no depth can be given" in say.depth_sentence(depths, DEPTH)
    assert "0.50 (9 items)" in say.depth_table(depths)


def test_nothing_run_is_said_and_not_hidden(project):
    findings = gather.collect()
    verdicts, models = judge.verdicts(findings), judge.models(findings)
    numbers, depths = judge.measured(findings), judge.depths(findings)
    headlines = judge.headlines(numbers)
    trends = judge.trends(headlines)
    said = say.summary(verdicts, trends, models, depths, DEPTH)
    assert say.NOTHING_RUN in said
    for text in (
        say.model_table(models),
        say.verdict_table(verdicts),
        say.reason_table(verdicts),
        say.trend_sentences(trends, models),
    ):
        assert text == say.NOTHING_RUN
    assert say.value_table(headlines) == say.NO_VALUE
    assert "no depth" in say.depth_sentence(depths, DEPTH) and say.depth_table(depths)
    assert "gpt2" in say.other_table(judge.others(findings))
    curves = judge.curves(findings)
    assert "No model" in say.peak_table(judge.peaks(curves))
    assert judge.trends(judge.peaks(curves)).empty
    for figure in (
        draw.curves_by_size(curves),
        draw.verdict_matrix(verdicts),
        draw.value_over_size(headlines),
        draw.depth_dots(depths, 0.667),
    ):
        assert figure.texts and not figure.axes  # it says why it is empty


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [(2_111_424, "2.11M"), (6_050_882_784, "6.05B"), (900, "900"), (math.nan, "?")],
)
def test_sizes(parameters, shown):
    assert say.size(parameters) == shown


def test_text_in_a_cell_ends_neither_row_nor_cell():
    assert front.cell("a|b\nc") == "a\\|b c"


def test_every_state_has_a_sign_of_its_own(three):
    verdicts = judge.verdicts(three)
    assert set(verdicts["state"]) <= set(draw.STATES)
    assert len({(marker, fill) for marker, fill, _ in draw.STATES.values()}) == len(draw.STATES)
    figure = draw.verdict_matrix(verdicts)
    (axis,) = figure.axes
    assert len(axis.lines) == len(verdicts)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(labels) == set(verdicts["state"])


def test_points_stand_at_their_values(three):
    headlines = judge.headlines(judge.measured(three))
    figure = draw.value_over_size(headlines)
    axis = figure.axes[0]
    drawn = {float(y) for container in axis.containers for y in container.lines[0].get_ydata()}
    stages = headlines[headlines["claim"] == "stages"]
    assert drawn == set(stages["value"])
    assert axis.get_xscale() == "log"


def test_depth_points_stand_at_their_depths(three):
    depths = judge.depths(three)
    left, right = draw.depth_dots(depths, 0.667).axes
    for axis, stage in ((left, "function application"), (right, "answer on top")):
        points = [line for line in axis.lines if len(line.get_xdata()) == 1]
        found = sorted(float(line.get_xdata()[0]) for line in points)
        assert found == sorted(depths.loc[depths["stage"] == stage, "relative_depth"])
