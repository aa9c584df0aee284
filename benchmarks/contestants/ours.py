"""(a) This library, and (b) this library with a hooked forward pass for each point."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.questions import Answer, Question
from ovectors.experiments.stages import judge, measure
from ovectors.interventions import Replace
from ovectors.models import LanguageModel
from ovectors.sweeps import sweep

_SLOW = "OVECTORS_SLOW"


@contextmanager
def fast(model: LanguageModel, *, rows: int) -> Iterator[Callable[[Question], Answer]]:
    """`ovectors.sweeps.sweep`, as every experiment calls it. It chooses its own batches."""
    yield lambda question: _sweep(model, question)


@contextmanager
def slow(model: LanguageModel, *, rows: int) -> Iterator[Callable[[Question], Answer]]:
    """The same call with the shortcuts switched off."""

    def ask(question: Question) -> Answer:
        before = os.environ.get(_SLOW)
        os.environ[_SLOW] = "1"
        try:
            return _sweep(model, question)
        finally:
            os.environ.pop(_SLOW) if before is None else os.environ.update({_SLOW: before})

    yield ask


def _sweep(model: LanguageModel, question: Question) -> Answer:
    points = [
        [
            Replace(
                layers=range(start, model.n_layers),
                positions=question.positions,
                vector=question.vector,
            )
        ]
        for start in question.starts
    ]
    found = sweep(model, question.encoded, points, wanted=question.wanted)
    ranks = {name: found.final(name) for name in found.ranks}
    return Answer(ranks=ranks, top=found.top[:, -1])


def stages(model: LanguageModel, relation: str, *, n_items: int) -> Answer:
    """The experiment of chapter 1, table and top-5 tokens included: a run is a decoded layer."""
    table = judge.after_layers(measure.stages(model, relation, n_items=n_items))
    ranks = {
        name: table.pivot(index="layer", columns="item", values=f"rank_{name}").to_numpy()
        for name in ("answer", "argument")
    }
    return Answer(ranks=ranks, top=np.empty((0, 0), dtype=np.int64))
