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

from ovectors.statistics import Interval

Verdict = Literal["supported", "partly", "not supported", "not testable here"]
Kind = Literal["precondition", "paper", "guard", "control"]
LEAST_ITEMS = 20
"""Fewer items (arguments) than this on a relation are no test of it: with so many, two of three
relations lie above a bound by chance in less than 5%, in the worst shape of
`benchmarks/false_positives.py`."""


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
    """

    relation: str
    criterion: str
    found: Interval
    bound: float
    kind: Kind = "control"

    @property
    def holds(self) -> bool | None:
        """None where it was not measured: on fewer than LEAST_ITEMS items, or without bounds."""
        if self.found.n < LEAST_ITEMS or math.isnan(self.found.low):
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

    @model_validator(mode="before")
    @classmethod
    def _as_before(cls, told: object) -> object:
        """Claims of before 2026-11-29 told two of the kinds by flags."""
        if isinstance(told, dict) and {"paper", "guard"} & told.keys():
            told = dict(told)
            flags = {"paper": told.pop("paper", False), "guard": told.pop("guard", False)}
            named = next((kind for kind, is_it in flags.items() if is_it), "control")
            told["kind"] = named if told.get("bound") is not None else None
        return told


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

    A relation is tested where all its preconditions hold and the paper's comparison was measured on
    LEAST_ITEMS items. Not testable here: `untestable` names a reason, or fewer relations are tested
    than the rule needs. Supported: on as many as it needs every criterion holds. Partly: on at
    least one every criterion holds, or on as many as it needs the paper's own does and no guard
    fails. Not supported otherwise. A control that was not measured has neither held nor failed.
    `context` is further numbers that the card shows and the verdict does not use.
    """
    relations = _by_relation(evidence)
    untested = {name: why for name, own in relations.items() if (why := _untested(own))}
    tested = {
        name: [one for one in own if one.kind != "precondition"]
        for name, own in relations.items()
        if name not in untested
    }
    needed = max(rule.needed, math.ceil(rule.share * len(tested)))
    passed = [name for name, own in tested.items() if all(one.holds for one in own)]
    as_paper = [
        name
        for name, own in tested.items()
        if all(one.holds for one in own if one.kind == "paper")
        and not any(one.holds is False for one in own if one.kind == "guard")
    ]
    if untestable or len(tested) < rule.needed:
        verdict, why = "not testable here", untestable or _too_few(rule, tested, untested)
    elif len(passed) >= needed:
        verdict, why = "supported", f"every criterion holds on {_named(passed)}"
    elif passed:
        verdict = "partly"
        why = f"every criterion holds on {_named(passed)} only, and {needed} are needed"
        why += _short_of({name: tested[name] for name in tested if name not in passed})
    elif len(as_paper) >= needed:
        verdict = "partly"
        why = f"the paper's own comparison holds on {_named(as_paper)}"
        why += _short_of({name: tested[name] for name in as_paper})
    else:
        verdict = "not supported"
        why = _short_of(tested).removeprefix("; ")
        if as_paper:
            where = f"the paper's own comparison holds on {_named(as_paper)} only"
            why = f"{where}, and {needed} are needed; {why}"
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


def _by_relation(evidence: Sequence[Evidence]) -> dict[str, list[Evidence]]:
    found: dict[str, list[Evidence]] = {}
    for one in evidence:
        found.setdefault(one.relation, []).append(one)
    return found


def _untested(evidence: Sequence[Evidence]) -> str:
    """Why the evidence on one relation tests nothing; "" where it does."""
    for one in evidence:
        if one.kind == "precondition" and not one.holds:
            if one.holds is None:
                return f"{one.criterion}: {_items(one)}"
            return f"{one.criterion} {one.found.value:.2f}, not clearly above {one.bound:g}"
        if one.kind == "paper" and one.holds is None:
            return _items(one)
    return ""


def _items(one: Evidence) -> str:
    """How few items a piece of evidence has."""
    few = one.found.n < LEAST_ITEMS
    return f"{one.found.n} items, {LEAST_ITEMS} are needed" if few else "it has no interval"


def _too_few(rule: Rule, tested: Mapping[str, object], untested: Mapping[str, str]) -> str:
    """Why fewer relations are tested than the rule needs."""
    said = "; ".join(f"{_named([name])} ({why})" for name, why in untested.items())
    counts = f"{len(tested)} of {len(tested) + len(untested)} relations can be tested"
    return f"{counts}, and {rule.needed} are needed{': ' * bool(said)}{said}"


def _short_of(tested: Mapping[str, Sequence[Evidence]]) -> str:
    """What fails on these relations, the paper's comparison before controls, and what nobody
    measured: the first of each kind on each relation."""
    parts = {
        "the paper's own comparison fails on": ("paper", False),
        "it means nothing, by its control, on": ("guard", False),
        "a control fails on": ("control", False),
        "not measured on": ("control", None),
    }
    said, told = "", set()
    for what, (kind, holds) in parts.items():
        kinds = ("guard", "control") if holds is None else (kind,)
        found = {}
        for name, own in tested.items():
            for one in own:
                if one.kind in kinds and one.holds is holds and (holds is None or name not in told):
                    found.setdefault(name, []).append(one.criterion)
        told |= found.keys() if holds is False else set()
        named = [
            f"{_named([name])} ({', '.join(criteria if holds is None else criteria[:1])})"
            for name, criteria in found.items()
        ]
        said += f"; {what} {', '.join(named)}" if named else ""
    return said


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
    told = {"bound": one.bound, "holds": one.holds, "kind": one.kind}
    return shown.model_copy(update=told)


def _numbers(found: Interval) -> dict[str, float | None]:
    """Value and bounds, None for what an interval does not have."""
    named = {"value": found.value, "low": found.low, "high": found.high}
    return {name: None if math.isnan(number) else number for name, number in named.items()}


def _named(relations: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in relations)
