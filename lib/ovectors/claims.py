"""Claims: the questions of the book, the rules that judge them, and the schema of a verdict.

The rules were written down before the chapters were run. A chapter hands in its evidence, each
piece an interval beside the bound it has to clear; the verdict follows from these alone.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from ovectors.statistics import Interval, nothing

Verdict = Literal["supported", "partly", "not supported", "not testable here"]
Kind = Literal["precondition", "paper", "guard", "control"]
LEAST_ITEMS = 20
"""Fewer items (arguments) than this on a relation are no test of it: with so many, two of three
relations lie above a bound by chance in less than 5%, in the worst shape of
`benchmarks/false_positives.py`."""


LEAST_ARGUMENTS = 12
"""The same of arguments that several items are about: each counts as one, but as a mean."""


def least_of(arguments: Sequence[str]) -> int:
    """How many arguments a test needs, of items with these: fewer where each has three or more."""
    several = len(arguments) >= 3 * len(set(arguments))
    return LEAST_ARGUMENTS if several else LEAST_ITEMS


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a claim is judged.

    Attributes:
        id: the claim's name, and that of its file.
        chapter: the chapter that measures it.
        section: where the paper makes the claim; "" where it does not.
        question: what is asked.
        sentence: the rule, in one sentence that the page shows.
        needed: on how many relations every criterion must hold for `supported`, and how many have
            to be testable at all.
        share: the same as a share of the testable relations, where that is more.
    """

    id: str
    chapter: str
    section: str
    question: str
    sentence: str
    needed: int
    share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One criterion on one relation: it holds where the whole interval lies above `bound`.

    Attributes:
        kind: "precondition": without it the relation tests nothing (the model answers; there is
            room to gain); "paper": the comparison that the paper itself made; "control": one that
            it did not make; "guard": a control without which the paper's comparison means nothing,
            so that it counts for `partly` too.
        least: fewer items than this are no test (`least_of`).
    """

    relation: str
    criterion: str
    found: Interval
    bound: float
    kind: Kind = "control"
    least: int = LEAST_ITEMS

    @property
    def holds(self) -> bool | None:
        """None where it was not measured: on fewer than `least` items, or without bounds."""
        if self.found.n < self.least or math.isnan(self.found.low):
            return None
        return bool(self.found.low > self.bound)


RULES = {
    rule.id: rule
    for rule in (
        Rule(
            id="stages",
            chapter="01_stages_of_processing",
            section="sections 3 and 4.1",
            question="Does the argument come to the top of the residual stream before the answer?",
            sentence=(
                "A task counts where the model answers it (accuracy above 0.1). Supported where, "
                "on at least two tasks, over the items answered correctly, the argument's mean "
                "reciprocal rank is above the answer's by more than 0.1 after some layer or its "
                "attention, and the answer's is above the argument's later on (each where it is "
                "clearest, intervals corrected for the number of these places); partly, where one "
                "task does."
            ),
            needed=2,
        ),
        Rule(
            id="linear_update",
            chapter="02_linear_update",
            section="section 4.1",
            question="Does one FFN turn the argument into the answer by adding a vector?",
            sentence=(
                "A task counts where the model answers it (accuracy above 0.1). Supported where, "
                "on at least two tasks, the FFN makes the last switch to the answer on more than "
                "half of the items answered correctly, subtracting its o vector there puts the "
                "argument back above the answer on more than half of them, and does so more often "
                "than subtracting a random vector of equal norm; partly, where one task does or "
                "the first two hold on two."
            ),
            needed=2,
        ),
        Rule(
            id="content_independence",
            chapter="03_content_independence",
            section="section 4",
            question="Does the o vector of one example work on arguments it has never met?",
            sentence=(
                "Supported where, on at least two relations, putting one example's o vector in "
                "place of the FFN outputs raises the answer's mean reciprocal rank in nonsense "
                "patterns more than 0.02 above the control run, above a random vector of equal "
                "norm, above other relations' vectors and above the mean FFN output at the last "
                "tokens of ordinary patterns, and more than it raises another item's answer; "
                "partly, where one relation does, or on two the control run is beaten by 0.02 and "
                "the answer rises more than another item's."
            ),
            needed=2,
        ),
        Rule(
            id="function_specificity",
            chapter="03_content_independence",
            section="",
            question="Does the o vector say which function to apply, or only that one is due?",
            sentence=(
                "A relation counts where the model answers it (accuracy above 0.1) and it shares "
                "its arguments with another such one. Supported where, on a third of the testable "
                "relations, and at least two, the own relation's vector raises the answer above "
                "the control run and above every other relation's vector; partly, where one "
                "relation does or the control run alone is beaten on as many as that."
            ),
            needed=2,
            share=1 / 3,
        ),
        Rule(
            id="retrieval",
            chapter="04_retrieval_versus_context",
            section="section 5",
            question="Do the late FFNs serve recall from memory more than reading from context?",
            sentence=(
                "A task counts where the model answers enough arguments of each kind of prompt "
                "(20, or 12 where each has three items or more). Supported where, on capitals and "
                "on coloured objects, removing FFNs from the top down loses a larger share of what "
                "it answers on abstractive prompts than on extractive ones, on average over one to "
                "five sixths of the layers; partly, where it does on one of the two."
            ),
            needed=2,
        ),
        Rule(
            id="zero_shot",
            chapter="05_zero_shot",
            section="section 4",
            question="Does adding the o vector make the model answer without a demonstration?",
            sentence=(
                "A relation counts where there is something to gain: with a demonstration accuracy "
                "is more than 0.1 above what it is without. Supported where, on at least two "
                "relations, adding the o vector to zero-shot prompts raises accuracy above what it "
                "was and above what a random vector of equal norm does; partly, where one relation "
                "does or only the first holds on two."
            ),
            needed=2,
        ),
        Rule(
            id="beyond",
            chapter="07_beyond",
            section="",
            question="Does the mechanism reach past the paper's three tasks?",
            sentence=(
                "Supported where the rule of content independence holds on at least five further "
                "relations (0.02 above the control run, and above every control vector); partly, "
                "where it holds on one, or on five the control run is beaten by 0.02 and the "
                "answer rises more than another item's."
            ),
            needed=5,
        ),
    )
}
"""The book's claims by id; `studies` has those of forks. All intervals are corrected for the number
of relations they stand for."""


class Measured(BaseModel):
    """A number of a verdict, with its interval; bound, holds and kind as in its `Evidence`, and no
    bound or kind for a number that is only shown beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relation: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    bound: float | None = None
    holds: bool | None = None
    kind: Kind | None = None
    least: int = LEAST_ITEMS

    @model_validator(mode="before")
    @classmethod
    def _as_before(cls, told: object) -> object:
        """Claims of before 2026-11-29 told two of the kinds by flags, and knew no None."""
        if isinstance(told, dict) and {"paper", "guard"} & told.keys():
            told = dict(told)
            flags = {"paper": told.pop("paper", False), "guard": told.pop("guard", False)}
            named = next((kind for kind, is_it in flags.items() if is_it), "control")
            told["kind"] = named if told.get("bound") is not None else None
            if told.get("low") is None or told["n"] < LEAST_ITEMS:
                told["holds"] = None
        return told


class Published(BaseModel):
    """A number that the paper prints for the same thing; `n` items, where it tells them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relation: str
    name: str
    value: float
    model: str
    where: str
    n: int | None = None


class Cost(BaseModel):
    """What a chapter took: wall-clock seconds, and the most memory its process held."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float
    peak_memory_bytes: int


class Claim(BaseModel):
    """A verdict with everything that led to it, as it is written to `claims/<id>.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    id: str
    chapter: str
    model: str
    question: str
    section: str
    rule: str
    measured: list[Measured]
    published: list[Published]
    verdict: Verdict
    why: str
    cost: Cost | None = None


def judge(
    rule: Rule,
    evidence: Sequence[Evidence],
    *,
    model: str,
    published: Sequence[Published] = (),
    context: Sequence[Measured] = (),
    untestable: str = "",
) -> Claim:
    """Apply a rule to its evidence.

    A relation is tested where all its preconditions hold and the paper's comparison was measured on
    LEAST_ITEMS items. Not testable here: `untestable` names a reason, or fewer relations are tested
    than the rule needs. Supported: on as many as it needs every criterion holds. Partly: on at
    least one every criterion holds, or on as many as it needs the paper's own does and no guard
    fails. Not supported otherwise. A control that was not measured has neither held nor failed.
    `context` is further numbers that the card shows and the verdict does not use.
    """
    measured = [*map(_measured, evidence)]
    relations = by_relation(measured)
    untested = {name: why for name, own in relations.items() if (why := why_untested(own))}
    tested = {name: own for name, own in relations.items() if name not in untested}
    needed = max(rule.needed, math.ceil(rule.share * len(tested) - 1e-9))
    passed = [name for name, own in tested.items() if all(one.holds for one in own)]
    as_paper = [name for name, own in tested.items() if _as_the_paper(own)]
    verdict: Verdict = "not supported"
    if untestable or len(tested) < rule.needed:
        verdict = "not testable here"
    elif len(passed) >= needed:
        verdict = "supported"
    elif passed or len(as_paper) >= needed:
        verdict = "partly"
    found = {"every criterion": passed} if passed else {COMPARISON: as_paper}
    why = untestable or "; ".join(_sentence(verdict, needed, found, tested, untested))
    return Claim(
        id=rule.id,
        chapter=rule.chapter,
        model=model,
        question=rule.question,
        section=rule.section,
        rule=rule.sentence,
        measured=[*measured, *context],
        published=list(published),
        verdict=verdict,
        why=why,
    )


def _sentence(
    verdict: Verdict,
    needed: int,
    found: Mapping[str, Sequence[str]],
    tested: Mapping[str, Sequence[Measured]],
    untested: Mapping[str, str],
) -> list[str]:
    """The parts of the sentence under a verdict; `found` is what holds, with where it does."""
    if not tested and not untested:
        return ["nothing was measured"]
    ((what, where),) = found.items()
    too_few = verdict == "not testable here"
    said = []
    if too_few:
        counts = f"{len(tested)} of {len(tested) + len(untested)} relations can be tested"
        said.append(f"{counts}, and {needed} are needed")
    if where:
        only = f" only, and {needed} are needed" * (not too_few and len(where) < needed)
        said.append(f"{what} holds on {_named(where)}{only}")
    if verdict == "supported":
        return said
    short = {name: own for name, own in tested.items() if not all(one.holds for one in own)}
    named = f"{COMPARISON} fails" if where and what == COMPARISON else ""
    said += [one.replace(named, "it fails") if named else one for one in _short_of(short)]
    return said + [f"not tested: {_with_why(untested)}"] * bool(untested)


def by_relation(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """What a verdict was found from, by relation; numbers that are only shown are left out."""
    found: dict[str, list[Measured]] = {}
    for one in measured:
        if one.kind is not None:
            found.setdefault(one.relation, []).append(one)
    return found


def why_untested(own: Sequence[Measured]) -> str:
    """Why the evidence on one relation tests nothing; "" where it does."""
    for one in own:
        if one.kind == "precondition" and one.holds is None:
            return f"{one.name}: {_unmeasured(one)}"
        if one.kind == "precondition" and not one.holds:
            return f"{one.name} {one.value:.2f}, not clearly above {one.bound:g}"
    compared = [one for one in own if one.kind == "paper"]
    compared = compared or [one for one in own if one.kind != "precondition"]
    if not compared:
        return "nothing was compared"
    return next((_unmeasured(one) for one in compared if one.holds is None), "")


def _unmeasured(one: Measured) -> str:
    return f"{one.n} items, {one.least} are needed" if one.n < one.least else "no interval"


def _as_the_paper(own: Sequence[Measured]) -> bool:
    """Whether the comparison that the paper made holds, and no guard takes its meaning away."""
    compared = [one.holds for one in own if one.kind == "paper"]
    guarded = not any(one.holds is False for one in own if one.kind == "guard")
    return bool(compared) and all(compared) and guarded


COMPARISON = "the paper's own comparison"
FAILS = {
    "paper": f"{COMPARISON} fails",
    "guard": "a guard of the comparison fails",
    "control": "a control fails",
}
"""What it is called when a criterion fails, by its kind, the gravest first."""


def first_failure(own: Sequence[Measured]) -> Measured | None:
    """What on one relation fails first: the paper's comparison, a guard, or the strongest control,
    which is the one that the vector beats by least."""
    for kind in FAILS:
        failed = [one for one in own if one.kind == kind and one.holds is False]
        if failed:
            return min(failed, key=lambda one: one.value) if kind == "control" else failed[0]
    return None


def _short_of(tested: Mapping[str, Sequence[Measured]]) -> list[str]:
    """What fails first on each of these relations, and which controls nobody measured."""
    said = []
    failed = {name: one for name, own in tested.items() if (one := first_failure(own))}
    for kind, fails in FAILS.items():
        why = {name: one.name for name, one in failed.items() if one.kind == kind}
        said += [f"{fails} on {_with_why(why)}"] * bool(why)
    missing: dict[str, list[str]] = {}
    for name, own in tested.items():
        for one in own:
            if one.holds is None:
                missing.setdefault(one.name, []).append(name)
    where = [
        name if len(names) == len(tested) > 1 else f"{name} ({_named(names)})"
        for name, names in missing.items()
    ]
    return said + [f"not measured: {', '.join(where)}"] * bool(where)


def _with_why(reasons: Mapping[str, str]) -> str:
    """`past tense and uppercase (a reason), world capitals (another)`."""
    where: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        where.setdefault(reason, []).append(name)
    return ", ".join(f"{_named(names)} ({reason})" for reason, names in where.items())


def published(claim_id: str, model: str = "") -> list[Published]:
    """The paper's numbers for a claim, on whatever models it has them; those on `model` first.

    The list is empty where the paper prints none. Raises KeyError for what is no claim.
    """
    RULES[claim_id]
    known = _all_published().get(claim_id, ())
    return sorted(known, key=lambda one: one.model != model)


@cache
def _all_published() -> dict[str, tuple[Published, ...]]:
    """What `published.toml` holds, checked against the schema."""
    rows = tomllib.loads(files("ovectors").joinpath("published.toml").read_text("utf-8"))
    return {name: tuple(Published(**row) for row in found) for name, found in rows.items()}


def published_verdict(claim: Claim) -> Claim | None:
    """The verdict of a claim's rule on the numbers that the paper prints, with the criteria that
    the claim has on the same relations.

    A printed number has no interval and stands for itself. What the paper prints no number for was
    not measured; that its models answer is taken for granted. None where it prints no comparison.
    """
    if claim.id not in RULES:
        return None
    printed, evidence = published(claim.id), []
    for relation in dict.fromkeys(one.relation for one in printed):
        rows = [one for one in printed if one.relation == relation]
        value = _printed_difference({one.name: one.value for one in rows})
        found = Interval(value=value, low=value, high=value, n=max(one.n or 0 for one in rows))
        evidence += [
            Evidence(
                relation=relation,
                criterion=one.name,
                found=found if one.kind == "paper" else nothing(),
                bound=one.bound,
                kind=one.kind,
            )
            for one in claim.measured
            if one.relation == relation and one.kind in FAILS and not math.isnan(value)
        ]
    models = " and ".join(dict.fromkeys(one.model for one in printed))
    return judge(RULES[claim.id], evidence, model=models, published=printed) if evidence else None


def _printed_difference(printed: Mapping[str, float]) -> float:
    """What the paper compares on one relation, in this book's unit; NaN where it does not.

    Ranks are turned back into reciprocal ranks, whose mean is at least the share of answers on top:
    upper-casing has no rank afterwards.
    """
    if "accuracy lost on abstractive prompts" in printed:
        lost = printed["accuracy lost on abstractive prompts"]
        return lost - printed["accuracy lost on extractive prompts"]
    if "answer's rank before" not in printed:
        return math.nan
    ranked = "answer's rank after" in printed
    after = 1 / printed["answer's rank after"] if ranked else printed["answer on top after"]
    return after - 1 / printed["answer's rank before"]


def context(relation: str, name: str, found: Interval) -> Measured:
    """A number that a card shows beside the evidence."""
    return Measured(relation=relation, name=name, **found.plain())


def _measured(one: Evidence) -> Measured:
    shown = context(one.relation, one.criterion, one.found)
    told = {"bound": one.bound, "holds": one.holds, "kind": one.kind, "least": one.least}
    return shown.model_copy(update=told)


def _named(relations: Sequence[str]) -> str:
    *first, last = (name.replace("_", " ") for name in relations)
    return f"{', '.join(first)} and {last}" if first else last
