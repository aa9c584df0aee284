"""How vectors differ: by source, beside controls, by layers and scale; what comes out instead."""

from __future__ import annotations

import pandas as pd

from ovectors.experiments.content_independence.measure.controls import WRONG, mean_condition
from ovectors.experiments.shared.outcomes import ANSWER, OUTCOMES, RULES
from ovectors.experiments.shared.replacing import CONTROL, OWN, RANDOM
from ovectors.prose.common import listed
from ovectors.prose.content_independence.names import (
    condition_title,
    count,
    lead,
    named,
    number,
    sorted_out,
    task_title,
)


def spread_sentences(spread: pd.DataFrame) -> str:
    """How far the sources differ: the range, and how many raise or lower the answer for sure."""
    sentences = []
    for task, part in spread.groupby("task", sort=False):
        best, worst = part.loc[part["mean"].idxmax()], part.loc[part["mean"].idxmin()]
        up, down = int((part["low"] > 0).sum()), int((part["high"] < 0).sum())
        wrong = int((~part["correct"].astype(bool)).sum())
        said = (
            f"**{task_title(task)}:** from {worst['mean']:+.2f} ({worst['vector']}) to "
            f"{best['mean']:+.2f} ({best['vector']}); {up} of {count(len(part), 'source')} raise "
            f"the answer, {down} lower it, their interval clear of zero."
        )
        if wrong:
            said += f" The model does not answer {wrong} of the sources' own prompts."
        sentences.append(said)
    return "\n\n".join(sentences)


def control_sentences(means: pd.DataFrame) -> str:
    """Which controls the own vector is above, by the interval of the difference, for each task."""
    sentences = []
    for task, part in means.groupby("task", sort=False):
        rows = part.set_index("condition")
        _, left = sorted_out(part)
        shown = [
            f"{condition_title(one)} {number(rows.loc[one, 'mean'])}"
            for one in (CONTROL, OWN, RANDOM, WRONG)
            if one in rows.index
        ]
        if left.empty:
            against = "The own vector is clearly above the control run and every control vector."
        else:
            against = "The own vector is not clearly above "
            against += listed([condition_title(one) for one in left["condition"]])
            strongest = left.iloc[0]
            against += (
                f" (minus the {condition_title(strongest['condition'])}, the strongest: "
                f"{lead(strongest)})."
            )
        said = f"**{task_title(task)}:** on average {listed(shown)}. {against}"
        sentences.append(said + _mean_sentence(rows))
    return "\n\n".join(sentences)


def _mean_sentence(rows: pd.DataFrame) -> str:
    """What averaging the vectors does."""
    counts = [int(name.split()[2]) for name in rows.index if name.startswith("mean of")]
    if not counts:
        return ""
    most = max(counts)
    found = rows.loc[mean_condition(most)]
    return f" The mean of {most} own vectors gives {number(found['mean'])}."


def map_sentences(cells: pd.DataFrame) -> str:
    """The best cell of each map on development items, and how many of all raise the answer."""
    sentences = []
    for task, part in cells.groupby("task", sort=False):
        best = part.loc[part["difference"].idxmax()]
        raising = float((part["difference"] > 0).mean())
        sentences.append(
            f"**{task_title(task)}:** the largest change is {best['difference']:+.2f}, with the "
            f"vector of layer {best['source_layer']} from layer {best['start_layer']} on; "
            f"{raising:.0%} of the pairs raise the answer on average (n = {best['n']} items)."
        )
    return "\n\n".join(sentences)


def scale_sentences(curve: pd.DataFrame) -> str:
    """At which scale the answer stands highest."""
    parts = []
    for task, part in curve.groupby("task", sort=False):
        best = part.loc[part["mean"].idxmax()]
        plain = part[part["scale"] == 1]["mean"]
        said = f"{best['mean']:.2f} at scale {best['scale']:g} for {named(task)}"
        if len(plain):
            said += f" ({plain.iloc[0]:.2f} at scale 1)"
        parts.append(said)
    return f"On average the answer's mean reciprocal rank is highest with {listed(parts)}."


def outcome_rules() -> str:
    """The rules by which a run is sorted, as a list."""
    return "\n".join(
        f"{at}. **{name}**: {RULES[name]}." for at, name in enumerate(OUTCOMES, start=1)
    )


def outcome_sentences(shares: pd.DataFrame) -> str:
    """What the intervened runs that miss the answer end on, a sentence for each task."""
    sentences = []
    for task, part in shares.groupby("task", sort=False):
        rows = part.set_index("outcome")["share"]
        missed = rows.drop(ANSWER).sort_values(ascending=False)
        ends = [f"{name} {share:.0%}" for name, share in missed.items() if share >= 0.005]
        said = f"**{task_title(task)}:** {rows[ANSWER]:.1%} of the runs end on the answer"
        sentences.append(said + (f"; otherwise: {listed(ends)}." if ends else "."))
    return "\n\n".join(sentences)
