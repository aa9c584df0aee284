"""How often intervals lie above 0 by chance: what `benchmarks/false_positives.py` found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovectors import paths
from ovectors.claims import LEAST_ITEMS

RESULTS = Path("benchmarks") / "false_positives.json"  # below the project's root
NOTHING = "There is no simulation here yet."
WORST = 0.05
"""How often two of three relations may do so together, for their n to be enough."""


def false_positives() -> str:
    """Markdown for the page on methods, from the committed simulation; says so without one."""
    path = paths.ROOT / RESULTS
    if not path.is_file():
        return NOTHING
    found = json.loads(path.read_text("utf-8"))
    return f"{rate_table(found)}\n\n{least_sentence(found)}\n"


def rate_table(found: Mapping) -> str:
    """A row for what was drawn and n, a column for each interval; three rates, in per cent."""
    rows = found["rows"]
    names = list(dict.fromkeys(name for row in rows for name in row["rates"]))
    lines = [_line(["differences", "measured with", "n", *names])]
    lines.append(_line(["---"] * 2 + ["---:"] * (1 + len(names))))
    for row in sorted(rows, key=lambda row: row["design"] != rows[0]["design"]):
        rates = [_percents(row["rates"][name]) if name in row["rates"] else "" for name in names]
        lines.append(_line([row["shape"], row["design"], str(row["n"]), *rates]))
    return "\n".join(lines)


def least_sentence(found: Mapping) -> str:
    """What the table says of the least n: how often two of three relations are above 0 by chance,
    each corrected for three, in the worst shape."""
    worst = {}
    for row in found["rows"]:
        if row["design"] == found["rows"][0]["design"]:
            rate = row["rates"]["as used"][1]
            both = rate**2 * (3 - 2 * rate)
            worst[row["n"]] = max(worst.get(row["n"], 0.0), both)
    enough = [n for n in worst if all(worst[m] <= WORST for m in worst if m >= n)]
    said = ", ".join(f"{100 * worst[n]:.1f}% with {n}" for n in sorted(worst))
    return (
        f"For *supported* every rule needs two relations or more. Two of three independent "
        f"relations, each corrected for three, both lie above 0 by chance, in the worst of these "
        f"shapes, in {said} items each. {min(enough, default='None')} is the smallest n here that "
        f"keeps this below {WORST:.0%}, and the rules ask for {LEAST_ITEMS}."
    )


def _percents(rates: Sequence[float]) -> str:
    return " / ".join(f"{100 * rate:.2g}" for rate in rates)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
