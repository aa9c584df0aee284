"""Claims: the questions of the book, the rules that judge them, and the schema of a verdict.

The rules were written down before the chapters were run. A chapter hands in its evidence, each
piece an interval beside the bound it has to clear; the verdict follows from these alone.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ovectors.statistics import Interval

Verdict = Literal["supported", "partly", "not supported", "not testable here"]
LEAST_ITEMS = 20
"""Fewer items than this on a relation are no test of it."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a claim is judged.

    Attributes:
        id: the claim's name, and that of its file.
        chapter: the chapter that measures it.
        section: where the paper makes the claim; "" where it does not.
        question: what is asked.
        sentence: the rule, in one sentence that the page shows.
        needed: on how many relations every criterion must hold for `supported`.
    """

    id: str
    chapter: str
    section: str
    question: str
    sentence: str
    needed: int


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One criterion on one relation: it holds where the whole interval lies above `bound`.

    It never holds on fewer than LEAST_ITEMS items. `paper` marks the comparison that the paper
    itself made; the others are controls that it did not make. `guard` marks a control without which
    the paper's comparison means nothing, so that it counts for `partly` too.
    """

    relation: str
    criterion: str
    found: Interval
    bound: float
    paper: bool = False
    guard: bool = False

    @property
    def holds(self) -> bool:
        """False too where the interval has no bounds (NaN)."""
        return self.found.n >= LEAST_ITEMS and bool(self.found.low > self.bound)


RULES = {
    rule.id: rule
    for rule in (
        Rule(
            id="stages",
            chapter="01_stages_of_processing",
            section="sections 3 and 4.1",
            question="Does the argument come to the top of the residual stream before the answer?",
            sentence=(
                "Supported where, on at least two tasks, the model answers (accuracy above 0.1) "
                "and more than half of the items answered correctly show argument formation, "
                "function application and saturation; partly, where one task does."
            ),
            needed=2,
        ),
        Rule(
            id="linear_update",
            chapter="02_linear_update",
            section="section 4.1",
            question="Does one FFN turn the argument into the answer by adding a vector?",
            sentence=(
                "Supported where, on at least two tasks, the model answers (accuracy above 0.1), "
                "the FFN makes the last switch to the answer on more than half of the items "
                "answered correctly, subtracting its o vector there puts the argument back above "
                "the answer on more than half of them, and does so more often than subtracting a "
                "random vector of equal norm; partly, where one task does or the first three hold "
                "on two."
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
                "patterns above the control run, above a random vector of equal norm and above "
                "another relation's vector, and more than it raises another item's answer; partly, "
                "where one relation does, or on two the control run is beaten and the answer "
                "rises more than another item's."
            ),
            needed=2,
        ),
        Rule(
            id="function_specificity",
            chapter="03_content_independence",
            section="",
            question="Does the o vector say which function to apply, or only that one is due?",
            sentence=(
                "Supported where, on arguments that several relations share, the own relation's "
                "vector raises the answer above the control run and above the other relations' "
                "vectors on at least two relations; partly, where one relation does or only the "
                "control run is beaten on two."
            ),
            needed=2,
        ),
        Rule(
            id="retrieval",
            chapter="04_retrieval_versus_context",
            section="section 5",
            question="Do the late FFNs serve recall from memory more than reading from context?",
            sentence=(
                "Supported where, on capitals and on coloured objects, the model answers both "
                "kinds of prompt (accuracy above 0.5) and removing the top third of the FFNs costs "
                "more accuracy on abstractive prompts than on extractive ones; partly, where one "
                "of the two does or the second part alone holds on both."
            ),
            needed=2,
        ),
        Rule(
            id="zero_shot",
            chapter="05_zero_shot",
            section="section 4",
            question="Does adding the o vector make the model answer without a demonstration?",
            sentence=(
                "Supported where, on at least two relations, adding the o vector to zero-shot "
                "prompts raises accuracy above what it was and above what a random vector of equal "
                "norm does; partly, where one relation does or only the first holds on two."
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
                "relations; partly, where it holds on one, or on five the control run is beaten "
                "and the answer rises more than another item's."
            ),
            needed=5,
        ),
    )
}
"""The book's claims by id; `studies` has those of forks. All intervals are corrected for the number
of relations they stand for."""


class Measured(BaseModel):
    """A number of a verdict, with its interval; bound to guard as in its `Evidence`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relation: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    bound: float | None = None
    holds: bool | None = None
    paper: bool = False
    guard: bool = False


class Published(BaseModel):
    """A number that the paper prints for the same thing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relation: str
    name: str
    value: float
    model: str
    where: str


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

    Not testable here: `untestable` names a reason, or no relation has LEAST_ITEMS items. Supported:
    on `rule.needed` relations every criterion holds. Partly: on at least one relation every
    criterion holds, or on `rule.needed` relations the paper's own does, with the guards that give
    it a meaning. Not supported otherwise. `context` is further numbers that the card shows and
    the verdict does not use.
    """
    tested = {one.relation for one in evidence if one.found.n >= LEAST_ITEMS}
    counted = [one for one in evidence if one.relation in tested]
    passed = _where_all_hold(counted)
    as_paper = _where_all_hold([one for one in counted if one.paper or one.guard])
    if untestable or not counted:
        most = max((one.found.n for one in evidence), default=0)
        verdict = "not testable here"
        why = untestable or f"at most {most} items, and {LEAST_ITEMS} are needed"
    elif len(passed) >= rule.needed:
        verdict, why = "supported", f"every criterion holds on {_named(passed)}"
    elif passed:
        verdict = "partly"
        why = f"every criterion holds on {_named(passed)} only, and {rule.needed} are needed"
    elif len(as_paper) >= rule.needed:
        verdict = "partly"
        why = f"the paper's own comparison holds on {_named(as_paper)}, the controls do not"
    else:
        verdict, why = "not supported", _missing(counted)
    return Claim(
        id=rule.id,
        chapter=rule.chapter,
        model=model,
        question=rule.question,
        section=rule.section,
        rule=rule.sentence,
        measured=[*map(_measured, evidence), *context],
        published=list(published),
        verdict=verdict,
        why=why,
    )


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


def context(relation: str, name: str, found: Interval) -> Measured:
    """A number that a card shows beside the evidence."""
    return Measured(relation=relation, name=name, n=found.n, **_numbers(found))


def _measured(one: Evidence) -> Measured:
    shown = context(one.relation, one.criterion, one.found)
    told = {"bound": one.bound, "holds": one.holds, "paper": one.paper, "guard": one.guard}
    return shown.model_copy(update=told)


def _numbers(found: Interval) -> dict[str, float | None]:
    """Value and bounds, None for what an interval does not have."""
    named = {"value": found.value, "low": found.low, "high": found.high}
    return {name: None if math.isnan(number) else number for name, number in named.items()}


def _where_all_hold(evidence: Sequence[Evidence]) -> list[str]:
    """The relations on which every one of these pieces of evidence holds."""
    failed = {one.relation for one in evidence if not one.holds}
    return [name for name in dict.fromkeys(one.relation for one in evidence) if name not in failed]


def _named(relations: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in relations)


def _missing(evidence: Sequence[Evidence]) -> str:
    """What fails: for each relation its first criterion that does."""
    first: dict[str, str] = {}
    for one in evidence:
        if not one.holds:
            first.setdefault(one.relation, one.criterion)
    failed = [f"{name.replace('_', ' ')} ({criterion})" for name, criterion in first.items()]
    return "it fails on " + ", ".join(failed)
