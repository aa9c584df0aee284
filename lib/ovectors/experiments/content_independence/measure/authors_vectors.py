"""The authors' published vectors beside ours from the same examples, or from like prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch

from ovectors import authors
from ovectors.errors import UserError
from ovectors.experiments.content_independence.measure.bench import prepare
from ovectors.experiments.shared.sources import Task

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

AUTHORS = "authors' vector"


def authors_vectors(
    model: LanguageModel,
    relation: str,
    *,
    start_layer: int,
    group: str = "",
    sha256: str,
    positions: str = "all",
    n_items: int = 0,
    max_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """A published vector and ours from the same argument and layer, on the same items.

    The prompts about it are the authors' own, but for upper-casing, where ours is a like one.

    Rows as of `replacing.measure`, with the `cosine` between the two vectors. `sha256` names the
    published vector. UserError where it has not been downloaded or is not this model's.
    """
    one = next((one for one in authors.known(model.name) if one.sha256 == sha256), None)
    if one is None:
        raise UserError(f"the authors published no such vector for {model.name}")
    published = authors.load(one)
    put_in = {"source_layer": one.layer, "start_layer": start_layer, "positions": positions}
    drawn = {"n_items": n_items, "max_items": max_items, "examples": (one.example,), "seed": seed}
    task = Task(relation=relation, group=group, vectors_from=one.vectors_from)
    bench = prepare(model, task, progress=progress, **put_in, **drawn)
    (ours,) = bench.own
    theirs = replace(ours, condition=AUTHORS, name=one.example, values=published)
    table = bench.measure([ours, theirs])
    cosine = torch.cosine_similarity(ours.values.double(), published.double(), dim=0)
    return table.assign(cosine=float(cosine))
