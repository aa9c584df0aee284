"""Blocks run again, one at a time, with the inputs that a pass through the whole model gave them.

A block of any family is called with its own mask, positions and cache, as the model made them: so
nothing here knows how a family numbers positions or biases attention. What may be changed for
another shape of states is listed by name in `architectures.BLOCK_INPUTS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ovectors.architectures import BLOCK_INPUTS
from ovectors.stream import vector_of

if TYPE_CHECKING:
    from torch import nn

    from ovectors.models import LanguageModel


class NotReplayable(Exception):
    """A block of this model is given something that cannot be given again: take whole passes."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of a model with what one pass gave each of them beside the states.

    Attributes:
        model: whose blocks these are.
        inputs: for each layer, keyword arguments by name.
    """

    model: LanguageModel
    inputs: dict[int, dict[str, object]] = field(default_factory=dict)

    @torch.no_grad()
    def run(
        self, layer: int, states: Float[Tensor, "row token d_model"], **changed: object
    ) -> Float[Tensor, "row token d_model"]:
        """What leaves a block when these states enter it; `changed` inputs take the others' place.

        Only names that the pass gave are taken over: a family without ALiBi needs none.
        """
        given = self.inputs[layer]
        inputs = given | {name: value for name, value in changed.items() if name in given}
        return vector_of(self.model.layers[layer](states, **inputs))

    def of_role(self, layer: int, role: str) -> Mapping[str, object]:
        """The inputs of a layer with this role in BLOCK_INPUTS."""
        return {name: v for name, v in self.inputs[layer].items() if BLOCK_INPUTS[name] == role}


@contextmanager
def watching(model: LanguageModel) -> Iterator[Blocks]:
    """While open, a pass through `model` fills the yielded `Blocks`.

    Hooks are read-only, and on leaving just these are removed. On a clean exit NotReplayable is
    raised for a block that was given a tensor of an unknown name.
    """
    blocks, handles = Blocks(model), []

    def watch(layer: int, block: nn.Module) -> None:
        """Keeps by name whatever a block is given beside the module and the states."""
        signature = inspect.signature(type(block).forward)

        def keep(module: nn.Module, args: tuple, kwargs: dict) -> None:
            blocks.inputs[layer] = _named(signature, module, args, kwargs)

        handles.append(block.register_forward_pre_hook(keep, with_kwargs=True))

    try:
        for layer, block in enumerate(model.layers):
            watch(layer, block)
        yield blocks
    finally:
        for handle in handles:
            handle.remove()
    for inputs in blocks.inputs.values():
        _check(model, inputs)


def _named(
    signature: inspect.Signature, module: nn.Module, args: tuple, kwargs: dict
) -> dict[str, object]:
    """Everything but the module and the states, by name; what is None or False by default left."""
    bound = signature.bind(module, *args, **kwargs).arguments
    named: dict[str, object] = {}
    for name, value in list(bound.items())[2:]:
        rest = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        named |= value if rest else {name: value}
    return {
        name: value
        for name, value in named.items()
        if name in BLOCK_INPUTS or (value is not None and value is not False)
    }


def _check(model: LanguageModel, inputs: Mapping[str, object]) -> None:
    unknown = [name for name in inputs if name not in BLOCK_INPUTS]
    if unknown:
        raise NotReplayable(f"the layers of {model.name} are given {', '.join(unknown)}")
