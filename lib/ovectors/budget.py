"""What batches may take on top of the weights: the same on every machine unless it is said."""

from __future__ import annotations

import math
import os

from ovectors.errors import UserError

VARIABLE = "OVECTORS_BUDGET"
DEFAULT = 512 * 2**20
"""Bytes. Free memory has no say: batches of other sizes round otherwise."""


def budget_bytes() -> int:
    """Bytes of one pass, as the environment says, else DEFAULT; UserError for what is no size."""
    said = os.environ.get(VARIABLE, "")
    if not said:
        return DEFAULT
    try:
        found = float(said)
    except ValueError:
        found = math.nan
    if not 1 <= found < math.inf:
        raise UserError(f"{VARIABLE} is bytes, such as 16e9, not {said!r}")
    return int(found)
