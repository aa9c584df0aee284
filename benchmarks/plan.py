"""What is measured on which model with how many prompts, and the goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import contestants as who
from benchmarks import flops

PLAIN = "plain pass"
AT_MOST, AT_LEAST = "at most", "at least"
LAST, ALL, STAGES = "sweep, last position", "sweep, all positions", "stages"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A ratio of times, this library and another way to do the same.

    Attributes:
        what: LAST, ALL or STAGES.
        against: the other way.
        sense, goal: `AT_MOST` means our time over the other's, `AT_LEAST` the other's over ours.
        prompts: which of the plan's numbers of prompts it takes.
    """

    what: str
    against: str
    sense: str
    goal: float
    prompts: str


MEASURES = (
    Measure(what=LAST, against=PLAIN, sense=AT_MOST, goal=1.0, prompts="many"),
    Measure(what=LAST, against=who.SLOW, sense=AT_LEAST, goal=20, prompts="few"),
    Measure(what=LAST, against=who.BY_HAND, sense=AT_LEAST, goal=40, prompts="fewest"),
    Measure(what=LAST, against=who.TRANSFORMERLENS, sense=AT_LEAST, goal=5, prompts="few"),
    Measure(what=LAST, against=who.NNSIGHT, sense=AT_LEAST, goal=5, prompts="few"),
    Measure(what=ALL, against=who.SLOW, sense=AT_LEAST, goal=1.9, prompts="few"),
    Measure(what=STAGES, against=PLAIN, sense=AT_MOST, goal=1.3, prompts="many"),
)
MEMORY_SHARE, MEMORY_MORE = 0.3, 2**30  # of the weights, and bytes on top of that
SCALING = (10, 100, 1000)
FLAT = 1.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One model's part of a run.

    Attributes:
        many, few, fewest: numbers of prompts, evenly spread over all (0: all of them). Slow ways
            get few, so that a run ends; both ways of a ratio always get the same ones.
        agreeing: on how many prompts the numbers are compared before.
        goals: whether the goals are about this model.
        memory, scaling: whether memory, and times from few to many prompts, are measured.
    """

    shape: str
    many: int
    few: int
    fewest: int
    agreeing: int = 3
    goals: bool = False
    memory: bool = False
    scaling: Sequence[int] = ()


CPU = (
    Plan(shape="mini-2m", many=0, few=32, fewest=8),
    Plan(shape="gpt2-21m", many=0, few=32, fewest=8),
    Plan(shape="gpt2-small", many=0, few=16, fewest=4),
    Plan(
        shape="gpt2-medium",
        many=96,
        few=8,
        fewest=4,
        goals=True,
        memory=True,
        scaling=SCALING,
    ),
)
GPU = tuple(
    Plan(shape=shape, many=0, few=64, fewest=8, goals=True, memory=True, scaling=SCALING)
    for shape in ("gptj-6b", "llama-8b")
)
QUICK = tuple(
    Plan(shape=shape, many=3, few=2, fewest=2, agreeing=2, goals=shape == "tiny-gpt2")
    for shape in ("tiny-gpt2", "tiny-gptj", "tiny-llama")
)
QUICK_GPU = (Plan(shape="tiny-llama-bf16", many=3, few=2, fewest=2, agreeing=2, goals=True),)


def counted(
    measure: Measure, sizes: flops.Sizes, prompts: flops.Prompts, *, share_prefix: bool = True
) -> float:
    """The measure's ratio if time went with arithmetic alone, each way doing the least it can.

    The library's side shares what prompts begin with, and leaves out FFNs whose output is given;
    `share_prefix=False` tells what the first of these is worth.
    """
    starts = range(sizes.layers)
    plain = flops.plain_pass(sizes, prompts)
    mine = {
        LAST: flops.last_position_sweep(sizes, prompts, starts=starts, share_prefix=share_prefix),
        ALL: flops.all_position_sweep(sizes, prompts, starts=starts),
        STAGES: flops.stages(sizes, prompts),
    }[measure.what]
    hooked = flops.hooked_sweep(sizes, prompts, starts=len(starts))
    others = {PLAIN: plain, who.BY_HAND: len(starts) * flops.stages(sizes, prompts)}
    other = others.get(measure.against, hooked)
    return mine / other if measure.sense == AT_MOST else other / mine
