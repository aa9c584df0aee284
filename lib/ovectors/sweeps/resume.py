"""Changes at any position: the recorded stream goes on from the first layer that is changed.

A change of an earlier token changes keys and values that later layers read, so all tokens go on
together; what is saved are the layers below the change, computed once for all points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from ovectors.forward import Batch, batches, bytes_per_prompt, progress_bar, run_base
from ovectors.interventions import after_change, intervene
from ovectors.stream import at, recording
from ovectors.sweeps.points import (
    CLEAN,
    ENTRY,
    Piece,
    Point,
    Settings,
    first_layer,
    only_ffns,
    stream_after,
)
from ovectors.sweeps.replay import Blocks, watching

if TYPE_CHECKING:
    from ovectors.forward import Encoded
    from ovectors.models import LanguageModel

Recorded = dict[tuple[str, int], Float[Tensor, "row token d_model"]]


def pieces(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    points: Mapping[int, Point],
    settings: Settings,
) -> Iterator[Piece]:
    """The last token's states after the chosen layers, unchanged and then under each point.

    One pass over each batch is recorded; each point then runs the layers from its first change on.
    Raises `replay.NotReplayable` where a block's inputs are not known.
    """
    starts = sorted({first_layer(model, point) for point in points.values()})

    def bytes_each(length: int) -> int:
        """Bytes that a prompt of this many tokens takes, the states before each start included."""
        kept = len(ENTRY) * len(starts) * length * model.d_model * model.dtype.itemsize
        return bytes_per_prompt(model, length) + kept

    groups = batches(model, encoded, budget_bytes=settings.budget_bytes, bytes_each=bytes_each)
    steps = [(batch, number) for batch in groups for number in (CLEAN, *points)]
    for batch, number in progress_bar(steps, title=settings.title, shown=settings.progress):
        if number == CLEAN:
            blocks, kept, clean = _clean_pass(model, batch, starts, settings.layers)
            states = clean
        else:
            states = _from_start(model, batch, points[number], blocks, kept, settings.layers)
        for layer, state in states.items():
            yield Piece(points=(number,), rows=batch.rows, layer=layer, states=state[None])


def _clean_pass(
    model: LanguageModel, batch: Batch, starts: Sequence[int], layers: Sequence[int]
) -> tuple[Blocks, Recorded, dict[int, Float[Tensor, "row d_model"]]]:
    """The blocks' inputs, the whole stream where points start, and the last token's states."""
    rows = len(batch.rows)
    with (
        watching(model) as blocks,
        recording(model, parts=ENTRY, layers=starts, rows=rows, positions=None) as kept,
        recording(model, parts=("after",), layers=layers, rows=rows, positions=batch.last) as after,
    ):
        run_base(model, batch)
    return blocks, kept, {layer: state for (_, layer), state in after.items()}


def _from_start(
    model: LanguageModel,
    batch: Batch,
    point: Point,
    blocks: Blocks,
    kept: Recorded,
    layers: Sequence[int],
) -> dict[int, Float[Tensor, "row d_model"]]:
    """The last token's states after those of `layers` that the point can change."""
    start = first_layer(model, point)
    before, attention, ffn = (kept[part, start] for part in ENTRY)
    found = {}
    with intervene(model, point, batch.lengths, rows=batch.rows):
        if only_ffns(model, point, start):  # what enters the FFN is as it was: no need to run it
            for one in point:
                if start in model.layer_numbers(one.layers):
                    ffn = after_change(one, ffn, batch.lengths, batch.rows)
            states = stream_after(model, before, attention, ffn)
        else:
            states = blocks.run(start, before)
        for layer in range(start, model.n_layers):
            states = states if layer == start else blocks.run(layer, states)
            if layer in layers:
                found[layer] = at(states, batch.last)
    return found
