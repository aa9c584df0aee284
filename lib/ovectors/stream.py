"""The residual stream: what every layer reads and adds, recorded where it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ovectors.errors import UserError
from ovectors.forward import (
    BUDGET_BYTES,
    Batch,
    Encoded,
    batches,
    progress_bar,
    run_base,
    token_rows,
)

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from ovectors.models import LanguageModel

PARTS = ("before", "mid", "after", "attention", "ffn")
ADDED = ("attention", "ffn")


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """What was recorded, on the CPU, in float32 (float64 for a model that runs in float64).

    Float32 holds the states of every half-precision model exactly, and sums and differences of them
    are then rounded once, when a lens hands them back to the model.

    Attributes:
        states: for each part that was asked for, its vectors. `before` and `after` are the residual
            stream as it enters and leaves a layer (never normalised), `mid` the one between
            attention and FFN, `attention` and `ffn` what is added to it.
        layers: the layers that the first axis holds, counted from 0, the embedding not counted.
        positions: "last" or "chosen".
    """

    states: Mapping[str, Float[Tensor, "layer prompt d_model"]]
    layers: tuple[int, ...]
    positions: str

    def __getitem__(self, part: str) -> Float[Tensor, "layer prompt d_model"]:
        if part not in self.states:
            raise UserError(f"{part!r} was not recorded, only {', '.join(self.states)}")
        return self.states[part]

    def at(self, part: str, layer: int) -> Float[Tensor, "prompt d_model"]:
        """One part at one layer, by the layer's own number whatever was recorded beside it."""
        if layer not in self.layers:
            raise UserError(f"layer {layer} was not recorded, only {self.layers}")
        return self[part][self.layers.index(layer)]


def record(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    *,
    parts: Sequence[str],
    positions: str | Int[Tensor, " prompt"] = "last",
    layers: Sequence[int] | None = None,
    around: Callable[[Batch], AbstractContextManager] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    progress: bool = False,
) -> Stream:
    """Run the prompts once, without the head, and keep what was asked for and nothing else.

    Args:
        parts: some of PARTS. "mid" raises UserError where attention and FFN run in parallel.
        positions: "last", or one position for each prompt (counted from its first token).
        layers: which layers, all if None; -1 is the last.
        around: makes a context that is entered around each batch, before recording starts: what
            it changes is seen (`interventions.during` gives one).
        budget_bytes: what a pass may take on top of the weights; less means more, smaller passes.
        progress: show a progress bar.
    """
    parts = (parts,) if isinstance(parts, str) else tuple(parts)
    if unknown := [part for part in parts if part not in PARTS]:
        raise UserError(f"the stream has no part {unknown[0]!r}: its parts are {', '.join(PARTS)}")
    numbers = model.layer_numbers(layers)
    where = _positions(model, encoded, positions)
    groups = batches(model, encoded, budget_bytes=budget_bytes)
    kept_as = torch.promote_types(model.dtype, torch.float32)
    shape = (len(numbers), len(where), model.d_model)
    states = {part: torch.empty(shape, dtype=kept_as) for part in parts}
    for batch in progress_bar(groups, title="recording the residual stream", shown=progress):
        changed = around(batch) if around is not None else nullcontext()
        asked = {"parts": parts, "layers": numbers, "positions": where[batch.rows]}
        with changed, recording(model, rows=len(batch.rows), **asked) as kept:
            run_base(model, batch)
        for (part, layer), state in kept.items():
            states[part][numbers.index(layer), batch.rows] = state.to("cpu", kept_as)
    return Stream(
        states=states,
        layers=numbers,
        positions=positions if isinstance(positions, str) else "chosen",
    )


def _positions(model: LanguageModel, encoded: object, positions: object) -> Int[Tensor, " prompt"]:
    """One position for each prompt, checked to be one of its own tokens."""
    lengths = torch.tensor([len(ids) for ids in token_rows(model, encoded)])
    if isinstance(positions, str):
        if positions != "last":
            raise UserError(f"positions are 'last' or one number a prompt, not {positions!r}")
        return lengths - 1
    chosen = torch.as_tensor(positions).cpu()
    if chosen.shape != lengths.shape:
        raise UserError(f"there are {len(lengths)} prompts and {chosen.numel()} positions")
    if bool(((chosen < 0) | (chosen >= lengths)).any()):
        raise UserError("a position lies outside its prompt: count from 0, from the first token")
    return chosen


@contextmanager
def recording(
    model: LanguageModel,
    *,
    parts: Sequence[str],
    layers: Sequence[int],
    rows: int,
    positions: Int[Tensor, " row"] | None,
) -> Iterator[dict[tuple[str, int], Float[Tensor, "row *token d_model"]]]:
    """While open, every pass of `rows` rows fills the yielded dictionary at (part, layer).

    Only the wanted position of each row is kept, or all of them (None), where they were computed.
    Hooks are read-only, and on leaving, whatever happens, just these are removed. On a clean exit a
    part that no pass has given raises UserError: its module is not where the model computes.
    """
    kept: dict[tuple[str, int], Tensor] = {}
    handles: list[RemovableHandle] = []
    blocks = model.layers

    def keeper(part: str, layer: int) -> Callable[[object], None]:
        """Keeps what a module reads or gives, [row, token, d_model], as this part of this layer."""

        def keep(output: object) -> None:
            """Keeps it at the positions, or whole: a copy, as a block may add to it in place."""
            state = model.architecture.contribution_in(output, rows) if part in ADDED else output
            if part == "mid" and output.ndim == 2:  # rows and tokens in one axis
                state = output.unflatten(0, (rows, -1))
            state = vector_of(state)
            _check_shape(model, state, f"layer {layer}: {part!r}", rows=rows)
            kept[part, layer] = (
                state.detach().clone() if positions is None else at(state, positions)
            )

        return keep

    try:
        for layer in layers:
            for part in parts:
                handles.append(_watch(model, blocks[layer], part, keeper(part, layer)))
        yield kept
    finally:
        for handle in handles:
            handle.remove()
    for key in ((part, layer) for layer in layers for part in parts):
        if key not in kept:
            raise UserError(f"layer {key[1]}: the module for {key[0]!r} was never run by the model")


def _watch(
    model: LanguageModel, block: nn.Module, part: str, keep: Callable[[object], None]
) -> RemovableHandle:
    """Hook the module whose input or output `part` is."""
    wiring = model.architecture
    if part in ("before", "mid"):
        module = block if part == "before" else wiring.mid_of(block)
        return module.register_forward_pre_hook(
            lambda _, args, kwargs: keep(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
    module = block if part == "after" else wiring.contribution_of(block, part)
    return module.register_forward_hook(lambda _module, _args, output: keep(output))


def vector_of(output: object) -> Float[Tensor, "row token d_model"]:
    """The states in a module's output, which is a tensor or a tuple that starts with one.

    Which of the two a block gives has changed between versions of transformers.
    """
    return output[0] if isinstance(output, tuple) else output


def at(
    states: Shaped[Tensor, "row token *more"], positions: Int[Tensor, " row"]
) -> Shaped[Tensor, " row *more"]:
    """The states at one position of each row."""
    row = torch.arange(len(positions), device=states.device)
    return states[row, positions.to(states.device)].detach()


def _check_shape(model: LanguageModel, state: object, name: str, *, rows: int) -> None:
    """Refuse what cannot be a state of the stream: the adapter points at a wrong module."""
    shape = tuple(getattr(state, "shape", ()))
    if len(shape) != 3 or shape[-1] != model.d_model:
        raise UserError(
            f"{name} of {model.name} has shape {list(shape)}, not vectors of the residual stream's "
            f"width {model.d_model}: the module is not what the adapter takes it for"
        )
    if shape[0] != rows:
        raise UserError(f"{name} has {shape[0]} rows where {rows} prompts were announced")
