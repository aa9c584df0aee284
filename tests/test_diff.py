"""Two folders of results: equal, within their intervals, apart, or on one side only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import made_up_runs
import trivial
from made_up_runs import claim
from ovectors import cli, diff, paths, results, runs
from ovectors.claims import Measured
from ovectors.errors import UserError
from ovectors.record import publish

MODEL = "a-model"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(made_up_runs.make_project(tmp_path / "project"), monkeypatch)


def write(project: Path, value: float, **more) -> Path:
    """A run of chapter 1 with one claim; gives the folder of the model's runs."""
    found = claim("stages", MODEL, {"past_tense": value, "uppercase": 0.7}, **more)
    made_up_runs.write_run(
        "01_stages_of_processing", str(project / "a-model"), [found], given={"seed": 0}
    )
    return next(path for path in (project / "book" / "runs").iterdir() if path.is_dir())


def copy(folder: Path, name: str) -> Path:
    return Path(shutil.copytree(folder, folder.parents[2] / name / folder.name))


def agreements(found: list[diff.Comparison]) -> dict[tuple[str, str], str]:
    return {(row.relation, row.name): row.agreement for one in found for row in one.rows}


def test_a_folder_is_equal_to_its_copy(project):
    mine = write(project, 0.8)
    other = copy(mine, "other")
    found = diff.compare(str(mine), str(other.parent))
    assert [one.same for one in found] == [True] and set(agreements(found).values()) == {"equal"}
    assert found[0].verdicts[0] == found[0].verdicts[1] != "" and found[0].changed == ()


@pytest.mark.parametrize(
    ("value", "agreement", "same"), [(0.85, "agrees", True), (0.55, "differs", False)]
)
def test_numbers_agree_where_their_intervals_overlap(project, value, agreement, same):
    """The intervals are 0.1 to either side; the verdict is the same, but for what is apart."""
    other = copy(write(project, 0.8), "other")
    mine = write(project, value, width=0.1)
    (found,) = diff.compare(str(mine), str(other))
    assert agreements([found])["past_tense", "main"] == agreement
    assert agreements([found])["uppercase", "main"] == "equal"
    assert found.same == same


def number(value: float | None, low: float | None, high: float | None, n: int = 10) -> Measured:
    return Measured(relation="r", name="x", value=value, low=low, high=high, n=n)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ((0.5, 0.4, 0.6), (0.5, 0.4, 0.6), "equal"),
        ((0.5, 0.4, 0.6), (0.7, 0.6, 0.8), "agrees"),
        ((0.5, 0.4, 0.6), (0.71, 0.61, 0.8), "differs"),
        ((0.5, None, None), (0.61, 0.4, 0.8), "agrees"),
        ((0.3, None, None), (0.5, 0.4, 0.6), "differs"),
        ((None, None, None), (0.5, 0.4, 0.6), "differs"),
        ((None, None, None), (None, None, None), "equal"),
        (None, (0.5, 0.4, 0.6), "only in B"),
        ((0.5, 0.4, 0.6), None, "only in A"),
        ((0.5, 0.4, 0.6, 400), (0.51, 0.4, 0.6, 400), "close"),  # 4 items of 400
        ((0.5, 0.4, 0.6, 400), (0.5125, 0.4, 0.6, 400), "agrees"),  # 5 of them
        ((0.5, 0.4, 0.6, 20), (0.55, 0.4, 0.6, 20), "close"),  # one item, always
        ((0.5, 0.45, 0.55, 20), (0.6, 0.56, 0.65, 20), "differs"),  # two of them
        ((30.4, 25.0, 35.0, 300), (30.2, 25.0, 35.0, 300), "close"),  # a mean rank
        ((30.4, 25.0, 35.0, 300), (30.0, 25.0, 35.0, 300), "agrees"),
        ((0.5, 0.4, 0.6, 400), (0.5, 0.4, 0.6, 404), "close"),
        ((0.5, 0.4, 0.6, 400), (0.5, 0.4, 0.6, 405), "agrees"),
        ((0.5, 0.4, 0.6), (0.6, 0.5, 0.7), "close"),
    ],
)
def test_agreement(a, b, said):
    assert diff.agreement(*(one and number(*one) for one in (a, b))) == said


def test_published_results_are_compared_with_the_runs_here(project, capsys):
    write(project, 0.8)
    publish(str(project / "a-model"))
    assert cli.main(["diff", "published", "mine"]) == 0
    assert capsys.readouterr().out.startswith("verdicts: 1 of 1 the same; numbers: 4 equal")
    write(project, 0.3)
    assert cli.main(["diff", "published", "mine"]) == 1
    out = capsys.readouterr().out
    assert "past_tense" in out and "differs" in out and "uppercase" not in out
    assert "0.8 [0.7, 0.9] n=100" in out and "0.3 [0.2, 0.4] n=100" in out
    assert cli.main(["diff", "published", "mine", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["same"] is False and told["claims"][0]["verdicts"][0] == "supported"
    assert {row["agreement"] for row in told["claims"][0]["rows"]} == {"equal", "differs"}


@pytest.mark.parametrize(
    ("value", "verdict_too", "close"), [(0.807, False, 0), (0.85, False, 1), (0.807, True, 1)]
)
def test_ci_fails_on_more_than_machines_differ_by(project, capsys, value, verdict_too, close):
    """100 items a number: one of them may come out otherwise, five may not; no verdict may."""
    other = copy(write(project, 0.8), "other")
    mine = write(project, value)
    if verdict_too:
        rewrite(mine, "verdict", "not testable here")
    both = ["diff", str(other), str(mine)]
    assert cli.main(both) == int(verdict_too)
    capsys.readouterr()
    assert cli.main([*both, "--close"]) == close
    out = capsys.readouterr().out
    assert ("past_tense" in out) == (value == 0.85) and ("verdict " in out) == verdict_too


def rewrite(folder: Path, key: str, value: object) -> None:
    """Change a claim of a run, and let its sidecar vouch for it."""
    (path,) = folder.rglob("claims/*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    (sidecar,) = folder.glob("*.json")
    told = json.loads(sidecar.read_text())
    told["files"] = runs.hashes_below(folder / sidecar.stem)
    sidecar.write_text(json.dumps(told))


def test_what_of_the_key_changed_is_told(project):
    other = copy(write(project, 0.8), "other")
    (sidecar,) = other.glob("*.json")
    told = json.loads(sidecar.read_text())
    told["parts"]["versions"]["torch"] = "1.0"
    told["parts"]["library"]["results.py"] = "0" * 16
    sidecar.write_text(json.dumps(told))
    (found,) = diff.compare("mine", str(other))
    assert found.changed == ("library", "versions") and found.same
    assert found.reasons[0] == "library: results.py is another"
    assert found.reasons[1].startswith("versions: torch was") and '"1.0"' in found.reasons[1]


def test_damage_is_told_and_not_compared(project):
    mine = write(project, 0.8)
    other = copy(mine, "other")
    (path,) = other.rglob("claims/*.json")
    path.write_text(path.read_text().replace("0.8", "0.9"))
    found = diff.compare(str(mine), str(other))
    assert [one.trouble for one in found] == ["B: its files were changed", ""]
    assert not any(one.same for one in found)


def test_runs_by_hand_can_be_compared(project, tmp_path):
    mine = write(project, 0.8)
    (saved,) = mine.rglob(results.MANIFEST)
    by_hand = Path(shutil.copytree(saved.parent, tmp_path / "results" / MODEL / saved.parent.name))
    (found,) = diff.compare(str(by_hand.parents[1]), str(mine))
    assert found.same and found.changed == ()  # no key is known of it


def test_bad_folders_are_one_line(project, capsys):
    paths.RUNS.mkdir()
    with pytest.raises(UserError, match="there is no folder nowhere"):
        diff.compare("nowhere", "mine")
    assert cli.main(["diff", "mine", "published"]) == cli.BAD_INPUT
    assert capsys.readouterr().err.startswith("ovectors: mine holds no results: give")
