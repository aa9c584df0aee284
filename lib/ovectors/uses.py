"""Which stored tables a chapter asked for, and how often it loaded weights: written down where that
happens, for the batch to read."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

LOG_VARIABLE = "OVECTORS_TABLES"
"""Names the file that gets a line for every table asked for, and for every loading of weights."""


class TableUse(BaseModel):
    """One table that a chapter asked for, and whether it was there.

    Attributes:
        name: that of its files, without the key.
        function, settings, device, dtype: what makes it, the function as `module:name`.
        how: "known", or "computed".
        damage: what was wrong with the one that was there, where it was computed for that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    function: str
    settings: dict[str, Any]
    device: str
    dtype: str
    key: str
    how: Literal["known", "computed"]
    damage: str = ""


def write_use(use: TableUse) -> bool:
    """Add a line to the log that the environment names; False where it names none."""
    return _write(use.model_dump())


def write_load(model: str) -> bool:
    """Log that the weights of a model were loaded; False where the environment names no log."""
    return _write({"loaded": model})


def _write(told: dict[str, Any]) -> bool:
    if not (named := os.environ.get(LOG_VARIABLE)):
        return False
    with open(named, "a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")
    return True


def read_uses(log: Path) -> list[TableUse]:
    """Every table that was asked for, in order; a line that was cut off does not count."""
    uses = []
    for line in _lines(log):
        with contextlib.suppress(ValidationError):
            uses.append(TableUse.model_validate_json(line))
    return uses


def count_loads(log: Path) -> int:
    """How often weights were loaded, of whichever model."""
    return sum(line.startswith('{"loaded"') for line in _lines(log))


def _lines(log: Path) -> list[str]:
    return log.read_text("utf-8").splitlines() if log.exists() else []
