"""The tables of all tasks as one, and one item of them layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ovectors.experiments.shared.replacing import CONTROL, OWN
from ovectors.prompts import repeated_pattern
from ovectors.relations import load_relation

Tables = Mapping[str, pd.DataFrame]
EXAMPLE_ARGUMENTS = {"world_capitals": " China", "past_tense": " abandon", "uppercase": " blue"}


def joined(tables: Tables) -> pd.DataFrame:
    """All tables in one, with the task of each row in a column in front."""
    named = [table.assign(task=task) for task, table in tables.items()]
    table = pd.concat(named, ignore_index=True)
    return table[["task", *table.columns.drop("task")]]


def pattern_of(table: pd.DataFrame, *, seed: int = 0) -> str:
    """The nonsense pattern of a table's first item, as text."""
    relation = load_relation(str(table["relation"].iloc[0]), seed=seed)
    argument = table["argument"].iloc[0].strip()
    item = next(item for item in relation.items if item.argument == argument)
    return repeated_pattern(relation, item, seed=seed).text


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
