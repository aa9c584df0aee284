"""Claims: every verdict a rule can give, what counts as evidence, and the schema of a claim."""

from __future__ import annotations

import dataclasses
import math

import pytest
import yaml
from pydantic import ValidationError

from ovectors import claims, notebooks, paths, results, studies
from ovectors.claims import LEAST_ITEMS, RULES, Claim, Cost, Evidence, Published
from ovectors.statistics import Interval, nothing, share

RULE = RULES["content_independence"]  # it needs two relations
LEAST = f"{LEAST_ITEMS} are needed"


def found(low: float, *, n: int = 100) -> Interval:
    return Interval(value=low + 0.1, low=low, high=low + 0.2, n=n)


def piece(relation: str, kind: claims.Kind, low: float | None, name: str = "", n: int = 100):
    """A criterion that holds where its low is above 0; without one it was not measured."""
    measured = nothing() if low is None else found(low, n=n)
    return Evidence(relation=relation, criterion=name or kind, found=measured, bound=0.0, kind=kind)


def evidence(relation: str, *lows: float | None, n: int = 100) -> list[Evidence]:
    """The paper's own criterion, then controls."""
    paper, *controls = lows
    numbered = (
        piece(relation, "control", low, f"control {number}", n)
        for number, low in enumerate(controls, 1)
    )
    return [piece(relation, "paper", paper, n=n), *numbered]


def judged(*given: list[Evidence], rule: claims.Rule = RULE) -> tuple[str, str]:
    """The verdict and its sentence."""
    claim = claims.judge(rule, [one for part in given for one in part], model="m")
    return claim.verdict, claim.why


ALL, CONTROL_FAILS, NONE = (0.1, 0.1), (0.1, -0.3), (-0.3, -0.3)
PAPER_FAILS = "the paper's own comparison fails on"
PAPER_HOLDS = "the paper's own comparison holds on"


@pytest.mark.parametrize(
    ("relations", "verdict", "why"),
    [
        ({"a": ALL, "b": ALL}, "supported", "every criterion holds on a and b"),
        ({"a": ALL, "b": ALL, "c": NONE}, "supported", "every criterion holds on a and b"),
        (
            {"a": ALL, "b": NONE},
            "partly",
            f"every criterion holds on a only, and 2 are needed; {PAPER_FAILS} b (paper)",
        ),
        (
            {"a": CONTROL_FAILS, "b": CONTROL_FAILS},
            "partly",
            f"{PAPER_HOLDS} a and b; a control fails on a and b (control 1)",
        ),
        (
            {"a": CONTROL_FAILS, "b_c": NONE},
            "not supported",
            f"{PAPER_HOLDS} a only, and 2 are needed; it fails on b c (paper); "
            "a control fails on a (control 1)",
        ),
        ({"a": NONE, "b": NONE}, "not supported", f"{PAPER_FAILS} a and b (paper)"),
        (  # not measured: neither held nor failed
            {"a": (0.1, None), "b": (0.1, None), "c": (0.1, -0.3, None)},
            "partly",
            f"{PAPER_HOLDS} a, b and c; a control fails on c (control 1); "
            "not measured: control 1 (a and b), control 2 (c)",
        ),
        (  # the strongest control is named: what the vector beats by least
            {"a": (0.1, -0.2, -0.3, 0.1), "b": ALL},
            "partly",
            "every criterion holds on b only, and 2 are needed; a control fails on a (control 2)",
        ),
    ],
)
def test_the_verdict_and_its_sentence_follow_from_the_evidence(relations, verdict, why):
    given = [one for name, lows in relations.items() for one in evidence(name, *lows)]
    claim = claims.judge(RULE, given, model="m")
    assert (claim.verdict, claim.why) == (verdict, why)
    assert [one.holds for one in claim.measured] == [one.holds for one in given]


def test_what_the_paper_compared_counts_for_nothing_where_its_guard_fails():
    def guarded(name, low):
        return [*evidence(name, *CONTROL_FAILS), piece(name, "guard", low)]

    control = "a control fails on a and b (control 1)"
    assert judged(guarded("a", 0.1), guarded("b", 0.1)) == (
        "partly",
        f"{PAPER_HOLDS} a and b; {control}",
    )
    assert judged(guarded("a", 0.1), guarded("b", -0.1)) == (
        "not supported",
        f"{PAPER_HOLDS} a only, and 2 are needed; "
        "a guard of the comparison fails on b (guard); a control fails on a (control 1)",
    )
    assert judged(guarded("a", None), guarded("b", None)) == (
        "partly",
        f"{PAPER_HOLDS} a and b; {control}; not measured: guard",
    )


def answered(relation: str, accuracy: float, *, correct: int, shows: float = 0.9, asked: int = 100):
    """A task of chapter 1: how many items are answered, and how many of these show the stages."""
    right = [place < accuracy * asked for place in range(asked)]
    shown = share([place < shows * correct for place in range(correct)]) if correct else nothing()
    return [
        Evidence(
            relation=relation,
            criterion="accuracy",
            found=share(right),
            bound=0.1,
            kind="precondition",
        ),
        Evidence(relation=relation, criterion="share", found=shown, bound=0.5, kind="paper"),
    ]


def test_a_model_that_answers_nothing_refutes_nothing():
    tasks = [answered(task, 0.01, correct=1) for task in ("a", "b", "c")]
    why = "accuracy 0.01, not clearly above 0.1"
    assert judged(*tasks, rule=RULES["stages"]) == (
        "not testable here",
        f"0 of 3 relations can be tested, and 2 are needed; not tested: a, b and c ({why})",
    )


def test_a_few_perfect_items_are_no_test():
    tasks = [answered(task, 0.15, correct=15, shows=1, asked=1000) for task in ("a", "b")]
    assert judged(*tasks, rule=RULES["stages"]) == (
        "not testable here",
        "0 of 2 relations can be tested, and 2 are needed; "
        f"not tested: a and b (15 items, {LEAST})",
    )
    run = [answered(task, n / 30, correct=n, asked=30) for task, n in (("a", 4), ("b", 12))]
    verdict, why = judged(*run, rule=RULES["stages"])
    assert verdict == "not testable here"
    assert why.endswith(f"a (accuracy 0.13, not clearly above 0.1), b (12 items, {LEAST})")


def test_where_nothing_can_be_gained_nothing_is_tested():
    def gained(name, room):
        return [piece(name, "precondition", room, "room to gain"), *evidence(name, *NONE)]

    assert judged(gained("a", -0.09), gained("b", -0.09), rule=RULES["zero_shot"]) == (
        "not testable here",
        "0 of 2 relations can be tested, and 2 are needed; "
        "not tested: a and b (room to gain 0.01, not clearly above 0)",
    )
    assert judged(gained("a", 0.1), gained("b", 0.1), rule=RULES["zero_shot"]) == (
        "not supported",
        f"{PAPER_FAILS} a and b (paper)",
    )
    _, why = judged(gained("a", None), gained("b", 0.1))
    assert f"not tested: a (room to gain: 0 items, {LEAST})" in why


def test_one_relation_that_can_be_tested_is_too_few_and_what_it_shows_is_told():
    few = evidence("b", *ALL, n=LEAST_ITEMS - 1)
    verdict, why = judged(evidence("a", *ALL), few)
    assert verdict == "not testable here"
    assert why == (
        "1 of 2 relations can be tested, and 2 are needed; every criterion holds on a; "
        f"not tested: b (19 items, {LEAST})"
    )
    claim = claims.judge(RULE, few, model="m")
    assert [one.holds for one in claim.measured] == [None, None]  # shown all the same
    assert claim.measured[0].value == pytest.approx(0.2)


def test_what_needs_five_relations_is_not_supported_by_four():
    names = ["a", "b", "c", "d", "e"]
    rule = RULES["beyond"]
    five = [evidence(name, *ALL) for name in names]
    assert judged(*five, rule=rule)[0] == "supported"
    assert judged(*five[:-1], evidence("e", *NONE), rule=rule)[0] == "partly"
    assert judged(*five[:-1], rule=rule)[0] == "not testable here"


@pytest.mark.parametrize(("testable", "needed"), [(3, 2), (6, 2), (7, 3), (9, 3), (19, 7)])
def test_a_share_is_of_the_relations_that_can_be_tested(testable, needed):
    rule = dataclasses.replace(RULE, needed=2, share=1 / 3)
    unanswered = [piece("x", "precondition", -0.5), *evidence("x", *ALL)]

    def verdict(holding: int) -> tuple[str, str]:
        lows = [ALL] * holding + [NONE] * (testable - holding)
        given = [evidence(f"r{number}", *one) for number, one in enumerate(lows)]
        return judged(*given, unanswered, rule=rule)

    assert verdict(needed)[0] == "supported"
    short, why = verdict(needed - 1)
    assert short == "partly" and f" only, and {needed} are needed; " in why


def test_no_share_is_rounded_up_by_floating_point():
    rule = dataclasses.replace(RULE, needed=1, share=0.1)  # 0.1 * 30 is above 3
    given = [evidence(f"r{n}", *(ALL if n < 3 else NONE)) for n in range(30)]
    assert judged(*given, rule=rule)[0] == "supported"


def test_a_relation_with_too_few_items_neither_helps_nor_harms():
    both = [evidence("a", *ALL), evidence("b", *ALL)]
    assert judged(*both, evidence("few", *NONE, n=3))[0] == "supported"
    assert judged(both[0], evidence("few", *ALL, n=3))[0] == "not testable here"


def test_a_control_with_too_few_items_has_neither_held_nor_failed():
    few = piece("b", "control", -0.3, "few", n=3)
    verdict, why = judged(evidence("a", *ALL), [*evidence("b", *ALL), few])
    assert verdict == "partly" and why.endswith("; not measured: few (b)")


def test_evidence_without_a_comparison_of_the_paper_is_judged_by_its_controls():
    """As a study of one's own may have it."""
    rule = dataclasses.replace(RULE, needed=1)
    assert judged([piece("a", "control", 0.1)], rule=rule)[0] == "supported"
    failed = judged([piece("a", "control", -0.3, "accuracy")], rule=rule)
    assert failed == ("not supported", "a control fails on a (accuracy)")
    for untested in (piece("a", "control", 0.1, n=3), piece("a", "precondition", 0.1)):
        assert judged([untested], rule=rule)[0] == "not testable here"


def test_no_evidence_or_a_named_reason_is_not_testable():
    assert judged([]) == ("not testable here", "nothing was measured")
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
        (Interval(value=0.9, low=math.nan, high=math.nan, n=100), None),
        (nothing(), None),
        (found(0.6, n=LEAST_ITEMS - 1), None),
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
    assert (first.bound, first.holds, first.kind) == (0.0, True, "paper")
    assert (none.value, none.low, none.high, none.n, none.holds) == (None, None, None, 0, None)
    shown = (other.name, other.bound, other.holds, other.kind)
    assert shown == ("something else", None, None, None)


def test_a_claim_of_before_kinds_and_none_is_still_read():
    number = {"relation": "a", "name": "x", "value": 0.3, "low": 0.2, "high": 0.4, "n": 50}
    rows = [
        {"paper": True, "bound": 0.0, "holds": True},
        {"paper": False, "guard": True, "bound": 0.0, "holds": False},
        {"paper": False, "bound": 0.0, "holds": False, "n": LEAST_ITEMS - 1},
        {"paper": False, "bound": 0.0, "holds": False, "value": None, "low": None, "high": None},
        {"paper": False, "guard": False, "bound": None, "holds": None},
    ]
    claim = claims.judge(RULE, [], model="m").model_dump()
    old = Claim.model_validate({**claim, "measured": [number | row for row in rows]})
    assert [one.kind for one in old.measured] == ["paper", "guard", "control", "control", None]
    assert [one.holds for one in old.measured] == [True, False, None, None, None]
    assert Claim.model_validate_json(old.model_dump_json()) == old


def test_what_is_no_claim_is_refused():
    claim = claims.judge(RULE, [], model="m").model_dump()
    for change in ({"verdict": "perhaps"}, {"surprise": 1}, {"schema_version": 2}):
        with pytest.raises(ValidationError):
            Claim.model_validate({**claim, **change})
    del claim["why"]
    with pytest.raises(ValidationError):
        Claim.model_validate(claim)


def test_every_rule_says_when_and_belongs_to_a_chapter():
    listed = {entry.rpartition("/")[2] for entry in _listed()}
    for name, rule in RULES.items():
        assert rule.id == name and rule.chapter in listed
        assert rule.question.endswith("?") and rule.question.count("?") == 1
        assert "Supported where" in rule.sentence and "; partly, where" in rule.sentence
        # Before it at most what makes a task count.
        assert rule.sentence.count(". ") <= 1 and rule.sentence.endswith(".")


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


DATA_SETS = {"uppercase": "colored_objects", "irregular verbs": "irregular_verbs_ood"}
DATA_SETS |= {"words that are no colours": "non_color_words"}


def test_published_numbers_have_the_sizes_of_the_paper_s_data_sets(printed):
    sizes = printed["datasets"]
    for claim in ("content_independence", "retrieval"):
        for one in claims.published(claim):
            name = one.name.rpartition(", ")[2]
            known = sizes[DATA_SETS.get(name) or DATA_SETS.get(one.relation) or one.relation]
            assert one.n == (None if one.name.startswith("FFNs") else known)


def judged_here(claim_id: str, relations: tuple[str, ...], bound: float) -> Claim:
    """A verdict on a model that does nothing, with the criteria that the paper's numbers take."""
    given = [
        Evidence(relation=name, criterion=kind, found=found(-0.5), bound=bound, kind=kind)
        for name in relations
        for kind in ("precondition", "paper", "guard", "control")
    ]
    printed = claims.published(claim_id)
    return claims.judge(RULES[claim_id], given, model="m", published=printed)


def test_the_papers_interventions_pass_the_papers_criterion_and_nobody_measured_controls(printed):
    tasks = ("world_capitals", "past_tense", "uppercase")
    judged = claims.published_verdict(judged_here("content_independence", tasks, bound=0.02))
    assert (judged.verdict, judged.model) == ("partly", "gpt2-medium")
    assert judged.why == (
        f"{PAPER_HOLDS} world capitals, uppercase and past tense; not measured: guard, control"
    )
    rows = printed["intervention"]
    compared = {one.relation: one for one in judged.measured if one.kind == "paper"}
    for task in tasks:
        row, one = rows[task], compared[task]
        after = 1 / row["rank_after"] if row["rank_after"] else row["top1_after"]
        assert one.value == one.low == pytest.approx(after - 1 / row["rank_before"])
        assert one.holds is True and one.n == printed["datasets"][DATA_SETS.get(task, task)]
        # The paper's other numbers say no less: most answers rise, and those on top have risen.
        assert row["no_effect"] < 0.5 and row["top1_after"] <= 1 - row["no_effect"]
        assert row["rank_after"] is None or row["top1_after"] <= 1 / row["rank_after"] + 0.05
    rest = [one for one in judged.measured if one.kind != "paper"]
    assert {one.holds for one in rest} == {None} and len(rest) == 2 * len(tasks)


def test_the_papers_ablation_passes_on_the_one_task_that_it_prints_numbers_for(printed):
    both = ("world_capitals", "colored_objects")
    judged = claims.published_verdict(judged_here("retrieval", both, bound=0.0))
    lost = printed["ablation"]["bloom"]
    (compared,) = (one for one in judged.measured if one.kind == "paper")
    assert compared.value == pytest.approx(
        lost["colored_objects_abstractive_drop"] - lost["colored_objects_extractive_drop"]
    )
    assert compared.holds is True and judged.model == "bloom"
    assert (judged.verdict, judged.why) == (
        "not testable here",
        f"1 of 1 relations can be tested, and 2 are needed; {PAPER_HOLDS} colored objects; "
        "not measured: guard (colored objects), control (colored objects)",
    )


def test_a_claim_that_the_paper_prints_no_comparison_for_has_no_verdict_on_it():
    for claim_id in ("stages", "linear_update", "zero_shot", "beyond"):
        assert claims.published_verdict(judged_here(claim_id, ("world_capitals",), 0.0)) is None
    assert claims.published_verdict(judged_here("content_independence", (), 0.0)) is None
    other = judged_here("content_independence", ("world_capitals",), 0.0)
    assert claims.published_verdict(other.model_copy(update={"id": "a_study"})) is None


def test_published_numbers_of_the_model_that_ran_come_first():
    assert claims.published("linear_update", "gpt-j-6b")[0].model == "gpt-j-6b"
    assert claims.published("linear_update", "mini-2m")[0].model == "gpt2-medium"
    assert claims.published("zero_shot") == claims.published("beyond") == []
    with pytest.raises(KeyError):
        claims.published("no such claim")
