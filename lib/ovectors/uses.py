"""Which stored tables a chapter asked for: the store writes it down, the batch reads it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

LOG_VARIABLE = "OVECTORS_TABLES"
"""Names the file that gets a line for every table asked for."""


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
    if not (named := os.environ.get(LOG_VARIABLE)):
        return False
    with open(named, "a", encoding="utf-8") as file:
        file.write(json.dumps(use.model_dump()) + "\n")
    return True


def read_uses(log: Path) -> list[TableUse]:
    """Every table that was asked for, in order; a line that was cut off does not count."""
    uses = []
    for line in log.read_text("utf-8").splitlines() if log.exists() else ():
        with contextlib.suppress(ValidationError):
            uses.append(TableUse.model_validate_json(line))
    return uses
