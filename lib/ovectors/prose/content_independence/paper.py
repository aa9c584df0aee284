"""The paper's numbers beside ours, and the authors' vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.content_independence.tasks import SHOWN_AS
from ovectors.prose.common import listed
from ovectors.prose.content_independence.effects import cell
from ovectors.prose.content_independence.names import (
    task_title,
)

if TYPE_CHECKING:
    from ovectors.claims import Published


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
        "| task | measure | paper | its layers and example, or one like it | layers chosen here |",
        "|---|---|---|---|---|",
    ]
    for one in own:
        task, measure = _task_of(one)
        cells = []
        for setting in ("paper", "chosen"):
            key = (setting, task, measure)
            cells.append(cell(found.loc[key].rename(measure)) if key in found.index else "not run")
        lines.append(f"| {task_title(task)} | {measure} | {one.value:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _task_of(one: Published) -> tuple[str, str]:
    """The chapter's task and measure that a printed number belongs to."""
    for task, (relation, addition) in SHOWN_AS.items():
        if one.relation == relation and one.name.endswith(addition):
            return task, one.name.removesuffix(addition)
    return one.relation, one.name


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
        cells = [f"{table['cosine'].iloc[0]:.3f}"]
        cells += [f"{rows.loc[name, 'mean']:.2f}" for name in rows.index]
        like = ", ours from a like prompt" if task == "uppercase" else ""
        lines.append(f"| {task_title(task)}{like} | {' | '.join(cells)} |")
    return "\n".join(lines)
