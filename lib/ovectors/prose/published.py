"""Published against here: the committed results of every model beside those of the runs here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ovectors import diff, paths, record, runs
from ovectors.catalogue import by_size
from ovectors.claims import Measured
from ovectors.diff import Comparison, Row
from ovectors.prose.common import interval, listed, title
from ovectors.prose.fits import table
from ovectors.prose.front import cell, claim_name

NOTHING = "No model has both published results and runs here, so there is nothing to compare.\n"
_WORDS = {
    "equal": "equal",
    "close": "close",
    "agrees": "agree",
    "differs": "**apart**",
    "only in A": "**published only**",
    "only in B": "**here only**",
}
_COPIED = "{} are from the very runs that were published, so that nothing is tested by it."
_PARTS = {
    "chapter": "the chapter's text or code",
    "library": "the library",
    "data": "the data",
    "model": "the model",
    "parameters": "the parameters",
    "versions": "versions of other libraries",
    "device": "the kind of device",
}


def published() -> str:
    """Every claim of every model that has been published and run here, number by number."""
    parts = [part for model, found in _by_model().items() for part in _model(model, found)]
    return "\n\n".join(parts) + "\n" if parts else NOTHING


def _by_model() -> dict[str, list[Comparison]]:
    """The chapters on both sides: what was not run here again is no difference."""
    both = by_size({*record.models_with_record()} & {*runs.models_with_runs()})
    found = {}
    for model in both:
        folders = (str(paths.PUBLISHED / model), str(paths.RUNS / model))
        sides = [{side.chapter for side in diff.read_folder(Path(one))} for one in folders]
        if all(sides):
            shared = sides[0] & sides[1]
            every = diff.compare(*folders)
            found[model] = [one for one in every if one.chapter in shared or one.trouble]
    return {model: compared for model, compared in found.items() if compared}


def _model(model: str, found: Sequence[Comparison]) -> list[str]:
    rows = [_claim_row(one) for one in found if one.claim]
    heads = ["claim", "published", "here", "numbers", "what of the key changed"]
    parts = [f"## {model}", summary(found), "\n".join(table(heads, rows))]
    parts += [
        f"**{one.chapter} cannot be compared:** {one.trouble}." for one in found if one.trouble
    ]
    return parts + [_numbers(one) for one in found if one.rows]


def summary(found: Sequence[Comparison]) -> str:
    """How many verdicts are the same, and how near the numbers are."""
    claims = [one for one in found if one.claim]
    same = sum(one.verdicts[0] == one.verdicts[1] for one in claims)
    counts = _counts(row for one in claims for row in one.rows)
    said = f"{same} of {len(claims)} verdicts are the same; of the numbers, {counts}."
    copied = [one.claim for one in claims if one.one_run]
    if copied and len(copied) == len(claims):
        said += f" {_COPIED.format('These')}"
    elif copied:
        said += f" {_COPIED.format(f'Those of {listed([claim_name(one) for one in copied])}')}"
    return said


def _counts(rows: Iterable[Row]) -> str:
    kinds = [row.agreement for row in rows]
    told = [
        f"{kinds.count(kind)} {words.strip('*')}" for kind, words in _WORDS.items() if kind in kinds
    ]
    return listed(told) if told else "there are none"


def _claim_row(one: Comparison) -> list[str]:
    before, after = (verdict or "none" for verdict in one.verdicts)
    changed = ", ".join(_PARTS.get(part, part) for part in one.changed) or "nothing"
    after = after if before == after else f"**{after}**"
    return [claim_name(one.claim), before, after, _counts(one.rows), changed]


def _numbers(one: Comparison) -> str:
    """Every number of a claim, folded away."""
    rows = [
        [title(row.relation), cell(row.name), _shown(row.a), _shown(row.b), _WORDS[row.agreement]]
        for row in one.rows
    ]
    heads = ["relation", "number", "published", "here", "they are"]
    lines = [f":::{{dropdown}} {claim_name(one.claim)}: every number", *table(heads, rows)]
    lines += ["", *(f"- {reason}" for reason in one.reasons)]
    return "\n".join([*lines, ":::"])


def _shown(one: Measured | None) -> str:
    if one is None or one.value is None:
        return "none"
    nan = float("nan")
    low, high = (nan if bound is None else bound for bound in (one.low, one.high))
    return f"{interval(one.value, low, high)}, n = {one.n:,}"
