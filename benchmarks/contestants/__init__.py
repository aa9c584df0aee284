"""Who is measured: the same question, each answered in its own way.

A contestant is opened on a model and then asked. Each has the same batch size, counts ranks in the
same way (`questions.Tally`), and gets the prompts' tokens ready made: none pays for tokenizing.
Others than this library get a copy of the model: what they leave in its modules (hooks that gather
hidden states, gates, wrappers) would slow down whoever runs it after them.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.contestants import by_hand, nnsight, ours, transformerlens
from benchmarks.questions import Answer, Question
from ovectors.models import LanguageModel

Ask = Callable[[Question], Answer]

OURS, SLOW, BY_HAND = "ours", "slow", "by hand"
TRANSFORMERLENS, NNSIGHT = "TransformerLens", "nnsight"
SWEEPERS = (OURS, SLOW, BY_HAND, TRANSFORMERLENS, NNSIGHT)
_NEEDS = {TRANSFORMERLENS: "transformer_lens", NNSIGHT: "nnsight"}
_OPEN = {
    OURS: ours.fast,
    SLOW: ours.slow,
    BY_HAND: by_hand.sweep,
    TRANSFORMERLENS: transformerlens.sweep,
    NNSIGHT: nnsight.sweep,
}


def missing(name: str) -> str | None:
    """Why a contestant cannot be measured here; None where it can."""
    package = _NEEDS.get(name)
    if package is None or importlib.util.find_spec(package):
        return None
    return f"{name} is not installed: `pip install -e '.[bench]'` brings it"


@contextmanager
def opened(name: str, model: LanguageModel, *, rows: int) -> Iterator[Ask]:
    """A contestant on this model, with batches of at most `rows`; nothing of it stays behind."""
    own = model if name in (OURS, SLOW) else copied(model)
    with _OPEN[name](own, rows=rows) as ask:
        yield ask


def copied(model: LanguageModel) -> LanguageModel:
    """The same model in memory of its own."""
    return LanguageModel.of(copy.deepcopy(model.model), model.tokenizer, name=model.name)
