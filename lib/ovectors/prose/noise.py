"""The table of rounding noise: what `benchmarks/noise_floor.py` measured, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovectors import paths

RESULTS = Path("benchmarks") / "noise_floor.json"  # below the project's root
COLUMNS = (
    "model",
    "numbers",
    "slow from the truth",
    "fast from the truth",
    "fast from slow",
    "ranks that differ, fast and slow",
    "largest change of a reciprocal rank",
)


NOTHING = "There is no measurement here yet."


def noise() -> str:
    """Markdown for the page on rounding, from the committed measurement; says so without one."""
    path = paths.ROOT / RESULTS
    return noise_table(json.loads(path.read_text("utf-8"))) if path.is_file() else NOTHING


def noise_table(measured: Mapping) -> str:
    """A row a model and dtype, and the versions it was measured with.

    `measured` is the content of `benchmarks/noise_floor.json`.
    """
    rows = [_row(row) for row in measured["rows"]]
    lines = [_line(COLUMNS), _line(["---"] * 2 + ["---:"] * 5), *rows]
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    answers = sum(row["answers"] for row in measured["rows"])
    note = (
        f"The first three columns of numbers are in roundings. {answers:,} answers in all; "
        f"measured with {versions}."
    )
    return "\n".join([*lines, "", note, ""])


def _row(row: Mapping) -> str:
    shape = f"{row['model']}, {row['layers']} layers x {row['width']}"
    apart = [f"{row[name]:.1f}" for name in ("slow_from_exact", "fast_from_exact")]
    return _line(
        [
            shape,
            row["dtype"],
            *apart,
            f"{row['fast_from_slow']:.1f}",
            f"{row['ranks_that_differ']:.2%}",
            f"{row['largest_change_of_reciprocal_rank']:.1g}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
