"""The activations of an FFN's neurons, and what the FFN adds for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ovectors.forward import Batch, Encoded, execution_device
from ovectors.models import LanguageModel
from ovectors.stream import record

UNIT_BYTES = 64 * 2**20


def activations(
    model: LanguageModel,
    encoded: Encoded | Sequence[Sequence[int]],
    layers: Int[Tensor, " prompt"],
    *,
    progress: bool = False,
) -> list[Float[Tensor, " neuron"]]:
    """The activations of FFN neurons at each prompt's last token, at one layer for each prompt.

    They are what the FFN's last matrix reads: in a gated FFN the product of gate and value. On the
    CPU, in the model's dtype. One clean pass, hooks that only read.
    """
    kept: list[Tensor] = [torch.empty(0)] * len(layers)
    record(
        model,
        encoded,
        parts=("ffn",),
        layers=[int(layers[0])],
        around=_watching(model, layers, kept),
        progress=progress,
    )
    return kept


def _watching(
    model: LanguageModel, layers: Int[Tensor, " prompt"], kept: list[Tensor]
) -> Callable[[Batch], AbstractContextManager]:
    """For `stream.record(around=...)`: fills `kept` at the places of each batch."""

    @contextmanager
    def around(batch: Batch) -> Iterator[None]:
        """Watches the projections that the rows of this batch want, for one pass."""
        handles = []
        try:
            for layer in sorted(set(layers[batch.rows].tolist())):
                projection = model.architecture.projection_of(model.layers[layer])
                hook = _keeper(batch, layers[batch.rows] == layer, kept)
                handles.append(projection.register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()

    return around


def _keeper(batch: Batch, wanted: Tensor, kept: list[Tensor]) -> Callable:
    def keep(_module: nn.Module, args: tuple, _output: Tensor) -> None:
        """Keeps what goes into the projection at the last token of each wanted row."""
        inner = args[0].reshape(len(batch.rows), batch.token_ids.shape[1], -1)
        for row in torch.nonzero(wanted)[:, 0].tolist():
            state = inner[row, int(batch.last[row])]
            kept[int(batch.rows[row])] = state.detach().cpu().clone()

    return keep


@torch.no_grad()
def projected(
    model: LanguageModel, layer: int, inner: Float[Tensor, "row neuron"]
) -> Float[Tensor, "row d_model"]:
    """What an FFN adds for these activations: its last matrix, its bias and the norm behind it, as
    far as it has them.

    The modules themselves are called, so that it makes no difference which way round one stores its
    weights (GPT-2's does it unlike all others), or whether they are in memory.
    """
    added = _through_matrix(model, layer, inner)
    wiring = model.architecture
    return wiring.contribution_of_projection(model.layers[layer], added).float().cpu()


def _through_matrix(model: LanguageModel, layer: int, inner: Tensor) -> Tensor:
    projection = model.architecture.projection_of(model.layers[layer])
    return projection(inner.to(execution_device(projection), model.dtype))


@torch.no_grad()
def row_norms(model: LanguageModel, layer: int, neurons: int) -> Float[Tensor, " neuron"]:
    """The length of each neuron's row: of what it adds at activation 1, before any norm."""
    bias = _through_matrix(model, layer, torch.zeros(1, neurons)).float()
    rows = max(1, UNIT_BYTES // (4 * neurons))
    norms = []
    for start in range(0, neurons, rows):
        some = torch.arange(start, min(start + rows, neurons))
        units = torch.zeros(len(some), neurons)
        units[torch.arange(len(some)), some] = 1.0
        norms.append((_through_matrix(model, layer, units).float() - bias).norm(dim=1).cpu())
    return torch.cat(norms)
