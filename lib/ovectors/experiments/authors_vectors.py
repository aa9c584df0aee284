"""The paper's own settings, and the authors' published vectors beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
import torch

from ovectors import authors
from ovectors.errors import UserError
from ovectors.experiments.layer_maps import Layers
from ovectors.experiments.replacing import OWN, Vector, measure, source_vectors
from ovectors.experiments.sources import Task, find_sources, material

if TYPE_CHECKING:
    from ovectors.catalogue import ModelSpec
    from ovectors.models import LanguageModel

AUTHORS = "authors' vector"
EXAMPLES = {
    "world_capitals": "Poland",
    "past_tense": "abolish",
    "colored_objects": "brown",
    "uppercase": "brown",
}
"""The arguments of the prompts that the paper takes its vectors from."""


def paper_layers(spec: ModelSpec, relation: str) -> Layers | None:
    """The layers that the paper names for a relation; None where it names none for this model.

    Where it names the source alone (GPT-J), the vector goes in from its own layer on.
    """
    name = "uppercase" if relation == "colored_objects" else relation
    source = spec.o_layers.get(name)
    if source is None:
        return None
    return Layers(source=source, start=spec.replaced[0] if spec.replaced else source)


def paper_settings(spec: ModelSpec, tasks: Mapping[str, Task]) -> dict[str, dict]:
    """`content_independence`'s settings as in the paper, with its layers and its one example.

    For those tasks that it names a layer for on this model: none on most models.
    """
    found = {}
    for name, task in tasks.items():
        origin = str(task.origin.relation)
        layers = paper_layers(spec, origin)
        if layers is not None and origin in EXAMPLES:
            chosen = {"source_layer": layers.source, "start_layer": layers.start}
            found[name] = task.settings | chosen | {"examples": (EXAMPLES[origin],)}
    return found


def published_settings(spec: ModelSpec, tasks: Mapping[str, Task]) -> dict[str, dict]:
    """`authors_vectors`' settings for the authors' vectors that are on this computer."""
    found = {}
    for one in authors.present(spec.name):
        layers, task = paper_layers(spec, one.relation), tasks.get(one.relation)
        if layers is not None and task is not None:
            chosen = {"start_layer": layers.start, "sha256": one.sha256}
            found[one.relation] = {"relation": task.relation, "group": task.group} | chosen
    return found


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
    """A published vector and ours from the same example and layer, on the same items.

    Rows as of `replacing.measure`, with the `cosine` between the two vectors. `sha256` names the
    published vector. UserError where it has not been downloaded or is not this model's.
    """
    one = next((one for one in authors.known(model.name) if one.sha256 == sha256), None)
    if one is None:
        raise UserError(f"the authors published no such vector for {model.name}")
    published = authors.load(one)
    origin = Task(relation=relation, group=group, vectors_from=one.vectors_from)
    ours = source_vectors(
        model,
        find_sources(model, origin, seed=seed, examples=(one.example,)),
        one.layer,
        condition=OWN,
    )[0]
    theirs = Vector(
        condition=AUTHORS,
        name=one.example,
        values=published,
        layer=one.layer,
        answer=ours.answer,
        correct=ours.correct,
    )
    used = material(
        model,
        origin,
        n_items=n_items,
        max_items=max_items,
        seed=seed,
        examples=(one.example,),
    )
    table = measure(
        model,
        used.report,
        [ours, theirs],
        start_layer=start_layer,
        positions=positions,
        answers=used.answers,
        seed=seed,
        progress=progress,
    )
    cosine = torch.cosine_similarity(ours.values.double(), published.double(), dim=0)
    return table.assign(cosine=float(cosine))
