"""Chapter 4's sentences: what removing FFNs costs, where the X is, and who wins a contradiction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.retrieval.judge import DIFFERENCE
from ovectors.prose.common import interval, left_out, listed, title

if TYPE_CHECKING:
    from ovectors.encoding import EncodedPrompts
    from ovectors.statistics import Interval

KINDS = {"one_shot": "abstractive", "extractive": "extractive"}
CONDITIONS = {
    "zero": "FFNs from the top, removed",
    "mean": "FFNs from the top, their mean instead",
    "attention": "attention from the top, removed",
    "random": "FFNs of random layers, removed",
}
NONE_ANSWERED = "Of no task does the model answer both kinds of prompt."
NONE_KNOWN = (
    "The model answers no item from memory, so there is nothing a context could contradict."
)


def whole_table(curves: pd.DataFrame, encoded: Mapping[tuple[str, str], EncodedPrompts]) -> str:
    """Markdown table: accuracy of the whole model on each kind of prompt, and what was left out."""
    whole = curves[(curves["removed"] == 0) & (curves["condition"] == "zero")]
    lines = ["| task | prompts | accuracy [95% interval] | items | left out |", "|---" * 5 + "|"]
    for row in whole.itertuples():
        prompts = encoded[row.relation, row.form]
        shown = interval(row.mean, row.low, row.high)
        name = f"{title(row.relation)} | {KINDS[row.form]}"
        lines.append(f"| {name} | {shown} | {len(prompts)} | {left_out(prompts)} |")
    return "\n".join(lines)


def removal_table(curves: pd.DataFrame, costs: pd.DataFrame, *, removed: int) -> str:
    """Markdown table: accuracy with `removed` layers changed, by what is changed and how."""
    lines = [
        "| task | what is changed | abstractive | extractive | extra cost on abstractive |",
        "|---" * 5 + "|",
    ]
    shown = curves[(curves["removed"] == removed) | (curves["removed"] == 0)]
    for relation, part in shown.groupby("relation", sort=False):
        whole = part[(part["removed"] == 0) & (part["condition"] == "zero")]
        lines.append(f"| {title(relation)} | nothing | {' | '.join(_cells(whole))} | |")
        for condition, label in CONDITIONS.items():
            changed = part[(part["removed"] == removed) & (part["condition"] == condition)]
            cost = _cost(costs, relation, condition, DIFFERENCE, removed)
            extra = "" if cost is None else interval(cost["mean"], cost["low"], cost["high"])
            cells = " | ".join(_cells(changed))
            lines.append(f"| {title(relation)} | {label} | {cells} | {extra} |")
    return "\n".join(lines)


def _cells(part: pd.DataFrame) -> list[str]:
    rows = part.set_index("form")
    return [
        interval(*rows.loc[form, ["mean", "low", "high"]]) if form in rows.index else ""
        for form in KINDS
    ]


def _cost(
    costs: pd.DataFrame, relation: str, condition: str, prompts: str, removed: int
) -> pd.Series | None:
    """The row of one cost, or None."""
    named = {"relation": relation, "condition": condition, "prompts": prompts, "removed": removed}
    rows = costs[(costs[list(named)] == pd.Series(named)).all(axis=1)]
    return None if rows.empty else rows.iloc[0]


def compared(low: float, high: float) -> str:
    """What an interval of `DIFFERENCE` says about the two kinds of prompt."""
    if low > 0:
        return "abstractive prompts lose more"
    if high < 0:
        return "extractive prompts lose more"
    return "no difference is shown"


def loss_sentences(losses: Mapping[str, Interval]) -> str:
    """What the rule judges, a sentence per task: the extra loss over one to five sixths."""
    sentences = [
        f"**{title(relation)}:** on average over one to five sixths of the FFNs, abstractive "
        f"prompts lose {interval(found.value, found.low, found.high)} more of what was answered "
        f"than extractive ones (n = {found.n}): {compared(found.low, found.high)}."
        for relation, found in losses.items()
        if found.n
    ]
    return "\n\n".join(sentences) or NONE_ANSWERED


def cost_sentences(costs: pd.DataFrame, *, removed: int, n_layers: int) -> str:
    """What the top third of the FFNs is worth on each kind of prompt, a sentence per task."""
    sentences = []
    for relation in dict.fromkeys(costs["relation"]):
        found = [
            _cost(costs, relation, "zero", prompts, removed)
            for prompts in ("abstractive", "extractive", DIFFERENCE)
        ]
        if any(row is None for row in found):
            continue
        lost, lost_context, extra = (interval(r["mean"], r["low"], r["high"]) for r in found)
        sentences.append(
            f"**{title(relation)}:** without the FFNs of the top {removed} of {n_layers} layers "
            f"{lost} of what was answered is lost on abstractive and {lost_context} on extractive "
            f"prompts. The difference of the two is {extra} (n = {int(found[2]['n'])}): "
            f"{compared(found[2]['low'], found[2]['high'])}."
        )
    return "\n\n".join(sentences) or NONE_ANSWERED


def parting_sentences(costs: pd.DataFrame) -> str:
    """Where along the curves abstractive prompts lose more, each point by itself."""
    sentences = []
    for relation, rows in _differences(costs):
        more = rows[rows["low"] > 0]
        if more.empty:
            said = "at no number of removed FFNs do abstractive prompts clearly lose more"
        else:
            said = (
                f"abstractive prompts lose more first with {_at(more.iloc[0])}, and most with "
                f"{_at(more.loc[more['mean'].idxmax()])}"
            )
        sentences.append(f"**{title(relation)}:** {said}.")
    lead = ["Along the curves, each point by itself:"] if sentences else []
    return "\n\n".join([*lead, *sentences])


def _differences(costs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """By task: the extra cost on abstractive prompts for each number of FFNs removed."""
    rows = costs[(costs["condition"] == "zero") & (costs["prompts"] == DIFFERENCE)]
    yield from rows.groupby("relation", sort=False)


def _at(row: pd.Series) -> str:
    shown = interval(row["mean"], row["low"], row["high"])
    return f"{int(row['removed'])} removed (difference of the costs {shown})"


def control_sentences(costs: pd.DataFrame, *, removed: int) -> str:
    """Whether the comparison comes out the same in the other conditions, a sentence per task."""
    sentences = []
    for relation in dict.fromkeys(costs["relation"]):
        found = {
            condition: _cost(costs, relation, condition, DIFFERENCE, removed)
            for condition in CONDITIONS
        }
        said = [
            f"{CONDITIONS[condition]}: {interval(row['mean'], row['low'], row['high'])}, "
            f"{compared(row['low'], row['high'])}"
            for condition, row in found.items()
            if condition != "zero" and row is not None
        ]
        if said:
            sentences.append(f"**{title(relation)}.** {'; '.join(said)}.")
    return "\n\n".join(sentences)


def stage_sentences(formed: pd.DataFrame, curves: pd.DataFrame) -> str:
    """How often the argument comes first, with and without the answer in the context."""
    sentences = []
    for relation in dict.fromkeys(curves["relation"]):
        rows = formed[formed["relation"] == relation].set_index("prompts")
        parts = [
            f"on {interval(*rows.loc[form, ['mean', 'low', 'high']])} of the {kind} items "
            f"answered correctly (n = {int(rows.loc[form, 'n'])})"
            for form, kind in KINDS.items()
            if form in rows.index
        ]
        said = f"**{title(relation)}:** "
        said += f"the argument is on top before the answer {listed(parts)}." if parts else ""
        if DIFFERENCE in rows.index and rows.loc[DIFFERENCE, "n"]:
            row = rows.loc[DIFFERENCE]
            said += (
                f" On the {int(row['n'])} items answered correctly in both forms the difference is "
                f"{interval(row['mean'], row['low'], row['high'])}: {_stage_verdict(row)}."
            )
        elif "extractive" not in rows.index and _asks_back(curves, relation):
            said += (
                " Its extractive prompts ask for the argument itself, so that no other token could "
                "come first: the X cannot be there, and its absence shows nothing."
            )
        sentences.append(said)
    return "\n\n".join(sentences) or "No item was answered correctly."


def _stage_verdict(row: pd.Series) -> str:
    if row["low"] > 0:
        return "the argument stage is rarer where the answer can be read off"
    if row["high"] < 0:
        return "the argument stage is more frequent where the answer can be read off"
    return "no difference is shown"


def _asks_back(curves: pd.DataFrame, relation: str) -> bool:
    """Whether the extractive curves of argument and answer are one."""
    part = curves[(curves["relation"] == relation) & (curves["form"] == "extractive")]
    means = part.pivot(index="layer", columns="token", values="mean")
    return bool(len(means)) and bool((means["argument"] == means["answer"]).all())


def contest_sentences(curves: pd.DataFrame, outcomes: pd.DataFrame, *, removed: int) -> str:
    """Whose answer leads after which layers, and whose is on top before and after a removal."""
    if curves.empty:
        return NONE_KNOWN
    ahead = curves[curves["shown"] == "context ahead"].set_index("layer")
    lead = ahead.index[ahead["mean"] > 0.5]
    behind = ahead.index[ahead["mean"] <= 0.5]
    last = ahead.iloc[-1]
    said = (
        f"On {int(last['n'])} items that the model knows, the context gives another answer. "
        "After the last layer the context's answer ranks above the true one on "
        f"{interval(last['mean'], last['low'], last['high'])} of them"
    )
    if not len(lead):
        said += "; after no layer does it on more than half."
    elif not len(behind):
        said += "; after every layer it does on more than half."
    elif lead[-1] == ahead.index[-1]:
        said += f"; on more than half it does from layer {int(behind.max()) + 1} on."
    else:
        said += f"; on more than half it does after layer {_layers(lead)}, and not at the end."
    return f"{said}\n\n{outcome_sentence(outcomes, removed=removed)}"


def _layers(layers: pd.Index) -> str:
    return listed([str(int(layer)) for layer in layers])


def outcome_sentence(outcomes: pd.DataFrame, *, removed: int) -> str:
    """Whose answer is on top with the whole model, and without its top FFNs."""

    def shares(count: int) -> str:
        """Each outcome's share of the items with so many FFNs removed, as listed text."""
        rows = outcomes[outcomes["removed"] == count]
        return listed(
            [
                f"{_winner(row.winner)} {interval(row.mean, row.low, row.high)}"
                for row in rows.itertuples()
            ]
        )

    return (
        f"On top at the end is, as a share of these items: {shares(0)}. Without the top {removed} "
        f"FFNs: {shares(removed)}."
    )


def _winner(name: str) -> str:
    return {"context": "the context's answer", "memory": "the true answer"}.get(name, name)


def summary(
    name: str,
    costs: pd.DataFrame,
    losses: Mapping[str, Interval],
    formed: pd.DataFrame,
    contest: tuple[pd.DataFrame, pd.DataFrame],
    *,
    removed: int,
) -> str:
    """The findings of chapter 4 in a short list, for whatever model was run."""
    lines = []
    for relation, found in losses.items():
        if found.n:
            lines.append(
                f"- `{name}`, {title(relation).lower()}: over one to five sixths of the FFNs "
                "removed, the share of answered items lost on abstractive prompts less that on "
                f"extractive ones is {interval(found.value, found.low, found.high)} on average "
                f"({compared(found.low, found.high)})."
            )
    for relation in dict.fromkeys(costs["relation"]):
        row = _cost(costs, relation, "zero", DIFFERENCE, removed)
        if row is not None:
            lost = interval(row["mean"], row["low"], row["high"])
            lines.append(
                f"- Without the top {removed} alone, {title(relation).lower()}: {lost} "
                f"({compared(row['low'], row['high'])}){_instead(costs, relation, removed)}."
            )
    pair = formed[(formed["prompts"] == DIFFERENCE) & (formed["n"] > 0)]
    for row in pair.itertuples():
        said = interval(row.mean, row.low, row.high)
        lines.append(
            f"- {title(row.relation)}: the share of items with the argument on top first differs "
            f"by {said} between abstractive and extractive prompts "
            f"({_stage_verdict(pd.Series(row._asdict()))})."
        )
    curves, outcomes = contest
    if curves.empty:
        lines.append(f"- {NONE_KNOWN}")
    else:
        lines.append(f"- Where context and memory disagree: {_lower(outcomes, removed)}")
    return "\n".join(lines)


def _instead(costs: pd.DataFrame, relation: str, removed: int) -> str:
    """The same difference for what stands beside the late FFNs, as the end of a sentence."""
    names = {
        "attention": "with the attention of these layers removed instead it is",
        "random": "with as many FFNs of random layers",
    }
    found = {name: _cost(costs, relation, name, DIFFERENCE, removed) for name in names}
    said = [
        f"{names[name]} {interval(row['mean'], row['low'], row['high'])}"
        for name, row in found.items()
        if row is not None
    ]
    return f"; {listed(said)}" if said else ""


def _lower(outcomes: pd.DataFrame, removed: int) -> str:
    said = outcome_sentence(outcomes, removed=removed)
    return said[0].lower() + said[1:]
