"""Honest ratios: two ways timed in turn, in both orders, their ratio taken pair by pair."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Seconds of two ways, the n-th of one measured beside the n-th of the other."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """first / second, pair by pair: a machine that slows down slows both of a pair."""
        return tuple(a / b for a, b in zip(self.first, self.second, strict=True))


def paired(first: Work, second: Work, *, repeats: int, device: str = "cpu") -> Paired:
    """Time both `repeats` times in turn; who comes first alternates. Warm them up before."""
    taken: dict[str, list[float]] = {"first": [], "second": []}
    works = {"first": first, "second": second}
    for repeat in range(repeats):
        order = ("first", "second") if repeat % 2 == 0 else ("second", "first")
        for name in order:
            taken[name].append(seconds(works[name], device=device))
    return Paired(first=tuple(taken["first"]), second=tuple(taken["second"]))


def seconds(work: Work, *, device: str = "cpu") -> float:
    """Seconds that `work` takes; on a GPU until it is really done."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: str) -> None:
    """Wait for a GPU, whose work runs on while Python goes on."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": median(values), "low": min(values), "high": max(values)}
