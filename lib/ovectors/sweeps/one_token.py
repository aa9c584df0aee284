"""Changes at the last token alone: one token a point, from its first changed layer on.

No other token reads the last one, so all keys and values stay those of the clean pass: they are
kept once a prompt, and the tokens at the start that all prompts share once for all. The points of
a prompt stand side by side as tokens of one row that see its past and themselves, not each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ovectors.forward import (
    Batch,
    batches,
    bytes_per_prompt,
    bytes_per_token,
    progress_bar,
    run_base,
    token_rows,
)
from ovectors.stream import at, recording
from ovectors.sweeps.past import Past, alike
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
    from ovectors.interventions import Intervention
    from ovectors.models import LanguageModel

Entries = dict[tuple[str, int], Float[Tensor, "row d_model"]]


def pieces(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    points: Mapping[int, Point],
    settings: Settings,
) -> Iterator[Piece]:
    """The last token's states after the chosen layers, unchanged and then under each point.

    Half of the budget goes to the clean pass with its keys and values, half to the points' tokens.
    Raises `replay.NotReplayable` where a block's inputs are not known.
    """
    tokens, half = token_rows(model, encoded), settings.budget_bytes // 2
    planned = [
        (start, batch)
        for group, shared in alike(tokens)
        for start in [Past.of(model, tokens[group[0]][:shared])]
        for batch in _batches(model, tokens, group, shared, half)
    ]
    for start, batch in progress_bar(planned, title=settings.title, shown=settings.progress):
        clean = _clean_pass(model, batch, start, points, settings.layers)
        for layer in settings.layers:
            state = clean.after[layer]
            yield Piece(points=(CLEAN,), rows=batch.rows, layer=layer, states=state[None])
        for chunk in _chunks(model, batch, points, clean.past.length, half):
            yield from _columns(clean, chunk, settings.layers)


def _batches(
    model: LanguageModel,
    tokens: Sequence[Sequence[int]],
    group: Sequence[int],
    shared: int,
    budget_bytes: int,
) -> list[Batch]:
    """The own tokens of a group's prompts in batches that hold their keys and values too."""

    def bytes_each(length: int) -> int:
        """Bytes that a prompt with this many own tokens takes, its keys and values included."""
        keys_and_values = 2 * model.n_layers * model.d_model * model.dtype.itemsize
        return bytes_per_prompt(model, shared + length) + length * keys_and_values

    own = [tokens[row][shared:] for row in group]
    made = batches(model, own, budget_bytes=budget_bytes, bytes_each=bytes_each)
    return [replace(batch, rows=torch.tensor(group)[batch.rows]) for batch in made]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Clean:
    """One batch after its clean pass: what a token needs to go through the blocks once more."""

    batch: Batch
    blocks: Blocks
    past: Past
    entries: Entries
    after: dict[int, Float[Tensor, "row d_model"]]

    @property
    def model(self) -> LanguageModel:
        """The model whose blocks are run."""
        return self.blocks.model


def _clean_pass(
    model: LanguageModel,
    batch: Batch,
    start: Past,
    points: Mapping[int, Point],
    layers: Sequence[int],
) -> _Clean:
    past = start.extended()
    entered = sorted({first_layer(model, point) for point in points.values()})
    where = {"rows": len(batch.rows), "positions": batch.last}
    with (
        watching(model) as blocks,
        recording(model, parts=ENTRY, layers=entered, **where) as entries,
        recording(model, parts=("after",), layers=layers, **where) as after,
    ):
        run_base(model, batch, cache=past.cache)
    after = {layer: state for (_, layer), state in after.items()}
    return _Clean(batch=batch, blocks=blocks, past=past.whole(), entries=entries, after=after)


def _chunks(
    model: LanguageModel, batch: Batch, points: Mapping[int, Point], keys: int, budget_bytes: int
) -> Iterator[dict[int, Point]]:
    """The points in order of their first layer, as many at a time as memory and positions allow."""
    order = sorted(points, key=lambda number: _entry(model, points[number]))
    each = len(batch.rows) * bytes_per_token(model, 2 * keys)
    size = max(1, min(keys, budget_bytes // each))  # no more new keys than there are already
    for first in range(0, len(order), size):
        yield {number: points[number] for number in order[first : first + size]}


def _entry(model: LanguageModel, point: Point) -> tuple[int, bool]:
    """Where a point's token sets out: before a layer, or after it where only its FFN is changed."""
    layer = first_layer(model, point)
    return layer, only_ffns(model, point, layer)


@torch.no_grad()
def _columns(clean: _Clean, points: Mapping[int, Point], layers: Sequence[int]) -> Iterator[Piece]:
    """All tokens of these points through the layers, each from where it sets out."""
    model, numbers = clean.model, list(points)
    entries = [_entry(model, point) for point in points.values()]
    steps = _Steps(clean)
    states = clean.entries["before", entries[0][0]][:, None][:, :0]
    for layer in range(entries[0][0], model.n_layers):
        arriving = entries.count((layer, False))
        states = _joined(states, [clean.entries["before", layer]] * arriving if arriving else [])
        if states.shape[1]:
            inside = list(points.values())[: states.shape[1]]
            with _changing(model, inside, layer, clean.batch.rows):
                states = steps.run(layer, states)
        after = [
            _after_ffn(clean, points[number], layer)
            for number, entry in zip(numbers, entries, strict=True)
            if entry == (layer, True)
        ]
        states = _joined(states, after)
        if layer in layers:
            inside = tuple(numbers[: states.shape[1]])
            moved = states.transpose(0, 1)
            yield Piece(points=inside, rows=clean.batch.rows, layer=layer, states=moved)


def _joined(
    states: Float[Tensor, "row column d_model"], more: Sequence[Float[Tensor, "row d_model"]]
) -> Float[Tensor, "row column d_model"]:
    """More tokens on the right, where the first of them are."""
    if not more:
        return states
    added = torch.stack(tuple(more), dim=1)
    return torch.cat([states.to(added.device), added], dim=1)


def _after_ffn(clean: _Clean, point: Point, layer: int) -> Float[Tensor, "row d_model"]:
    """The stream after a layer whose FFN contribution the point changes: its block need not run."""
    before, attention, ffn = (clean.entries[part, layer] for part in ENTRY)
    for one in _of_layer(clean.model, point, layer, "ffn"):
        ffn = one.changed(ffn[:, None], clean.batch.rows).expand_as(ffn[:, None])[:, 0]
    return stream_after(clean.model, before, attention, ffn)


def _of_layer(model: LanguageModel, point: Point, layer: int, kind: str) -> list[Intervention]:
    return [one for one in point if one.kind == kind and layer in model.layer_numbers(one.layers)]


@contextmanager
def _changing(
    model: LanguageModel, points: Sequence[Point], layer: int, rows: Int[Tensor, " row"]
) -> Iterator[None]:
    """While open, a layer's contributions to each column are changed as its point says."""
    handles, wiring = [], model.architecture

    def change(columns: Mapping[int, Sequence[Intervention]]) -> Callable:
        """A hook that changes each column of an output, [row, column, d_model], by its own."""

        def hook(module: object, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
            new = wiring.contribution_in(output, len(rows)).clone()
            for column, changes in columns.items():
                for one in changes:
                    new[:, column : column + 1] = one.changed(new[:, column : column + 1], rows)
            return wiring.output_with(new, output)

        return hook

    try:
        for kind in ("attention", "ffn"):
            columns = {
                column: changes
                for column, point in enumerate(points)
                if (changes := _of_layer(model, point, layer, kind))
            }
            if columns:
                module = model.architecture.contribution_of(model.layers[layer], kind)
                handles.append(module.register_forward_hook(change(columns)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Steps:
    """Runs columns of tokens through single blocks, each token at its row's last position."""

    def __init__(self, clean: _Clean) -> None:
        self.clean = clean

    def run(
        self, layer: int, states: Float[Tensor, "row column d_model"]
    ) -> Float[Tensor, "row column d_model"]:
        """The columns after one layer, which gets its inputs of the clean pass, made as wide."""
        clean, columns = self.clean, states.shape[1]
        changed: dict[str, object] = {}
        for name, value in clean.blocks.of_role(layer, "mask").items():
            changed[name] = self._mask(value, states)
        for name, value in clean.blocks.of_role(layer, "per token").items():
            changed[name] = self._same_position(value, columns)
        for name, value in clean.blocks.of_role(layer, "per key").items():
            changed[name] = None if value is None else self._same_key(value, columns)
        for name in clean.blocks.of_role(layer, "cache"):
            changed[name] = clean.past.cache
        return clean.blocks.run(layer, states, **changed)

    def _mask(
        self, given: Shaped[Tensor, "*row_head token key"] | None, states: Tensor
    ) -> Shaped[Tensor, "*row_head column key"]:
        """A mask for the columns: each sees the tokens before its row's last one as that sees them
        in this layer (a window may end there), and itself, none of the others.

        `given` is the layer's own of the clean pass: true or 0 where a key is seen, false or very
        negative where not, a bias of its own in between; None where all tokens before are seen.
        """
        past, rows, columns = self.clean.past, self.clean.batch.last, states.shape[1]
        last = past.length - self.clean.batch.token_ids.shape[1] + rows  # among the keys
        if given is None:
            seen = (torch.arange(past.length) <= last[:, None])[:, None].to(states.device)
            given = torch.zeros(seen.shape, dtype=states.dtype, device=states.device)
            own = given.masked_fill(~seen, torch.finfo(states.dtype).min)
        else:
            own = at(given.expand(len(rows), *given.shape[1:]).movedim(2, 1), rows)
        hidden = False if own.dtype == torch.bool else torch.finfo(own.dtype).min
        last = last.to(own.device)[:, None, None].expand(-1, own.shape[1], 1)
        itself = own.gather(2, last)[..., None]  # [row, head, 1, 1]
        before = own.scatter(2, last, hidden)[:, :, None].expand(-1, -1, columns, -1)
        others = ~torch.eye(columns, dtype=torch.bool, device=own.device)
        side = itself.expand(-1, -1, columns, columns).masked_fill(others, hidden)
        return torch.cat([before, side], dim=-1).to(states.device)

    def _same_position(self, value: object, columns: int) -> object:
        """Positions or rotations of each row's last token, for all columns."""
        if isinstance(value, tuple | list):
            return tuple(self._same_position(one, columns) for one in value)
        if value is None:
            return None
        rows = self.clean.batch.last
        picked = at(value.expand(len(rows), *value.shape[1:]), rows)[:, None]
        return picked.expand(-1, columns, *picked.shape[2:])

    def _same_key(
        self, value: Float[Tensor, "row_head *head 1 key"], columns: int
    ) -> Float[Tensor, "row_head *head 1 more"]:
        """A bias of the keys, with that of each row's last token once more for each column."""
        batch = self.clean.batch
        last = (value.shape[-1] - batch.token_ids.shape[1] + batch.last).to(value.device)
        heads = value.shape[0] // len(last)
        at_last = last.repeat_interleave(heads).view(-1, *[1] * (value.ndim - 1))
        own = value.gather(-1, at_last.expand(*value.shape[:-1], 1))
        return torch.cat([value, own.expand(*value.shape[:-1], columns)], dim=-1)
