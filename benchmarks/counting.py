"""What an experiment takes, counted while it runs: arithmetic by kind, and what is held at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.flop_counter import FlopCounterMode, addmm_flop, bmm_flop, mm_flop, sdpa_flop

from ovectors.stream import Stream

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

aten = torch.ops.aten


@dataclass(kw_only=True)
class Counts:
    """What one or several experiments took.

    Attributes:
        blocks: operations of the matrices of the blocks; attention: of scores and weighted sums;
            head: of logits; other: of matrix products beside these.
        stream: the most vectors that one recorded stream held.
        tokens: of the longest prompt that went through the model.
    """

    blocks: int = 0
    attention: int = 0
    head: int = 0
    other: int = 0
    stream: int = 0
    tokens: int = 0

    @property
    def all(self) -> int:
        """Every operation."""
        return self.blocks + self.attention + self.head + self.other

    def __add__(self, more: Counts) -> Counts:
        """Both, one after the other: operations add up, what is held at once does not."""
        mine, theirs = asdict(self), asdict(more)
        held = {name: max(mine[name], theirs[name]) for name in ("stream", "tokens")}
        return Counts(**{name: mine[name] + theirs[name] for name in mine} | held)


@contextmanager
def counting(model: LanguageModel) -> Iterator[Counts]:
    """While open, all that is computed with `model` is added to the yielded counts.

    The arithmetic is that of PyTorch's own counter: two operations a multiplication.
    """
    counts = Counts()
    with ExitStack() as opened:
        blocks, passes = (
            opened.enter_context(_running(type(module)))
            for module in (model.layers[0], model.model.base_model)
        )
        opened.enter_context(_streams(counts))
        formulas = _formulas(counts, blocks, passes, vocabulary=model.vocab_size)
        opened.enter_context(FlopCounterMode(display=False, custom_mapping=formulas))
        yield counts


@contextmanager
def _running(kind: type[nn.Module]) -> Iterator[list[nn.Module]]:
    """The modules of a kind that are being run: one, or none."""
    running: list[nn.Module] = []

    def enter(module: nn.Module, args: object) -> None:
        if isinstance(module, kind):
            running.append(module)

    def leave(module: nn.Module, args: object, output: object) -> None:
        if isinstance(module, kind):
            running.pop()

    handles = [
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _streams(counts: Counts) -> Iterator[None]:
    """Note the size of every stream that is recorded."""
    made = Stream.__init__

    def noted(self: Stream, **given: object) -> None:
        made(self, **given)
        vectors = sum(math.prod(states.shape[:-1]) for states in self.states.values())
        counts.stream = max(counts.stream, vectors)

    Stream.__init__ = noted
    try:
        yield
    finally:
        Stream.__init__ = made


def _formulas(
    counts: Counts, blocks: list[nn.Module], passes: list[nn.Module], *, vocabulary: int
) -> dict:
    """PyTorch's formulas, which also say what the operations were for.

    `blocks` and `passes` hold a module while a block, or the model itself, is being run.
    """

    def product(formula: Callable, *, scores: bool = False) -> Callable:
        def counted(*shapes: object, **more: object) -> int:
            found = formula(*shapes)
            if blocks:
                kind = "attention" if scores else "blocks"
            else:
                kind = "head" if any(_has(shape, vocabulary) for shape in shapes) else "other"
            setattr(counts, kind, getattr(counts, kind) + found)
            return found

        return counted

    def attention(queries: tuple, keys: tuple, values: tuple, *rest: object, **more: object) -> int:
        found = sdpa_flop(queries, keys, values)
        counts.attention += found
        if passes:  # not a point's tokens, which stand side by side
            counts.tokens = max(counts.tokens, keys[2])
        return found

    products = {aten.mm: mm_flop, aten.addmm: addmm_flop}
    batched = {aten.bmm: bmm_flop}
    return {
        **{op: product(formula) for op, formula in products.items()},
        **{op: product(formula, scores=True) for op, formula in batched.items()},
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
    }


def _has(shape: object, size: int) -> bool:
    return isinstance(shape, tuple | list | torch.Size) and size in shape
