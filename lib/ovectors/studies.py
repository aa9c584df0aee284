"""Studies: chapters that judge by rules of their own, which stand in a folder beside the notebook.

chapters/08_my_study.ipynb        the chapter
chapters/08_my_study/rules.toml   its rules, written down before it is run
chapters/08_my_study/*.csv        its pairs, where it has any
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovectors import claims, paths
from ovectors.claims import Claim, Evidence, Measured, Rule
from ovectors.errors import UserError
from ovectors.statistics import Interval
from ovectors.tables import read_text

RULES_FILE = "rules.toml"
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
"""What the id of a rule looks like."""


class OwnRule(BaseModel):
    """One table of a `rules.toml`, named by the rule's id.

    `judges` is the claim whose evidence the rule is applied to, where a study takes its evidence
    over from another chapter; the others are as in `claims.Rule`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    judges: str = ""
    section: str = ""
    question: str = Field(pattern=r"^[^\n]+\?$")
    sentence: str = Field(pattern=r"^[^\n]+\.$")
    needed: int = Field(ge=1)
    share: float = Field(default=0.0, ge=0, le=1)


def folder(chapter: str) -> Path:
    """Where a study keeps what is its own, by the chapter's name (`08_my_study`)."""
    return paths.CHAPTERS / chapter


def read_rules(chapter: str) -> dict[str, OwnRule]:
    """A study's rules by id, as its file has them; none where there is no such file.

    Errors: UserError, in one line, for what is no TOML, a field that is missing, unknown or wrong,
    an id of another form, or one that a rule of the library has.
    """
    path = folder(chapter) / RULES_FILE
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(read_text(path))
        own = {name: OwnRule.model_validate(table) for name, table in found.items()}
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: no TOML ({error}); mend this line") from None
    except ValidationError as error:
        raise UserError(f"{path}: {_said(error)}") from None
    for name in own:
        if not NAME.fullmatch(name) or name in claims.RULES:
            why = "the library has a rule of that name" if name in claims.RULES else "use a-z0-9_"
            raise UserError(f"{path}: a rule cannot be called {name!r}: {why}")
    return own


def _said(error: ValidationError) -> str:
    """What is wrong with the first field, in the words of the file."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or "a rule"
    kinds = {
        "missing": "is missing",
        "extra_forbidden": f"is unknown; there are: {', '.join(OwnRule.model_fields)}",
    }
    if first["type"] == "string_pattern_mismatch":
        ends = "a question mark" if field == "question" else "a full stop"
        return f"{field} must be one line that ends with {ends}"
    return f"{field} {kinds.get(first['type'], first['msg'])}"


def rules_of(chapter: str) -> dict[str, Rule]:
    """The rules of a study, by id, as they judge."""
    return {
        name: Rule(id=name, chapter=chapter, **own.model_dump(exclude={"judges"}))
        for name, own in read_rules(chapter).items()
    }


def all_rules() -> dict[str, Rule]:
    """Every rule: the library's, then those of the studies by chapter.

    UserError where two studies have one of the same name.
    """
    known = dict(claims.RULES)
    for path in sorted(paths.CHAPTERS.glob(f"*/{RULES_FILE}")):
        for name, rule in rules_of(path.parent.name).items():
            if name in known:
                raise UserError(f"{path}: {known[name].chapter} has a rule {name!r} already")
            known[name] = rule
    return known


def judge(claim: Claim, *, chapter: str) -> Claim:
    """The verdict of a study's own rule on the evidence of a claim that it took over; where there
    is none, the claim says why, and the study is not testable for the same reason.

    UserError where no rule of the study says that it judges this claim.
    """
    judging = [name for name, own in read_rules(chapter).items() if own.judges == claim.id]
    if len(judging) != 1:
        raise UserError(
            f"{folder(chapter) / RULES_FILE}: {len(judging)} rules have judges = {claim.id!r}; "
            "there has to be one"
        )
    judged = [one for one in claim.measured if one.bound is not None]
    return claims.judge(
        rules_of(chapter)[judging[0]],
        [_evidence(one) for one in judged],
        model=claim.model,
        published=claim.published,
        context=[one for one in claim.measured if one.bound is None],
        untestable="" if judged else claim.why,
    )


def _evidence(one: Measured) -> Evidence:
    """What a number of a verdict was made from."""
    numbers: Mapping[str, float] = {
        name: math.nan if value is None else value
        for name, value in (("value", one.value), ("low", one.low), ("high", one.high))
    }
    return Evidence(
        relation=one.relation,
        criterion=one.name,
        found=Interval(n=one.n, **numbers),
        bound=one.bound,
        kind=one.kind,
        least=one.least,
    )
