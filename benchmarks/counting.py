"""What an experiment takes, counted while it runs: arithmetic by kind, and what is held at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import addmm_flop, baddbmm_flop, bmm_flop, mm_flop, sdpa_flop

from ovectors.stream import Stream

if TYPE_CHECKING:
    from ovectors.models import LanguageModel

aten = torch.ops.aten
FUSED = aten._scaled_dot_product_flash_attention_for_cpu
FORMULAS = {aten.mm: mm_flop, aten.addmm: addmm_flop, aten.bmm: bmm_flop, FUSED: sdpa_flop}
FORMULAS |= {aten.baddbmm: baddbmm_flop}
SCORES = (FUSED, aten.bmm, aten.baddbmm)


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
    """While open, all that is computed is added to the yielded counts.

    The arithmetic is that of PyTorch's own counter: two operations a multiplication. What it is for
    is told by whether one of the model's blocks is being run, and by the vocabulary's size.
    """
    counts = Counts()
    with ExitStack() as opened:
        blocks = opened.enter_context(_running(model.layers))
        passes = opened.enter_context(_running([model.model.base_model]))
        opened.enter_context(_streams(counts))
        opened.enter_context(_Counter(counts, blocks, passes, vocabulary=model.vocab_size))
        yield counts


@contextmanager
def _running(modules: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Those of the modules that are being run: one, or none."""
    running: list[nn.Module] = []

    def enter(module: nn.Module, args: object) -> None:
        running.append(module)

    def leave(module: nn.Module, args: object, output: object) -> None:
        running.pop()

    handles = []
    for module in modules:
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
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


class _Counter(TorchDispatchMode):
    """Looks at every product. PyTorch's `FlopCounterMode` finds the same, ten times as slowly: it
    also tries to take apart each operation that it has no formula for."""

    def __init__(
        self,
        counts: Counts,
        blocks: Sequence[nn.Module],
        passes: Sequence[nn.Module],
        *,
        vocabulary: int,
    ) -> None:
        super().__init__()
        self.counts, self.blocks, self.passes = counts, blocks, passes
        self.vocabulary = vocabulary

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        formula = FORMULAS.get(func.overloadpacket)
        if formula is not None:
            kind = self._kind(func.overloadpacket, args)
            found = formula(*args, out_val=made)
            setattr(self.counts, kind, getattr(self.counts, kind) + found)
        return made

    def _kind(self, operation: Any, args: tuple) -> str:
        if operation is FUSED and self.passes:  # elsewhere a point's tokens stand side by side
            self.counts.tokens = max(self.counts.tokens, args[1].shape[2])
        if self.blocks:
            return "attention" if operation in SCORES else "blocks"
        sizes = (one.shape for one in args if isinstance(one, Tensor))
        return "head" if any(self.vocabulary in shape for shape in sizes) else "other"
