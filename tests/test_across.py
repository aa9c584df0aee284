"""Chapter 6's tables, sentences and figures follow the claims of whatever was run."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

import trivial
from made_up_runs import claim, make_project, save, shares, write_failure, write_run
from ovectors import catalogue, claims, record
from ovectors.catalogue import ModelSpec
from ovectors.claims import RULES
from ovectors.errors import UserError
from ovectors.experiments import across
from ovectors.figures import across as draw
from ovectors.prose import across as say
from ovectors.prose import front

STAGES, RETRIEVAL, BEYOND = (
    "01_stages_of_processing",
    "04_retrieval_versus_context",
    "07_beyond",
)
DEPTH = claims.published("stages")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(catalogue, "machine_memory", lambda: 16 * 10**9)
    return trivial.enter(make_project(tmp_path / "project"), monkeypatch)


def write_stages(
    model: str, values: dict[str, float], parameters: int, *, n: int = 100, **more: float
) -> None:
    found = [claim("stages", model, values, n=n)]
    table = shares(more or {"past_tense": 0.5})
    write_run(STAGES, model, found, table=table, parameters=parameters)


@pytest.fixture
def three(project) -> list:
    """Two language models and a miniature, with something different in every cell."""
    write_stages("gpt2-medium", {"past_tense": 0.9, "uppercase": 0.9}, 355_000_000, uppercase=0.75)
    write_stages("gpt2", {"past_tense": 0.2, "uppercase": 0.85}, 124_000_000, uppercase=0.25)
    write_stages("mini-2m", {"past_tense": 0.8, "uppercase": 0.1}, 2_000_000)
    write_failure(RETRIEVAL, "gpt2", "ZeroDivisionError: division by zero")
    write_failure(RETRIEVAL, "gpt2-medium", "it fails its self-check", refused=True)
    write_run(BEYOND, "gpt2", [claim("beyond", "gpt2", {"a": 0.9}, n=3)])
    return across.collect()


def state(verdicts: pd.DataFrame, model: str, name: str) -> str:
    (found,) = verdicts.loc[(verdicts["model"] == model) & (verdicts["claim"] == name), "state"]
    return found


def test_every_claim_of_every_model_has_a_cell(three):
    table = across.verdicts(three)
    assert len(table) == 3 * len(RULES)
    assert list(dict.fromkeys(table["model"])) == ["mini-2m", "gpt2", "gpt2-medium"]
    assert state(table, "gpt2-medium", "stages") == "supported"
    assert state(table, "gpt2", "stages") == state(table, "mini-2m", "stages") == "partly"
    assert state(table, "gpt2", "retrieval") == "failed"
    assert state(table, "gpt2-medium", "retrieval") == "refused"
    assert state(table, "gpt2", "beyond") == "not testable here"
    assert state(table, "gpt2", "zero_shot") == "not run"
    why = table.set_index(["model", "claim"])["why"]
    assert why["gpt2", "retrieval"] == "ZeroDivisionError: division by zero"
    assert why["gpt2-medium", "stages"] == "every criterion holds on past tense, uppercase"


def test_a_chapter_that_left_no_such_claim_is_no_verdict(project):
    write_run("03_content_independence", "gpt2", [claim("content_independence", "gpt2", {})])
    table = across.verdicts(across.collect())
    assert state(table, "gpt2", "content_independence") == "not testable here"
    assert state(table, "gpt2", "function_specificity") == "not run"
    assert across.NOT_WRITTEN in say.reason_table(table)


def test_what_does_not_fit_says_so_where_it_was_not_run(project, monkeypatch):
    write_stages("gpt2-medium", {"past_tense": 0.9}, 355_000_000)
    monkeypatch.setattr(catalogue, "machine_memory", lambda: 10**9)
    findings = across.collect()
    table = across.verdicts(findings)
    assert state(table, "gpt2-medium", "stages") == "partly"  # it was run elsewhere
    assert state(table, "gpt2-medium", "retrieval") == "does not fit"
    others = across.others(findings).set_index("model")["state"]
    assert (others["gpt2"], others["gpt2-xl"]) == ("not run", "does not fit")
    assert "gpt2-medium" not in others.index


def test_models_are_named_with_their_sizes_and_where_results_come_from(three):
    table = across.models(three).set_index("model")
    assert list(table["kind"]) == ["miniature", "language model", "language model"]
    assert list(table["parameters"]) == [2e6, 124e6, 355e6]
    assert table.loc["gpt2", "chapters"] == 2 and table.loc["gpt2", "n_items"] == 2
    record.publish("gpt2")
    assert set(across.models(across.collect())["origin"]) == {"run here"}


def test_only_the_models_asked_for(three):
    def names(asked: str) -> set[str]:
        return {one.model for one in across.collect(asked)}

    assert names("gpt2") == {"gpt2"}
    assert names("gpt2, mini-2m") == {"gpt2", "mini-2m"}
    assert names("gpt2-xl") == set()
    with pytest.raises(UserError, match="unknown model 'gtp2'"):
        across.collect("gtp2")


def test_two_folders_of_one_name_are_two_models(project):
    for place in ("here", "there"):
        folder = trivial.write_model(project / place / "mine")
        spec = ModelSpec(name="mine", folder=folder)
        write_run(STAGES, spec, [claim("stages", "mine", {"past_tense": 0.9})])
    table = across.verdicts(across.collect())
    assert table["model"].nunique() == 2 and all(table["model"].str.startswith("mine-"))
    assert set(table["kind"]) == {"own model"}
    assert len(say.verdict_table(table).splitlines()) == 4


def test_runs_by_hand_in_the_current_folder_count(project, monkeypatch):
    monkeypatch.delenv("OVECTORS_OUTPUT", raising=False)
    found = [claim("stages", "gpt2", {"past_tense": 0.9})]
    folder = project / "results" / "gpt2" / STAGES
    folder.mkdir(parents=True)
    save(folder, STAGES, "gpt2", found, None, {"model": "gpt2", "n_items": 0}, 124_000_000)
    table = across.models(across.collect())
    assert list(table["origin"]) == ["run by hand"]
    assert "| run by hand | 1 | all |" in say.model_table(table)
    monkeypatch.setenv("OVECTORS_OUTPUT", str(project))
    assert across.collect() == []  # in the batch, whose key does not know of them


# Numbers


def test_the_main_criterion_is_the_last_that_the_paper_made(project):
    evidence = [
        claims.Evidence(
            relation="past_tense", criterion=name, found=claim_interval, bound=0.1, paper=paper
        )
        for name, claim_interval, paper in (
            ("accuracy", _interval(0.9), True),
            ("share", _interval(0.4), True),
            ("control", _interval(0.2), False),
        )
    ]
    one = claims.judge(
        RULES["stages"],
        evidence,
        model="gpt2",
        context=[claims.context("past_tense", "something else", _interval(0.7))],
    )
    write_run(STAGES, "gpt2", [one])
    numbers = across.measured(across.collect())
    assert list(numbers["name"]) == ["accuracy", "share", "control", "something else"]
    (row,) = across.headlines(numbers).to_dict("records")
    assert (row["name"], row["value"], row["bound"]) == ("share", 0.4, 0.1)


def _interval(value: float) -> claims.Interval:
    return claims.Interval(value=value, low=value - 0.05, high=value + 0.05, n=100)


def test_a_trend_is_between_intervals_that_do_not_meet_and_within_a_kind(three):
    trends = across.trends(across.headlines(across.measured(three))).set_index("relation")
    assert set(trends["kind"]) == {"language model"}  # one miniature is no trend
    assert trends.loc["past_tense", "change"] == "rises"
    assert trends.loc["uppercase", "change"] == "no clear change"
    assert trends.loc["past_tense", ["first", "last"]].tolist() == [0.2, 0.9]
    assert trends.loc["past_tense", ["smallest", "largest"]].tolist() == ["gpt2", "gpt2-medium"]


def test_what_falls_falls_and_few_items_are_no_trend(project):
    write_stages("gpt2", {"past_tense": 0.9, "uppercase": 0.1}, 124_000_000)
    write_stages("gpt2-medium", {"past_tense": 0.2, "uppercase": 0.9}, 355_000_000, n=10)
    assert across.trends(across.headlines(across.measured(across.collect()))).empty
    write_stages("gpt2-xl", {"past_tense": 0.3}, 1_500_000_000)
    (row,) = across.trends(across.headlines(across.measured(across.collect()))).to_dict("records")
    assert (row["relation"], row["change"], row["models"]) == ("past_tense", "falls", 2)


def test_values_that_a_claim_does_not_have_are_none_of_the_trend(project):
    nothing = claims.Evidence(
        relation="past_tense", criterion="main", found=claims.Interval(
            value=math.nan, low=math.nan, high=math.nan, n=0
        ), bound=0.5, paper=True,
    )  # fmt: skip
    write_run(STAGES, "gpt2", [claims.judge(RULES["stages"], [nothing], model="gpt2")])
    write_stages("gpt2-medium", {"past_tense": 0.9}, 355_000_000)
    findings = across.collect()
    headlines = across.headlines(across.measured(findings))
    assert across.trends(headlines).empty
    assert "none, n = 0" in say.value_table(headlines)
    assert draw.value_over_size(headlines)


def test_depths_are_those_of_the_stages_tables(three):
    table = across.depths(three)
    assert set(table["stage"]) == {"function application", "answer on top"}
    found = {(row.model, row.relation): row.relative_depth for row in table.itertuples()}
    assert found == {
        ("mini-2m", "past_tense"): 0.5,
        ("gpt2", "uppercase"): 0.25,
        ("gpt2-medium", "uppercase"): 0.75,
    }
    assert set(table["items"]) == {90}  # nine in ten of a hundred


def test_committed_results_give_the_same_tables(three):
    before = [
        make(three)
        for make in (across.verdicts, across.measured, across.depths)
    ]  # fmt: skip
    for model in ("gpt2", "mini-2m"):
        record.publish(model)
    for folder in ("gpt2", "mini-2m"):
        for path in sorted((across.runs.paths.RUNS / folder).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    after = across.collect()
    told = across.models(after).set_index("model")["origin"]
    assert told.to_dict() == {
        "mini-2m": "committed",
        "gpt2": "committed",
        "gpt2-medium": "run here",
    }
    pd.testing.assert_frame_equal(across.measured(after), before[1])
    pd.testing.assert_frame_equal(across.depths(after), before[2])
    verdicts = across.verdicts(after)
    assert state(verdicts, "gpt2", "retrieval") == "not run"  # its failure was not committed
    same = verdicts["claim"] == "stages"
    assert verdicts[same]["state"].tolist() == before[0][same]["state"].tolist()


# Sentences


def test_tables_say_what_the_cells_are(three):
    verdicts = across.verdicts(three)
    rows = [line.split(" | ") for line in say.verdict_table(verdicts).splitlines()]
    assert rows[0][1] == "Stages" and len(rows) == 5
    assert rows[2][0] == "| `mini-2m`" and rows[2][1] == "partly"
    assert rows[4][1] == "supported" and "refused" in rows[4]
    assert say.MARK not in say.verdict_table(verdicts)
    changed = verdicts.assign(changed="library")
    assert f"supported {say.MARK}" in say.verdict_table(changed)
    assert say.MARKED in say.verdict_table(changed)


def test_values_are_shown_with_interval_and_n_and_bold_where_they_hold(three):
    table = say.value_table(across.headlines(across.measured(three)))
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
    findings = across.collect()
    headlines = across.headlines(across.measured(findings))
    assert say.value_table(headlines).count("holds on 6 of 20") == 2
    said = say.trend_sentences(across.trends(headlines), across.models(findings))
    assert "shows no clear change on 20 relations" in said
    assert draw.value_over_size(headlines)


def test_the_summary_follows_the_cells(three):
    verdicts, models = across.verdicts(three), across.models(three)
    trends = across.trends(across.headlines(across.measured(three)))
    said = say.summary(verdicts, trends, models, across.depths(three), DEPTH)
    assert "**Stages:** supported on `gpt2-medium`; partly on `mini-2m` and `gpt2`." in said
    assert "failed on `gpt2`" in said and "refused on `gpt2-medium`" in said
    assert "not testable on `gpt2`" in said
    assert "Of 2 pairs of claim and relation" in said
    assert "rises on 1" in said and "shows no clear change on 1" in said
    assert "runs from 0.25 to 0.75, with the middle at 0.50, over 3 pairs" in said
    assert f"The paper's number is {DEPTH[0].value:.2f}" in said
    other = verdicts.assign(state="not supported")
    shown = say.summary(other, trends, models, across.depths(three), DEPTH)
    assert "**Stages:** not supported on `mini-2m`, `gpt2` and `gpt2-medium`." in shown


def test_one_model_has_no_trend(project):
    write_stages("mini-2m", {"past_tense": 0.8}, 2_000_000)
    findings = across.collect()
    trends = across.trends(across.headlines(across.measured(findings)))
    said = say.trend_sentences(trends, across.models(findings))
    assert "There are results of 1 miniature." in said and "Nothing can be said" in said
    depth = say.depth_sentence(across.depths(findings), DEPTH)
    assert "function application is 0.50 on past tense, `mini-2m`" in depth


def test_depths_of_few_items_are_shown_and_not_quoted(project):
    write_run(STAGES, "gpt2", [], table=shares({"past_tense": 0.5}, n=10))
    depths = across.depths(across.collect())
    assert "no depth can be given" in say.depth_sentence(depths, DEPTH)
    assert "0.50 (9 items)" in say.depth_table(depths)


def test_nothing_run_is_said_and_not_hidden(project):
    findings = across.collect()
    verdicts, models = across.verdicts(findings), across.models(findings)
    numbers, depths = across.measured(findings), across.depths(findings)
    headlines = across.headlines(numbers)
    trends = across.trends(headlines)
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
    assert "gpt2" in say.other_table(across.others(findings))
    for figure in (
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


# Figures


def test_every_state_has_a_sign_of_its_own(three):
    verdicts = across.verdicts(three)
    assert set(verdicts["state"]) <= set(draw.STATES)
    assert len({(marker, fill) for marker, fill, _ in draw.STATES.values()}) == len(draw.STATES)
    figure = draw.verdict_matrix(verdicts)
    (axis,) = figure.axes
    assert len(axis.lines) == len(verdicts)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(labels) == set(verdicts["state"])


def test_points_stand_at_their_values(three):
    headlines = across.headlines(across.measured(three))
    figure = draw.value_over_size(headlines)
    axis = figure.axes[0]
    drawn = {float(y) for container in axis.containers for y in container.lines[0].get_ydata()}
    stages = headlines[headlines["claim"] == "stages"]
    assert drawn == set(stages["value"])
    assert axis.get_xscale() == "log"


def test_depth_points_stand_at_their_depths(three):
    depths = across.depths(three)
    left, right = draw.depth_dots(depths, 0.667).axes
    for axis, stage in ((left, "function application"), (right, "answer on top")):
        points = [line for line in axis.lines if len(line.get_xdata()) == 1]
        found = sorted(float(line.get_xdata()[0]) for line in points)
        assert found == sorted(depths.loc[depths["stage"] == stage, "relative_depth"])


def test_a_verdict_names_what_fails_once_with_where_it_does():
    def measured(relation, name, holds):
        return claims.Measured(
            relation=relation, name=name, value=0.1, low=0.0, high=0.2, n=50, bound=0.5, holds=holds
        )

    pieces = [measured(name, "accuracy", True) for name in ("past_tense", "uppercase")]
    pieces += [measured(name, "share", False) for name in ("past_tense", "uppercase")]
    pieces += [measured("past_tense", "later", False), measured("world_capitals", "shift", False)]
    one = claim("stages", "m", {"uppercase": 0.1})
    failed = one.model_copy(update={"measured": pieces, "verdict": "not supported"})
    said = "what does not hold: share, on past tense and upper-casing; shift, on world capitals"
    assert front.reason(failed) == said
    partly = failed.model_copy(update={"verdict": "partly", "why": "one holds"})
    assert front.reason(partly) == "one holds"
