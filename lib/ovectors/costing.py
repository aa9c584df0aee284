"""What chapters would take on a larger model, scaled from what was counted on a small one.

Counted are operations and states, by `benchmarks/chapter_costs.py`; a model's config says what each
of them takes there. Three things are taken for granted: the same items, prompts of as many tokens,
and growth with the number of layers that a parabola through the counted depths can follow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovectors import paths
from ovectors.errors import UserError

COUNTED = Path("benchmarks") / "chapter_costs.json"  # below the project's root
EVERY = "all"
"""Stands for all chapters together: what several of them ask for is computed once."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What operations depend on, for a GPT-like model whose FFN is four times as wide.

    Attributes:
        layers, width: of the residual stream; vocabulary: rows of the head.
    """

    layers: int
    width: int
    vocabulary: int

    @property
    def block(self) -> int:
        """Weights of the matrices of a block: attention has 4 width², the FFN 8."""
        return 12 * self.width**2

    @classmethod
    def of(cls, *, parameters: int, layers: int, width: int) -> Shape:
        """The shape of a model whose embedding is its head: all weights that are in no block.

        Biases and norms, 13 vectors a block and 4 beside them, belong to no matrix.
        """
        rest = parameters - layers * (12 * width**2 + 13 * width) - 4 * width
        return cls(layers=layers, width=width, vocabulary=rest // width)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a chapter takes on a model.

    Attributes:
        passes: of one token through one block; items: how many were asked.
        blocks, attention, head: operations, two a multiplication.
        stream: vectors in the largest recorded stream; tokens: of the longest prompt.
    """

    passes: float
    items: int
    blocks: float
    attention: float
    head: float
    stream: float
    tokens: int

    @property
    def operations(self) -> float:
        """All of them."""
        return self.blocks + self.attention + self.head


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What is printed on a GPU: bytes, operations a second in 16 bits, bytes a second."""

    name: str
    memory: float
    operations: float
    reading: float


ACCELERATORS = (
    Accelerator(name="A100, 80 GB", memory=80e9, operations=312e12, reading=2.0e12),
    Accelerator(name="H100, 80 GB", memory=80e9, operations=989e12, reading=3.35e12),
)
SHARE = 0.4
"""How much of the operations on its label a GPU is taken to do."""


def seconds(work: Work, gpu: Accelerator, *, weights: float, layers: int, batch: int) -> float:
    """One GPU at a time: computing, and reading all weights once for every batch of so many
    tokens."""
    batches = work.passes / layers / batch
    return work.operations / (SHARE * gpu.operations) + batches * weights / gpu.reading


def with_all_items() -> Mapping[str, Any] | None:
    """The committed counts, if all items were asked: of a few, what is held at once is too little
    to plan with."""
    told = counted()
    return told if told and not told["n_items"] else None


def counted(root: Path | None = None) -> Mapping[str, Any] | None:
    """The committed counts; None where there are none, UserError where they are broken."""
    path = (root or paths.ROOT) / COUNTED
    try:
        told = json.loads(path.read_text("utf-8"))
        work(told, Shape(layers=1, width=1, vocabulary=1))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no result of `python -m benchmarks.chapter_costs` "
            f"({type(error).__name__}: {error}): run it again"
        ) from None
    return told


def work(told: Mapping[str, Any], shape: Shape) -> dict[str, Work]:
    """What each chapter takes on a model of this shape, and EVERY one together."""
    return {name: work_of(told, name, shape) for name in told["chapters"]}


def work_of(told: Mapping[str, Any], chapter: str, shape: Shape) -> Work:
    """Each count in units that know no width, as many as at this depth, times what one takes."""
    sizes, found = told["sizes"], told["chapters"][chapter]
    small = Shape(**{name: sizes[name] for name in ("layers", "width", "vocabulary")})

    def units(count: str, of_one: int) -> float:
        """How many of these units the small model was counted to need, at this depth."""
        return found[count] / of_one * growth(told, chapter, count, shape.layers)

    passes = units("blocks", 2 * small.block)
    return Work(
        passes=passes,
        items=found["items"],
        blocks=passes * 2 * shape.block,
        attention=units("attention", small.width) * shape.width,
        head=units("head", small.width * small.vocabulary) * shape.width * shape.vocabulary,
        stream=units("stream", 1),
        tokens=found["tokens"],
    )


def growth(told: Mapping[str, Any], chapter: str, count: str, layers: int) -> float:
    """How many times as much a count is at so many layers as at the small model's own.

    A parabola through the depths that were counted, by least squares where there are more; a line
    through two; with one alone, work is taken to be proportional to depth.
    """
    import numpy as np

    depths = sorted(int(depth) for depth in told["by_layers"])
    values = [told["by_layers"][str(depth)][chapter][count] for depth in depths]
    at = told["sizes"]["layers"]
    if layers == at or not any(values):
        return 1.0
    if len(depths) == 1:
        return layers / at
    fitted = np.polynomial.Polynomial.fit(depths, values, deg=min(2, len(depths) - 1))
    return max(0.0, float(fitted(layers) / fitted(at)))


def held_out(told: Mapping[str, Any], chapter: str, counts: Sequence[str]) -> tuple[float, float]:
    """Operations at the largest depth counted: as foretold from the others, and as counted."""
    *others, last = sorted(told["by_layers"], key=int)
    fewer = {**told, "by_layers": {depth: told["by_layers"][depth] for depth in others}}
    at = told["by_layers"][str(told["sizes"]["layers"])][chapter]
    foretold = sum(at[count] * growth(fewer, chapter, count, int(last)) for count in counts)
    return foretold, sum(told["by_layers"][last][chapter][count] for count in counts)
