"""Intervals as columns of a table, and back; tables as JSON has them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator

import pandas as pd

from ovectors.statistics import Interval, bands, nothing


def row_of(found: Interval, name: str = "mean") -> dict[str, float]:
    """An interval as columns of a table; `name` is the value's."""
    return {name: found.value, "low": found.low, "high": found.high, "n": found.n}


def interval_of(rows: pd.DataFrame) -> Interval:
    """The interval that the first row of a table holds; `nothing()` where there is no row."""
    if rows.empty:
        return nothing()
    row = rows.iloc[0]
    bounds = {"low": float(row["low"]), "high": float(row["high"])}
    return Interval(value=float(row["mean"]), n=int(row["n"]), **bounds)


def layer_rows(
    wide: pd.DataFrame, *, clusters: Collection[Hashable] | None = None, seed: int = 0
) -> Iterator[dict[str, float]]:
    """A row for each layer: the mean over items with its 95% interval.

    `wide` has a row an item and a column a layer, `clusters` a label an item (see `statistics`).
    Columns: layer, mean, low, high, n.
    """
    found_in = bands(wide.to_numpy(), clusters=clusters)
    for layer, found in zip(wide.columns, found_in, strict=True):
        yield {"layer": layer} | row_of(found)


def records(table: pd.DataFrame) -> list[dict]:
    """The rows of a table as JSON has them: None where there is no number."""
    return table.astype(object).where(table.notna(), None).to_dict("records")
