"""Interventions: replace, add to or remove what FFNs or attention add, and nothing lasting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovectors.errors import UserError
from ovectors.forward import BUDGET_BYTES, Batch, Encoded
from ovectors.lens import LogitLens
from ovectors.stream import record

if TYPE_CHECKING:
    from torch import nn

    from ovectors.architectures import Architecture
    from ovectors.models import LanguageModel

Vector = Float[Tensor, " d_model"] | Float[Tensor, "prompt d_model"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervention:
    """A change of a contribution, at explicit layers and positions.

    Attributes:
        layers: which layers it changes; -1 is the last.
        positions: "last" (each prompt's last token), "all" (every token, as in the authors' code),
            or one position for each prompt.
        kind: "ffn" or "attention".
    """

    layers: Sequence[int]
    positions: str | Int[Tensor, " prompt"]
    kind: str = "ffn"

    def changed(
        self, output: Float[Tensor, "row token d_model"], rows: Int[Tensor, " row"]
    ) -> Float[Tensor, "#row #token d_model"]:
        """What the contribution becomes where it is changed; `output` itself is left alone."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Replace(Intervention):
    """The contribution is `vector` instead (the paper's o vector, section 4): one for all prompts,
    or one for each."""

    vector: Vector

    def changed(self, output: Tensor, rows: Tensor) -> Tensor:
        """The vector, whatever the contribution was."""
        return _spread(self.vector, output, rows)


@dataclass(frozen=True, eq=False)
class Add(Intervention):
    """`scale` times `vector` is added to the contribution; a negative scale subtracts."""

    vector: Vector
    scale: float = 1.0

    def changed(self, output: Tensor, rows: Tensor) -> Tensor:
        """The contribution and the scaled vector."""
        return output + _spread(self.scale * self.vector, output, rows)  # rounded once


@dataclass(frozen=True, eq=False)
class Ablate(Intervention):
    """The contribution is removed: zero is added to the stream (section 5)."""

    def changed(self, output: Tensor, rows: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(output)


def _spread(vector: Tensor, output: Tensor, rows: Tensor) -> Tensor:
    """`vector` on the output's device and in its dtype, shaped to broadcast against it."""
    own = vector[rows.to(vector.device)][:, None] if vector.ndim == 2 else vector[None, None]
    return own.to(output.device, output.dtype)


@contextmanager
def intervene(
    model: LanguageModel,
    interventions: Sequence[Intervention],
    lengths: Int[Tensor, " row"],
    *,
    rows: Int[Tensor, " row"] | None = None,
) -> Iterator[None]:
    """While open, passes through `model` over these right-padded rows are changed.

    Interventions on the same module act one after another, in the order given. Nothing is changed
    in place and no module is swapped, so accelerate's offloading goes on working; on leaving,
    whatever happens, just these hooks are removed.

    Args:
        lengths: how many tokens each row of the batch has.
        rows: which prompt each row is, where a vector or position is given for each prompt.
    """
    rows = torch.arange(len(lengths)) if rows is None else rows
    planned = [(one, checked_layers(model, one, int(rows.max()) + 1)) for one in interventions]
    blocks = model.layers
    handles = []
    try:
        for one, layers in planned:
            hook = _hook(model.architecture, one, lengths, rows)
            for layer in layers:
                module = model.architecture.contribution_of(blocks[layer], one.kind)
                handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def checked_layers(model: LanguageModel, one: Intervention, prompts: int) -> tuple[int, ...]:
    """The layers of an intervention, after a look at everything a user can get wrong in it."""
    if isinstance(one.positions, str):
        if one.positions not in ("last", "all"):
            raise UserError(f"positions are 'last', 'all' or one a prompt, not {one.positions!r}")
    elif len(one.positions) < prompts:
        raise UserError(f"{len(one.positions)} positions were given for {prompts} prompts")
    vector = getattr(one, "vector", None)
    if vector is not None:
        if vector.ndim not in (1, 2) or vector.shape[-1] != model.d_model:
            raise UserError(
                f"the vector has shape {list(vector.shape)}; {model.name} takes one of "
                f"{model.d_model} numbers, or one such for each prompt"
            )
        if vector.ndim == 2 and len(vector) < prompts:
            raise UserError(f"{len(vector)} vectors were given for {prompts} prompts")
    return tuple(dict.fromkeys(model.layer_numbers(one.layers)))  # each once


def _hook(wiring: Architecture, one: Intervention, lengths: Tensor, rows: Tensor) -> Callable:
    def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        """Changes a contribution, [row, token, d_model], in the rows that are meant."""
        old = wiring.contribution_in(output, len(lengths))
        if old.shape[0] != len(lengths):
            raise ValueError(f"announced were {len(lengths)} rows, the model runs {old.shape[0]}")
        return wiring.output_with(after_change(one, old, lengths, rows), output)

    return hook


def after_change(
    one: Intervention,
    old: Float[Tensor, "row token d_model"],
    lengths: Int[Tensor, " row"],
    rows: Int[Tensor, " row"],
) -> Float[Tensor, "row token d_model"]:
    """A contribution `old` as the intervention leaves it, changed at its positions alone."""
    new = one.changed(old, rows)
    if isinstance(one.positions, str) and one.positions == "all":
        return new.expand_as(old).clone()
    return torch.where(_chosen(one, lengths, rows, old), new, old)


def _chosen(
    one: Intervention, lengths: Tensor, rows: Tensor, old: Float[Tensor, "row token d_model"]
) -> Bool[Tensor, "row token 1"]:
    """True at each row's chosen position."""
    last = isinstance(one.positions, str)
    at = lengths - 1 if last else torch.as_tensor(one.positions)[rows.cpu()]
    tokens = torch.arange(old.shape[1], device=old.device)
    if int(at.min()) < 0 or int(at.max()) >= len(tokens):
        raise ValueError("a position lies outside the tokens of this pass")
    return (tokens[None] == at.to(old.device)[:, None])[..., None]


def during(
    model: LanguageModel, interventions: Sequence[Intervention]
) -> Callable[[Batch], AbstractContextManager]:
    """For `stream.record(around=...)`: the stream as it is under these interventions."""
    return lambda batch: intervene(model, interventions, batch.lengths, rows=batch.rows)


def final_states(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    *,
    interventions: Sequence[Intervention] = (),
    budget_bytes: int = BUDGET_BYTES,
    progress: bool = False,
) -> Float[Tensor, "prompt d_model"]:
    """The last layer's output at each prompt's last token, before the final norm, under
    `interventions`: with a lens, all that ranks, top tokens and accuracies need."""
    stream = record(
        model,
        encoded,
        parts=["after"],
        layers=[-1],
        around=during(model, interventions),
        budget_bytes=budget_bytes,
        progress=progress,
    )
    return stream["after"][0]


def next_token_logits(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    *,
    interventions: Sequence[Intervention] = (),
    budget_bytes: int = BUDGET_BYTES,
) -> Float[Tensor, "prompt vocabulary"]:
    """Logits of the next token under `interventions`, on the CPU.

    All prompts' at once: for many prompts take `final_states` and `lens.ranks`, which chunk.
    """
    states = final_states(model, encoded, interventions=interventions, budget_bytes=budget_bytes)
    return LogitLens(model)(states).cpu()
