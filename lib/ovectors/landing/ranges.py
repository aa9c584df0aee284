"""A value with its interval as a small drawing: inline SVG that needs no script and no image file.

Colours come from the page's style sheet by class, so that it reads on a light and on a dark page.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovectors.claims import Measured

WIDTH, HEIGHT = 240, 18  # in the units of the drawing, which is as wide as its column
EDGE = 6
_TEXT_HOLDS = {True: "holds", False: "does not hold", None: "not tested"}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The values at the two ends of a drawing."""

    low: float
    high: float

    @property
    def digits(self) -> int:
        """How many decimal places tell its numbers apart."""
        return 3 if self.high - self.low < 0.3 else 2

    def place(self, value: float) -> float:
        """Where a value lies, in the drawing's units; values beyond an end lie on it."""
        share = (value - self.low) / (self.high - self.low)
        return EDGE + min(max(share, 0.0), 1.0) * (WIDTH - 2 * EDGE)


def axis_of(measured: Sequence[Measured]) -> Axis:
    """One axis for all of a card's numbers: it holds 0, every interval and every bound.

    Where all are between 0 and 1 it ends at 1, as for shares.
    """
    found = [number for one in measured for number in (one.value, one.low, one.high, one.bound)]
    known = [0.0, *(number for number in found if number is not None)]
    low, high = min(known), max(known)
    if low == 0 and 0.3 < high <= 1:
        return Axis(low=0.0, high=1.0)
    spare = 0.08 * ((high - low) or 1.0)
    return Axis(low=low - (spare if low < 0 else 0), high=high + spare)


def drawn_range(one: Measured, axis: Axis) -> str:
    """One number as SVG: a dot on its interval, and the bound that the interval has to clear."""
    middle = HEIGHT / 2
    parts = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{middle}" y2="{middle}"/>']
    if one.bound is not None:
        x = axis.place(one.bound)
        parts.append(f'<line class="bound" x1="{x:.1f}" x2="{x:.1f}" y1="1" y2="{HEIGHT - 1}"/>')
    if one.low is not None and one.high is not None:
        left, right = axis.place(one.low), axis.place(one.high)
        width = max(right - left, 1.5)
        parts.append(
            f'<rect class="interval" x="{left:.1f}" y="{middle - 3.5}" width="{width:.1f}" '
            'height="7" rx="3.5"/>'
        )
    if one.value is not None:
        parts.append(
            f'<circle class="value" cx="{axis.place(one.value):.1f}" cy="{middle}" r="4"/>'
        )
    kind = {True: "holds", False: "fails", None: "aside"}[one.holds]
    return (
        f'<svg class="range {kind}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(in_words(one, digits=axis.digits))}">{"".join(parts)}</svg>'
    )


def in_words(one: Measured, *, digits: int = 2) -> str:
    """The drawing's text alternative: value, interval, items and bound."""
    if one.value is None:
        return f"{one.name}: not measured"
    said = f"{one.name}: {one.value:.{digits}f}"
    if one.low is not None and one.high is not None:
        said += f", interval {one.low:.{digits}f} to {one.high:.{digits}f}"
    said += f", {one.n} items"
    if one.bound is not None:
        said += f"; has to exceed {one.bound:g}: {_TEXT_HOLDS[one.holds]}"
    return said


def number(value: float | None, *, digits: int = 2) -> str:
    """A number as a card shows it; a dash where there is none."""
    if value is None:
        return "–"
    shown = f"{value:.{digits}f}"
    return shown.replace("-", "−" if float(shown) else "")
