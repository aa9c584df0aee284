"""Effects on two kinds of items: whole and split words, argument formed and not (appendix E)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ovectors.experiments.shared.effects import paired, reciprocal
from ovectors.experiments.shared.replacing import CONTROL, OWN
from ovectors.experiments.shared.rows import row_of
from ovectors.experiments.stages.judge import after_layers, detect_stages
from ovectors.statistics import nothing

Tables = Mapping[str, pd.DataFrame]
WHOLE, SPLIT = "argument and answer are whole tokens", "argument or answer is split"
FORMED, UNFORMED = "argument formed on the one-shot prompt", "argument not formed"


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
        shown = after_layers(one_shot[task])
        formed = {
            argument: detect_stages(
                rows["rank_argument"].to_numpy(), rows["rank_answer"].to_numpy()
            ).argument_formed
            for argument, rows in shown.sort_values("layer").groupby("argument")
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
            row = {"task": task, "level": level} | row_of(found)
            for name, values in (("before", before), ("after", after), ("top", after == 1)):
                row[name] = float(np.mean(values)) if values.size else np.nan
            rows.append(row)
    return pd.DataFrame(rows)
