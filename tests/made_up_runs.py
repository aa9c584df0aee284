"""Whole runs that no chapter made: claims and tables of any model, for what compares models."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from matplotlib.figure import Figure

import trivial
from ovectors import batch, claims, comparison, keys, notebooks, results, runs
from ovectors.catalogue import ModelSpec, model_spec
from ovectors.claims import RULES, Claim, Cost, Evidence
from ovectors.statistics import Interval

STAGES, RETRIEVAL = "01_stages_of_processing", "04_retrieval_versus_context"
CHAPTERS = tuple(dict.fromkeys(rule.chapter for rule in RULES.values()))
COST = Cost(seconds=1.0, peak_memory_bytes=10**8)


def make_project(folder: Path) -> Path:
    """A project whose chapters have the names of the real ones, and do nothing."""
    root = trivial.make_project(folder)
    (root / "chapters" / "01_first.ipynb").unlink()
    for name in CHAPTERS:
        trivial.write_chapter(root, name)
    return root


def found(value: float, *, width: float = 0.1, n: int = 100) -> Interval:
    return Interval(value=value, low=value - width, high=value + width, n=n)


def claim(
    claim_id: str,
    model: str,
    values: Mapping[str, float],
    *,
    control: float = 0.9,
    width: float = 0.1,
    n: int = 100,
) -> Claim:
    """A verdict on two criteria a relation, each of which holds where it is above 0.5 by more than
    the width: the paper's own, whose values are given, and a control."""
    evidence = []
    for relation, value in values.items():
        for name, number, kind in (("main", value, "paper"), ("control", control, "control")):
            measured = found(number, width=width, n=n)
            evidence.append(
                Evidence(relation=relation, criterion=name, found=measured, bound=0.5, kind=kind)
            )
    return claims.judge(RULES[claim_id], evidence, model=model)


def stages_of(model: str) -> list[Claim]:
    """A verdict of chapter 1 that holds."""
    return [claim("stages", model, {"world_capitals": 0.8, "past_tense": 0.9})]


def finding(model: str, chapter: str = STAGES, **settings: Path) -> comparison.Finding:
    """What is gathered of a chapter on a model."""
    found = comparison.gather(**settings)
    (one,) = (one for one in found if (one.model, one.chapter) == (model, chapter))
    return one


def shares(depths: Mapping[str, float], *, n: int = 100, share: float = 0.9) -> pd.DataFrame:
    """Chapter 1's table of stages, as far as it tells depths: of 12 layers."""
    rows = []
    for relation, depth in depths.items():
        for stage in ("function application", "answer on top", "saturation"):
            row = {"relation": relation, "form": "one_shot", "stage": stage, "share": share, "n": n}
            if stage != "saturation":
                row |= {"median_layer": depth * 12 - 1, "relative_depth": depth}
            rows.append(row)
    return pd.DataFrame(rows)


def ranks(heights: Mapping[str, Sequence[float]], *, n: int = 100) -> pd.DataFrame:
    """Chapter 1's mean reciprocal ranks: those of the argument, and an answer that only rises."""
    rows = []
    for relation, argument in heights.items():
        answer = [(layer + 1) / len(argument) for layer in range(len(argument))]
        for token, means in (("argument", argument), ("answer", answer)):
            for layer, mean in enumerate(means):
                row = {"relation": relation, "form": "one_shot", "token": token, "layer": layer}
                rows.append(row | {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n": n})
    return pd.DataFrame(rows)


def write_run(
    chapter: str,
    model: str | ModelSpec,
    found_claims: Sequence[Claim] = (),
    *,
    table: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    examples: pd.DataFrame | None = None,
    parameters: int | None = 2_000_000,
    given: Mapping[str, Any] | None = None,
    notebook: nbformat.NotebookNode | None = None,
    drawn: str = "",
) -> runs.Place:
    """A whole and current run of the batch, with these claims and chapter 1's tables; `notebook` as
    it was executed, and the name of a figure that it saved, drawn from the curves."""
    source = next(c for c in notebooks.find_chapters() if c.name == chapter)
    spec = model if isinstance(model, ModelSpec) else model_spec(model)
    place = runs.place_of(source, spec)
    asked = spec.name if spec.group != "other" else str(spec.folder)
    settings = notebooks.check_parameters(source, {**(given or {}), "model": asked})
    shutil.rmtree(place.results, ignore_errors=True)
    place.folder.mkdir(parents=True, exist_ok=True)
    tables = {"stage-shares": table, "reciprocal-ranks": curves, "examples": examples}
    save(place.results, chapter, spec.name, found_claims, tables, settings, parameters, drawn)
    nbformat.write(notebook or nbformat.v4.new_notebook(), place.notebook)
    parts = batch._parts(source, settings, spec)
    sidecar = runs.Sidecar(
        chapter=chapter,
        model=spec.name,
        asked=asked,
        key=keys.key_of(parts),
        parts=parts,
        parameters=settings,
        notebook=results.sha256_of(place.notebook),
        files=runs.hashes_below(place.results),
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        peak_memory_bytes=10**8,
        environment={},
    )
    results.write_json(place.sidecar, sidecar.model_dump())
    return place


def save(
    folder: Path,
    chapter: str,
    model: str,
    found_claims: Iterable[Claim],
    tables: Mapping[str, pd.DataFrame | None],
    settings: Mapping[str, Any],
    parameters: int | None,
    drawn: str = "",
) -> None:
    """What a chapter leaves in its folder, manifest and all."""
    run = results.ChapterRun(chapter=chapter, model=model, parameters=settings, folder=folder)
    for one in found_claims:
        run.save_claim(one, cost=COST)
    for name, table in tables.items():
        if table is not None:
            run.save(name, table, about="")
    if drawn:
        data = [] if tables.get("reciprocal-ranks") is None else ["reciprocal-ranks"]
        run.save_figure(drawn, Figure(figsize=(1, 1)), data=data)
    run.save_json("numbers", {"findings": f"- {chapter} on {model}."})
    run.finish(provenance={"name": model, "parameters": parameters, "dtype": "float32"})


def write_failure(chapter: str, model: str, reason: str, *, refused: bool = False) -> runs.Place:
    """What the batch keeps of a run that failed."""
    place = runs.Place(model=model, chapter=chapter)
    runs.keep_failed(place, nbformat.v4.new_notebook(), reason, refused=refused)
    return place
