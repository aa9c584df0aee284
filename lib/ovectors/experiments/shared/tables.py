"""Tables of several relations as one."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables of several relations as one; those without a row do not count."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]
