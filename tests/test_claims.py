"""Claims: every verdict a rule can give, what counts as evidence, and the schema of a claim."""

from __future__ import annotations

import math

import pytest
import yaml
from pydantic import ValidationError

from ovectors import claims, notebooks, paths, results, studies
from ovectors.claims import LEAST_ITEMS, RULES, Claim, Cost, Evidence, Published
from ovectors.statistics import Interval, nothing

RULE = RULES["content_independence"]  # it needs two relations


def found(low: float, *, n: int = 100) -> Interval:
    return Interval(value=low + 0.1, low=low, high=low + 0.2, n=n)


def evidence(relation: str, *lows: float, n: int = 100) -> list[Evidence]:
    """The paper's own criterion, then controls; each holds where its low is above 0."""
    return [
        Evidence(
            relation=relation,
            criterion=f"criterion {number}",
            found=found(low, n=n),
            bound=0.0,
            paper=number == 0,
        )
        for number, low in enumerate(lows)
    ]


ALL, CONTROL_FAILS, NONE = (0.1, 0.1), (0.1, -0.3), (-0.3, -0.3)


@pytest.mark.parametrize(
    ("relations", "verdict", "why"),
    [
        ({"a": ALL, "b": ALL}, "supported", "every criterion holds on a, b"),
        ({"a": ALL, "b": ALL, "c": NONE}, "supported", "every criterion holds on a, b"),
        ({"a": ALL, "b": NONE}, "partly", "every criterion holds on a only, and 2 are needed"),
        (
            {"a": CONTROL_FAILS, "b": CONTROL_FAILS},
            "partly",
            "the paper's own comparison holds on a, b, the controls do not",
        ),
        (
            {"a": CONTROL_FAILS, "b_c": NONE},
            "not supported",
            "it fails on a (criterion 1), b c (criterion 0)",
        ),
        ({"a": NONE}, "not supported", "it fails on a (criterion 0)"),
    ],
)
def test_the_verdict_follows_from_the_evidence(relations, verdict, why):
    given = [one for name, lows in relations.items() for one in evidence(name, *lows)]
    claim = claims.judge(RULE, given, model="m")
    assert (claim.verdict, claim.why) == (verdict, why)
    assert [one.holds for one in claim.measured] == [one.holds for one in given]


def test_what_the_paper_compared_counts_for_nothing_where_its_guard_fails():
    def guarded(name, low):
        guard = Evidence(relation=name, criterion="guard", found=found(low), bound=0.0, guard=True)
        return [*evidence(name, *CONTROL_FAILS), guard]

    held = [*guarded("a", 0.1), *guarded("b", 0.1)]
    assert claims.judge(RULE, held, model="m").verdict == "partly"
    failed = [*guarded("a", 0.1), *guarded("b", -0.1)]
    assert claims.judge(RULE, failed, model="m").verdict == "not supported"


def test_what_needs_five_relations_is_not_supported_by_four():
    names = ["a", "b", "c", "d", "e"]
    rule = RULES["beyond"]
    five = [one for name in names for one in evidence(name, *ALL)]
    assert claims.judge(rule, five, model="m").verdict == "supported"
    assert claims.judge(rule, five[:-2], model="m").verdict == "partly"


def test_too_few_items_are_no_test():
    few = evidence("a", *ALL, n=LEAST_ITEMS - 1)
    claim = claims.judge(RULE, few, model="m")
    assert claim.verdict == "not testable here"
    assert claim.why == f"at most {LEAST_ITEMS - 1} items, and {LEAST_ITEMS} are needed"
    assert [one.holds for one in claim.measured] == [False, False]  # shown all the same
    enough = claims.judge(RULE, evidence("a", *ALL, n=LEAST_ITEMS), model="m")
    assert enough.verdict == "partly"


def test_a_relation_with_too_few_items_neither_helps_nor_harms():
    given = [*evidence("a", *ALL), *evidence("b", *ALL), *evidence("few", *NONE, n=3)]
    assert claims.judge(RULE, given, model="m").verdict == "supported"
    given = [*evidence("a", *ALL), *evidence("few", *ALL, n=3)]
    assert claims.judge(RULE, given, model="m").verdict == "partly"


def test_a_relation_on_which_a_criterion_has_too_few_items_does_not_pass():
    """Say accuracy is known on all items and a switch on three only."""
    given = [*evidence("a", *ALL), *evidence("b", 0.1)]
    given.append(Evidence(relation="b", criterion="few", found=found(0.1, n=3), bound=0.0))
    assert claims.judge(RULE, given, model="m").verdict == "partly"


def test_no_evidence_or_a_named_reason_is_not_testable():
    assert claims.judge(RULE, [], model="m").verdict == "not testable here"
    given = [one for name in "ab" for one in evidence(name, *ALL)]
    claim = claims.judge(RULE, given, model="m", untestable="no mid residual")
    assert (claim.verdict, claim.why) == ("not testable here", "no mid residual")
    assert len(claim.measured) == len(given)


@pytest.mark.parametrize(
    ("interval", "holds"),
    [
        (found(0.5001), True),
        (found(0.5), False),  # the bound itself is not above the bound
        (Interval(value=0.9, low=0.4, high=1.0, n=100), False),
        (Interval(value=0.9, low=math.nan, high=math.nan, n=100), False),
        (nothing(), False),
        (found(0.6, n=LEAST_ITEMS - 1), False),
    ],
)
def test_a_criterion_holds_where_the_whole_interval_is_above_its_bound(interval, holds):
    one = Evidence(relation="a", criterion="c", found=interval, bound=0.5)
    assert one.holds is holds


def test_a_claim_comes_back_from_its_file(tmp_path):
    given = [*evidence("a", *ALL), *evidence("b", *NONE)]
    given.append(Evidence(relation="c", criterion="c", found=nothing(), bound=0.5))
    printed = [
        Published(relation="a", name="rank", value=10, model="gpt2-medium", where="section 4")
    ]
    shown = [claims.context("a", "something else", found(0.3))]
    claim = claims.judge(RULE, given, model="m", published=printed, context=shown)
    run = results.ChapterRun(chapter=RULE.chapter, model="m", parameters={}, folder=tmp_path)
    cost = Cost(seconds=1.5, peak_memory_bytes=10)
    path = run.save_claim(claim, cost=cost)
    run.finish()
    back = Claim.model_validate_json(path.read_bytes())
    assert path == tmp_path / "claims" / "content_independence.json"
    assert back == claim.model_copy(update={"cost": cost})
    assert (back.question, back.rule) == (RULE.question, RULE.sentence)
    first, *_, none, other = back.measured
    assert (first.value, first.low, first.high, first.n) == (0.2, 0.1, pytest.approx(0.3), 100)
    assert (first.bound, first.holds, first.paper) == (0.0, True, True)
    assert (none.value, none.low, none.high, none.n, none.holds) == (None, None, None, 0, False)
    assert (other.name, other.bound, other.holds, other.paper) == (
        "something else",
        None,
        None,
        False,
    )


def test_what_is_no_claim_is_refused():
    claim = claims.judge(RULE, [], model="m").model_dump()
    for change in ({"verdict": "perhaps"}, {"surprise": 1}, {"schema_version": 2}):
        with pytest.raises(ValidationError):
            Claim.model_validate({**claim, **change})
    del claim["why"]
    with pytest.raises(ValidationError):
        Claim.model_validate(claim)


def test_every_rule_is_one_sentence_and_belongs_to_a_chapter():
    listed = {entry.rpartition("/")[2] for entry in _listed()}
    for name, rule in RULES.items():
        assert rule.id == name and rule.chapter in listed
        assert rule.question.endswith("?") and rule.question.count("?") == 1
        assert rule.sentence.startswith("Supported where") and "; partly, where" in rule.sentence
        assert rule.sentence.count(". ") == 0 and rule.sentence.endswith(".")


def _listed() -> list[str]:
    toc = yaml.safe_load((paths.ROOT / "_toc.yml").read_text())
    return [entry["file"] for part in toc["parts"] for entry in part["chapters"]]


def test_every_claim_that_a_chapter_saves_is_a_rule_of_that_chapter():
    judged = {rule.chapter for rule in studies.all_rules().values()}
    for chapter in notebooks.find_chapters():
        assert chapter.across or chapter.name in judged


# Published numbers, by (relation, name) and by where the reference material keeps them.
INTERVENTION = {
    ("world_capitals", "answer's rank before"): ("world_capitals", "rank_before"),
    ("world_capitals", "answer's rank after"): ("world_capitals", "rank_after"),
    ("world_capitals", "answer on top after"): ("world_capitals", "top1_after"),
    ("world_capitals", "no effect"): ("world_capitals", "no_effect"),
    ("us_state_capitals", "answer's rank before"): ("us_state_capitals", "rank_before"),
    ("us_state_capitals", "answer's rank after"): ("us_state_capitals", "rank_after"),
    ("us_state_capitals", "no effect"): ("us_state_capitals", "no_effect"),
    ("uppercase", "answer's rank before"): ("uppercase", "rank_before"),
    ("uppercase", "answer on top after"): ("uppercase", "top1_after"),
    ("uppercase", "no effect"): ("uppercase", "no_effect"),
    ("uppercase", "no effect, words that are no colours"): ("uppercase_ood", "no_effect"),
    ("past_tense", "answer's rank before"): ("past_tense", "rank_before"),
    ("past_tense", "answer's rank after"): ("past_tense", "rank_after"),
    ("past_tense", "answer on top after"): ("past_tense", "top1_after"),
    ("past_tense", "no effect"): ("past_tense", "no_effect"),
    ("past_tense", "answer's rank before, irregular verbs"): ("past_tense_ood", "rank_before"),
    ("past_tense", "answer's rank after, irregular verbs"): ("past_tense_ood", "rank_after"),
    ("past_tense", "no effect, irregular verbs"): ("past_tense_ood", "no_effect"),
}
ABLATION = {
    "FFNs removed, of 70": "ffn_removed",
    "accuracy lost on extractive prompts": "colored_objects_extractive_drop",
    "accuracy lost on abstractive prompts": "colored_objects_abstractive_drop",
    "accuracy left on abstractive prompts": "colored_objects_abstractive_left",
}


@pytest.fixture(scope="module")
def printed(shared):
    return yaml.safe_load((shared / "paper" / "published.yaml").read_text())


def test_the_interventions_numbers_are_the_published_ones_and_all_of_them(printed):
    found = claims.published("content_independence", "gpt2-medium")
    assert {one.model for one in found} == {"gpt2-medium"}
    known = set(INTERVENTION.values())
    for relation, row in printed["intervention"].items():
        for name, value in row.items():
            assert value is None or (relation, name) in known
    assert {(one.relation, one.name) for one in found} == {*INTERVENTION}
    for one in found:
        relation, name = INTERVENTION[one.relation, one.name]
        assert one.value == printed["intervention"][relation][name]


def test_the_other_published_numbers_are_the_published_ones(printed):
    (depth,) = claims.published("stages")
    assert depth.value == printed["function_application_relative_depth"]
    removed = claims.published("retrieval")
    assert {one.model for one in removed} == {"bloom"} and len(removed) == len(ABLATION)
    for one in removed:
        assert one.value == printed["ablation"]["bloom"][ABLATION[one.name]]
    assert f"of {printed['models']['bloom']['layers']}" in removed[0].name
    layers = printed["o_vector_layers"]
    vectors = claims.published("linear_update")
    assert len(vectors) == 6
    assert all(one.value == layers[one.model][one.relation] for one in vectors)


def test_published_numbers_of_the_model_that_ran_come_first():
    assert claims.published("linear_update", "gpt-j-6b")[0].model == "gpt-j-6b"
    assert claims.published("linear_update", "mini-2m")[0].model == "gpt2-medium"
    assert claims.published("zero_shot") == claims.published("beyond") == []
    with pytest.raises(KeyError):
        claims.published("no such claim")
