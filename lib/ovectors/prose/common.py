"""Sentences and tables that several chapters use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.catalogue import catalogue
from ovectors.relations import MORE_RELATIONS, RELATIONS, TITLES, describe

if TYPE_CHECKING:
    from ovectors.claims import Claim, Measured
    from ovectors.encoding import EncodedPrompts
    from ovectors.results import Manifest
    from ovectors.statistics import Interval
    from ovectors.store import Store


MANY_NUMBERS = 16
"""So many rows of a claim's numbers are shown; beyond that they are folded."""


def title(relation: str) -> str:
    """The relation's name as a reader should see it."""
    described = describe(relation)
    named = described.title if described else relation.replace("_", " ")
    return TITLES.get(relation, named)


def readable(text: str) -> str:
    """A sentence that names relations by their files (`noun plural`), with their titles instead."""
    return _file_names().sub(lambda found: title(found[0].replace(" ", "_")).lower(), text)


@cache
def _file_names() -> re.Pattern[str]:
    names = sorted((*RELATIONS, *MORE_RELATIONS), key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(name.replace('_', ' ') for name in names)})\b")


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
        shown, lacking = accuracy_of(found), left_out(encoded[relation])
        items = len(encoded[relation])  # an interval counts arguments
        lines.append(f"| {title(relation)} | {shown} | {items} | {lacking} |")
    return "\n".join(lines)


def left_out(prompts: EncodedPrompts) -> str:
    """How many items are left out and why, for a table's cell: `7 (argument and answer ...)`."""
    counts = prompts.exclusion_counts()
    return "; ".join(f"{count} ({reason})" for reason, count in counts.items()) or "none"


def accuracy_of(found: Interval) -> str:
    """An accuracy with its interval: `0.97 [0.94, 0.99]`."""
    return interval(found.value, found.low, found.high)


def model_sentence(store: Store) -> str:
    """Which model this page is about, and how it ran. Ask once the first table is there."""
    made, model = store.provenance, store.model
    said = (
        f"**The model on this page:** `{model.name}`, {made['parameters'] / 1e6:,.1f} million "
        f"parameters, {model.n_layers} layers of width {model.d_model}, run in {made['dtype']}."
    )
    return f"{said} {quantised_sentence(model.name, made.get('quantisation'))}".rstrip()


def quantisation(name: str, kind: str | None = None) -> str:
    """How the weights of a model are quantised, such as `Q4_K_M`; "" if they are not. `kind` is
    what its file says, None for what the catalogue does."""
    if kind is None:
        spec = catalogue().get(name)
        kind = spec.gguf.quantisation if spec and spec.gguf else ""
    return "" if kind in ("F32", "F16", "BF16") else kind


def quantised_sentence(name: str, kind: str | None = None) -> str:
    """What it means that the weights of this model are quantised; "" where they are not."""
    if not (kind := quantisation(name, kind)):
        return ""
    return (
        f"The weights of `{name}` are quantised ({kind}): rounded to four to eight bits by its "
        "makers' recipe, and dequantised to be run. It is a model of its own right; its numbers "
        "are not those of the unquantised model."
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
    verdict = f"*{claim.verdict.capitalize()}* on `{claim.model}`"
    lines = [
        f"**{claim.question}** {verdict}: {readable(claim.why)}.",
        "",
        f"*The rule, written down before the run:* {claim.rule}",
        "",
        *_evidence(claim.measured),
    ]
    if claim.published:
        lines += ["", "| relation | published | value | model | where |", "|---|---|---|---|---|"]
        for one in claim.published:
            place = f"{one.model} | {one.where}"
            lines.append(f"| {title(one.relation)} | {one.name} | {one.value:g} | {place} |")
    return "\n".join(lines)


def _evidence(measured: Sequence[Measured]) -> list[str]:
    """The lines of a table of all numbers; where these are many, those that nothing was judged by
    are folded, and if the others are many too, all are."""
    judged = [one for one in measured if one.bound is not None]
    if len(measured) <= MANY_NUMBERS:
        return _numbers_table(measured)
    if len(judged) > MANY_NUMBERS:
        return _folded(f"All {len(measured)} numbers of this verdict", measured)
    aside = [one for one in measured if one.bound is None]
    said = f"{len(aside)} more numbers, which the verdict does not use"
    return [*_numbers_table(judged), "", *_folded(said, aside)]


def _folded(summary: str, measured: Sequence[Measured]) -> list[str]:
    opened = f'<details class="claim-numbers"><summary>{summary}</summary>'
    return [opened, "", *_numbers_table(measured), "", "</details>"]


def _numbers_table(measured: Sequence[Measured]) -> list[str]:
    lines = [
        "| relation | measured | value [interval] | n | has to exceed | holds |",
        "|---|---|---|---|---|---|",
    ]
    for one in measured:
        bound = "" if one.bound is None else f"{one.bound:g}"
        holds = holds_in_words(one)
        name, shown = readable(one.name), _measured(one.value, one.low, one.high)
        lines.append(f"| {title(one.relation)} | {name} | {shown} | {one.n} | {bound} | {holds} |")
    return lines


def holds_in_words(one: Measured) -> str:
    """Whether a number of a verdict is as its rule asks; "" for one that no rule asks about."""
    if one.bound is None:
        return ""
    return {None: "not measured", True: "yes", False: "no"}[one.holds]


def _measured(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "none"
    return interval(value, math.nan if low is None else low, math.nan if high is None else high)
