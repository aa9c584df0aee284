"""A study's rules: which are accepted, what they make of evidence, and whose tables they touch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import trivial
from ovectors import claims, notebooks, record, results, studies
from ovectors.claims import RULES, Evidence
from ovectors.errors import UserError
from ovectors.forking.files import fork
from ovectors.statistics import Interval
from trial_run import copy_without_studies


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(copy_without_studies(tmp_path / "project"), monkeypatch)


def interval(value: float, *, n: int = 50) -> Interval:
    return Interval(value=value, low=value - 0.1, high=value + 0.1, n=n)


def evidence(
    *relations: str, paper: float = 0.5, sense: float = 0.5, control: float = 0.5
) -> list[Evidence]:
    return [
        Evidence(relation=one, criterion=name, found=interval(value), bound=0, **how)
        for one in relations
        for name, value, how in (
            ("main", paper, {"kind": "paper"}),
            ("sense", sense, {"kind": "guard"}),
            ("control", control, {}),
        )
    ]


RULE = """
[mine]
judges = "content_independence"
section = ""
question = "Does it?"
sentence = "Supported where it does."
needed = {needed}
"""


def write_rules(project: Path, text: str, chapter: str = "08_my_study") -> Path:
    path = project / "chapters" / chapter / "rules.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("needed", "given", "verdict"),
    [
        (1, evidence("a", "b"), "supported"),
        (2, evidence("a", "b"), "supported"),
        (3, evidence("a", "b"), "not testable here"),
        (1, evidence("a"), "supported"),  # its own rule decides how many are needed
        (1, evidence("a", control=-0.5), "partly"),
        (2, evidence("a", "b", control=-0.5), "partly"),
        (2, [*evidence("a"), *evidence("b", paper=0.05)], "partly"),
        (2, evidence("a", control=-0.5), "not testable here"),
        (1, evidence("a", paper=0.05), "not supported"),
        (1, evidence("a", sense=-0.5), "not supported"),
        (1, [], "not testable here"),
    ],
)
def test_a_study_s_own_rule_judges_the_evidence_it_took_over(project, needed, given, verdict):
    write_rules(project, RULE.format(needed=needed))
    shown = [claims.context("a", "beside it", interval(0.3))]
    taken = claims.judge(RULES["content_independence"], given, model="m", context=shown)
    claim = studies.judge(taken, chapter="08_my_study")
    rule = studies.rules_of("08_my_study")["mine"]
    assert claim == claims.judge(rule, given, model="m", context=shown, untestable="")
    assert (claim.id, claim.chapter, claim.verdict) == ("mine", "08_my_study", verdict)
    assert (claim.question, claim.rule) == ("Does it?", "Supported where it does.")


def test_what_could_not_be_tested_stays_untestable(project):
    write_rules(project, RULE.format(needed=1))
    taken = claims.judge(RULES["content_independence"], [], model="m", untestable="no mid residual")
    claim = studies.judge(taken, chapter="08_my_study")
    assert (claim.verdict, claim.why) == ("not testable here", "no mid residual")


def test_a_rule_may_need_a_share_of_the_relations(project):
    given = [*evidence("a", "b"), *evidence("c", "d", paper=0.05)]
    taken = claims.judge(RULES["content_independence"], given, model="m")
    for share, verdict in ((0.5, "supported"), (0.6, "partly")):
        write_rules(project, RULE.format(needed=1) + f"share = {share}\n")
        assert studies.judge(taken, chapter="08_my_study").verdict == verdict


def test_a_claim_that_no_rule_judges_is_refused(project):
    write_rules(project, RULE.format(needed=1))
    other = claims.judge(RULES["stages"], evidence("a"), model="m")
    with pytest.raises(UserError, match="0 rules have judges = 'stages'"):
        studies.judge(other, chapter="08_my_study")


WRONG = {
    "[mine": "no TOML",
    RULE.format(needed=0): "needed",
    RULE.format(needed='"two"'): "needed",
    RULE.format(needed=1).replace("Does it?", "It does."): "question must be one line",
    RULE.format(needed=1).replace("does.", "does"): "sentence must be one line",
    RULE.format(needed=1) + "more = 1\n": "more is unknown",
    RULE.format(needed=1) + "share = 3\n": "share",
    RULE.format(needed=1).replace('question = "Does it?"\n', ""): "question is missing",
    RULE.format(needed=1).replace("[mine]", "[beyond]"): "the library has a rule of that name",
    RULE.format(needed=1).replace("[mine]", "[Mine]"): "cannot be called 'Mine'",
    "needed = 1\n": "rules.toml",
}


@pytest.mark.parametrize("text", WRONG)
def test_rules_that_cannot_be_right_are_refused_in_a_line(project, text):
    path = write_rules(project, text)
    with pytest.raises(UserError, match=WRONG[text]) as caught:
        studies.all_rules()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_two_studies_cannot_have_one_rule(project):
    write_rules(project, RULE.format(needed=1))
    assert [*studies.all_rules()] == [*RULES, "mine"]
    write_rules(project, RULE.format(needed=1), chapter="09_other")
    with pytest.raises(UserError, match="08_my_study has a rule 'mine' already"):
        studies.all_rules()


def test_only_forks_are_studies(project):
    assert studies.all_rules() == RULES
    study, _ = fork("my-study", "4")
    found = [one.name for one in notebooks.find_chapters() if studies.read_rules(one.name)]
    assert found == [study.chapter]


@pytest.mark.parametrize("study", [True, False])
def test_a_study_s_tables_never_stand_in_for_its_source_s(project, tmp_path, study):
    name = fork("my-study", "1")[0].chapter if study else "01_stages_of_processing"
    run = results.ChapterRun(chapter=name, model="m", parameters={}, folder=tmp_path / "out")
    run.save("stage-shares", pd.DataFrame({"share": [0.5]}), about="")
    taken = claims.judge(RULES["stages"], evidence("a"), model="m")
    claim = studies.judge(taken, chapter=name) if study else taken
    run.save_claim(claim, cost=claims.Cost(seconds=1, peak_memory_bytes=1))
    kept = record.kept_by_hand(run.finish()).files
    assert f"claims/{claim.id}.json" in kept and ("stage-shares.parquet" in kept) != study
