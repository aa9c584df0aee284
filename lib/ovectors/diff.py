"""Two folders of results side by side: every number of every verdict, and what made them differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ovectors import keys, paths, record, results, runs
from ovectors.claims import Claim, Measured
from ovectors.errors import UserError
from ovectors.results import BrokenResult

Agreement = Literal["equal", "close", "agrees", "differs", "only in A", "only in B"]
CLOSE = 0.01
"""Two machines round differently, and an item whose two best tokens are nearly equal may then come
out otherwise: so large a share of the items may, one of them always. The numbers of verdicts are
means over items of something between -1 and 1; mean ranks are larger, and may move in proportion.
"""
WORDS = {"mine": "RUNS", "published": "PUBLISHED"}
"""Names for two folders of the project: the runs here, and what is committed of earlier ones."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """The verdicts of one chapter on one model in a folder; `parts` is empty where no key is known,
    `started` where no time is, and `trouble` tells why they cannot be trusted."""

    model: str
    chapter: str
    claims: Mapping[str, Claim]
    parts: Mapping[str, Any]
    started: str = ""
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number on both sides, None where a side does not have it.

    "equal": the same to the last digit; "close": no further apart than two machines may be that run
    the same code (`CLOSE`); "agrees": the intervals overlap (a number without one stands for
    itself); "differs": they do not, or only one side could measure it.
    """

    relation: str
    name: str
    a: Measured | None
    b: Measured | None
    agreement: Agreement


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One claim on one model.

    Attributes:
        verdicts: of A and B, "" where one is not there.
        changed: the parts of the key that differ; reasons: each thing that does, a line each.
        one_run: whether A and B come from one and the same run, so that nothing was tested.
        trouble: what is wrong with the files of either side.
    """

    model: str
    chapter: str
    claim: str
    verdicts: tuple[str, str]
    rows: tuple[Row, ...]
    changed: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    one_run: bool = False
    trouble: str = ""

    @property
    def same(self) -> bool:
        """Whether the verdicts are one, and no number differs."""
        return self._alike("equal", "close", "agrees")

    @property
    def close(self) -> bool:
        """The same, and every number as near as two machines that run the same code may be."""
        return self._alike("equal", "close")

    def _alike(self, *enough: Agreement) -> bool:
        agreed = all(row.agreement in enough for row in self.rows)
        return agreed and self.verdicts[0] == self.verdicts[1] and not self.trouble


def compare(a: str, b: str) -> list[Comparison]:
    """Every claim of two folders of results, by model and chapter.

    A folder is `book/runs` or `book/results` (`mine` and `published` stand for these), one model's
    in either of them, or the `results` of runs made by hand; files count where their hash is right.
    Where each side has one model, the two are compared whatever they are called. UserError for a
    folder without results.
    """
    sides = [_by_place(read_folder(_folder(name)), name) for name in (a, b)]
    models = [{model for model, _ in side} for side in sides]
    if len(models[0]) == len(models[1]) == 1 and models[0] != models[1]:
        (other,) = models[0]
        sides[1] = {(other, chapter): side for (_, chapter), side in sides[1].items()}
    found: list[Comparison] = []
    for place in sorted(sides[0].keys() | sides[1].keys()):
        found += _compared(*place, sides[0].get(place), sides[1].get(place))
    return found


def _folder(name: str) -> Path:
    folder = getattr(paths, WORDS[name]) if name in WORDS else Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    return folder


def _by_place(sides: Sequence[Side], name: str) -> dict[tuple[str, str], Side]:
    if not sides:
        raise UserError(
            f"{name} holds no results: give a folder of runs or of published results, or one "
            "model's in it"
        )
    return {(side.model, side.chapter): side for side in sides}


def read_folder(folder: Path) -> list[Side]:
    """The verdicts in a folder of results, whatever left them there."""
    for read in (_published, _runs, _by_hand):
        below = (path for path in sorted(folder.iterdir()) if path.is_dir())
        if found := [side for one in (folder, *below) for side in read(one)]:
            return found
    return []


def _published(folder: Path) -> Iterator[Side]:
    try:
        chapters = record.read_record(folder).chapters
    except BrokenResult as error:
        yield Side(model=folder.name, chapter="", claims={}, parts={}, trouble=str(error))
        return
    for kept in chapters:
        changed = [
            name
            for name, digest in kept.files.items()
            if not (folder / name).is_file() or results.sha256_of(folder / name) != digest
        ]
        trouble = f"{changed[0]} is not what was published" if changed else ""
        claims = {} if trouble else _claims(folder, kept.files)
        place = {"model": folder.name, "chapter": kept.chapter, "started": kept.started}
        yield Side(**place, claims=claims, parts=kept.parts, trouble=trouble)


def _runs(folder: Path) -> Iterator[Side]:
    for path in sorted(folder.glob("[0-9][0-9]_*.json")):
        place = {"model": folder.name, "chapter": path.stem}
        try:
            sidecar = runs.Sidecar.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            yield Side(**place, claims={}, parts={}, trouble=f"{path.name} is broken")
            continue
        saved = folder / path.stem
        trouble = "" if runs.hashes_below(saved) == sidecar.files else "its files were changed"
        claims = {} if trouble else _claims(saved, sidecar.files)
        made = {"parts": sidecar.parts, "started": sidecar.started}
        yield Side(**place, **made, claims=claims, trouble=trouble)


def _by_hand(folder: Path) -> Iterator[Side]:
    for path in sorted(folder.glob(f"*/{results.MANIFEST}")):
        place = {"model": folder.name, "chapter": path.parent.name}
        try:
            manifest = results.read_manifest(path.parent)
        except BrokenResult as error:
            yield Side(**place, claims={}, parts={}, trouble=str(error))
            continue
        files = {saved.file: saved.sha256 for saved in manifest.files}
        yield Side(**place, claims=_claims(path.parent, files), parts={})


def _claims(folder: Path, files: Mapping[str, str]) -> dict[str, Claim]:
    names = (name for name in files if name.startswith(f"{results.CLAIMS}/"))
    found = (Claim.model_validate_json((folder / name).read_bytes()) for name in names)
    return {claim.id: claim for claim in found}


def _compared(model: str, chapter: str, a: Side | None, b: Side | None) -> Iterator[Comparison]:
    """Every claim of a chapter; one entry without a claim for a side that cannot be read."""
    known = a is not None and b is not None and a.parts and b.parts
    changed = keys.changed_parts(a.parts, b.parts) if known else []
    reasons = keys.differences(a.parts, b.parts) if known else []
    told = {"model": model, "chapter": chapter, "changed": tuple(changed)}
    told["reasons"] = tuple(reasons)
    told["one_run"] = bool(known and a.parts == b.parts and a.started == b.started != "")
    for name, side in (("A", a), ("B", b)):
        if side is not None and side.trouble:
            trouble = f"{name}: {side.trouble}"
            yield Comparison(**told, claim="", verdicts=("", ""), rows=(), trouble=trouble)
    mine, other = (side.claims if side else {} for side in (a, b))
    for name in sorted(mine.keys() | other.keys()):
        pair = mine.get(name), other.get(name)
        verdicts = tuple(claim.verdict if claim else "" for claim in pair)
        yield Comparison(**told, claim=name, verdicts=verdicts, rows=tuple(_rows(*pair)))


def _rows(a: Claim | None, b: Claim | None) -> Iterator[Row]:
    mine, other = (_numbers(claim) for claim in (a, b))
    for key in dict.fromkeys([*mine, *other]):
        pair = mine.get(key), other.get(key)
        yield Row(relation=key[0], name=key[1], a=pair[0], b=pair[1], agreement=agreement(*pair))


def _numbers(claim: Claim | None) -> dict[tuple[str, str, int], Measured]:
    """The numbers of a claim by relation, name, and which of that name."""
    found: dict[tuple[str, str, int], Measured] = {}
    for one in claim.measured if claim else ():
        place = sum(key[:2] == (one.relation, one.name) for key in found)
        found[one.relation, one.name, place] = one
    return found


def agreement(a: Measured | None, b: Measured | None) -> Agreement:
    """Whether two numbers agree within their intervals (`Row`)."""
    if a is None or b is None:
        return "only in B" if a is None else "only in A"
    if (a.value, a.low, a.high, a.n) == (b.value, b.low, b.high, b.n):
        return "equal"
    if a.value is None or b.value is None:
        return "differs"
    if _close(a.value, b.value, n=min(a.n, b.n), more=abs(a.n - b.n)):
        return "close"
    (low, high), (other_low, other_high) = _interval(a), _interval(b)
    return "agrees" if low <= other_high and other_low <= high else "differs"


def _close(a: float, b: float, *, n: int, more: int) -> bool:
    """Whether two means over `n` items, one of them over so many `more`, are close (`CLOSE`)."""
    items = max(1.0, CLOSE * n)
    apart = abs(a - b) / max(1.0, abs(a), abs(b))
    return more <= items and n * apart <= items + 1e-9  # 0.51 - 0.5 is more than 0.01


def _interval(one: Measured) -> tuple[float, float]:
    """Its bounds; the value itself where it has none."""
    low = one.value if one.low is None or math.isnan(one.low) else one.low
    high = one.value if one.high is None or math.isnan(one.high) else one.high
    return low, high
