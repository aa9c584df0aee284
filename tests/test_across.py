"""Chapter 6's tables, sentences and figures follow the claims of whatever was run."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

import trivial
from made_up_models import RETRIEVAL, STAGES, write_stages, write_three
from made_up_runs import claim, make_project, ranks, save, write_failure, write_run
from ovectors import catalogue, claims, record
from ovectors.catalogue import ModelSpec
from ovectors.claims import RULES
from ovectors.errors import UserError
from ovectors.experiments.across import gather, judge
from ovectors.experiments.across.judge import NOT_WRITTEN
from ovectors.figures import across as draw
from ovectors.prose import across as say

DEPTH = claims.published("stages")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(catalogue, "machine_memory", lambda: 16 * 10**9)
    return trivial.enter(make_project(tmp_path / "project"), monkeypatch)


@pytest.fixture
def three(project) -> list:
    write_three()
    return gather.collect()


def state(verdicts: pd.DataFrame, model: str, name: str) -> str:
    (found,) = verdicts.loc[(verdicts["model"] == model) & (verdicts["claim"] == name), "state"]
    return found


def test_every_claim_of_every_model_has_a_cell(three):
    table = judge.verdicts(three)
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
    assert why["gpt2-medium", "stages"] == "every criterion holds on past tense and uppercase"


def test_a_chapter_that_left_no_such_claim_is_no_verdict(project):
    write_run("03_content_independence", "gpt2", [claim("content_independence", "gpt2", {})])
    table = judge.verdicts(gather.collect())
    assert state(table, "gpt2", "content_independence") == "not testable here"
    assert state(table, "gpt2", "function_specificity") == "not run"
    assert NOT_WRITTEN in say.reason_table(table)


def test_what_does_not_fit_says_so_where_it_was_not_run(project, monkeypatch):
    write_stages("gpt2-medium", {"past_tense": 0.9, "uppercase": 0.1}, 355_000_000)
    monkeypatch.setattr(catalogue, "machine_memory", lambda: 10**9)
    findings = gather.collect()
    table = judge.verdicts(findings)
    assert state(table, "gpt2-medium", "stages") == "partly"  # it was run elsewhere
    assert state(table, "gpt2-medium", "retrieval") == "does not fit"
    others = judge.others(findings).set_index("model")["state"]
    assert (others["gpt2"], others["gpt2-xl"]) == ("not run", "does not fit")
    assert "gpt2-medium" not in others.index


def test_models_are_named_with_their_sizes_and_where_results_come_from(three):
    table = judge.models(three).set_index("model")
    assert list(table["kind"]) == ["miniature", "language model", "language model"]
    assert list(table["parameters"]) == [2e6, 124e6, 355e6]
    assert table.loc["gpt2", "chapters"] == 2 and table.loc["gpt2", "n_items"] == 2
    record.publish("gpt2")
    assert set(judge.models(gather.collect())["origin"]) == {"run here"}


def test_only_the_models_asked_for(three):
    def names(asked: str) -> set[str]:
        return {one.model for one in gather.collect(asked)}

    assert names("gpt2") == {"gpt2"}
    assert names("gpt2, mini-2m") == {"gpt2", "mini-2m"}
    assert names("gpt2-xl") == set()
    with pytest.raises(UserError, match="unknown model 'gtp2'"):
        gather.collect("gtp2")


def test_two_folders_of_one_name_are_two_models(project):
    for place in ("here", "there"):
        folder = trivial.write_model(project / place / "mine")
        spec = ModelSpec(name="mine", folder=folder)
        write_run(STAGES, spec, [claim("stages", "mine", {"past_tense": 0.9})])
    table = judge.verdicts(gather.collect())
    assert table["model"].nunique() == 2 and all(table["model"].str.startswith("mine-"))
    assert set(table["kind"]) == {"own model"}
    assert len(say.verdict_table(table).splitlines()) == 4


def test_runs_by_hand_in_the_current_folder_count(project, monkeypatch):
    monkeypatch.delenv("OVECTORS_OUTPUT", raising=False)
    found = [claim("stages", "gpt2", {"past_tense": 0.9})]
    folder = project / "results" / "gpt2" / STAGES
    folder.mkdir(parents=True)
    save(folder, STAGES, "gpt2", found, {}, {"model": "gpt2", "n_items": 0}, 124_000_000)
    table = judge.models(gather.collect())
    assert list(table["origin"]) == ["run by hand"]
    assert "| run by hand | 1 | all |" in say.model_table(table)
    monkeypatch.setenv("OVECTORS_OUTPUT", str(project))
    assert gather.collect() == []  # in the batch, whose key does not know of them


def test_a_model_that_has_failures_alone_is_listed_beside_others(project):
    write_stages("mini-2m", {"past_tense": 0.8}, 2_000_000)
    write_failure(STAGES, "gpt2", "out of memory")
    lines = say.model_table(judge.models(gather.collect())).splitlines()
    assert [line.split(" | ")[4] for line in lines[2:]] == ["1", "0"]
    assert "nan" not in lines[-1]


def test_the_main_criterion_is_the_last_that_the_paper_made(project):
    evidence = [
        claims.Evidence(
            relation="past_tense", criterion=name, found=claim_interval, bound=0.1, kind=kind
        )
        for name, claim_interval, kind in (
            ("accuracy", _interval(0.9), "paper"),
            ("share", _interval(0.4), "paper"),
            ("control", _interval(0.2), "control"),
        )
    ]
    one = claims.judge(
        RULES["stages"],
        evidence,
        model="gpt2",
        context=[claims.context("past_tense", "something else", _interval(0.7))],
    )
    write_run(STAGES, "gpt2", [one])
    numbers = judge.measured(gather.collect())
    assert list(numbers["name"]) == ["accuracy", "share", "control", "something else"]
    (row,) = judge.headlines(numbers).to_dict("records")
    assert (row["name"], row["value"], row["bound"]) == ("share", 0.4, 0.1)


def _interval(value: float) -> claims.Interval:
    return claims.Interval(value=value, low=value - 0.05, high=value + 0.05, n=100)


def test_a_trend_is_between_intervals_that_do_not_meet_and_within_a_kind(three):
    trends = judge.trends(judge.headlines(judge.measured(three))).set_index("relation")
    assert set(trends["kind"]) == {"language model"}  # one miniature is no trend
    assert trends.loc["past_tense", "change"] == "rises"
    assert trends.loc["uppercase", "change"] == "no clear change"
    assert trends.loc["past_tense", "values"] == [0.2, 0.9]
    assert trends.loc["past_tense", ["smallest", "largest"]].tolist() == ["gpt2", "gpt2-medium"]


def test_what_falls_falls_and_few_items_are_no_trend(project):
    write_stages("gpt2", {"past_tense": 0.9, "uppercase": 0.1}, 124_000_000)
    write_stages("gpt2-medium", {"past_tense": 0.2, "uppercase": 0.9}, 355_000_000, n=10)
    assert judge.trends(judge.headlines(judge.measured(gather.collect()))).empty
    write_stages("gpt2-xl", {"past_tense": 0.3}, 1_500_000_000)
    (row,) = judge.trends(judge.headlines(judge.measured(gather.collect()))).to_dict("records")
    assert (row["relation"], row["change"], row["models"]) == ("past_tense", "falls", 2)


def test_a_trend_tells_the_models_between_its_ends(project):
    values = {"gpt2-medium": (0.9, 355), "gpt2-xl": (0.5, 1500), "gpt2": (0.1, 124)}
    for model, (value, millions) in values.items():
        write_stages(model, {"past_tense": value}, millions * 10**6)
    findings = gather.collect()
    trends = judge.trends(judge.headlines(judge.measured(findings)))
    assert trends["values"].tolist() == [[0.1, 0.9, 0.5]]
    said = say.trend_sentences(trends, judge.models(findings))
    assert "rises on past tense (0.10, 0.90, 0.50)" in said


def test_values_that_a_claim_does_not_have_are_none_of_the_trend(project):
    nothing = claims.Evidence(
        relation="past_tense", criterion="main", found=claims.Interval(
            value=math.nan, low=math.nan, high=math.nan, n=0
        ), bound=0.5, kind="paper",
    )  # fmt: skip
    write_run(STAGES, "gpt2", [claims.judge(RULES["stages"], [nothing], model="gpt2")])
    write_stages("gpt2-medium", {"past_tense": 0.9}, 355_000_000)
    findings = gather.collect()
    headlines = judge.headlines(judge.measured(findings))
    assert judge.trends(headlines).empty
    assert "none, n = 0" in say.value_table(headlines)
    assert draw.value_over_size(headlines)


def test_the_argument_peaks_where_its_curve_is_highest(project):
    heights = {"mini-2m": [0.1, 0.4, 0.2, 0.0], "mini-6m": [0.35, 0.1], "gpt2": [0.0, 0.9, 0.1]}
    for size, (model, argument) in enumerate(heights.items()):
        curves = ranks({"past_tense": argument, "uppercase": argument[:1]})
        write_run(STAGES, model, [], curves=curves, parameters=10**6 * (size + 1))
    other = ranks({"past_tense": [0.9]})  # chapter 4 has a table of that name too
    write_run(RETRIEVAL, "mini-2m", [], curves=other)
    curves = judge.curves(gather.collect())
    peaks = judge.peaks(curves)
    found = peaks[peaks["relation"] == "past_tense"].set_index("model")
    assert found["value"].to_dict() == {"mini-2m": 0.4, "mini-6m": 0.35, "gpt2": 0.9}
    assert found["relative_depth"].round(2).to_dict() == {
        "mini-2m": 0.5, "mini-6m": 0.5, "gpt2": 0.67,
    }  # fmt: skip
    trends = judge.trends(peaks).set_index("relation")  # the miniatures', within their kind
    assert trends["change"].to_dict() == {"past_tense": "no clear change", "uppercase": "rises"}
    assert "| `mini-2m` | 0.40 [0.35, 0.45] at 0.50 |" in say.peak_table(peaks)
    drawn = draw.curves_by_size(curves)
    assert len(drawn.axes) == 4  # two tasks, argument and answer
    assert [line.get_label() for line in drawn.axes[0].lines] == ["mini-2m", "mini-6m", "gpt2"]
    assert drawn.axes[0].lines[0].get_ydata().tolist() == heights["mini-2m"]


def test_depths_are_those_of_the_stages_tables(three):
    table = judge.depths(three)
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
        for make in (judge.verdicts, judge.measured, judge.depths)
    ]  # fmt: skip
    for model in ("gpt2", "mini-2m"):
        record.publish(model)
    for folder in ("gpt2", "mini-2m"):
        for path in sorted((gather.runs.paths.RUNS / folder).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    after = gather.collect()
    told = judge.models(after).set_index("model")["origin"]
    assert told.to_dict() == {
        "mini-2m": "committed",
        "gpt2": "committed",
        "gpt2-medium": "run here",
    }
    pd.testing.assert_frame_equal(judge.measured(after), before[1])
    pd.testing.assert_frame_equal(judge.depths(after), before[2])
    verdicts = judge.verdicts(after)
    assert state(verdicts, "gpt2", "retrieval") == "not run"  # its failure was not committed
    same = verdicts["claim"] == "stages"
    assert verdicts[same]["state"].tolist() == before[0][same]["state"].tolist()
