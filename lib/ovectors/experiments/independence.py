"""Content independence, summed up: means with intervals, by layer, source, control and item.

Every function takes tables as `content_independence` and `controls` make them, by the name of their
task, and gives a tidy table to draw and to save. Intervals resample vectors and items alike, where
there are several of each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ovectors.experiments import stages
from ovectors.experiments.effects import effects, paired, reciprocal
from ovectors.experiments.layer_maps import Layers, layer_means
from ovectors.experiments.outcomes import OUTCOMES
from ovectors.experiments.replacing import CONTROL, OWN
from ovectors.prompts import repeated_pattern
from ovectors.relations import load_relation
from ovectors.statistics import Interval, bootstrap_bands, crossed_mean, nothing

Tables = Mapping[str, pd.DataFrame]
WHOLE, SPLIT = "argument and answer are whole tokens", "argument or answer is split"
FORMED, UNFORMED = "argument formed on the one-shot prompt", "argument not formed"
EXAMPLE_ARGUMENTS = {"world_capitals": " China", "past_tense": " abandon", "uppercase": " blue"}


def _numbers(found: Interval, name: str = "mean") -> dict[str, float]:
    return {name: found.value, "low": found.low, "high": found.high, "n": found.n}


def joined(tables: Tables) -> pd.DataFrame:
    """All tables in one, with the task of each row in a column in front."""
    named = [table.assign(task=task) for task, table in tables.items()]
    table = pd.concat(named, ignore_index=True)
    return table[["task", *table.columns.drop("task")]]


def records(table: pd.DataFrame) -> list[dict]:
    """A table's rows as plain dictionaries, None where there is no number."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def pattern_of(table: pd.DataFrame, *, seed: int = 0) -> str:
    """The nonsense pattern of a table's first item, as text."""
    relation = load_relation(str(table["relation"].iloc[0]), seed=seed)
    argument = table["argument"].iloc[0].strip()
    item = next(item for item in relation.items if item.argument == argument)
    return repeated_pattern(relation, item, seed=seed).text


def effect_rows(tables: Tables, *, setting: str = "chosen", seed: int = 0) -> pd.DataFrame:
    """What the own vectors do: a row for each task and measure of `effects`.

    Columns: task, setting, positions, source_layer, start_layer, vectors, correct (how many of
    their sources the model answers), measure, value, low, high, n (items).
    """
    rows = []
    for task, table in tables.items():
        own = table[table["condition"] == OWN]
        sources = own.drop_duplicates("number")
        named = {
            "task": task,
            "setting": setting,
            "positions": own["positions"].iloc[0],
            "source_layer": int(own["source_layer"].iloc[0]),
            "start_layer": int(own["start_layer"].iloc[0]),
            "vectors": len(sources),
            "correct": int(sources["source_correct"].sum()),
        }
        for measure, found in effects(table, seed=seed).items():
            rows.append(named | {"measure": measure} | _numbers(found, "value"))
    return pd.DataFrame(rows)


def layer_curves(tables: Tables, *, seed: int = 0) -> pd.DataFrame:
    """What early decoding shows after each layer, with and without the vectors (figure 4).

    Columns: task, condition, token (argument or answer), layer, mean reciprocal rank with low and
    high, n, rank (1 / mean), top (share of runs with the token on top), no_effect (share of runs in
    which the answer ranks no better than in the control run; NaN elsewhere). The tables hold all
    layers.
    """
    rows = []
    for task, table in tables.items():
        for layer, part in table.groupby("layer"):
            before = reciprocal(part, CONTROL)
            for condition in (CONTROL, OWN):
                for token in ("argument", "answer"):
                    values = reciprocal(part, condition, token)
                    found = crossed_mean(values, seed=seed)
                    row = {"task": task, "condition": condition, "token": token, "layer": layer}
                    row |= _numbers(found) | {"rank": 1 / found.value, "top": (values == 1).mean()}
                    compared = (condition, token) == (OWN, "answer")
                    row["no_effect"] = (values <= before).mean() if compared else np.nan
                    rows.append(row)
    return pd.DataFrame(rows)


def example(table: pd.DataFrame) -> pd.DataFrame:
    """One item with the first own vector, layer by layer: the rows of that vector and of control.

    The item that the paper shows, where it was run; else the first that ends on its answer without
    having done so before; else the first.
    """
    rows = table[table["condition"].isin([CONTROL, OWN]) & (table["number"] == 0)]
    last = rows[rows["layer"] == rows["layer"].max()].set_index("item")
    own, control = last[last["condition"] == OWN], last[last["condition"] == CONTROL]
    wanted = EXAMPLE_ARGUMENTS.get(str(rows["relation"].iloc[0]))
    moved = own[(own["rank_answer"] == 1) & (control["rank_answer"].loc[own.index] > 1)]
    pool = next(p for p in (own[own["argument"] == wanted], moved, own) if len(p))
    return rows[rows["item"] == pool.index[0]].reset_index(drop=True)


def source_spread(tables: Tables, *, seed: int = 0) -> pd.DataFrame:
    """What each source's vector does: answer's mean reciprocal rank minus the control run's.

    Columns: task, vector (the source's argument), correct, mean, low, high (over items), n.
    """
    rows = []
    for task, table in tables.items():
        difference = reciprocal(table, OWN) - reciprocal(table, CONTROL)
        sources = table[table["condition"] == OWN].drop_duplicates("number").sort_values("number")
        bands = bootstrap_bands(difference.T, seed=seed)
        for source, band in zip(sources.itertuples(), bands, strict=True):
            named = {"task": task, "vector": source.vector, "correct": source.source_correct}
            rows.append(named | _numbers(band))
    return pd.DataFrame(rows)


def condition_means(tables: Tables, more: Tables, *, seed: int = 0) -> pd.DataFrame:
    """Answer's mean reciprocal rank under every kind of vector, a row for each task and condition.

    `more` are tables of `controls.control_vectors` on the same items. Columns: task, condition,
    mean, low, high, n, vectors, norm (their mean length), above, above_low, above_high (its mean
    minus the control run's).
    """
    rows = []
    for task, table in tables.items():
        before = reciprocal(table, CONTROL)
        for part in (table, more.get(task, table.iloc[:0])):
            for condition in part["condition"].unique():
                if condition == CONTROL and part is not table:
                    continue
                found = reciprocal(part, condition)
                above = paired(found, before, seed=seed)
                vectors = part[part["condition"] == condition].drop_duplicates("number")
                named = {"task": task, "condition": condition, "vectors": len(vectors)}
                row = named | _numbers(crossed_mean(found, seed=seed))
                row |= {"norm": vectors["norm"].mean(), "above": above.value}
                rows.append(row | {"above_low": above.low, "above_high": above.high})
    return pd.DataFrame(rows)


def map_cells(maps: Tables, layers: Mapping[str, Layers]) -> pd.DataFrame:
    """Start and source layers: answer's mean reciprocal rank minus the control run's, a cell a row.

    Of the pairs that are evenly spread. Columns: task, source_layer, start_layer, mean, before,
    difference, n, chosen (the pair that the chapter uses).
    """
    frames = []
    for task, table in maps.items():
        cells = layer_means(table[table["on_grid"]]).assign(task=task)
        chosen = layers[task]
        cells["difference"] = cells["mean"] - cells["before"]
        cells["chosen"] = (cells["source_layer"] == chosen.source) & (
            cells["start_layer"] == chosen.start
        )
        frames.append(cells)
    return pd.concat(frames, ignore_index=True)


def scale_curve(tables: Tables, *, seed: int = 0) -> pd.DataFrame:
    """Answer's mean reciprocal rank over the vectors' scale, with the control run's beside it.

    Columns: task, scale, mean, low, high, n, before.
    """
    rows = []
    for task, table in tables.items():
        before = float(reciprocal(table, CONTROL).mean())
        changed = table[table["condition"] == OWN]
        for scale, part in changed.groupby("scale"):
            found = crossed_mean(reciprocal(part, OWN), seed=seed)
            rows.append({"task": task, "scale": scale, "before": before} | _numbers(found))
    return pd.DataFrame(rows)


def outcome_shares(tables: Tables, *, condition: str = OWN, seed: int = 0) -> pd.DataFrame:
    """Which share of intervened runs ends how: a row for each task and outcome.

    Columns: task, condition, outcome, share, low, high, n.
    """
    rows = []
    for task, table in tables.items():
        last = table[(table["condition"] == condition) & (table["layer"] == table["layer"].max())]
        if last.empty:
            continue
        ends = last.pivot(index="number", columns="item", values="outcome").to_numpy()
        for outcome in OUTCOMES:
            found = crossed_mean(ends == outcome, seed=seed)
            named = {"task": task, "condition": condition, "outcome": outcome}
            rows.append(named | _numbers(found, "share"))
    return pd.DataFrame(rows)


def by_tokens(tables: Tables, *, seed: int = 0) -> pd.DataFrame:
    """Effects on items whose words the tokenizer keeps whole, and on the others (appendix E)."""
    found = {}
    for task, table in tables.items():
        whole = (table["argument_tokens"] == 1) & (table["answer_tokens"] == 1)
        found[task] = whole.map({True: WHOLE, False: SPLIT})
    return _by_factor(tables, found, levels=(WHOLE, SPLIT), seed=seed)


def by_argument_formation(tables: Tables, one_shot: Tables, *, seed: int = 0) -> pd.DataFrame:
    """Effects on items whose one-shot prompt shows argument formation, and on the others.

    `one_shot` are tables of `stages.stages` by task; argument formation is what `stages.RULES`
    calls so. Items that the table of stages does not hold are on neither side.
    """
    found = {}
    for task, table in tables.items():
        formed = {
            argument: stages.detect_stages(
                rows["rank_argument"].to_numpy(), rows["rank_answer"].to_numpy()
            ).argument_formed
            for argument, rows in one_shot[task].sort_values("layer").groupby("argument")
        }
        found[task] = table["argument"].map(formed).map({True: FORMED, False: UNFORMED})
    return _by_factor(tables, found, levels=(FORMED, UNFORMED), seed=seed)


def _by_factor(
    tables: Tables, labels: Mapping[str, pd.Series], *, levels: tuple[str, str], seed: int
) -> pd.DataFrame:
    """Columns: task, level, before, after, mean (after minus before), low, high, n, top."""
    rows = []
    for task, table in tables.items():
        for level in levels:
            part = table[labels[task] == level]
            before, after = reciprocal(part, CONTROL), reciprocal(part, OWN)
            found = paired(after, before, seed=seed) if len(part) else nothing()
            row = {"task": task, "level": level} | _numbers(found)
            for name, values in (("before", before), ("after", after), ("top", after == 1)):
                row[name] = float(np.mean(values)) if values.size else np.nan
            rows.append(row)
    return pd.DataFrame(rows)
