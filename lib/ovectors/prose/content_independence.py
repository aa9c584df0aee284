"""Chapter 3's sentences: what a vector did, beside its controls, and what came out instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.content_independence import SHOWN_AS, other_condition
from ovectors.experiments.controls import WRONG, mean_condition
from ovectors.experiments.outcomes import ANSWER, OUTCOMES, RULES
from ovectors.experiments.replacing import CONTROL, OWN, RANDOM
from ovectors.prose.common import interval, listed, title

if TYPE_CHECKING:
    from ovectors.claims import Published
    from ovectors.experiments.layer_maps import Layers

TITLES = {
    "past_tense": "Past tense (regular verbs)",
    "us_state_capitals": "US state capitals, vectors of countries",
    "irregular_verbs": "Irregular verbs, vectors of regular ones",
    "words": "Other words, vectors of colours",
    "colored_objects": "Coloured objects (colours only)",
}
EFFECTS = (
    ("mean reciprocal rank before", "RR before"),
    ("mean reciprocal rank after", "RR after"),
    ("answer's rank before", "rank before"),
    ("answer's rank after", "rank after"),
    ("answer on top after", "on top after"),
    ("no effect", "no effect"),
)


def task_title(task: str) -> str:
    """A task's name as a reader should see it."""
    return TITLES.get(task, title(task))


def _named(task: str) -> str:
    """The same inside a sentence."""
    shown = task_title(task)
    return shown if shown.startswith("US ") else shown[0].lower() + shown[1:]


def condition_title(condition: str) -> str:
    """A kind of vector as a reader should see it."""
    relation = condition.removeprefix(other_condition(""))
    if relation == condition:
        return condition
    shown = title(relation)
    return other_condition(shown if shown.startswith("US ") else shown[0].lower() + shown[1:])


def layer_sentences(layers: Mapping[str, Layers], maps: Mapping[str, pd.DataFrame]) -> str:
    """Which layers were chosen, on how many development items and with which sources."""
    lines = []
    for task, chosen in layers.items():
        table = maps[task]
        items, sources = table["item"].nunique(), table["vector"].nunique()
        pairs = len(table.groupby(["source_layer", "start_layer"]))
        last = int(table["start_layer"].max())
        place = f"from layer {chosen.start} to {last}"
        if chosen.start == last:
            place = f"at layer {last}, the last"
        lines.append(
            f"- **{task_title(task)}:** vector from layer {chosen.source}, put in {place}; chosen "
            f"among {_count(pairs, 'pair')} of layers on {_count(items, 'development item')} with "
            f"the vectors of {_count(sources, 'example')}."
        )
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def effect_table(effects: pd.DataFrame) -> str:
    """Markdown table: what the own vectors did, a row for each task, setting and positions."""
    head = [short for _, short in EFFECTS]
    lines = [
        "| task | layers | positions | vectors (answered) | n | " + " | ".join(head) + " |",
        "|---" * (5 + len(head)) + "|",
    ]
    keys = ["task", "setting", "positions"]
    for (task, setting, positions), part in effects.groupby(keys, sort=False):
        rows = part.set_index("measure")
        first = rows.iloc[0]
        layers = f"{first['source_layer']}, from {first['start_layer']} on"
        name = task_title(task) + ("" if setting == "chosen" else f", {setting}")
        cells = [_cell(rows.loc[measure]) for measure, _ in EFFECTS]
        lines.append(
            f"| {name} | {layers} | {positions} | {first['vectors']} ({first['correct']}) | "
            f"{rows['n'].iloc[0]} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _cell(row: pd.Series) -> str:
    if row.name.startswith("answer's rank"):
        return f"{row['value']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
    return interval(row["value"], row["low"], row["high"])


def effect_sentences(effects: pd.DataFrame) -> str:
    """Whether the vectors bring the answer up, a sentence for each task: words follow intervals."""
    sentences = []
    for task, part in effects.groupby("task", sort=False):
        rows = part.set_index("measure")
        before, after = (rows.loc[f"mean reciprocal rank {when}"] for when in ("before", "after"))
        top, none = rows.loc["answer on top after"], rows.loc["no effect"]
        sentences.append(
            f"**{task_title(task)}:** with one example's vector the answer's mean reciprocal rank "
            f"{_moved(rows.loc['change'])}, from {_number(before['value'])} to "
            f"{_number(after['value'])}; the answer is then on top in {top['value']:.1%} of the "
            f"runs, and ranks no better than before in {none['value']:.1%}."
        )
    return "\n\n".join(sentences)


def _moved(change: pd.Series) -> str:
    if change["low"] > 0:
        return "rises"
    return "falls" if change["high"] < 0 else "does not clearly change"


def _number(value: float) -> str:
    """Two decimals, or two digits of what would be 0.00."""
    return f"{value:.2f}" if abs(value) >= 0.01 or not value else f"{value:.2g}"


def curve_sentences(curves: pd.DataFrame) -> str:
    """After which layers the vectors have the answer above the control run, for each task."""
    sentences = []
    answers = curves[curves["token"] == "answer"]
    for task, part in answers.groupby("task", sort=False):
        means = part.pivot(index="layer", columns="condition", values="mean")
        lifted = means[OWN] - means[CONTROL]
        below = lifted.index[lifted <= 0]
        first = int(below.max()) + 1 if len(below) else int(lifted.index.min())
        if lifted.iloc[-1] > 0:
            said = f"the answer stands above the control run's from layer {first} to the last"
        else:
            said = "after the last layer the answer stands no higher than in the control run"
        top = part[part["condition"] == OWN].set_index("layer")["top"]
        highest = f"most often after layer {top.idxmax()} ({top.max():.1%} of the runs)"
        said += f"; with the vectors it is on top {highest if top.max() > 0 else 'nowhere'}"
        sentences.append(f"**{task_title(task)}:** {said}.")
    return "\n\n".join(sentences)


def example_lines(example: pd.DataFrame, text: str) -> str:
    """The pattern of the example, and what the two runs end on."""
    last = example[example["layer"] == example["layer"].max()].set_index("condition")
    control, own = last.loc[CONTROL], last.loc[OWN]
    return (
        f"`{text}`\n\nWithout the intervention the model goes on with "
        f"`{_shown(control['top_token'])}`, with the vector of *{own['vector']}* it says "
        f"`{_shown(own['top_token'])}`. The answer looked for is `{own['answer'].strip()}`."
    )


def _shown(token: str) -> str:
    return token.strip().replace("`", "'") or "↵"


def spread_sentences(spread: pd.DataFrame) -> str:
    """How far the sources differ: the range, and how many raise or lower the answer for sure."""
    sentences = []
    for task, part in spread.groupby("task", sort=False):
        best, worst = part.loc[part["mean"].idxmax()], part.loc[part["mean"].idxmin()]
        up, down = int((part["low"] > 0).sum()), int((part["high"] < 0).sum())
        wrong = int((~part["correct"].astype(bool)).sum())
        said = (
            f"**{task_title(task)}:** from {worst['mean']:+.2f} ({worst['vector']}) to "
            f"{best['mean']:+.2f} ({best['vector']}); {up} of {_count(len(part), 'source')} raise "
            f"the answer, {down} lower it, their interval clear of zero."
        )
        if wrong:
            said += f" The model does not answer {wrong} of the sources' own prompts."
        sentences.append(said)
    return "\n\n".join(sentences)


def control_sentences(means: pd.DataFrame) -> str:
    """Where the own vector stands among its controls, a sentence for each task."""
    sentences = []
    for task, part in means.groupby("task", sort=False):
        rows = part.set_index("condition")
        own = rows.loc[OWN]
        rivals = rows.drop(index=[CONTROL, OWN], errors="ignore")
        rivals = rivals[~rivals.index.str.startswith("mean of")]
        above = [
            condition_title(name) for name, row in rivals.iterrows() if row["mean"] > own["mean"]
        ]
        said = (
            f"**{task_title(task)}:** control run {_number(rows.loc[CONTROL, 'mean'])}, own vector "
            f"{_number(own['mean'])}"
        )
        if RANDOM in rows.index:
            said += f", random vector {_number(rows.loc[RANDOM, 'mean'])}"
        if WRONG in rows.index:
            said += f", after a wrong demonstration {_number(rows.loc[WRONG, 'mean'])}"
        said += ". "
        if above:
            said += f"As high or higher than the own vector, on average: {listed(above)}."
        else:
            said += "No control reaches the own vector's average."
        sentences.append(said + _mean_sentence(rows))
    return "\n\n".join(sentences)


def _mean_sentence(rows: pd.DataFrame) -> str:
    """What averaging the vectors does."""
    counts = [int(name.split()[2]) for name in rows.index if name.startswith("mean of")]
    if not counts:
        return ""
    count = max(counts)
    found = rows.loc[mean_condition(count)]
    return f" The mean of {count} own vectors gives {_number(found['mean'])}."


def map_sentences(cells: pd.DataFrame) -> str:
    """The best cell of each map on development items, and how many of all raise the answer."""
    sentences = []
    for task, part in cells.groupby("task", sort=False):
        best = part.loc[part["difference"].idxmax()]
        raising = float((part["difference"] > 0).mean())
        sentences.append(
            f"**{task_title(task)}:** the largest change is {best['difference']:+.2f}, with the "
            f"vector of layer {best['source_layer']} from layer {best['start_layer']} on; "
            f"{raising:.0%} of the pairs raise the answer at all (n = {best['n']} items)."
        )
    return "\n\n".join(sentences)


def scale_sentences(curve: pd.DataFrame) -> str:
    """At which scale the answer stands highest."""
    parts = []
    for task, part in curve.groupby("task", sort=False):
        best = part.loc[part["mean"].idxmax()]
        plain = part[part["scale"] == 1]["mean"]
        said = f"{best['mean']:.2f} at scale {best['scale']:g} for {_named(task)}"
        if len(plain):
            said += f" ({plain.iloc[0]:.2f} at scale 1)"
        parts.append(said)
    return f"The answer's mean reciprocal rank is highest with {listed(parts)}."


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
        named = [f"{name} {share:.0%}" for name, share in missed.items() if share >= 0.005]
        said = f"**{task_title(task)}:** {rows[ANSWER]:.1%} of the runs end on the answer"
        sentences.append(said + (f"; otherwise: {listed(named)}." if named else "."))
    return "\n\n".join(sentences)


def factor_table(found: pd.DataFrame) -> str:
    """Markdown table: effects on two kinds of items, beside each other."""
    lines = [
        "| task | items | n | RR before | RR after | change [95% interval] | on top after |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found.itertuples():
        if row.n:
            cells = f"{row.before:.2f} | {row.after:.2f} | "
            cells += f"{interval(row.mean, row.low, row.high)} | {row.top:.1%}"
        else:
            cells = "none | none | none | none"
        lines.append(f"| {task_title(row.task)} | {row.level} | {row.n} | {cells} |")
    return "\n".join(lines)


def published_table(published: list[Published], effects: pd.DataFrame, model: str) -> str:
    """The paper's numbers beside ours, where the paper measured this model; else a line says so."""
    own = [one for one in published if one.model == model]
    if not own:
        names = listed(sorted({one.model for one in published})) if published else "no model"
        return (
            f"The paper prints numbers for {names}, none for `{model}`: there is nothing to set "
            "beside this page's."
        )
    found = effects[effects["positions"] == "all"].set_index(["setting", "task", "measure"])
    lines = [
        "| task | measure | paper | its layers and example | layers chosen here |",
        "|---|---|---|---|---|",
    ]
    for one in own:
        task, measure = _task_of(one)
        cells = []
        for setting in ("paper", "chosen"):
            key = (setting, task, measure)
            cells.append(_cell(found.loc[key].rename(measure)) if key in found.index else "not run")
        lines.append(f"| {task_title(task)} | {measure} | {one.value:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _task_of(one: Published) -> tuple[str, str]:
    """The chapter's task and measure that a printed number belongs to."""
    for task, (relation, addition) in SHOWN_AS.items():
        if one.relation == relation and one.name.endswith(addition):
            return task, one.name.removesuffix(addition)
    in_paper = {"uppercase": "colored_objects"}  # its in-domain set for upper-casing
    return in_paper.get(one.relation, one.relation), one.name


def authors_lines(missing: str, tables: Mapping[str, pd.DataFrame], effects: pd.DataFrame) -> str:
    """The authors' vectors beside ours, or in one line why they are not here."""
    if missing or not tables:
        return missing
    lines = [
        "| relation | cosine with ours | RR before | with ours | with theirs |",
        "|---" * 5 + "|",
    ]
    for task, table in tables.items():
        rows = effects[effects["task"] == task].set_index("condition")
        cells = [f"{rows.loc[name, 'mean']:.2f}" for name in rows.index]
        lines.append(
            f"| {task_title(task)} | {table['cosine'].iloc[0]:.3f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def summary(
    name: str,
    effects: pd.DataFrame,
    means: pd.DataFrame,
    spread: pd.DataFrame,
    shares: pd.DataFrame,
    by_formation: pd.DataFrame,
) -> str:
    """The findings of chapter 3 in a short list, for whatever model was run."""
    main = effects[(effects["setting"] == "chosen") & (effects["positions"] == "all")]
    changes = []
    for task in means["task"].unique():
        rows = main[main["task"] == task].set_index("measure")
        before, after = (
            _number(rows.loc[f"mean reciprocal rank {when}", "value"])
            for when in ("before", "after")
        )
        changes.append(f"{before} to {after} for {_named(task)} ({_moved(rows.loc['change'])})")
    lines = [
        f"- On `{name}`, one example's vector in place of the late FFN outputs takes the answer's "
        f"mean reciprocal rank from {listed(changes)}."
    ]
    lines.append(f"- {_controls_passed(means)}")
    reach = [
        f"{int((part['low'] > 0).sum())} of {len(part)} for {_named(task)}"
        for task, part in spread.groupby("task", sort=False)
    ]
    lines.append(f"- Sources that raise the answer, their interval clear of zero: {listed(reach)}.")
    ends = [
        f"{part.set_index('outcome')['share'].drop(ANSWER).idxmax()} for {_named(task)}"
        for task, part in shares.groupby("task", sort=False)
    ]
    lines.append(f"- What comes out most often where the answer does not: {listed(ends)}.")
    lines.append(f"- {_formation_sentence(by_formation)}")
    return "\n".join(lines)


def _controls_passed(means: pd.DataFrame) -> str:
    """On which tasks the own vectors are above every control, by the averages."""
    beaten = []
    for task, part in means.groupby("task", sort=False):
        rows = part.set_index("condition")["mean"]
        rivals = rows[[n for n in rows.index if n != OWN and not n.startswith("mean of")]]
        if rows[OWN] > rivals.max():
            beaten.append(_named(task))
    if not beaten:
        return "On no relation is the own vector above the control run and all control vectors."
    return f"The own vector is above the control run and all control vectors for {listed(beaten)}."


def _formation_sentence(found: pd.DataFrame) -> str:
    parts = []
    for task, part in found.groupby("task", sort=False):
        formed, unformed = part.iloc[0], part.iloc[1]
        if formed["n"] and unformed["n"]:
            parts.append(
                f"{formed['mean']:+.2f} with and {unformed['mean']:+.2f} without for {_named(task)}"
            )
    if not parts:
        return "Items with and without argument formation cannot be compared here."
    return f"Change on items with argument formation on their one-shot prompt: {listed(parts)}."
