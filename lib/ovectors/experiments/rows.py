"""Intervals as columns of a table, and back; tables as JSON has them."""

from __future__ import annotations

import pandas as pd

from ovectors.statistics import Interval, nothing


def row_of(found: Interval) -> dict[str, float]:
    """An interval as columns of a table."""
    return {"mean": found.value, "low": found.low, "high": found.high, "n": found.n}


def interval_of(rows: pd.DataFrame) -> Interval:
    """The interval that the first row of a table holds; `nothing()` where there is no row."""
    if rows.empty:
        return nothing()
    row = rows.iloc[0]
    bounds = {"low": float(row["low"]), "high": float(row["high"])}
    return Interval(value=float(row["mean"]), n=int(row["n"]), **bounds)


def records(table: pd.DataFrame) -> list[dict]:
    """The rows of a table as JSON has them: None where there is no number."""
    return table.astype(object).where(table.notna(), None).to_dict("records")
