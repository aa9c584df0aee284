"""What tasks and kinds of vectors are called, and how numbers are written."""

from __future__ import annotations

import pandas as pd

from ovectors.experiments.content_independence.tasks import other_condition
from ovectors.experiments.shared.replacing import OWN
from ovectors.prose.common import title

TITLES = {
    "past_tense": "Past tense (regular verbs)",
    "us_state_capitals": "US state capitals, vectors of countries",
    "irregular_verbs": "Irregular verbs, vectors of regular ones",
    "colored_objects": "Coloured objects (colours only)",
}


def task_title(task: str) -> str:
    """A task's name as a reader should see it."""
    return TITLES.get(task, title(task))


def named(task: str) -> str:
    """The same inside a sentence."""
    return _inside(task_title(task))


def condition_title(condition: str) -> str:
    """A kind of vector as a reader should see it."""
    relation = condition.removeprefix(other_condition(""))
    return condition if relation == condition else other_condition(_inside(title(relation)))


def _inside(shown: str) -> str:
    """A title as it stands inside a sentence."""
    return shown if shown.startswith("US ") else shown[0].lower() + shown[1:]


def count(number: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def number(value: float) -> str:
    """Two decimals, or two digits of what would be 0.00."""
    return f"{value:.2f}" if abs(value) >= 0.01 or not value else f"{value:.2g}"


def sorted_out(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The controls of one task that the own vector is above, and the others, the strongest first.

    By the interval of the difference. `rows` are of `judge.condition_means`. Means of several own
    vectors are no controls.
    """
    rivals = rows[(rows["condition"] != OWN) & ~rows["condition"].str.startswith("mean of")]
    rivals = rivals.sort_values("mean", ascending=False)
    beaten = rivals["lead_low"] > 0
    return rivals[beaten], rivals[~beaten]


def lead(row: pd.Series) -> str:
    """The own vector's mean minus a control's, with its interval."""
    if pd.isna(row["lead_low"]):
        return f"{row['lead']:+.4f}"
    return f"{row['lead']:+.4f} [{row['lead_low']:+.4f}, {row['lead_high']:+.4f}]"


def ranks(effects: pd.DataFrame) -> str:
    """`rank 10.2 to 4.1`, as the paper states it: 1 / mean reciprocal rank, before and after.

    `effects` are the rows of one task in one setting, by their measure.
    """
    before, after = (effects.loc[f"answer's rank {when}", "value"] for when in ("before", "after"))
    return f"rank {before:.1f} to {after:.1f}"


def moved(low: float, high: float) -> str:
    """What a change does, by its interval."""
    if low > 0:
        return "rises"
    return "falls" if high < 0 else "does not clearly change"
