"""(e) nnsight 0.8: `TransformersModel` around the same modules, and traces.

Reviewed for fairness:

- `TransformersModel` wraps the model in memory, so weights and attention are the same. It pads on
  the left and makes the position numbers for it, so the last token is `[:, -1]`.
- Its documentation shows two ways to sweep: a trace over a batch for each start layer, or one
  trace with an invoke for each, all in one forward pass ("consolidate traces"). On a CPU the second
  copies the batch around; which one is quicker depends on the model. Both are tried on a prompt or
  two when the contestant is opened, and the quicker one is used.
- An invoke for each start layer multiplies the rows, so it takes fewer prompts at once: both ways
  have batches of at most the same number of rows, the size that suits the plain pass best.
- Outputs are changed in place, as its guide to ablation does. Only the last token's logits are
  saved, though the model computes them for all.
- The traces stand at module level in a file, where it keeps what it has compiled of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter

import torch
from torch import Tensor

from benchmarks.questions import Answer, Question, Tally, padded
from benchmarks.timing import seconds
from ovectors.models import LanguageModel


@contextmanager
def sweep(model: LanguageModel, *, rows: int) -> Iterator[Callable[[Question], Answer]]:
    """Whichever of the two ways is quicker, tried at the first question."""
    from nnsight import TransformersModel

    wrapped = TransformersModel(model.model, task="text-generation", tokenizer=model.tokenizer)
    wiring = model.architecture
    blocks = attrgetter(wiring.layers)(wrapped)
    ffns = [attrgetter(wiring.ffn)(blocks[layer]) for layer in range(model.n_layers)]
    chosen: list[Callable] = []

    @torch.no_grad()
    def ask(question: Question) -> Answer:
        if not chosen:
            chosen.append(_quicker(wrapped, ffns, question, rows=rows, device=str(model.device)))
        return _asked(chosen[0], wrapped, ffns, question, rows=rows)

    yield ask


def _quicker(wrapped, ffns: list, question: Question, *, rows: int, device: str) -> Callable:
    """The way that answers two prompts sooner, after a warm-up of each."""
    few = replace(question, encoded=question.encoded.select(range(min(2, len(question.encoded)))))
    taken = {}
    for way in (_a_trace_a_start, _an_invoke_a_start):
        _asked(way, wrapped, ffns, few, rows=rows)
        work = lambda way=way: _asked(way, wrapped, ffns, few, rows=rows)  # noqa: E731
        taken[way] = seconds(work, device=device)
    return min(taken, key=taken.__getitem__)


def _asked(way: Callable, wrapped, ffns: list, question: Question, *, rows: int) -> Answer:
    tally = Tally(question)
    vector = question.vector.to(wrapped.device, wrapped.dtype)
    at = slice(None) if question.positions == "all" else slice(-1, None)
    if way is _an_invoke_a_start:
        rows = max(1, rows // len(question.starts))
    for batch in padded(question.token_ids, rows=rows):
        ids = [list(question.token_ids[row]) for row in batch.rows.tolist()]
        for run, logits in way(wrapped, ffns, ids, vector, at, question.starts).items():
            tally.add(run, batch.rows, logits)
    return tally.answer()


def _a_trace_a_start(
    wrapped, ffns: list, ids: list[list[int]], vector: Tensor, at: slice, starts: tuple[int, ...]
) -> dict[int, Tensor]:
    """A forward pass over the prompts for each start layer."""
    found = {}
    for run, start in enumerate(starts):
        with wrapped.trace(ids):
            for ffn in ffns[start:]:
                ffn.output[:, at] = vector
            logits = wrapped.lm_head.output[:, -1].save()
        found[run] = logits
    return found


def _an_invoke_a_start(
    wrapped, ffns: list, ids: list[list[int]], vector: Tensor, at: slice, starts: tuple[int, ...]
) -> dict[int, Tensor]:
    """One forward pass over the prompts, once for each start layer side by side."""
    import nnsight

    with wrapped.trace() as tracer:
        found = nnsight.save({})
        for run, start in enumerate(starts):
            with tracer.invoke(ids):
                for ffn in ffns[start:]:
                    ffn.output[:, at] = vector
                found[run] = wrapped.lm_head.output[:, -1]
    return found
