"""The rules of a fork, as the file that its author rewords."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovectors.forking.study import Study

HEAD = """\
# What this study asks, and the rule that its verdict is found by. Reword it before the first run:
# a rule that is written after the results have been seen judges nothing.
#
# judges    the claim that the evidence is taken from, as the chapter makes it
# section   where the paper makes the claim; "" where it does not
# question  what is asked, in one line with a question mark
# sentence  when it is supported, and when partly, in one line with a full stop
# needed    on how many relations every criterion has to hold for `supported`
# share     the same as a share of the relations that can be tested, where that is more
"""


def rules_text(study: Study) -> str:
    """`rules.toml`: the source's rules under ids of the study; of one relation for its pairs."""
    tables = [HEAD]
    for name, rule in study.source_rules.items():
        if study.pairs is not None:
            rule = rule.model_copy(update=_about(study.pairs))
        fields = (f"{key} = {_quoted(value)}" for key, value in rule.model_dump().items())
        tables.append("\n".join([f"[{study.ids[name]}]", *fields]) + "\n")
    return "\n".join(tables)


def _about(pairs: Path) -> dict[str, str | float]:
    relation = pairs.stem.replace("_", " ")
    return {
        "question": f"Does the mechanism reach the relation {relation}?",
        "sentence": (
            "Supported where the rule of content independence holds on the relation; partly, where "
            "the control run is beaten and the answer rises more than another item's."
        ),
        "needed": 1,
        "share": 0.0,
    }


def _quoted(value: str | float) -> str:
    """A value as TOML: what JSON makes of a line of text means the same there."""
    return json.dumps(value, ensure_ascii=False)
