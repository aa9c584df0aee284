"""Sentences and tables that several chapters use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.relations import TITLES, describe

if TYPE_CHECKING:
    from ovectors.claims import Claim
    from ovectors.encoding import EncodedPrompts
    from ovectors.results import Manifest
    from ovectors.statistics import Interval
    from ovectors.store import Store


def title(relation: str) -> str:
    """The relation's name as a reader should see it."""
    described = describe(relation)
    named = described.title if described else relation.replace("_", " ")
    return TITLES.get(relation, named)


def interval(value: float, low: float, high: float) -> str:
    """`0.97 [0.94, 0.99]`; without bounds where there are none (a single item)."""
    bounds = "" if pd.isna(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{value:.2f}{bounds}"


def accuracy_table(
    accuracies: Mapping[str, Interval], encoded: Mapping[str, EncodedPrompts]
) -> str:
    """Markdown table: accuracy with interval, items run, items left out and why."""
    lines = [
        "| task | accuracy [95% interval] | items | left out |",
        "|---|---|---|---|",
    ]
    for relation, found in accuracies.items():
        counts = encoded[relation].exclusion_counts()
        reasons = "; ".join(f"{count}: {reason}" for reason, count in counts.items())
        shown = accuracy_of(found)
        lines.append(f"| {title(relation)} | {shown} | {found.n} | {reasons or 'none'} |")
    return "\n".join(lines)


def accuracy_of(found: Interval) -> str:
    """An accuracy with its interval: `0.97 [0.94, 0.99]`."""
    return interval(found.value, found.low, found.high)


def model_sentence(store: Store) -> str:
    """Which model this page is about, and how it ran. Ask once the first table is there."""
    made, model = store.provenance, store.model
    return (
        f"**The model on this page:** `{model.name}`, {made['parameters'] / 1e6:,.1f} million "
        f"parameters, {model.n_layers} layers of width {model.d_model}, run in {made['dtype']}."
    )


def provenance_sentence(manifest: Manifest) -> str:
    """What made this page: commit, versions and the number of result files."""
    made = manifest.provenance
    versions = made["versions"]
    commit = (made["commit"] or "unknown")[:12] + (" with local changes" if made["dirty"] else "")
    return (
        f"*Made from commit {commit} with torch {versions['torch']} and transformers "
        f"{versions['transformers']}; {len(manifest.files)} result files were written and checked.*"
    )


def listed(parts: list[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def claim_block(claim: Claim) -> str:
    """A verdict as Markdown: question, rule, evidence with its bounds, and published numbers."""
    lines = [
        f"**{claim.question}** *{claim.verdict.capitalize()}* on `{claim.model}`: {claim.why}.",
        "",
        f"*The rule, written down before the run:* {claim.rule}",
        "",
        "| relation | measured | value [interval] | n | has to exceed | holds |",
        "|---|---|---|---|---|---|",
    ]
    for one in claim.measured:
        bound = "" if one.bound is None else f"{one.bound:g}"
        holds = {None: "", True: "yes", False: "no"}[one.holds]
        shown = _measured(one.value, one.low, one.high)
        lines.append(
            f"| {title(one.relation)} | {one.name} | {shown} | {one.n} | {bound} | {holds} |"
        )
    if claim.published:
        lines += ["", "| relation | published | value | model | where |", "|---|---|---|---|---|"]
        for one in claim.published:
            place = f"{one.model} | {one.where}"
            lines.append(f"| {title(one.relation)} | {one.name} | {one.value:g} | {place} |")
    return "\n".join(lines)


def _measured(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "none"
    return interval(value, math.nan if low is None else low, math.nan if high is None else high)
